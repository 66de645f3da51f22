//! Background tasks that must not end.

use std::collections::HashMap;

use anyhow::bail;
use tokio::task::{JoinError, JoinSet};

/// Tasks that run as long as the process. Without one of them the proxy would silently become stale.
#[derive(Debug, Default)]
pub(super) struct Background {
    tasks: JoinSet<()>,
    names: HashMap<tokio::task::Id, &'static str>,
}

impl Background {
    pub(super) fn spawn(&mut self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.names.insert(self.tasks.spawn(task).id(), name);
    }

    /// Runs `work` to completion. Returns an error if a task ends first.
    pub(super) async fn run_until(mut self, work: impl Future<Output = ()>) -> anyhow::Result<()> {
        tokio::select! {
            () = work => Ok(()),
            Some(ended) = self.tasks.join_next_with_id() => {
                let id = ended.as_ref().map_or_else(JoinError::id, |(id, ())| *id);
                let name = self.names.get(&id).copied().unwrap_or("a background task");
                match ended {
                    Ok(_) => bail!("{name} has ended"),
                    Err(error) => bail!("{name} has failed: {error}"),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    #[tokio::test]
    async fn ended_task_ends_the_work_with_an_error() {
        let mut background = Background::default();
        background.spawn("the one that stays", pending());
        background.spawn("the one that ends", ready(()));
        let error = background.run_until(pending()).await.unwrap_err();
        assert_eq!(error.to_string(), "the one that ends has ended");
    }

    #[tokio::test]
    async fn panicked_task_ends_the_work_with_an_error() {
        let mut background = Background::default();
        background.spawn("the one that fails", async { panic!("for the test") });
        let error = background.run_until(pending()).await.unwrap_err();
        assert!(error.to_string().starts_with("the one that fails has failed: "), "{error}");
        assert!(error.to_string().contains("for the test"), "{error}");
    }

    #[tokio::test]
    async fn work_that_completes_is_no_error() {
        let mut background = Background::default();
        background.spawn("the one that stays", pending());
        assert!(background.run_until(ready(())).await.is_ok());
    }
}
