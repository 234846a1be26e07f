//! A question that is asked again beside the first time, on another connection: one that a network has forgotten never says so.

use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};

/// The first answer. A further attempt begins when there was no answer for as long as `every`; after one that failed and of which `passing`
/// says that the next one may do better, as soon as that time is over. Ends only with an answer: give it a time-out.
///
/// # Errors
/// Of the first attempt that failed for good.
pub async fn hedged<'a, T, E>(
    every: Duration,
    attempt: impl Fn() -> BoxFuture<'a, Result<T, E>>,
    passing: impl Fn(&E) -> bool,
) -> Result<T, E> {
    let mut attempts = FuturesUnordered::new();
    loop {
        attempts.push(attempt());
        let pause = tokio::time::sleep(every);
        tokio::pin!(pause);
        loop {
            tokio::select! {
                biased;
                Some(answered) = attempts.next() => match answered {
                    Err(error) if passing(&error) => {}
                    answered => return answered,
                },
                () = &mut pause => break,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use futures::FutureExt;
    use tokio::sync::Notify;

    use super::*;

    const EVERY: Duration = Duration::from_millis(10);

    #[tokio::test]
    async fn attempts_that_are_silent_or_fail_for_a_moment_are_followed_by_others() {
        let asked = AtomicU32::new(0);
        let attempt = || match asked.fetch_add(1, Ordering::SeqCst) {
            0 => std::future::pending().boxed(),
            1 => async { Err("busy") }.boxed(),
            number => async move { Ok(number) }.boxed(),
        };
        let answer = hedged(EVERY, attempt, |error| *error == "busy").await;
        assert_eq!((answer, asked.load(Ordering::SeqCst)), (Ok(2), 3));
        let answer: Result<(), _> = hedged(EVERY, || async { Err("gone") }.boxed(), |error| *error == "busy").await;
        assert_eq!(answer, Err("gone"));
    }

    #[tokio::test]
    async fn the_first_attempt_may_answer_late() {
        let (asked, second) = (AtomicU32::new(0), Arc::new(Notify::new()));
        let attempt = || {
            let (number, second) = (asked.fetch_add(1, Ordering::SeqCst), Arc::clone(&second));
            async move {
                if number > 0 {
                    second.notify_one();
                    std::future::pending::<()>().await;
                }
                second.notified().await;
                Ok::<_, ()>(number)
            }
            .boxed()
        };
        assert_eq!(hedged(EVERY, attempt, |()| true).await, Ok(0));
        assert!(asked.load(Ordering::SeqCst) > 1);
    }
}
