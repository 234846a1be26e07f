//! What to do next, computed from the evidence.
//!
//! The law: followed in their order, the steps never leave a source without a datacenter that is pooled. Where that cannot be
//! known, the step is to look, never to depool.

use crate::evidence::{Conclusion, Says};
use crate::pooling::{Arm, Evidence, Key, Pooling};

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Pool a datacenter in the source of this entry.
    Pool {
        /// The entry of `spec.evidence`.
        evidence: String,
        /// The datacenter.
        datacenter: String,
    },
    /// Depool a datacenter in the source of this entry.
    Depool {
        /// The entry of `spec.evidence`.
        evidence: String,
        /// The datacenter.
        datacenter: String,
    },
    /// See what the source of this entry says.
    Look {
        /// The entry of `spec.evidence`.
        evidence: String,
    },
    /// Have the service switched by hand: none of its sources has a switch that is known.
    Move {
        /// The datacenter that serves.
        from: String,
    },
    /// Wait until the sources that only observe see no traffic any more.
    Quiet {
        /// Their entries of `spec.evidence`.
        evidence: Vec<String>,
    },
    /// Wait for this long.
    Wait {
        /// Seconds.
        seconds: i64,
    },
    /// Nothing can be proposed but to ask somebody.
    AskForHelp,
    /// Run the same command again.
    RunAgain,
}

/// The steps after which the same request passes.
pub fn steps(pooling: &Pooling, conclusion: &Conclusion, remaining: Option<i64>) -> Vec<Step> {
    let here = conclusion.here();
    let (mut pools, mut depools, mut looks, mut quiet) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut stuck = false;
    for entry in &pooling.evidence {
        let says = |answers: &[crate::evidence::Answer]| {
            answers.iter().find(|answer| answer.evidence == entry.name).map(|answer| answer.says.clone())
        };
        match says(&here.answers) {
            Some(Says::Serving) if entry.arm.only_observes() => {
                quiet.push(entry.name.clone());
            }
            Some(Says::Serving) => {
                let elsewhere: Vec<_> =
                    conclusion.elsewhere().map(|datacenter| (&datacenter.name, says(&datacenter.answers))).collect();
                let pooled = elsewhere.iter().any(|(_, says)| *says == Some(Says::Serving));
                let known = elsewhere
                    .iter()
                    .find(|(_, says)| matches!(says, Some(Says::NotServing | Says::Draining)))
                    .map(|(name, _)| (*name).clone());
                match (pooled, known) {
                    (true, _) => {}
                    (false, Some(datacenter)) => pools.push(Step::Pool { evidence: entry.name.clone(), datacenter }),
                    (false, None) => {
                        stuck = true;
                        continue;
                    }
                }
                depools.push(Step::Depool { evidence: entry.name.clone(), datacenter: here.name.clone() });
            }
            Some(Says::Unknown(_)) | None => looks.push(Step::Look { evidence: entry.name.clone() }),
            Some(Says::Draining | Says::NotServing) => {}
        }
    }
    let quiet = (!quiet.is_empty()).then_some(Step::Quiet { evidence: quiet });
    let by_hand = quiet.is_some() && pooling.evidence.iter().all(|entry| entry.arm.only_observes());
    let quiet = by_hand.then(|| Step::Move { from: here.name.clone() }).into_iter().chain(quiet);
    let mut steps: Vec<Step> = if stuck {
        return vec![Step::AskForHelp];
    } else if pools.is_empty() && depools.is_empty() {
        looks.into_iter().chain(quiet).collect()
    } else {
        pools.into_iter().chain(depools).chain(quiet).collect()
    };
    if let (true, Some(seconds)) = (steps.is_empty(), remaining) {
        steps.push(Step::Wait { seconds });
    }
    steps.push(Step::RunAgain);
    steps
}

/// The entry of a step, by name.
pub(crate) fn entry<'a>(pooling: &'a Pooling, name: &str) -> Option<(usize, &'a Evidence)> {
    pooling.evidence.iter().enumerate().find(|(_, evidence)| evidence.name == name)
}

/// Who sees, and that they do.
fn seen(evidence: &[String]) -> String {
    format!("{} {}", evidence.join(" and "), if evidence.len() == 1 { "sees" } else { "see" })
}

/// The command of a step.
pub fn command(pooling: &Pooling, step: &Step) -> String {
    let switch = |name: &str, datacenter: &str, pooled: bool| match entry(pooling, name) {
        Some((_, Evidence { arm: Arm::Conftool { record, .. }, .. })) => {
            format!("confctl --object-type discovery select 'dnsdisc={record},name={datacenter}' set/pooled={pooled}")
        }
        Some((index, Evidence { arm: Arm::Declared { pooled_in }, .. })) => {
            // Both operations keep the other's effect: a list written whole would undo the step before.
            let path = format!("/spec/evidence/{index}/declared/pooledIn");
            let patch = match pooled_in.iter().position(|name| name == datacenter) {
                Some(at) if !pooled => format!(
                    r#"[{{"op":"test","path":"{path}/{at}","value":"{datacenter}"}},{{"op":"remove","path":"{path}/{at}"}}]"#
                ),
                _ => format!(r#"[{{"op":"add","path":"{path}/-","value":"{datacenter}"}}]"#),
            };
            let Key { namespace, name } = &pooling.key;
            format!("kubectl -n {namespace} patch servicepooling {name} --type=json -p '{patch}'")
        }
        // What only observes has no switch.
        _ => String::new(),
    };
    let Key { namespace, name: service } = &pooling.key;
    match step {
        Step::Pool { evidence, datacenter } => switch(evidence, datacenter, true),
        Step::Depool { evidence, datacenter } => switch(evidence, datacenter, false),
        Step::Look { evidence } => match entry(pooling, evidence) {
            Some((_, Evidence { arm: Arm::Conftool { record, .. }, .. })) => {
                format!("confctl --object-type discovery select 'dnsdisc={record}' get   (look what it says)")
            }
            _ => format!(
                "kubectl -n {} describe servicepooling {}   (look what its sources say)",
                pooling.key.namespace, pooling.key.name
            ),
        },
        Step::Move { from } => format!("move its traffic from {from} to another datacenter, where that is switched"),
        Step::Quiet { evidence } => format!(
            "kubectl -n {namespace} wait servicepooling/{service} --for=condition=Serving=False --timeout=15m   (until {} no more traffic)",
            seen(evidence)
        ),
        Step::Wait { seconds } => format!("wait {seconds} s"),
        Step::AskForHelp => "ask for help: no other datacenter is known that could take the traffic".to_owned(),
        Step::RunAgain => "run your command again".to_owned(),
    }
}
