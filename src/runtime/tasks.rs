//! Background tasks that a process cannot do without: one that ends ends the process.

use super::Shutdown;

/// Runs a task. Should it end, or panic, before a stop is requested, the process stops and fails.
pub fn essential(name: &'static str, shutdown: &Shutdown, work: impl Future<Output = ()> + Send + 'static) {
    let shutdown = shutdown.clone();
    let work = tokio::spawn(work);
    tokio::spawn(async move {
        let ended = work.await;
        if !shutdown.is_requested() {
            let panicked = ended.is_err_and(|error| error.is_panic());
            tracing::error!(task = name, panicked, "a task has ended that the process cannot do without");
            shutdown.fail(name);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_that_ends_early_ends_the_process_as_failed() {
        let shutdown = Shutdown::default();
        essential("short", &shutdown, async {});
        shutdown.requested().await;
        assert_eq!(shutdown.failed(), Some("short"));
    }

    #[tokio::test]
    async fn a_task_that_ends_with_the_process_is_no_failure() {
        let shutdown = Shutdown::default();
        let (stop, ended) = (shutdown.clone(), tokio::sync::oneshot::channel());
        essential("long", &shutdown, async move {
            stop.requested().await;
            let _ = ended.0.send(());
        });
        shutdown.trigger();
        ended.1.await.expect("the task ends");
        assert_eq!(shutdown.failed(), None);
    }
}
