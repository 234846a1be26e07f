//! When to stop: requested once, seen by everybody.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::watch;

/// A request to stop that many may wait for.
#[derive(Debug, Clone)]
pub struct Shutdown {
    sender: watch::Sender<bool>,
    failed: Arc<OnceLock<&'static str>>,
}

impl Default for Shutdown {
    fn default() -> Self {
        Self { sender: watch::Sender::new(false), failed: Arc::default() }
    }
}

impl Shutdown {
    /// Stops when the process gets SIGTERM or SIGINT.
    ///
    /// # Errors
    /// If the signals cannot be listened to.
    pub fn on_signals() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let shutdown = Self::default();
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let trigger = shutdown.clone();
        tokio::spawn(async move {
            tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
            trigger.trigger();
        });
        Ok(shutdown)
    }

    /// A stop that follows this one after so long, and at once where a task has failed. A failure under it stops both.
    pub fn later(&self, after: Duration) -> Self {
        let later = Self { failed: Arc::clone(&self.failed), ..Self::default() };
        let (first, second) = (self.clone(), later.clone());
        tokio::spawn(async move {
            tokio::select! { () = first.requested() => {}, () = second.requested() => {} }
            if first.failed().is_none() {
                tokio::select! { () = second.requested() => {}, () = tokio::time::sleep(after) => {} }
            }
            first.trigger();
            second.trigger();
        });
        later
    }

    /// Asks everybody to stop.
    pub fn trigger(&self) {
        self.sender.send_replace(true);
    }

    /// Asks everybody to stop because this task has ended; the process is to fail.
    pub fn fail(&self, task: &'static str) {
        // The first failure is the one to tell.
        let _ = self.failed.set(task);
        self.trigger();
    }

    /// The task whose end stopped the process.
    pub fn failed(&self) -> Option<&'static str> {
        self.failed.get().copied()
    }

    /// Whether a stop is requested.
    pub fn is_requested(&self) -> bool {
        *self.sender.borrow()
    }

    /// Returns once a stop is requested. May be dropped and called again.
    pub async fn requested(&self) {
        let mut receiver = self.sender.subscribe();
        // The sender lives as long as `self`, so waiting cannot fail.
        let _ = receiver.wait_for(|stop| *stop).await;
    }
}
