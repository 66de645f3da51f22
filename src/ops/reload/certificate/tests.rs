use std::fs;
use std::path::PathBuf;

use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use tempfile::TempDir;

use super::*;

struct Rig {
    _folder: TempDir,
    files: CertificateFiles,
    reloader: CertificateReloader,
    metrics: Metrics,
}

impl Rig {
    /// Starts with a certificate that is valid in these years.
    fn start(from: i32, to: i32) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let files =
            CertificateFiles { certificate: folder.path().join("cert.pem"), key: folder.path().join("key.pem") };
        write(&files, from, to);
        let (reloader, _) = CertificateReloader::start(&files).unwrap();
        let metrics = Metrics::default();
        reloader.export(&metrics, SystemTime::now());
        Self { _folder: folder, files, reloader, metrics }
    }

    /// Polls until a change of the files has had time to be noticed.
    async fn polls(&mut self, now: SystemTime) {
        for _ in 0..3 {
            self.reloader.poll(&self.metrics, now).await;
        }
    }

    fn expires(&self) -> SystemTime {
        self.reloader.publisher.borrow().expires()
    }

    fn is_current(&self) -> bool {
        self.metrics.certificates()[&self.files.certificate].is_current()
    }
}

/// Writes a certificate that is valid from the first to the second year.
fn write(files: &CertificateFiles, from: i32, to: i32) {
    let mut params = CertificateParams::new(["gate.test".to_owned()]).unwrap();
    (params.not_before, params.not_after) = (date_time_ymd(from, 1, 1), date_time_ymd(to, 1, 1));
    let key = KeyPair::generate().unwrap();
    let texts: [(&PathBuf, String); 2] =
        [(&files.certificate, params.self_signed(&key).unwrap().pem()), (&files.key, key.serialize_pem())];
    for (file, text) in texts {
        fs::write(file, text).unwrap();
    }
}

fn year(year: i32) -> SystemTime {
    date_time_ymd(year, 1, 1).into()
}

#[tokio::test]
async fn early_certificate_is_loaded_when_it_becomes_valid() {
    let mut it = Rig::start(2020, 2030);
    write(&it.files, 2028, 2040);
    it.polls(year(2026)).await;
    assert_eq!(it.expires(), year(2030));
    assert!(!it.is_current());
    it.polls(year(2029)).await;
    assert_eq!(it.expires(), year(2040));
    assert!(it.is_current());
}

#[tokio::test]
async fn unreadable_certificate_is_stale() {
    let mut it = Rig::start(2020, 2030);
    it.polls(year(2026)).await;
    assert!(it.is_current());
    it.reloader.key.pretend_hung();
    it.polls(year(2026)).await;
    assert!(!it.is_current());
}
