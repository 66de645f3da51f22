//! A proxy that receives raw bytes.

use std::time::Duration;

use fake_domain::Seen;
use tokio::io::AsyncWriteExt as _;
use tokio::runtime::{self, Runtime};
use tokio::task::yield_now;
use tokio::time::timeout;
use trailgate::HeadError;

use crate::support::{RawAnswer, Rig, rest};

/// A proxy for a table of cases, so that each case that fails shows its own line.
pub(super) struct TestProxy {
    pub(super) runtime: Runtime,
    pub(super) rig: Rig,
}

impl TestProxy {
    pub(super) fn start() -> Self {
        let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let rig = runtime.block_on(Rig::new());
        Self { runtime, rig }
    }

    /// Expects that a head is refused for this reason.
    #[track_caller]
    pub(super) fn refuses(&self, head: impl AsRef<[u8]>, error: HeadError) {
        let answer = self.rejected(head.as_ref(), 400, "malformed_request");
        assert_eq!(answer.json()["error"]["reason"], error.to_string());
        assert_eq!(answer.header("connection"), Some("close"));
    }

    /// Asserts that the proxy itself answers a request so.
    #[track_caller]
    pub(super) fn rejects(&self, request: impl AsRef<[u8]>, status: u16, kind: &str) {
        self.rejected(request.as_ref(), status, kind);
    }

    #[track_caller]
    pub(super) fn rejected(&self, request: &[u8], status: u16, kind: &str) -> RawAnswer {
        let (mut answers, seen) = self.exchange(&[request]);
        assert_eq!(answers.len(), 1, "{answers:?}");
        assert_eq!(seen, []);
        let answer = answers.remove(0);
        assert_eq!(answer.status, status, "{answer:?}");
        let id = answer.header("trailgate-request-id").unwrap_or_else(|| panic!("not of the proxy: {answer:?}"));
        let line = self.access_line();
        assert_eq!(line["id"], id);
        assert_eq!((&line["status"], &line["outcome"]), (&status.into(), &kind.into()));
        let body = answer.json();
        assert_eq!((&body["status"], &body["error"]["type"]), (&status.into(), &kind.into()));
        answer
    }

    /// Expects that these requests, and no others, reach the domain, signed, and that each has its answer.
    #[track_caller]
    pub(super) fn passes(&self, text: impl AsRef<[u8]>, requests: &[&str]) -> Vec<Seen> {
        self.passes_in_pieces(&[text.as_ref()], requests)
    }

    #[track_caller]
    pub(super) fn passes_in_pieces(&self, pieces: &[&[u8]], requests: &[&str]) -> Vec<Seen> {
        let (answers, seen) = self.exchange(pieces);
        let came: Vec<String> = seen.iter().map(|seen| format!("{} {}", seen.method, seen.target)).collect();
        assert_eq!(came, requests);
        assert!(seen.iter().all(|seen| seen.refusal.is_none()), "{seen:?}");
        // The domain numbers its answers.
        let ids: Vec<_> = answers.iter().filter_map(|answer| answer.header("x-amzn-requestid")).collect();
        assert_eq!((ids.len(), answers.len()), (requests.len(), requests.len()), "{answers:?}");
        assert!(ids.is_sorted(), "{ids:?}");
        seen
    }

    /// Sends these pieces on one connection, and returns the responses and the requests that the domain saw.
    #[track_caller]
    pub(super) fn exchange(&self, pieces: &[&[u8]]) -> (Vec<RawAnswer>, Vec<Seen>) {
        let before = self.rig.domain.seen().len();
        let exchange = async {
            let mut stream = self.rig.open().await;
            for piece in pieces {
                stream.write_all(piece).await.unwrap();
                // Lets the proxy read this piece before the next one is sent.
                for _ in 0..4 {
                    yield_now().await;
                }
            }
            rest(&mut stream).await
        };
        let text = self
            .runtime
            .block_on(async { timeout(PATIENCE, exchange).await })
            .unwrap_or_else(|_| panic!("not closed in time: {:?}", String::from_utf8_lossy(&pieces.concat())));
        (RawAnswer::all(&text), self.rig.domain.seen().split_off(before))
    }

    pub(super) fn send(&self, bytes: &[u8]) -> String {
        self.runtime.block_on(self.rig.raw(bytes))
    }

    pub(super) fn access_line(&self) -> serde_json::Value {
        self.runtime.block_on(self.rig.access_line())
    }
}

/// Returns a `GET` with these header lines after `Host`.
pub(super) fn get(target: &str, headers: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nhost: a\r\n{headers}\r\n")
}

/// Returns a `POST` with these header lines after `Host`, followed by `body`.
pub(super) fn post(headers: &str, body: &str) -> String {
    format!("POST / HTTP/1.1\r\nhost: a\r\n{headers}\r\n{body}")
}

/// The upper bound of a wait, exceeded only if something is broken.
const PATIENCE: Duration = Duration::from_mins(1);

pub(super) const CLOSE: &str = "connection: close\r\n";
