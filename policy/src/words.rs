//! The words of a refusal: what was refused, why, what to type next, whom to ask.
//!
//! Names come from outside: whatever could move a terminal's cursor or end a line is replaced, and a message never exceeds
//! 1 KiB, a warning 256 characters.

use std::fmt::Write as _;

use jiff::Timestamp;

use crate::doors::Effect;
use crate::evidence::{Answer, Conclusion, Says, State as Serving};
use crate::given::{Known, Settings};
use crate::guarded::{Concern, Concerned, released};
use crate::overriding::Override;
use crate::pooling::{Key, Pooling};
use crate::request::Request;

use crate::state::State;
use crate::steps::{Step, command, steps};
use crate::verdict::{Reason, Refusal};

/// The longest message: `kubectl` shows it whole, and it stays readable.
pub const MESSAGE_LIMIT: usize = 1024;
/// As much of the evidence stays in any case.
const LEAST_EVIDENCE: usize = 100;
/// The longest warning; the API server cuts all of them to this when together they exceed 4,096 characters.
pub const WARNING_LIMIT: usize = 256;

/// The most warnings of one answer.
pub const WARNINGS: usize = 3;

/// What a refusal is told from.
pub(crate) struct Told<'a> {
    pub(crate) request: &'a Request,
    pub(crate) state: &'a State,
    pub(crate) settings: &'a Settings,
    pub(crate) known: Known<'a>,
    pub(crate) concern: &'a Concern<'a>,
    pub(crate) reason: Reason,
    pub(crate) now: Timestamp,
}

/// Puts a refusal into words.
pub(crate) fn refusal(told: &Told<'_>) -> Refusal {
    let lines = lines(told);
    let service = told.concern.service();
    // What to do next and whom to ask must stay whole: where the message is too long, the evidence gives way.
    let rest = lines.headline.len() + lines.next.len() + lines.help.len() + "\n\n\n".len();
    let evidence = cut(&lines.evidence, MESSAGE_LIMIT.saturating_sub(rest).max(LEAST_EVIDENCE));
    let all = [lines.headline.as_str(), evidence.as_str(), lines.next.as_str(), lines.help.as_str()];
    let message = all.into_iter().filter(|line| !line.is_empty()).collect::<Vec<_>>().join("\n");
    Refusal {
        reason: told.reason,
        service,
        code: if told.request.door.effect == Effect::EvictPod { 429 } else { 403 },
        message: cut(&message, MESSAGE_LIMIT),
        warnings: warnings(told.request, &lines),
    }
}

/// The warnings of a removal that would be refused if the resource enforced.
pub(crate) fn would_be_refused(message: &str) -> Vec<String> {
    let first = message.lines().next().unwrap_or_default();
    vec![cut(&format!("poolguard only warns here, and would have refused this: {first}"), WARNING_LIMIT)]
}

/// The warning of a removal that somebody's override lets pass.
pub(crate) fn overridden(service: &Key, glass: &Override) -> String {
    let text = format!(
        "poolguard let this pass by PoolingOverride {} of {}, until {} ({}): {} may be serving live traffic in {}.",
        plain(&glass.name),
        plain(&glass.requested_by),
        glass.until.strftime("%H:%M:%S UTC"),
        plain(&glass.because),
        plain(&service.name),
        plain(&glass.datacenter),
    );
    cut(&text, WARNING_LIMIT)
}

/// What an override that will do nothing is told, at once and not in an emergency.
pub(crate) fn idle_override(glass: &Override, here: &str, known: bool) -> Vec<String> {
    let (service, datacenter, here) = (plain(&glass.service), plain(&glass.datacenter), plain(here));
    let elsewhere = (glass.datacenter != here)
        .then(|| format!("poolguard: this cluster is {here}; an override about {datacenter} lets nothing pass here."));
    let unknown = (!known).then(|| {
        format!("poolguard: there is no ServicePooling {service} in this namespace; the override lets nothing pass.")
    });
    elsewhere.into_iter().chain(unknown).map(|line| cut(&line, WARNING_LIMIT)).collect()
}

