//! TLS towards the client: a certificate that follows its files, HTTP/2 and HTTP/1.1 by ALPN.

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::{self, Ticketer};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::{CertifiedKey, SigningKey};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};
use x509_cert::der::Decode as _;

use crate::ops::metrics::Metrics;
use crate::watched_file::{POLL, Text, WatchedFile};

/// Where a certificate is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The certificate, followed by those that lead to an authority, as PEM.
    pub certificate: PathBuf,
    /// Its private key, as PEM.
    pub key: PathBuf,
}

/// The certificate in force; cheap to clone, and never older than the last reload.
#[derive(Clone, Debug)]
pub struct Certificate(watch::Receiver<Arc<Pair>>);

/// Keeps the certificate in force equal to its files, as far as these are good.
#[derive(Debug)]
pub struct CertificateReloader {
    certificate: WatchedFile,
    key: WatchedFile,
    publisher: watch::Sender<Arc<Pair>>,
}

/// A certificate with its key, and when it ends.
#[derive(Debug)]
struct Pair {
    certified: Arc<CertifiedKey>,
    starts: SystemTime,
    expires: SystemTime,
}

/// Why a certificate cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {reason}", .file.display())]
pub struct CertificateError {
    file: PathBuf,
    reason: String,
}

impl CertificateReloader {
    /// Loads the certificate for the first time.
    pub fn start(files: &CertificateFiles) -> Result<(Self, Certificate), CertificateError> {
        let (certificate, key) = (WatchedFile::open(files.certificate.clone()), WatchedFile::open(files.key.clone()));
        let (publisher, receiver) = watch::channel(Arc::new(Pair::of(&certificate, &key)?));
        Ok((Self { certificate, key, publisher }, Certificate(receiver)))
    }

    /// Follows the files until cancelled, warns as the certificate's end comes near, and shows the end in `metrics`.
    pub async fn run(mut self, metrics: Arc<Metrics>) -> Infallible {
        self.show(&metrics);
        let mut polls = interval(POLL);
        polls.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut days = interval(A_DAY);
        loop {
            tokio::select! {
                _ = polls.tick() => self.poll(&metrics).await,
                _ = days.tick() => self.warn(SystemTime::now()),
            }
        }
    }

    fn show(&self, metrics: &Metrics) {
        metrics.certificate_ends(self.certificate.path(), self.publisher.borrow().expires);
    }

    async fn poll(&mut self, metrics: &Metrics) {
        // Both are looked at, whatever the first shows.
        if self.certificate.poll().await | self.key.poll().await {
            self.apply();
            self.show(metrics);
        }
    }

    fn apply(&self) {
        let file = self.certificate.path().display();
        let now = SystemTime::now();
        let pair = Pair::of(&self.certificate, &self.key).and_then(|pair| {
            // Clients refuse either; one that is not valid is better than none only at the start.
            let is_worse = self.publisher.borrow().check_time(now).is_ok();
            let wrong = pair.check_time(now).err().filter(|_| is_worse);
            wrong.map_or(Ok(pair), |reason| Err(CertificateError { file: self.certificate.path().to_owned(), reason }))
        });
        match pair {
            Ok(pair) => {
                tracing::info!(%file, expires = %written(pair.expires), "certificate reloaded");
                self.publisher.send_replace(Arc::new(pair));
                self.warn(SystemTime::now());
            }
            Err(error) => tracing::error!(%error, "certificate not reloaded, the one before stays in force"),
        }
    }

    fn warn(&self, now: SystemTime) {
        let expires = self.publisher.borrow().expires;
        if let Err(reason) = self.publisher.borrow().check_time(now) {
            let file = self.certificate.path().display();
            tracing::error!(%file, "the certificate {reason}: clients refuse it");
            return;
        }
        let left = expires.duration_since(now).unwrap_or_default();
        if left < WARN_BEFORE {
            let (file, days_left) = (self.certificate.path().display(), left.as_secs() / A_DAY.as_secs());
            tracing::warn!(%file, days_left, expires = %written(expires), "the certificate ends soon");
        }
    }
}

impl Certificate {
    /// When the certificate ends.
    #[must_use]
    pub fn expires(&self) -> SystemTime {
        self.0.borrow().expires
    }

