//! The report of `trailgate doctor`, step by step, as text and as JSON.

use std::fmt;

use serde::Serialize;

/// All steps in their order.
#[derive(Debug, Default, Serialize)]
pub(super) struct Report {
    steps: Vec<Step>,
}

#[derive(Debug, Serialize)]
struct Step {
    #[serde(rename = "step")]
    name: &'static str,
    status: Status,
    /// The finding or the problem.
    text: String,
    /// The advice on how to solve the problem.
    advice: Option<String>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    Passed,
    Failed,
    /// Works, and is probably not intended.
    Warning,
    /// Not checked, or not answered by a service that the proxy does not depend on.
    Unknown,
}

/// A problem and the advice on how to solve it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) text: String,
    pub(super) advice: String,
}

impl Problem {
    pub(super) fn new(text: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { text: text.into(), advice: advice.into() }
    }
}

impl Report {
    /// Returns whether no step failed.
    pub(super) fn is_well(&self) -> bool {
        self.steps.iter().all(|step| step.status != Status::Failed)
    }

    pub(super) fn add(&mut self, step: &'static str, outcome: Result<String, Problem>) {
        let (status, text, advice) = match outcome {
            Ok(text) => (Status::Passed, text, None),
            Err(Problem { text, advice }) => (Status::Failed, text, Some(advice)),
        };
        self.steps.push(Step { name: step, status, text, advice });
    }

    pub(super) fn add_warning(&mut self, step: &'static str, Problem { text, advice }: Problem) {
        self.steps.push(Step { name: step, status: Status::Warning, text, advice: Some(advice) });
    }

    pub(super) fn add_unknown(&mut self, step: &'static str, text: impl Into<String>) {
        self.steps.push(Step { name: step, status: Status::Unknown, text: text.into(), advice: None });
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Step { name, status, text, advice } in &self.steps {
            let status = match status {
                Status::Passed => "ok",
                Status::Failed => "FAILED",
                Status::Warning => "warn",
                Status::Unknown => "?",
            };
            writeln!(f, "{status:6}  {name:13}  {text}")?;
            for line in advice.iter().flat_map(|advice| advice.lines()) {
                writeln!(f, "{:23}{line}", "")?;
            }
        }
        Ok(())
    }
}
