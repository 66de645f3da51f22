//! TLS towards clients: the certificate, HTTP/2 and HTTP/1.1 by ALPN.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::{self, Ticketer};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::{CertifiedKey, SigningKey};
use tokio::sync::watch;
use trailgate_client::{describe_pem, without_bom};
use x509_cert::der::Decode as _;

use crate::watched_file::{self, Text};

/// The files of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The certificate chain as PEM, leaf first.
    pub certificate: PathBuf,
    /// The private key as PEM.
    pub key: PathBuf,
}

/// The certificate in effect, updated by reloads; cheap to clone.
#[derive(Clone, Debug)]
pub struct Certificate(watch::Receiver<Arc<LoadedCertificate>>);

/// A certificate with its key and its validity period.
#[derive(Debug)]
pub(crate) struct LoadedCertificate {
    certified: Arc<CertifiedKey>,
    starts: SystemTime,
    expires: SystemTime,
}

/// The reason why a certificate cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {reason}", .file.display())]
pub struct CertificateError {
    pub(crate) file: PathBuf,
    pub(crate) reason: String,
}

impl Certificate {
    /// Returns a certificate and the sender that replaces it.
    pub(crate) fn channel(loaded: LoadedCertificate) -> (watch::Sender<Arc<LoadedCertificate>>, Self) {
        let (sender, receiver) = watch::channel(Arc::new(loaded));
        (sender, Self(receiver))
    }

    /// Returns the expiry of the certificate.
    #[must_use]
    pub fn expires(&self) -> SystemTime {
        self.0.borrow().expires
    }

    /// Returns the server settings: TLS 1.2 and 1.3 with this certificate, and HTTP/2 by ALPN.
    #[must_use]
    pub fn server_config(self) -> ServerConfig {
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("ring supports the default protocol versions")
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(self));
        config.alpn_protocols = vec![HTTP_2.to_vec(), b"http/1.1".to_vec(), b"http/1.0".to_vec()];
        if let Ok(ticketer) = Ticketer::new() {
            // Session tickets keep the state on the client, not in the server's memory.
            config.ticketer = ticketer;
        }
        config
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.borrow().certified))
    }
}

impl LoadedCertificate {
    /// Parses the contents of the two files.
    pub(crate) fn parse(certificate: (&Path, Text), key: (&Path, Text)) -> Result<Self, CertificateError> {
        let ((certificate, certificate_text), (key, key_text)) = (certificate, key);
        let at = |file: &Path| {
            let file = file.to_owned();
            move |reason| CertificateError { file, reason }
        };
        let chain = parse_chain(certificate_text).map_err(at(certificate))?;
        let (starts, expires) = validity(&chain).map_err(at(certificate))?;
        let key_text = key_text.map_err(|reason| format!("cannot be read: {reason}")).map_err(at(key))?;
        let private = private_key(&key_text).map_err(at(key))?;
        let certified = CertifiedKey::new(chain, private);
        certified
            .keys_match()
            .map_err(|error| format!("does not belong to the first certificate in {}: {error}", certificate.display()))
            .map_err(at(key))?;
        Ok(Self { certified: Arc::new(certified), starts, expires })
    }

    /// Returns the time from which on the certificate is valid.
    pub(crate) fn starts(&self) -> SystemTime {
        self.starts
    }

    /// Returns the expiry of the certificate.
    pub(crate) fn expires(&self) -> SystemTime {
        self.expires
    }

    /// Returns an error with the reason if the certificate is not valid at `now`.
    pub(crate) fn check_time(&self, now: SystemTime) -> Result<(), String> {
        if self.expires <= now {
            return Err(format!("has expired at {}", format_time(self.expires)));
        }
        if now < self.starts {
            return Err(format!(
                "is not valid before {}; this machine's time is {}",
                format_time(self.starts),
                format_time(now)
            ));
        }
        Ok(())
    }
}

/// Reads both files, as at start.
fn load(files: &CertificateFiles) -> Result<LoadedCertificate, CertificateError> {
    let read = |file: &Path| watched_file::read_in_time(file).map(Arc::new).map_err(|error| error.to_string());
    let (certificate, key) = (files.certificate.as_path(), files.key.as_path());
    LoadedCertificate::parse((certificate, read(certificate)), (key, read(key)))
}

/// Reads both files, as at start, and returns the expiry of the certificate.
pub(crate) fn expiry(files: &CertificateFiles) -> Result<SystemTime, CertificateError> {
    load(files).map(|certificate| certificate.expires)
}

/// Reads both files, and rejects a certificate that clients would not accept at `now`.
pub(crate) fn check(files: &CertificateFiles, now: SystemTime) -> Result<(), CertificateError> {
    load(files)?.check_time(now).map_err(|reason| CertificateError { file: files.certificate.clone(), reason })
}

/// Parses a private key that can sign. The error says what is wrong.
fn private_key(text: &str) -> Result<Arc<dyn SigningKey>, String> {
    if text.contains("BEGIN ENCRYPTED PRIVATE KEY") || text.contains("Proc-Type: 4,ENCRYPTED") {
        return Err("is encrypted: write it without a passphrase, by openssl pkey -in KEY -out PLAIN".to_owned());
    }
    let key = PrivateKeyDer::from_pem_slice(without_bom(text.as_bytes()));
    let key = key.map_err(|error| format!("contains no private key: {}", describe_pem(&error)))?;
    let unsupported = |error| {
        format!(
            "holds an unsupported key type, use RSA of 2048 bits or more, ECDSA on P-256 or P-384, or Ed25519: {error}"
        )
    };
    provider().key_provider.load_private_key(key).map_err(unsupported)
}

fn parse_chain(text: Text) -> Result<Vec<CertificateDer<'static>>, String> {
    let text = text.map_err(|reason| format!("cannot be read: {reason}"))?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(without_bom(text.as_bytes())).collect();
    let chain = chain.map_err(|error| format!("is not PEM: {}", describe_pem(&error)))?;
    if chain.is_empty() { Err("contains no certificate".to_owned()) } else { Ok(chain) }
}

/// Returns the period in which all certificates of the chain are valid: one that is not breaks the chain.
fn validity(chain: &[CertificateDer<'_>]) -> Result<(SystemTime, SystemTime), String> {
    let times = chain.iter().map(|certificate| {
        let certificate = x509_cert::Certificate::from_der(certificate)?;
        let validity = certificate.tbs_certificate().validity();
        Ok((validity.not_before.to_system_time(), validity.not_after.to_system_time()))
    });
    let times: Result<Vec<_>, x509_cert::der::Error> = times.collect();
    let times = times.map_err(|error| format!("contains an invalid certificate: {error}"))?;
    let (starts, ends): (Vec<_>, Vec<_>) = times.into_iter().unzip();
    let (starts, ends) = (starts.into_iter().max(), ends.into_iter().min());
    Ok(starts.zip(ends).expect("the chain is not empty"))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// Formats a time by RFC 3339.
pub(crate) fn format_time(time: SystemTime) -> String {
    jiff::Timestamp::try_from(time).map_or_else(|_| "out of range".to_owned(), |time| time.to_string())
}

/// The ALPN protocol ID of HTTP/2 (RFC 9113, section 3.2).
pub(crate) const HTTP_2: &[u8] = b"h2";
