//! Events, on transitions of conditions only.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::runtime::events::{Event, EventType};

use crate::api::ServicePoolingStatus;
use crate::api::conditions::{CONSISTENT, GUARDED, SERVING};

/// The Events of a change of status. The first status of a service tells only what is wrong.
pub(super) fn transitions(before: Option<&ServicePoolingStatus>, after: &ServicePoolingStatus) -> Vec<Event> {
    let of = |status: Option<&ServicePoolingStatus>, kind: &str| -> Option<Condition> {
        status?.conditions.iter().find(|condition| condition.type_ == kind).cloned()
    };
    [SERVING, GUARDED, CONSISTENT]
        .into_iter()
        .filter_map(|kind| {
            let after = of(Some(after), kind)?;
            let before = of(before, kind);
            let same =
                before.as_ref().is_some_and(|before| before.status == after.status && before.reason == after.reason);
            let bad = kind != SERVING && after.status == "False" || after.status == "Unknown";
            let young = before.is_none() && (!bad || kind == GUARDED);
            (!same && !young).then(|| Event {
                type_: if bad { EventType::Warning } else { EventType::Normal },
                reason: after.reason.clone(),
                note: Some(after.message.clone()),
                action: format!("{kind}Changed"),
                secondary: None,
            })
        })
        .collect()
}
