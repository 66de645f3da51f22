//! A worker: a proxy and the single-threaded runtime of its connections.
//!
//! The program runs one worker thread per core. A client connection and the upstream connections of its requests stay
//! on one worker: no request crosses cores.

use std::num::NonZero;
use std::sync::Arc;
use std::{io, thread};

use tokio::runtime::{Builder, Handle};
use tokio_util::sync::{CancellationToken, DropGuard};

/// A proxy in its runtime.
#[derive(Debug)]
pub struct Worker<P> {
    pub(super) proxy: Arc<P>,
    pub(super) runtime: Handle,
    pub(super) thread: Option<Thread>,
}

/// A thread that runs until this is dropped. The drop waits for its end.
#[derive(Debug)]
pub(super) struct Thread {
    end: Option<DropGuard>,
    joined: Option<thread::JoinHandle<()>>,
}

impl<P> Worker<P> {
    /// Creates a worker of the current runtime.
    #[must_use]
    pub fn here(proxy: P) -> Self {
        Self { proxy: Arc::new(proxy), runtime: Handle::current(), thread: None }
    }

    /// Starts a worker for each core that this process may use. Each creates a proxy of its own in its runtime.
    pub fn start_all(make_proxy: impl Fn() -> P) -> io::Result<Vec<Self>> {
        let cores = thread::available_parallelism().map_or(1, NonZero::get);
        (0..cores).map(|_| Self::start(&make_proxy)).collect()
    }

    fn start(make_proxy: &impl Fn() -> P) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let proxy = {
            let _entered = handle.enter();
            Arc::new(make_proxy())
        };
        let end = CancellationToken::new();
        let ended = end.clone();
        let work = move || {
            runtime.block_on(ended.cancelled());
            // A hanging DNS lookup in the runtime's blocking pool must not delay the end.
            runtime.shutdown_background();
        };
        let joined = thread::Builder::new().name("worker".to_owned()).spawn(work)?;
        let thread = Thread { end: Some(end.drop_guard()), joined: Some(joined) };
        Ok(Self { proxy, runtime: handle, thread: Some(thread) })
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        self.end.take();
        if let Some(joined) = self.joined.take() {
            let _ = joined.join();
        }
    }
}
