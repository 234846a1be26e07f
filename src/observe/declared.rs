//! The declared state: the resource itself says where the service is pooled. Needs nothing outside the cluster.

use jiff::Timestamp;
use poolguard_policy::evidence::{Answer, Says};
use poolguard_policy::pooling::Evidence;

/// What `pooledIn` says of each datacenter.
pub(super) fn answers(entry: &Evidence, pooled_in: &[String], names: &[String], now: Timestamp) -> Vec<Answer> {
    names
        .iter()
        .map(|name| {
            let pooled = pooled_in.contains(name);
            Answer {
                evidence: entry.name.clone(),
                datacenter: name.clone(),
                says: if pooled { Says::Serving } else { Says::NotServing },
                detail: if pooled { "in pooledIn" } else { "not in pooledIn" }.to_owned(),
                revision: None,
                since: None,
                not_serving_after: None,
                read: now,
            }
        })
        .collect()
}
