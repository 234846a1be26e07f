//! Follows all records of one etcd cluster by one watch.

use std::sync::Arc;
use std::time::Duration;

use super::Conftool;
use super::client::{Interrupted, Read};
use super::decode::{Told, place, records, value};
use crate::observe::{Bad, lock};
use crate::runtime::Shutdown;
use jiff::Timestamp;

/// The first pause after a failure; it doubles up to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LAST_PAUSE: Duration = Duration::from_secs(5);

/// Follows until a stop is requested: lists, watches, lists again where the watch broke off.
pub(in crate::observe) async fn follow(source: Arc<Conftool>, shutdown: Shutdown) {
    let work = async {
        let mut failures = 0;
        loop {
            let bad = round(&source, &mut failures).await;
            if let Some(bad) = bad {
                source.lose(&bad.detail);
                let pause = FIRST_PAUSE.saturating_mul(1 << failures.min(6)).min(LAST_PAUSE);
                // Replicas that lost one etcd together do not come back together.
                let jitter = Duration::from_millis(u64::from(Timestamp::now().subsec_nanosecond().unsigned_abs() % 97));
                tokio::time::sleep(pause + jitter).await;
                failures += 1;
            }
        }
    };
    tokio::select! { () = shutdown.requested() => {}, () = work => {} }
}

/// One list and the watch after it. Returns what failed, or nothing where the watch only became stale.
async fn round(source: &Conftool, failures: &mut u32) -> Option<Bad> {
    let Read { found: told, mut index, restored } = match source.client.list().await {
        Ok(listed) => listed,
        Err(bad) => return Some(bad),
    };
    if restored {
        source.forget(Timestamp::now());
    }
    let listed = told.map(|told| records(&told.node, &source.client.prefix)).unwrap_or_default();
    source.take(None, |all| *all = listed);
    remember_all(source);
    *failures = 0;
    loop {
        let next = tokio::select! {
            next = source.client.next(index) => next,
            () = source.again.notified() => return None,
        };
        match next {
            Ok(told) => {
                index = told.node.modified_index.max(index);
                apply(source, &told);
            }
            Err(Interrupted::Stale) => return None,
            Err(Interrupted::Failed(bad)) => return Some(bad),
        }
    }
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
    // The clock of a depooled record starts when the watch delivers it, not when somebody asks.
    if let (Some((record, datacenter)), Ok(value)) = (place(&node.key, prefix), value(node))
        && !gone
    {
        source.remember(record, datacenter, value, None, Timestamp::now());
    }
}

/// The same for everything that a list delivers.
fn remember_all(source: &Conftool) {
    let now = Timestamp::now();
    let seen: Vec<_> = lock(&source.snapshot)
        .records
        .iter()
        .flat_map(|(record, values)| {
            values
                .iter()
                .filter_map(|(name, value)| value.as_ref().ok().map(|value| (record.clone(), name.clone(), *value)))
        })
        .collect();
    for (record, name, value) in seen {
        source.remember(&record, &name, value, None, now);
    }
}
