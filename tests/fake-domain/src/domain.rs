//! The handle by which a test starts, controls and inspects a fake domain.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, AtomicUsize, Ordering},
    },
};

use anyhow::Context;
use hyper::Uri;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};

use crate::{
    fault::{Fault, Faults, ItemRule, RequestRule, Times},
    memory::Memory,
    pass_on::PassOn,
    saved_objects::SavedObjects,
    seen::Seen,
    server,
    sts::FakeSts,
    tls,
    verify::{Credentials, Refusal, Request, Verifier},
    wire::lock,
};

/// The options of a fake domain; by default one for `es` in `eu-west-1`, in memory, without TLS.
#[derive(Clone, Debug)]
pub struct Options {
    /// The address to listen on; port 0 selects a free one.
    pub address: SocketAddr,
    /// True to serve TLS.
    pub tls: bool,
    /// The credentials, region and service that signatures are checked against.
    pub verifier: Verifier,
    /// True to accept unsigned requests, as for a browser without a proxy.
    pub is_open: bool,
    /// The backend that responds to requests with a valid signature.
    pub backend: Backend,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            tls: false,
            verifier: Verifier {
                credentials: Credentials::default(),
                region: "eu-west-1".to_owned(),
                service: "es".to_owned(),
            },
            is_open: false,
            backend: Backend::Memory,
        }
    }
}

/// The backend that responds to requests with a valid signature.
#[derive(Clone, Debug)]
pub enum Backend {
    /// The fake domain itself, with the subset of Elasticsearch that `CloudTrail` events in an index need.
    Memory,
    /// Real servers, which receive the requests unsigned.
    PassOn {
        /// The URL of Elasticsearch: `http://127.0.0.1:9200`.
        elasticsearch: Uri,
        /// The URL of Kibana, which serves the paths below `/_plugin/kibana/`.
        kibana: Option<Uri>,
    },
}

/// A running fake domain; it stops when this is dropped.
#[derive(Debug)]
pub struct FakeDomain {
    address: SocketAddr,
    ca_pem: Option<String>,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

impl FakeDomain {
    /// Starts a fake domain. It accepts connections once this returns.
    pub async fn start(options: Options) -> anyhow::Result<Self> {
        let listener =
            TcpListener::bind(options.address).await.with_context(|| format!("listen on {}", options.address))?;
        let address = listener.local_addr()?;
        let (acceptor, ca_pem) = options.tls.then(tls::identity).transpose()?.unzip();
        let shared = Arc::new(Shared {
            verifier: options.verifier,
            is_open: options.is_open,
            lent: Mutex::default(),
            pass_on: match options.backend {
                Backend::Memory => None,
                Backend::PassOn { elasticsearch, kibana } => Some(PassOn::new(elasticsearch, kibana)),
            },
            memory: Memory::default(),
            saved_objects: SavedObjects::default(),
            faults: Faults::default(),
            clock_offset: AtomicI64::new(0),
            connections: AtomicUsize::new(0),
            seen: watch::Sender::default(),
        });
        let server = tokio::spawn(server::accept(listener, acceptor, Arc::clone(&shared)));
        Ok(Self { address, ca_pem, shared, server })
    }

    /// Returns its URL: `http://127.0.0.1:PORT`, or `https` with TLS.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = if self.ca_pem.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// Returns the address that it listens on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the certificate of the authority that a client must trust, if TLS is on.
    #[must_use]
    pub fn ca_pem(&self) -> Option<&str> {
        self.ca_pem.as_deref()
    }

    /// Returns all requests received so far, in order, including rejected ones.
    #[must_use]
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.seen.borrow().clone()
    }

    /// Waits until `count` requests in total have been received, and returns them.
    pub async fn wait_for_requests(&self, count: usize) -> Vec<Seen> {
        let mut receiver = self.shared.seen.subscribe();
        // Cannot fail: the sender lives as long as `self`.
        let seen = receiver.wait_for(|seen| seen.len() >= count).await;
        seen.map(|seen| seen.clone()).unwrap_or_default()
    }

