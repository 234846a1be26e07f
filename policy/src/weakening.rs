//! Which changes of a `ServicePooling` would let through what the old one refuses.
//!
//! A short list of changes is harmless; everything else weakens. Never the other way round.

use crate::pooling::{Arm, Enforcement, Evidence, Mode, Pooling};

/// Whether the change from `old` to `new` may open the guard.
///
/// Harmless: more evidence, `Warn` to `Enforce`, intent (datacenters, minimum, accepted drift), no longer calling pods
/// expendable, and any change of `declared.pooledIn`, which is the switch of that source
/// itself.
pub fn weakens(old: &Pooling, new: &Pooling) -> bool {
    let Pooling {
        key: _,
        version: _,
        selector,
        expendable,
        mode,
        datacenters: _,
        min_pooled_datacenters: _,
        evidence,
        enforcement,
        accepted: _,
    } = new;
    let expendable = expendable.is_some() && *expendable != old.expendable;
    let mode = old.mode == Mode::ActivePassive && *mode == Mode::ActiveActive;
    let enforcement = old.enforcement == Enforcement::Enforce && *enforcement == Enforcement::Warn;
    *selector != old.selector
        || expendable
        || mode
        || enforcement
        || !old.evidence.iter().all(|entry| evidence.iter().any(|other| asks_the_same(entry, other)))
}

fn asks_the_same(old: &Evidence, new: &Evidence) -> bool {
    old.name == new.name
        && match (&old.arm, &new.arm) {
            (Arm::Declared { .. }, Arm::Declared { .. }) => true,
            (old, new) => old == new,
        }
}
