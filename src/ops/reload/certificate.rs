//! Reloads a certificate when its files change, and warns before its expiry.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use crate::http::tls::{Certificate, CertificateError, CertificateFiles, LoadedCertificate, format_time};
use crate::ops::metrics::Metrics;
use crate::watched_file::{POLL_INTERVAL, WatchedFile};

/// Keeps the certificate in effect equal to its files, as long as these are valid.
#[derive(Debug)]
pub struct CertificateReloader {
    certificate: WatchedFile,
    key: WatchedFile,
    publisher: watch::Sender<Arc<LoadedCertificate>>,
    /// The time from which on the files' certificate is valid, if that is why it was rejected.
    starts: Option<SystemTime>,
}

impl CertificateReloader {
    /// Loads the certificate for the first time.
    pub fn start(files: &CertificateFiles) -> Result<(Self, Certificate), CertificateError> {
        let (certificate, key) = (WatchedFile::open(files.certificate.clone()), WatchedFile::open(files.key.clone()));
        let (publisher, receiver) = Certificate::channel(parse(&certificate, &key)?);
        Ok((Self { certificate, key, publisher, starts: None }, receiver))
    }

    /// Follows the files until cancelled, warns before the certificate's expiry, and exports the expiry in `metrics`.
    pub async fn run(mut self, metrics: Arc<Metrics>) -> Infallible {
        self.export(&metrics, SystemTime::now());
        let mut polls = interval(POLL_INTERVAL);
        polls.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut days = interval(DAY);
        loop {
            tokio::select! {
                _ = polls.tick() => self.poll(&metrics, SystemTime::now()).await,
                _ = days.tick() => self.warn(SystemTime::now()),
            }
        }
    }

    fn export(&self, metrics: &Metrics, now: SystemTime) {
        let compared = self.compared();
        metrics.set_certificate(self.certificate.path(), self.publisher.borrow().expires(), now, compared);
    }

    /// Returns the last time at which both files were compared with the certificate in effect.
    fn compared(&self) -> Instant {
        self.certificate.confirmed().min(self.key.confirmed())
    }

    async fn poll(&mut self, metrics: &Metrics, now: SystemTime) {
        // A non-short-circuiting `|`, so that both files are polled.
        let is_new = self.certificate.poll().await | self.key.poll().await;
        metrics.set_certificate_compared(self.certificate.path(), self.compared());
        if is_new || self.starts.is_some_and(|starts| starts <= now) {
            self.apply(metrics, now);
        }
    }

    fn apply(&mut self, metrics: &Metrics, now: SystemTime) {
        self.starts = None;
        let file = self.certificate.path().display();
        let loaded = parse(&self.certificate, &self.key).and_then(|loaded| {
            // Clients reject a certificate outside its validity, so it never replaces a valid one.
            let is_worse = self.publisher.borrow().check_time(now).is_ok();
            let Some(reason) = loaded.check_time(now).err().filter(|_| is_worse) else { return Ok(loaded) };
            self.starts = Some(loaded.starts()).filter(|starts| *starts > now);
            Err(CertificateError { file: self.certificate.path().to_owned(), reason })
        });
        match loaded {
            Ok(loaded) => {
                tracing::info!(%file, expires = %format_time(loaded.expires()), "certificate reloaded");
                self.publisher.send_replace(Arc::new(loaded));
                self.export(metrics, now);
                self.warn(now);
            }
            Err(error) => {
                tracing::error!(%error, "certificate not reloaded, the previous one stays in effect");
                metrics.set_certificate_error(self.certificate.path(), error.to_string());
            }
        }
    }

    fn warn(&self, now: SystemTime) {
        let expires = self.publisher.borrow().expires();
        if let Err(reason) = self.publisher.borrow().check_time(now) {
            let file = self.certificate.path().display();
            tracing::error!(%file, "the certificate {reason}: clients reject it");
            return;
        }
        let left = expires.duration_since(now).unwrap_or_default();
        if left < WARN_BEFORE {
            let (file, days_left) = (self.certificate.path().display(), left.as_secs() / DAY.as_secs());
            tracing::warn!(%file, days_left, expires = %format_time(expires), "the certificate expires soon");
        }
    }
}

fn parse(certificate: &WatchedFile, key: &WatchedFile) -> Result<LoadedCertificate, CertificateError> {
    LoadedCertificate::parse((certificate.path(), certificate.text()), (key.path(), key.text()))
}

const DAY: Duration = Duration::from_hours(24);
/// The time before its expiry from which on a certificate causes warnings.
const WARN_BEFORE: Duration = Duration::from_hours(14 * 24);

#[cfg(test)]
mod tests;
