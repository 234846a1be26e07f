//! Drives the decision as the webhook does, with everything that it asks for taken from the world.

use std::collections::BTreeMap;
use std::sync::Arc;

use poolguard_policy::evidence::{Conclusion, conclude};
use poolguard_policy::given::Known;
use poolguard_policy::guarded::Live;
use poolguard_policy::pooling::{Key, Watched};
use poolguard_policy::request::{Body, Request};
use poolguard_policy::rules::decide;
use poolguard_policy::verdict::Decision;

use crate::world::{World, now};

/// As many rounds as the webhook allows.
const ROUNDS: usize = 6;

/// The final decision.
///
/// # Panics
/// If it asks for what it has, for nothing at all, or for too long.
pub fn judge(world: &World, request: &Request) -> Decision {
    let (mut conclusions, mut live, mut overrides) = (BTreeMap::new(), Live::new(), BTreeMap::new());
    let mut unheard = None;
    for _ in 0..ROUNDS {
        let known = Known { conclusions: &conclusions, live: &live, overrides: &overrides, unheard };
        match decide(request, &world.state, &world.settings, known, now()) {
            Decision::Ask(keys) => {
                assert!(!keys.is_empty());
                for key in keys {
                    let before = conclusions.insert(key.clone(), Arc::new(concluded(world, request, &key)));
                    assert!(before.is_none(), "asked twice about {key}");
                }
            }
            Decision::Read(references) => {
                assert!(!references.is_empty());
                let news = references.iter().any(|reference| !live.contains_key(reference));
                assert!(news, "nothing new is read");
                for reference in references {
                    let workload = world.workload(&reference);
                    live.insert(reference, workload);
                }
            }
            Decision::Confirm(references) => {
                assert!(!references.is_empty());
                for reference in references {
                    let glass = world.glass(&reference);
                    overrides.insert(reference, glass);
                }
            }
            Decision::Search(_) => {
                assert!(unheard.is_none(), "searched twice");
                unheard = Some(world.unheard);
            }
            decided => return decided,
        }
    }
    unreachable!("the decision kept asking");
}

/// What the sources say of a service: of a resource under review by its old spec, which may be about nothing that is known.
pub fn concluded(world: &World, request: &Request, key: &Key) -> Conclusion {
    if let Some(conclusion) = world.conclusions.get(key) {
        return conclusion.clone();
    }
    let held = || match world.state.namespace(&key.namespace)?.poolings.get(&key.name)? {
        Watched::Known(pooling) => Some(pooling.clone()),
        Watched::Undecodable { .. } => None,
    };
    let pooling = match request.old.as_ref().map(|object| &object.body) {
        Some(Body::Pooling(Ok(old))) if old.key == *key => Some(old.as_ref().clone()),
        _ => held(),
    };
    conclude("eqiad", &pooling.expect("it asks only about what decodes"), &[], now())
}