    /// TLS 1.2 and 1.3 under this certificate, with HTTP/2 for who can speak it.
    #[must_use]
    pub fn server_config(self) -> ServerConfig {
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("ring supports the default protocol versions")
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(self));
        config.alpn_protocols = vec![HTTP_2.to_vec(), b"http/1.1".to_vec(), b"http/1.0".to_vec()];
        if let Ok(ticketer) = Ticketer::new() {
            // Sessions are resumed from the client's memory, not from ours.
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

impl Pair {
    fn of(certificate: &WatchedFile, key: &WatchedFile) -> Result<Self, CertificateError> {
        let at = |file: &WatchedFile| {
            let file = file.path().to_owned();
            move |reason| CertificateError { file, reason }
        };
        let chain = chain(certificate.text()).map_err(at(certificate))?;
        let (starts, expires) = validity(&chain).map_err(at(certificate))?;
        let key_text = key.text().map_err(|reason| format!("cannot be read: {reason}")).map_err(at(key))?;
        let private = private_key(&key_text).map_err(at(key))?;
        let certified = CertifiedKey::new(chain, private);
        certified
            .keys_match()
            .map_err(|error| format!("does not belong to {}: {error}", certificate.path().display()))
            .map_err(at(key))?;
        Ok(Self { certified: Arc::new(certified), starts, expires })
    }

    /// Names what is wrong with the certificate's time at `now`.
    fn check_time(&self, now: SystemTime) -> Result<(), String> {
        if self.expires <= now {
            return Err(format!("has expired at {}", written(self.expires)));
        }
        if now < self.starts {
            return Err(format!(
                "is not valid before {}; this machine's time is {}",
                written(self.starts),
                written(now)
            ));
        }
        Ok(())
    }
}

/// Reads both files as trailgate does at its start, and returns when the certificate ends.
pub fn expiry(files: &CertificateFiles) -> Result<SystemTime, CertificateError> {
    CertificateReloader::start(files).map(|(_, certificate)| certificate.expires())
}

/// Reads both files, and rejects a certificate that clients would not accept at `now`.
pub fn check(files: &CertificateFiles, now: SystemTime) -> Result<(), CertificateError> {
    let (_, certificate) = CertificateReloader::start(files)?;
    let time = certificate.0.borrow().check_time(now);
    time.map_err(|reason| CertificateError { file: files.certificate.clone(), reason })
}

/// Reads a key that can sign, or says why it is none.
fn private_key(text: &str) -> Result<Arc<dyn SigningKey>, String> {
    if text.contains("BEGIN ENCRYPTED PRIVATE KEY") || text.contains("Proc-Type: 4,ENCRYPTED") {
        return Err("is encrypted: write it without a passphrase, by openssl pkey -in KEY -out PLAIN".to_owned());
    }
    let key =
        PrivateKeyDer::from_pem_slice(text.as_bytes()).map_err(|error| format!("holds no private key: {error}"))?;
    let unsupported = |error| {
        format!(
            "holds an unsupported key type, use RSA of 2048 bits or more, ECDSA on P-256 or P-384, or Ed25519: {error}"
        )
    };
    provider().key_provider.load_private_key(key).map_err(unsupported)
}

fn chain(text: Text) -> Result<Vec<CertificateDer<'static>>, String> {
    let text = text.map_err(|reason| format!("cannot be read: {reason}"))?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
    let chain = chain.map_err(|error| format!("is no PEM: {error}"))?;
    if chain.is_empty() { Err("holds no certificate".to_owned()) } else { Ok(chain) }
}

/// The time in which all certificates are valid: without one of them the rest does not lead anywhere.
fn validity(chain: &[CertificateDer<'_>]) -> Result<(SystemTime, SystemTime), String> {
    let times = chain.iter().map(|certificate| {
        let certificate = x509_cert::Certificate::from_der(certificate)?;
        let validity = certificate.tbs_certificate().validity();
        Ok((validity.not_before.to_system_time(), validity.not_after.to_system_time()))
    });
    let times: Result<Vec<_>, x509_cert::der::Error> = times.collect();
    let times = times.map_err(|error| format!("holds a bad certificate: {error}"))?;
    let (starts, ends): (Vec<_>, Vec<_>) = times.into_iter().unzip();
    let (starts, ends) = (starts.into_iter().max(), ends.into_iter().min());
    Ok(starts.zip(ends).expect("the chain is not empty"))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// A time as RFC 3339 writes it.
fn written(time: SystemTime) -> String {
    jiff::Timestamp::try_from(time).map_or_else(|_| "out of range".to_owned(), |time| time.to_string())
}

/// How ALPN names HTTP/2 (RFC 9113, section 3.2).
pub(crate) const HTTP_2: &[u8] = b"h2";

const A_DAY: Duration = Duration::from_hours(24);
/// How long before its end a certificate is spoken of.
const WARN_BEFORE: Duration = Duration::from_hours(14 * 24);
