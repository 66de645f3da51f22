//! TLS towards the domain: root certificates and protocol versions.

use std::io;
use std::path::{Path, PathBuf};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::{ClientConfig, RootCertStore};

/// Loads the root certificates that the domain's certificate is verified with: only those in `ca_file` (PEM), or the
/// platform's.
pub fn load_roots(ca_file: Option<&Path>) -> Result<RootCertStore, RootsError> {
    let mut roots = RootCertStore::empty();
    if let Some(file) = ca_file {
        let pem = std::fs::read(file).map_err(|error| RootsError::Unreadable(file.to_owned(), error))?;
        for certificate in CertificateDer::pem_slice_iter(without_bom(&pem)) {
            let certificate = certificate.map_err(|error| RootsError::NotPem(file.to_owned(), describe_pem(&error)))?;
            roots.add(certificate).map_err(|error| RootsError::BadCertificate(file.to_owned(), error))?;
        }
        if roots.is_empty() {
            return Err(RootsError::NoCertificate(file.to_owned()));
        }
    } else {
        let found = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(found.certs);
        if roots.is_empty() {
            let errors = found.errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
            return Err(RootsError::NoPlatformRoots(errors));
        }
    }
    Ok(roots)
}

/// The reason why there are no root certificates.
#[derive(Debug, thiserror::Error)]
pub enum RootsError {
    /// The file cannot be read.
    #[error("{}: cannot be read", .0.display())]
    Unreadable(PathBuf, #[source] io::Error),
    /// The file is not PEM.
    #[error("{}: is not PEM: {}", .0.display(), .1)]
    NotPem(PathBuf, String),
    /// The file has a certificate that cannot be a root.
    #[error("{}: contains an invalid certificate", .0.display())]
    BadCertificate(PathBuf, #[source] rustls::Error),
    /// The file has no certificate.
    #[error("{}: contains no certificate", .0.display())]
    NoCertificate(PathBuf),
    /// The platform has no root certificates.
    #[error("this platform has no root certificates (install ca-certificates, or name a ca_file) {0}")]
    NoPlatformRoots(String),
}

impl RootsError {
    /// Returns whether the mistake is in the file, as opposed to the platform.
    #[must_use]
    pub fn is_in_file(&self) -> bool {
        !matches!(self, Self::NoPlatformRoots(_))
    }
}

/// Describes an error without the line that it quotes, which can be a private key.
#[must_use]
pub fn describe_pem(error: &pem::Error) -> String {
    match error {
        pem::Error::IllegalSectionStart { .. } => "a BEGIN line does not end after its dashes: restore the line breaks",
        pem::Error::MissingSectionEnd { .. } => "a section has no END line: the file is cut, or has no line breaks",
        pem::Error::Base64Decode(_) => "a section is not base64",
        pem::Error::NoItemsFound => "it has no section of this kind",
        _ => return error.to_string(),
    }
    .to_owned()
}

/// Removes the byte order mark that editors on Windows write at the start, which would hide the first section.
#[must_use]
pub fn without_bom(pem: &[u8]) -> &[u8] {
    pem.strip_prefix(b"\xef\xbb\xbf").unwrap_or(pem)
}

/// Returns the TLS settings of a client that trusts `roots`: TLS 1.2 and 1.3.
#[must_use]
pub fn tls_config(roots: RootCertStore) -> ClientConfig {
    let provider = rustls::crypto::ring::default_provider();
    ClientConfig::builder_with_provider(provider.into())
        .with_safe_default_protocol_versions()
        .expect("ring supports the default protocol versions")
        .with_root_certificates(roots)
        .with_no_client_auth()
}
