use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tokio::time::sleep;

use super::patiently;

/// The events that a test has logged.
#[derive(Clone, Default)]
pub(crate) struct Events(Arc<Mutex<Vec<u8>>>);

impl Events {
    /// Keeps what this thread logs until the guard is dropped; the tasks of a test all run on its thread.
    pub(crate) fn capture(&self) -> (tracing::Dispatch, tracing::subscriber::DefaultGuard) {
        let writer = self.clone();
        let subscriber = tracing_subscriber::fmt().json().flatten_event(true).with_writer(move || writer.clone());
        // As long as there is one subscriber only, an event is asked for once, in the thread that first meets it:
        // another test's, where there is none.
        let other = tracing::Dispatch::new(tracing_subscriber::registry());
        (other, tracing::subscriber::set_default(subscriber.finish()))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    /// Waits until `text` is in what was logged.
    pub(crate) async fn until(&self, text: &str) {
        patiently(async {
            while !self.text().contains(text) {
                sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
    }

    /// Returns the one event with this message.
    pub(crate) fn only(&self, message: &str) -> Value {
        let text = self.text();
        let mut events = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let event = events.find(|event| event["message"] == message).unwrap_or_else(|| panic!("not logged: {text}"));
        assert!(events.all(|event| event["message"] != message), "logged twice: {text}");
        event
    }
}

impl Write for Events {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
