//! The handle by which a test starts a domain, directs it and looks into it.

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
    server, tls,
    verify::{Credentials, Refusal, Request, Verifier},
    wire::lock,
};

/// What kind of domain to stand in for; by default one for `es` in `eu-west-1`, in memory, without TLS.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where to listen; port 0 takes a free one.
    pub address: SocketAddr,
    /// Whether to speak TLS.
    pub tls: bool,
    /// Who must have signed, and for what.
    pub verifier: Verifier,
    /// Whether anybody is answered, signed or not: a browser without a gate.
    pub is_open: bool,
    /// Who answers a request whose signature holds.
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

/// Who answers a request whose signature holds.
#[derive(Clone, Debug)]
pub enum Backend {
    /// The stand-in itself, as much of Elasticsearch as `CloudTrail` events in an index need.
    Memory,
    /// Real servers, which get the request unsigned.
    PassOn {
        /// Where Elasticsearch is: `http://127.0.0.1:9200`.
        elasticsearch: Uri,
        /// Where Kibana is, which gets what is below `/_plugin/kibana/`.
        kibana: Option<Uri>,
    },
}

/// A running domain; it stops when this is dropped.
#[derive(Debug)]
pub struct FakeDomain {
    address: SocketAddr,
    ca_pem: Option<String>,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

impl FakeDomain {
    /// Starts a domain; it accepts connections once this returns.
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

    /// Where it listens: `http://127.0.0.1:PORT`, or `https` with TLS.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = if self.ca_pem.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// The address it listens on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// With TLS, the certificate of the authority that a client must trust.
    #[must_use]
    pub fn ca_pem(&self) -> Option<&str> {
        self.ca_pem.as_deref()
    }

    /// All requests that came so far, in order, refused ones too.
    #[must_use]
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.seen.borrow().clone()
    }

    /// Waits until `count` requests have come in all, and gives them.
    pub async fn wait_for_requests(&self, count: usize) -> Vec<Seen> {
        let mut receiver = self.shared.seen.subscribe();
        // It cannot fail, for the sender lives as long as `self`.
        let seen = receiver.wait_for(|seen| seen.len() >= count).await;
        seen.map(|seen| seen.clone()).unwrap_or_default()
    }

    /// How many connections were opened so far.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Takes signatures of these temporary credentials as well, until they expire.
    pub fn accept(&self, credentials: Credentials, expires: Timestamp) {
        lock(&self.shared.lent).push(Lent { credentials, expires });
    }

    /// Misbehaves at the next requests whose signatures hold, after the faults that were told before.
    pub fn fault(&self, fault: Fault, times: Times) {
        self.shared.faults.push(fault, times);
    }

    /// Finds fault with requests by `rule` from now on, when no fault that was told otherwise is left.
    pub fn judge_requests(&self, rule: RequestRule) {
        self.shared.faults.judge(Some(rule));
    }

    /// Finds fault with the items of `_bulk` requests by `rule` from now on. Those that it refuses are not written.
    pub fn judge_items(&self, rule: ItemRule) {
        self.shared.memory.judge(Some(rule));
    }

    /// Behaves again; requests that already are in a fault stay in it.
    pub fn clear_faults(&self) {
        self.shared.faults.clear();
        self.shared.memory.judge(None);
    }

    /// Sets the domain's clock `seconds` ahead of the right time, or behind it if negative.
    pub fn set_clock_offset(&self, seconds: i64) {
        self.shared.clock_offset.store(seconds, Ordering::SeqCst);
    }

    /// Puts documents into the memory, under ids of their own.
    pub fn load(&self, index: &str, documents: impl IntoIterator<Item = Value>) {
        self.shared.memory.load(index, documents);
    }
}

impl Drop for FakeDomain {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// What all connections of a domain have in common.
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

/// Temporary credentials that are taken beside the verifier's own.
#[derive(Debug)]
struct Lent {
    credentials: Credentials,
    expires: Timestamp,
}

impl Shared {
    /// Checks a signature by whichever credentials it says it was made with, unless the domain is open.
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

    /// The time by the domain's clock.
    pub(crate) fn now(&self) -> Timestamp {
        Timestamp::now() + SignedDuration::from_secs(self.clock_offset.load(Ordering::SeqCst))
    }
}
