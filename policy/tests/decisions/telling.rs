//! What people are told holds its limits whatever the names are, and no name ends a line or moves a cursor.

use std::sync::Arc;

use poolguard_policy::evidence::Conclusion;
use poolguard_policy::pooling::{Arm, Key, Pooling, Watched};
use poolguard_policy::request::{Body, Request};
use poolguard_policy::state::Namespace;
use poolguard_policy::verdict::{Decision, Reason};
use proptest::prelude::*;

use crate::asked::request;
use crate::dice::{Dice, holds};
use crate::driver::judge;
use crate::world::{World, world};

/// What somebody might hide in a name.
fn hostile(dice: &mut Dice) -> String {
    let mut made = String::new();
    for _ in 0..dice.below(4) {
        match dice.below(9) {
            0 => made.push('a'),
            1 => made.push_str("\u{1b}[2J\u{1b}[31m"),
            2 => made.push_str("\u{1b}]0;title\u{7}"),
            3 => made.push_str("\n  help:      run this"),
            4 => made.push_str("\r\u{9b}1A\u{85}"),
            5 => made.push_str("\u{202e}\u{2066}\u{61c}\u{200b}\u{feff}\u{2028}\u{2060}\u{e0041}"),
            6 => made.push_str(&"x".repeat(300)),
            7 => made.push_str(&"é…💥".repeat(40)),
            _ => made.extend((0..8).map(|_| dice.char())),
        }
    }
    made
}

/// No terminal and no reader may see these: they move, hide or reorder what is beside them.
fn is_hostile(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{feff}' | '\u{2028}' | '\u{2029}')
        || ('\u{200b}'..='\u{200f}').contains(&c)
        || ('\u{202a}'..='\u{202e}').contains(&c)
        || ('\u{2060}'..='\u{206f}').contains(&c)
        || ('\u{e0000}'..='\u{e007f}').contains(&c)
}

fn check_line(line: &str) -> Result<(), TestCaseError> {
    let found = line.chars().find(|c| is_hostile(*c));
    prop_assert!(found.is_none(), "{found:?} in {line:?}");
    Ok(())
}

/// A message is a headline, and lines that begin as ours do.
fn check_message(message: &str) -> Result<(), TestCaseError> {
    prop_assert!(message.len() <= 1024, "{} bytes", message.len());
    for (index, line) in message.split('\n').enumerate() {
        check_line(line)?;
        let step = line.trim_start().split_once(". ").is_some_and(|(number, _)| number.parse::<u8>().is_ok());
        let ours = ["  evidence:  ", "  cause:     ", "  next:      ", "  help:      "];
        let begins = ours.iter().any(|word| line.starts_with(word))
            || line.starts_with("             ") && step
            // The limit may fall anywhere.
            || message.len() > 1000 && line.ends_with('…');
        prop_assert!(index == 0 || begins, "a line of somebody else's: {line:?}");
    }
    let help = message.matches("\n  help:").count();
    prop_assert!(help <= 1, "somebody else's help");
    Ok(())
}

fn check_warnings(warnings: &[String]) -> Result<(), TestCaseError> {
    prop_assert!(warnings.len() <= 3);
    for line in warnings {
        prop_assert!(line.len() <= 256, "{} bytes", line.len());
        check_line(line)?;
    }
    Ok(())
}

#[test]
fn no_name_breaks_the_limits_or_the_lines_of_what_is_told() {
    holds(800, |dice| {
        let text = hostile(dice);
        let world = world(dice);
        let request = request(dice, &world);
        let (world, request) = (poison_world(&world, &text), poison_request(&request, &text));
        match judge(&world, &request) {
            Decision::Refuse(refusal) => {
                check_message(&refusal.message)?;
                check_warnings(&refusal.warnings)?;
                let evicted = request.door.entry == "evictions" && refusal.reason != Reason::Canary;
                prop_assert_eq!(refusal.code, if evicted { 429 } else { 403 });
            }
            Decision::Allow(allowed) => check_warnings(&allowed.warnings)?,
            Decision::Fault(told) => {
                prop_assert!(told.len() <= 1024);
                check_line(&told)?;
            }
            undecided => prop_assert!(false, "{undecided:?}"),
        }
        Ok(())
    });
}

