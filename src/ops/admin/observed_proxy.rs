//! The parts of the proxy that the admin address shows.

use std::sync::Arc;

use trailgate_client::SignedClient;

use crate::http::memory_budget::MemoryBudget;
use crate::ops::metrics::Metrics;
use crate::policy::allowlist::Allowlist;

/// The parts of the proxy that are observed.
#[derive(Debug)]
pub(crate) struct ObservedProxy {
    /// The domain, over connections of the observer's own.
    pub upstream: Arc<SignedClient>,
    /// The list in effect.
    pub allowlist: Allowlist,
    /// The memory for bodies.
    pub budget: MemoryBudget,
    /// The counts.
    pub metrics: Arc<Metrics>,
}
