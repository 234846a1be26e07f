//! Background tasks that a process cannot do without: one that ends ends the process. And long work, beside what answers.

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

/// Does what takes many milliseconds beside the threads that answer. A panic goes on where it is awaited.
pub async fn beside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        // Only the end of the runtime cancels it, and that of whoever waits with it.
        Err(_) => std::future::pending().await,
    }
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
    async fn long_work_that_panics_ends_the_process_too() {
        let shutdown = Shutdown::default();
        essential("panicking", &shutdown, async { beside(|| assert_eq!(beside_two(), 3)).await });
        shutdown.requested().await;
        assert_eq!(shutdown.failed(), Some("panicking"));
        assert_eq!(beside(beside_two).await, 2);
    }

    fn beside_two() -> u8 {
        2
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