/// The refusal of an override that names somebody else.
pub(crate) fn not_the_requester(request: &Request, glass: &Override, service: Key) -> Refusal {
    let (named, user) = (plain(&glass.requested_by), plain(&request.user));
    let headline = format!("spec.requestedBy of an override is the name of whoever asks for it: {user}, not {named}.");
    let next = numbered(&[format!("write requestedBy: {user}"), command_again()]);
    let message = cut(&format!("{headline}\n{next}"), MESSAGE_LIMIT);
    Refusal { reason: Reason::NotTheRequester, service, code: 403, message, warnings: Vec::new() }
}

/// What the refusal of a canary's dry run begins with.
pub const CANARY_HEADLINE: &str = "poolguard is up: this dry run was refused as it should be.";

/// The refusal that shows that the guard is up.
pub(crate) fn canary(service: Key) -> Refusal {
    let message = format!("{CANARY_HEADLINE} Nothing in this namespace is anybody's service.");
    Refusal { reason: Reason::Canary, service, code: 403, message, warnings: Vec::new() }
}

/// What a fault says of a namespace that is not as it should be.
pub(crate) fn fault(namespace: &str, what: &str) -> String {
    format!("namespace {} {what}", cut(&plain(namespace), WARNING_LIMIT))
}

/// Cuts to at most `limit` bytes, at a character's boundary.
pub fn cut(text: &str, limit: usize) -> String {
    if text.len() <= limit {
        return text.to_owned();
    }
    let mut end = limit - '…'.len_utf8();
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", &text[..end])
}

/// Replaces what could forge a line, move a cursor, or hide or reorder what is beside it: control characters, line and paragraph
/// separators, directional marks, and what has no width.
pub fn plain(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            c if c.is_control() => '\u{fffd}',
            '\u{61c}' | '\u{feff}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' => '\u{fffd}',
            '\u{2060}'..='\u{206f}' | '\u{e0000}'..='\u{e007f}' => '\u{fffd}',
            c => c,
        })
        .collect()
}

struct Lines {
    headline: String,
    evidence: String,
    next: String,
    help: String,
}

fn lines(told: &Told<'_>) -> Lines {
    let subject = subject(told.request);
    let help = help(told.settings);
    let pooling = match &told.concern.pooling {
        Concerned::Known(pooling) => *pooling,
        Concerned::Undecodable { key, error } => {
            return Lines {
                headline: format!(
                    "ServicePooling {} cannot be read by this version of poolguard, so everything in its namespace is guarded. {subject}",
                    plain(&key.to_string())
                ),
                evidence: format!("  cause:     {}", cut(&plain(error), 300)),
                next: numbered(&["look at its spec, or upgrade poolguard".to_owned(), command_again()]),
                help,
            };
        }
    };
    let Some(conclusion) = told.known.conclusions.get(&pooling.key) else {
        return Lines { headline: subject, evidence: String::new(), next: String::new(), help };
    };
    Lines {
        headline: format!("{} {subject}", headline(told, pooling, conclusion)),
        evidence: evidence(pooling, conclusion, told.now),
        next: numbered(&next(told, pooling, conclusion)),
        help,
    }
}

fn command_again() -> String {
    "run your command again".to_owned()
}

/// What was not done, to what.
fn subject(request: &Request) -> String {
    let object = match request.door.effect {
        Effect::RemoveNamespace | Effect::UnlabelNamespace | Effect::RemoveDefinition => request.name.clone(),
        Effect::RemoveRelease => {
            let name = released(request).map_or_else(|| request.name.clone(), |release| release.name);
            format!("{}/{name}", request.namespace)
        }
        _ => format!("{}/{}", request.namespace, request.name),
    };
    let done = match request.door.effect {
        Effect::RemovePod
        | Effect::RemoveWorkload
        | Effect::RemoveService
        | Effect::RemoveRoute
        | Effect::RemoveReference
        | Effect::RemoveAccompanying
        | Effect::RemoveNamespace
        | Effect::RemovePooling
        | Effect::RemoveDefinition => "deleted",
        Effect::EvictPod => "evicted",
        Effect::RelabelPod => "relabelled",
        Effect::ScaleWorkload => "scaled down",
        Effect::MoveDaemonSet
        | Effect::ChangeService
        | Effect::ChangeRoute
        | Effect::ChangeBudget
        | Effect::ChangePooling => "changed",
        Effect::CreateOverride => "made",
        Effect::RemoveRelease => "uninstalled",
        Effect::UnlabelNamespace => "taken out of the guard",
    };
    format!("{} {} was not {done}.", request.door.kind, plain(&object))
}

