//! The parts of the proxy that the admin address shows.

use std::sync::Arc;

use trailgate_client::SignedClient;

use crate::http::memory_budget::MemoryBudget;
use crate::ops::metrics::Metrics;
use crate::policy::allowlist::Allowlist;
use crate::policy::signing_role::SigningRoles;

/// The parts of a proxy that the observer reads.
#[derive(Debug)]
pub(crate) struct ObservedProxy {
    /// The client of the domain, with connections of its own.
    pub upstream: Arc<SignedClient>,
    /// The allowlist in effect.
    pub allowlist: Allowlist,
    /// The roles that sign requests.
    pub roles: SigningRoles,
    /// The memory budget for buffered bodies.
    pub budget: MemoryBudget,
    /// The limit of open client connections.
    pub max_connections: usize,
    /// The counters of the proxy.
    pub metrics: Arc<Metrics>,
}
