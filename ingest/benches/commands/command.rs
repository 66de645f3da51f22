//! One measured run of the program.

use std::fmt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use trailgate_testkit::AWS_KEY;

/// A run of `trailgate-ingest`, with what it took.
pub(crate) struct Run {
    pub(crate) time: Duration,
    peak: String,
    pub(crate) stdout: String,
}

impl Run {
    /// Runs the program until it ends, or until `is_over`, which kills it.
    pub(crate) fn until(arguments: &[&str], is_over: impl Fn() -> bool) -> Self {
        let start = Instant::now();
        let mut child = spawn(arguments);
        let path = format!("/proc/{}/status", child.id());
        let mut peak = String::new();
        while child.try_wait().unwrap().is_none() {
            let status = std::fs::read_to_string(&path).unwrap_or_default();
            if let Some(line) = status.lines().find_map(|line| line.strip_prefix("VmHWM:")) {
                line.trim().clone_into(&mut peak);
            }
            if is_over() {
                child.kill().unwrap();
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let time = start.elapsed();
        let output = child.wait_with_output().unwrap();
        Self { time, peak, stdout: String::from_utf8(output.stdout).unwrap() }
    }

    pub(crate) fn last_line(&self) -> &str {
        self.stdout.lines().last().unwrap_or_default()
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2?}, peak memory {}", self.time, self.peak)
    }
}

fn spawn(arguments: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_trailgate-ingest"));
    command.args(arguments).env_clear().envs(AWS_KEY).stdout(Stdio::piped()).stderr(Stdio::null());
    command.spawn().unwrap()
}