fn headline(told: &Told<'_>, pooling: &Pooling, conclusion: &Conclusion) -> String {
    let service = plain(&pooling.key.name);
    let here = plain(&conclusion.here);
    match told.reason {
        Reason::Draining => format!(
            "{service} was depooled in {here}, but clients may still hold the old answer for {} s.",
            remaining(conclusion, told.now).unwrap_or_default()
        ),
        Reason::NoBudget => format!("{service} serves in {here}, and no disruption budget covers the pod."),
        Reason::PodUnknown => format!("The pod is not known yet, and {service} serves in {here}."),
        Reason::EvidenceUnknown => {
            let cause = conclusion
                .here()
                .answers
                .iter()
                .find(|answer| matches!(answer.says, Says::Unknown(_)))
                .map(|answer| {
                    let since = answer.since.map(|since| format!(", since {}", since.strftime("%H:%M:%S UTC")));
                    let since = since.unwrap_or_default();
                    format!("{} says nothing that can be relied on: {}{since}", answer.evidence, answer.detail)
                })
                .unwrap_or_else(|| "no source answered".to_owned());
            format!("Whether {service} serves live traffic in {here} cannot be told ({}).", cut(&plain(&cause), 300))
        }
        _ => {
            let others: Vec<String> = conclusion
                .elsewhere()
                .filter(|datacenter| datacenter.state != Serving::NotServing)
                .map(|datacenter| match datacenter.state {
                    Serving::Serving if datacenter.answers.iter().any(|answer| answer.says == Says::Serving) => {
                        format!("in {}", plain(&datacenter.name))
                    }
                    Serving::Serving => format!("for a few seconds more in {}", plain(&datacenter.name)),
                    _ => format!("perhaps in {}", plain(&datacenter.name)),
                })
                .collect();
            let others = if others.is_empty() { "nowhere else".to_owned() } else { others.join(" and ") };
            format!("{service} serves live traffic in {here} and {others}.")
        }
    }
}

/// Seconds until the last answer that clients may hold has expired, rounded up.
fn remaining(conclusion: &Conclusion, now: Timestamp) -> Option<i64> {
    conclusion
        .here()
        .answers
        .iter()
        .filter(|answer| answer.says == Says::Draining)
        .filter_map(|answer| answer.not_serving_after)
        .map(|after| (after.duration_since(now).as_millis().max(0) as i64 + 999) / 1000)
        .max()
}

/// One part for each source: what it says of every datacenter, its revision, and how long ago it was read.
fn evidence(pooling: &Pooling, conclusion: &Conclusion, now: Timestamp) -> String {
    let parts: Vec<String> = pooling
        .evidence
        .iter()
        .map(|entry| {
            let of = |answers: &[Answer]| answers.iter().find(|answer| answer.evidence == entry.name).cloned();
            let said: Vec<String> = std::iter::once(conclusion.here())
                .chain(conclusion.elsewhere())
                .filter_map(|datacenter| of(&datacenter.answers).map(|answer| (datacenter, answer)))
                .map(|(datacenter, answer)| format!("{} {}", plain(&datacenter.name), cut(&plain(&answer.detail), 120)))
                .collect();
            let mut part = format!("{}: {}", entry.arm.as_str(), said.join(", "));
            if let Some(answer) = of(&conclusion.here().answers) {
                let age = now.duration_since(answer.read).as_millis().max(0);
                match answer.revision {
                    Some(revision) => write!(part, " (revision {revision}, read {age} ms ago)"),
                    None => write!(part, " (read {age} ms ago)"),
                }
                .expect("writing to a String cannot fail");
            }
            part
        })
        .collect();
    format!("  evidence:  {}", parts.join("; "))
}

