//! Follows all records of one etcd cluster by one watch.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Conftool;
use super::client::{Interrupted, Read};
use super::decode::{Told, place, records, value};
use crate::observe::Bad;
use crate::runtime::Shutdown;
use crate::runtime::tasks::beside;
use jiff::Timestamp;

/// The first pause after a failure; it doubles up to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LAST_PAUSE: Duration = Duration::from_secs(5);

/// A watch that was useful for as long is begun again without much ado.
const LASTING: Duration = Duration::from_secs(5);

/// Follows until a stop is requested: lists, watches, lists again where the watch broke off.
pub(in crate::observe) async fn follow(source: Arc<Conftool>, shutdown: Shutdown) {
    let work = async {
        let mut attempts = 0;
        loop {
            let began = Instant::now();
            let End { listed, heard, bad } = round(&source).await;
            if let Some(bad) = &bad {
                source.lose(&bad.detail);
            }
            // Also a watch that only becomes stale is no reason to list everything again and again.
            if heard || listed && (bad.is_some() || began.elapsed() >= LASTING) {
                attempts = 0;
            }
            tokio::time::sleep(pause(attempts)).await;
            attempts += 1;
        }
    };
    tokio::select! { () = shutdown.requested() => {}, () = work => {} }
}

fn pause(attempts: u32) -> Duration {
    // Replicas that lost one etcd together do not come back together.
    let jitter = Duration::from_millis(u64::from(Timestamp::now().subsec_nanosecond().unsigned_abs() % 97));
    FIRST_PAUSE.saturating_mul(1 << attempts.min(6)).min(LAST_PAUSE) + jitter
}

/// How a round ended.
struct End {
    /// Everything was listed.
    listed: bool,
    /// The watch brought at least one event.
    heard: bool,
    /// What failed, or nothing where the watch only became stale.
    bad: Option<Bad>,
}

/// One list and the watch after it.
async fn round(source: &Arc<Conftool>) -> End {
    let Read { found: told, mut index, restored } = match source.client.list().await {
        Ok(listed) => listed,
        Err(bad) => return End { listed: false, heard: false, bad: Some(bad) },
    };
    if restored {
        source.forget(Timestamp::now());
    }
    take_over(source, told).await;
    let mut heard = false;
    let bad = loop {
        let next = tokio::select! {
            next = source.client.next(index) => next,
            () = source.again.notified() => break None,
        };
        let why = match next {
            Ok(told) => {
                heard = true;
                index = told.node.modified_index.max(index);
                apply(source, &told);
                continue;
            }
            // Nothing was to be heard, at whichever member the watch is.
            Err(Interrupted::Silent) if unchanged(source, index).await => {
                look_again(source).await;
                continue;
            }
            Err(Interrupted::Silent) => "the watch was silent",
            Err(Interrupted::Stale(why)) => why,
            Err(Interrupted::Failed(bad)) => break Some(bad),
        };
        tracing::info!(source = source.name, why, "conftool is listed again");
        break None;
    };
    End { listed: true, heard, bad }
}

/// Takes over a whole list: with many records it takes tens of milliseconds.
async fn take_over(source: &Arc<Conftool>, told: Option<Told>) {
    let source = Arc::clone(source);
    beside(move || {
        let listed = told.map(|told| records(&told.node, &source.client.prefix)).unwrap_or_default();
        source.take(None, |all| *all = listed);
    })
    .await;
}

/// Looks once more at all that is known: an answer that was under way while the watch told something newer may have been looked at
/// after it.
async fn look_again(source: &Arc<Conftool>) {
    let source = Arc::clone(source);
    beside(move || source.look_at_all()).await;
}

/// Whether etcd is surely where it was, by quorum: one record is read for its index. Where that fails, a list tells more.
async fn unchanged(source: &Conftool, before: u64) -> bool {
    let Some(record) = source.some_record() else { return false };
    let Ok(Read { index, restored, .. }) = source.client.record(&record).await else { return false };
    if restored {
        source.forget(Timestamp::now());
    }
    !restored && index == before && index > 0
}

fn apply(source: &Conftool, told: &Told) {
    let gone = matches!(told.action.as_str(), "delete" | "expire" | "compareAndDelete");
    let Told { node, .. } = told;
    let prefix = &source.client.prefix;
    source.take(place(&node.key, prefix).map(|(record, _)| record), |all| match (place(&node.key, prefix), gone) {
        (Some((record, datacenter)), false) => {
            all.entry(record.to_owned()).or_default().insert(datacenter.to_owned(), value(node));
        }
        (Some((record, datacenter)), true) => {
            if let Some(values) = all.get_mut(record) {
                values.remove(datacenter);
            }
        }
        // A whole record, or everything, was deleted.
        (None, true) => {
            if let Some(record) = node.key.strip_prefix(prefix.as_str()) {
                all.remove(record);
            } else if prefix.starts_with(&format!("{}/", node.key)) {
                all.clear();
            }
        }
        (None, false) => {}
    });
}