    /// Returns the number of connections accepted so far.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Also accepts signatures by these temporary credentials, until they expire.
    pub fn accept(&self, credentials: Credentials, expires: Timestamp) {
        self.shared.accept(credentials, expires, None);
    }

    /// Starts an STS whose sessions this domain accepts.
    pub async fn sts(&self) -> anyhow::Result<FakeSts> {
        FakeSts::start(Arc::clone(&self.shared)).await
    }

    /// Applies `fault` to the next requests with a valid signature, after the faults queued before.
    pub fn fault(&self, fault: Fault, times: Times) {
        self.shared.faults.push(fault, times);
    }

    /// Applies the faults that `rule` returns, once the queue of faults is empty.
    pub fn judge_requests(&self, rule: RequestRule) {
        self.shared.faults.judge(Some(rule));
    }

    /// Rejects the items of `_bulk` requests for which `rule` returns a rejection. Rejected items are not written.
    pub fn judge_items(&self, rule: ItemRule) {
        self.shared.memory.judge(Some(rule));
    }

    /// Clears all faults, except those that requests in flight already meet.
    pub fn clear_faults(&self) {
        self.shared.faults.clear();
        self.shared.memory.judge(None);
    }

    /// Sets the domain's clock `seconds` ahead of the system's, or behind it if negative.
    pub fn set_clock_offset(&self, seconds: i64) {
        self.shared.clock_offset.store(seconds, Ordering::SeqCst);
    }

    /// Stores documents in memory, with generated ids.
    pub fn load(&self, index: &str, documents: impl IntoIterator<Item = Value>) {
        self.shared.memory.load(index, documents);
    }
}

impl Drop for FakeDomain {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// The state that all connections of a domain share.
#[derive(Debug)]
pub(crate) struct Shared {
    verifier: Verifier,
    is_open: bool,
    lent: Mutex<Vec<Lent>>,
    pub(crate) pass_on: Option<PassOn>,
    pub(crate) memory: Memory,
    pub(crate) saved_objects: SavedObjects,
    pub(crate) faults: Faults,
    clock_offset: AtomicI64,
    pub(crate) connections: AtomicUsize,
    pub(crate) seen: watch::Sender<Vec<Seen>>,
}

/// Temporary credentials that are accepted in addition to the verifier's.
#[derive(Debug)]
struct Lent {
    credentials: Credentials,
    expires: Timestamp,
    /// The ARN of the session, if they are those of an assumed role.
    session: Option<String>,
}

impl Shared {
    /// Also accepts signatures by these temporary credentials, until they expire.
    pub(crate) fn accept(&self, credentials: Credentials, expires: Timestamp, session: Option<String>) {
        lock(&self.lent).push(Lent { credentials, expires, session });
    }

    /// Returns the ARN of the session that a request names as its signer.
    pub(crate) fn signer(&self, request: &Request<'_>) -> Option<String> {
        let key = request.access_key()?;
        let lent = lock(&self.lent);
        lent.iter().rev().find(|it| it.credentials.access_key == key)?.session.clone()
    }

    /// Checks the signature against the credentials that it names, unless the domain is open.
    pub(crate) fn check(&self, request: &Request<'_>, now: Timestamp) -> Result<(), Refusal> {
        if self.is_open {
            return Ok(());
        }
        let lent = lock(&self.lent);
        let signer = request.access_key().and_then(|key| lent.iter().rev().find(|it| it.credentials.access_key == key));
        match signer {
            None => self.verifier.check(request, now),
            Some(signer) if signer.expires <= now => Err(Refusal::TokenExpired),
            Some(signer) => {
                Verifier { credentials: signer.credentials.clone(), ..self.verifier.clone() }.check(request, now)
            }
        }
    }

    /// Returns the time of the domain's clock.
    pub(crate) fn now(&self) -> Timestamp {
        Timestamp::now() + SignedDuration::from_secs(self.clock_offset.load(Ordering::SeqCst))
    }
}
