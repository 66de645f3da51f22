//! A real server behind a stand-in.

use trailgate_testkit::Engine;

use crate::rig::{Rig, signing_key};

/// A real server behind a stand-in; it ends when this is dropped.
pub(crate) struct Server {
    pub(crate) rig: Rig,
    _engine: Engine,
}

impl Server {
    pub(crate) async fn start(name: &str, settings: &[&str]) -> Self {
        let engine = Engine::start(name, settings).await.unwrap();
        Self { rig: Rig::with(engine.backend(), signing_key()).await, _engine: engine }
    }
}