fn next(told: &Told<'_>, pooling: &Pooling, conclusion: &Conclusion) -> Vec<String> {
    match told.reason {
        Reason::PodUnknown => return vec![command_again()],
        Reason::NoBudget => {
            let namespace = plain(&told.request.namespace);
            return vec![match deployment(told) {
                Some(name) => {
                    format!("kubectl -n {namespace} scale deployment {name} --replicas=2, or depool the service")
                }
                None => "run two replicas, or depool the service".to_owned(),
            }];
        }
        _ => {}
    }
    let single = matches!(told.request.door.effect, Effect::RemovePod | Effect::RelabelPod);
    if let (true, Some(name)) = (single, deployment(told)) {
        return vec![format!(
            "kubectl -n {} rollout restart deployment {name}   (replaces its pods one by one)",
            plain(&told.request.namespace)
        )];
    }
    steps(pooling, conclusion, remaining(conclusion, told.now))
        .iter()
        .map(|step: &Step| plain(&command(pooling, step)))
        .collect()
}

/// The Deployment that the pod of the request belongs to.
fn deployment(told: &Told<'_>) -> Option<String> {
    let namespace = told.state.namespace(&told.request.namespace)?;
    let pod = namespace.pods.get(&told.request.name)?;
    let owner = pod.controller.as_ref().filter(|owner| owner.kind == "ReplicaSet")?;
    let set = namespace.workloads.get(&(crate::state::Kind::ReplicaSet, owner.name.clone()))?;
    set.controller.as_ref().filter(|owner| owner.kind == "Deployment").map(|owner| plain(&owner.name))
}

fn numbered(steps: &[String]) -> String {
    match steps {
        [] => String::new(),
        [only] => format!("  next:      {only}"),
        several => several
            .iter()
            .enumerate()
            .map(|(index, step)| {
                format!("  {}{}. {step}", if index == 0 { "next:      " } else { "           " }, index + 1)
            })
            .collect::<Vec<_>>()
            .join("\n"),
    }
}

fn help(settings: &Settings) -> String {
    let emergency = format!("emergency: {}#override", plain(&settings.runbook_url));
    match &settings.contact {
        Some(contact) => format!("  help:      {}   {emergency}", plain(contact)),
        None => format!("  help:      {emergency}"),
    }
}

/// Helm shows none of the message, only warnings: the whole reason where it touches its own record, one line elsewhere.
fn warnings(request: &Request, lines: &Lines) -> Vec<String> {
    let one = |text: &str| cut(text.trim(), WARNING_LIMIT);
    if request.door.effect == Effect::RemoveRelease {
        let next = lines.next.lines().map(str::trim).collect::<Vec<_>>().join(" ");
        // The next steps are what a deployer needs most; the evidence gives way.
        [lines.headline.as_str(), lines.evidence.as_str(), next.as_str()]
            .into_iter()
            .filter(|line| !line.trim().is_empty())
            .map(one)
            .collect()
    } else if request.old.as_ref().is_some_and(|object| object.release.is_some()) {
        vec![one(&lines.headline)]
    } else {
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_moves_hides_or_reorders_is_replaced_and_nothing_else() {
        let hostile = "\u{1b}\n\r\t\u{7f}\u{9b}\u{61c}\u{feff}\u{200b}\u{200f}\u{2028}\u{2029}\u{202a}\u{202e}\u{2060}\u{2066}\u{206f}\u{e0000}\u{e007f}";
        assert!(plain(hostile).chars().all(|c| c == '\u{fffd}'), "{:?}", plain(hostile));
        let harmless = "eventgate-main été 東京 💥 \u{200a}\u{2010}\u{2027}\u{202f}\u{205f}\u{2070}";
        assert_eq!(plain(harmless), harmless);
    }

    #[test]
    fn a_text_is_cut_at_a_character_and_never_longer_than_its_limit() {
        assert_eq!(cut("abcdef", 6), "abcdef");
        assert_eq!(cut("abcdefg", 6), "abc…");
        assert_eq!(cut("éééééé", 6), "é…");
        assert_eq!(cut("abééé", 7), "abé…");
    }

    #[test]
    fn a_fault_names_its_namespace_plainly() {
        assert_eq!(fault("a\nb", "is not there"), "namespace a\u{fffd}b is not there");
    }
}
