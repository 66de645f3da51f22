//! What serves connections: a gate and the runtime that it runs in.
//!
//! The program has one a core, each a thread. A connection stays with one of them, and so do the connections to the
//! domain that its requests go by: nothing of a request is ever handed to another core.

use std::num::NonZero;
use std::sync::Arc;
use std::{io, thread};

use tokio::runtime::{Builder, Handle};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::proxy::Gate;

/// A gate in its runtime.
#[derive(Debug)]
pub struct Worker {
    pub(super) gate: Arc<Gate>,
    pub(super) runtime: Handle,
    /// Ends when this is dropped.
    pub(super) thread: Option<Thread>,
}

#[derive(Debug)]
pub(super) struct Thread {
    end: Option<DropGuard>,
    joined: Option<thread::JoinHandle<()>>,
}

impl Worker {
    /// One that serves `gate` in the runtime that this is called in.
    #[must_use]
    pub fn here(gate: Gate) -> Self {
        Self { gate: Arc::new(gate), runtime: Handle::current(), thread: None }
    }

    /// One a core, each in a thread and a runtime of its own.
    pub fn start_all(gate: &Gate) -> io::Result<Vec<Self>> {
        let cores = thread::available_parallelism().map_or(1, NonZero::get);
        (0..cores).map(|_| Self::start(gate)).collect()
    }

    fn start(gate: &Gate) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let gate = {
            let _entered = handle.enter();
            Arc::new(gate.with_own_pool())
        };
        let end = CancellationToken::new();
        let ended = end.clone();
        let work = move || {
            runtime.block_on(ended.cancelled());
            // A name look-up that hangs in a thread of the runtime must not hold up the end.
            runtime.shutdown_background();
        };
        let joined = thread::Builder::new().name("worker".to_owned()).spawn(work)?;
        let thread = Thread { end: Some(end.drop_guard()), joined: Some(joined) };
        Ok(Self { gate, runtime: handle, thread: Some(thread) })
    }
}

impl Drop for Thread {
    /// Waits for the thread, so that what is left of its requests is logged before the log ends.
    fn drop(&mut self) {
        self.end.take();
        if let Some(joined) = self.joined.take() {
            let _ = joined.join();
        }
    }
}