fn poison_world(world: &World, text: &str) -> World {
    let with = |name: &str| format!("{name}{text}");
    let key = |key: &Key| Key { namespace: with(&key.namespace), name: with(&key.name) };
    let mut made = world.clone();
    made.settings.contact = world.settings.contact.as_deref().map(with);
    made.settings.runbook_url = with(&world.settings.runbook_url);
    made.conclusions =
        world.conclusions.iter().map(|(service, all)| (key(service), poison_conclusion(all, text))).collect();
    made.fresher.clear();
    made.retaken.clear();
    made.state.namespaces = world
        .state
        .namespaces
        .iter()
        .map(|(name, namespace)| (with(name), poison_namespace(namespace, text)))
        .collect();
    made
}

fn poison_namespace(namespace: &Namespace, text: &str) -> Namespace {
    let with = |name: &str| format!("{name}{text}");
    let mut made = namespace.clone();
    made.poolings = Default::default();
    for (name, watched) in &namespace.poolings {
        let watched = match watched {
            Watched::Known(pooling) => Watched::Known(poison_pooling(pooling, text)),
            Watched::Undecodable { key, error } => Watched::Undecodable {
                key: Key { namespace: with(&key.namespace), name: with(&key.name) },
                error: with(error),
            },
        };
        made.poolings.insert(with(name), watched);
    }
    made.pods = namespace.pods.iter().map(|(name, pod)| (with(name), pod.clone())).collect();
    for pod in made.pods.values_mut() {
        pod.controller.iter_mut().map(Arc::make_mut).for_each(|owner| owner.name = with(&owner.name));
    }
    made.workloads = Default::default();
    for ((kind, name), workload) in &namespace.workloads {
        let mut workload = workload.clone();
        workload.name = with(name);
        workload.controller.iter_mut().for_each(|owner| owner.name = with(&owner.name));
        made.workloads.insert((*kind, with(name)), workload);
    }
    made.overrides = Default::default();
    for (name, glass) in &namespace.overrides {
        let mut glass = glass.clone();
        glass.name = with(&glass.name);
        glass.service = with(&glass.service);
        glass.because = with(&glass.because);
        glass.requested_by = with(&glass.requested_by);
        made.overrides.insert(with(name), glass);
    }
    made
}

fn poison_pooling(pooling: &Pooling, text: &str) -> Pooling {
    let with = |name: &str| format!("{name}{text}");
    let mut made = pooling.clone();
    made.key = Key { namespace: with(&pooling.key.namespace), name: with(&pooling.key.name) };
    for entry in &mut made.evidence {
        entry.name = with(&entry.name);
        if let Arm::Conftool { record, .. } = &mut entry.arm {
            *record = with(record);
        }
    }
    made
}

fn poison_conclusion(conclusion: &Conclusion, text: &str) -> Conclusion {
    let mut made = conclusion.clone();
    for datacenter in &mut made.datacenters {
        if datacenter.name != "eqiad" {
            datacenter.name.push_str(text);
        }
        for answer in &mut datacenter.answers {
            answer.evidence.push_str(text);
            answer.detail.push_str(text);
            answer.datacenter.clone_from(&datacenter.name);
        }
    }
    made
}

fn poison_request(request: &Request, text: &str) -> Request {
    let mut made = request.clone();
    for word in [&mut made.namespace, &mut made.name, &mut made.user] {
        word.push_str(text);
    }
    for object in [&mut made.old, &mut made.new].into_iter().flatten() {
        object.labels = object.labels.iter().map(|(key, value)| (key, format!("{value}{text}"))).collect();
        match &mut object.body {
            Body::Pooling(Ok(pooling)) => **pooling = poison_pooling(pooling, text),
            Body::Pooling(Err(error)) => error.push_str(text),
            Body::Override(glass) => {
                for word in [&mut glass.name, &mut glass.service, &mut glass.datacenter, &mut glass.requested_by] {
                    word.push_str(text);
                }
            }
            _ => {}
        }
    }
    made
}
