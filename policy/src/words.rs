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
use crate::pooling::{Evidence, Key, Pooling};
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
    let headline = lines.headline(MESSAGE_LIMIT);
    let rest = headline.len() + lines.next.len() + lines.help.len() + "\n\n\n".len();
    let evidence = cut(&lines.evidence, MESSAGE_LIMIT.saturating_sub(rest).max(LEAST_EVIDENCE));
    let all = [headline.as_str(), evidence.as_str(), lines.next.as_str(), lines.help.as_str()];
    let message = all.into_iter().filter(|line| !line.is_empty()).collect::<Vec<_>>().join("\n");
    Refusal {
        reason: told.reason,
        service: service.clone(),
        code: if told.request.door.effect == Effect::EvictPod { 429 } else { 403 },
        message: cut(&message, MESSAGE_LIMIT),
        warnings: warnings(told.request, &lines),
    }
}

/// The warning of a removal that would be refused if the guard did not only warn. It happens, so it is not said that it did not.
pub(crate) fn would_be_refused(told: &Told<'_>) -> String {
    let why = lines(told).why;
    let what = format!("poolguard only warns here, and would have refused this: {}", why.trim_end_matches('.'));
    let object = format!(" ({}).", object(told.request));
    format!("{}{}", cut(&what, WARNING_LIMIT.saturating_sub(object.len())), cut(&object, WARNING_LIMIT / 2))
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
pub(crate) fn not_the_requester(request: &Request, glass: &Override, settings: &Settings, service: Key) -> Refusal {
    let (named, user) = (plain(&glass.requested_by), plain(&request.user));
    let object = format!("{}/{}", plain(&request.namespace), plain(&glass.name));
    let headline = format!(
        "PoolingOverride {object} was not made: its spec.requestedBy is {named}, and you, who ask for it, are {user}."
    );
    let next = numbered(&[format!("write requestedBy: {user}"), command_again()]);
    let message = cut(&format!("{headline}\n{next}\n{}", help(settings)), MESSAGE_LIMIT);
    Refusal { reason: Reason::NotTheRequester, service, code: 403, message, warnings: Vec::new() }
}

/// What the refusal of a canary's dry run begins with.
pub const CANARY_HEADLINE: &str = "poolguard is up: this dry run was refused as it should be.";

/// The refusal that shows that the guard is up.
pub(crate) fn canary(service: Key, settings: &Settings) -> Refusal {
    let next = numbered(&["kubectl get servicepoolings -A   (GUARDED says the same of every service)".to_owned()]);
    let message = format!(
        "{CANARY_HEADLINE} Nothing in this namespace is anybody's service, and in earnest everything here may go.\n{next}\n{}",
        help(settings)
    );
    Refusal { reason: Reason::Canary, service, code: 403, message, warnings: Vec::new() }
}

/// What a fault says of a namespace that is not as it should be.
pub(crate) fn fault(namespace: &str, what: &str) -> String {
    format!("namespace {} {what}", cut(&plain(namespace), WARNING_LIMIT))
}

/// Cuts to at most `limit` bytes, at a character's boundary. Where not even the mark of a cut has room, nothing is left.
pub fn cut(text: &str, limit: usize) -> String {
    if text.len() <= limit {
        return text.to_owned();
    }
    let Some(mut end) = limit.checked_sub('…'.len_utf8()) else { return String::new() };
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", &text[..end])
}

/// Replaces what could forge a line, move a cursor, or hide or reorder what is beside it: control characters, line and paragraph
/// separators, directional marks, and what has no width.
pub fn plain(text: &str) -> String {
    // Nearly every name is of these alone.
    if text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return text.to_owned();
    }
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
    /// Why it is refused.
    why: String,
    /// What was not done, to what.
    subject: String,
    evidence: String,
    next: String,
    help: String,
}

impl Lines {
    /// Why, and what was not done. Where it is too long, the reason gives way: what it is about must stay whole.
    fn headline(&self, limit: usize) -> String {
        let Self { why, subject, .. } = self;
        if why.is_empty() {
            return cut(subject, limit);
        }
        let room = limit.saturating_sub(subject.len() + " ".len()).max(limit / 2);
        cut(&format!("{} {subject}", cut(why, room)), limit)
    }
}

fn lines(told: &Told<'_>) -> Lines {
    let subject = subject(told.request);
    let help = help(told.settings);
    let pooling = match &told.concern.pooling {
        Concerned::Known(pooling) => *pooling,
        Concerned::Undecodable { key, error } => {
            return Lines {
                why: format!(
                    "ServicePooling {} cannot be read by this version of poolguard, so everything in its namespace is guarded.",
                    plain(&key.to_string())
                ),
                subject,
                evidence: format!("  cause:     {}", cut(&plain(error), 300)),
                next: numbered(&[
                    format!(
                        "kubectl -n {} get servicepooling {} -o yaml   (upgrade poolguard, or mend it under an override)",
                        plain(&key.namespace),
                        plain(&key.name)
                    ),
                    command_again(),
                ]),
                help,
            };
        }
    };
    let Some(conclusion) = told.known.conclusions.get(&pooling.key) else {
        return Lines { why: String::new(), subject, evidence: String::new(), next: String::new(), help };
    };
    Lines {
        why: why(told, pooling, conclusion),
        subject,
        evidence: evidence(pooling, conclusion, told.now),
        next: numbered(&next(told, pooling, conclusion)),
        help,
    }
}

fn command_again() -> String {
    "run your command again".to_owned()
}

/// What the request is about: kind and name.
fn object(request: &Request) -> String {
    let name = match request.door.effect {
        Effect::RemoveNamespace | Effect::UnlabelNamespace | Effect::RemoveDefinition => request.name.clone(),
        Effect::RemoveRelease => {
            let name = released(request).map_or_else(|| request.name.clone(), |release| release.name);
            format!("{}/{name}", request.namespace)
        }
        _ => format!("{}/{}", request.namespace, request.name),
    };
    format!("{} {}", request.door.kind, plain(&name))
}

/// What was not done, to what.
fn subject(request: &Request) -> String {
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
    format!("{} was not {done}.", object(request))
}

fn why(told: &Told<'_>, pooling: &Pooling, conclusion: &Conclusion) -> String {
    let service = plain(&pooling.key.name);
    let here = plain(&conclusion.here);
    match told.reason {
        Reason::Draining => format!(
            "{service} was depooled in {here}, but clients may still hold the old answer for {} s.",
            remaining(conclusion, told.now).unwrap_or_default()
        ),
        Reason::NoBudget => {
            format!("{service} {} in {here}, and no disruption budget keeps a pod of it.", serves(conclusion))
        }
        Reason::PodUnknown => format!("The pod is not known yet, and {service} {} in {here}.", serves(conclusion)),
        Reason::EvidenceUnknown => {
            let cause = conclusion
                .here()
                .answers
                .iter()
                .find(|answer| matches!(answer.says, Says::Unknown(_)))
                .map(|answer| {
                    let since = answer.since.map(|since| format!(", since {}", since.strftime("%H:%M:%S UTC")));
                    let since = since.unwrap_or_default();
                    format!("{}: {}{since}", answer.evidence, answer.detail)
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
                    Serving::Serving => format!("while it drains in {}", plain(&datacenter.name)),
                    _ => format!("perhaps in {}", plain(&datacenter.name)),
                })
                .collect();
            let others = if others.is_empty() { "nowhere else".to_owned() } else { others.join(" and ") };
            format!("{service} serves live traffic in {here} and {others}.")
        }
    }
}

/// How sure it is that the service is served here.
fn serves(conclusion: &Conclusion) -> &'static str {
    match conclusion.here().state {
        Serving::Unknown => "may serve",
        _ => "serves",
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
            let said: Vec<String> = std::iter::once(conclusion.here())
                .chain(conclusion.elsewhere())
                .filter_map(|datacenter| of(entry, &datacenter.answers).map(|answer| (datacenter, answer)))
                .map(|(datacenter, answer)| format!("{} {}", plain(&datacenter.name), cut(&plain(&answer.detail), 120)))
                .collect();
            let mut part = format!("{}: {}", entry.arm.as_str(), said.join(", "));
            if let Some(answer) = of(entry, &conclusion.here().answers) {
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

/// What an entry of evidence has answered.
fn of<'a>(entry: &Evidence, answers: &'a [Answer]) -> Option<&'a Answer> {
    answers.iter().find(|answer| answer.evidence == entry.name)
}

fn next(told: &Told<'_>, pooling: &Pooling, conclusion: &Conclusion) -> Vec<String> {
    match told.reason {
        Reason::PodUnknown => {
            let (namespace, name) = (plain(&told.request.namespace), plain(&told.request.name));
            return vec![
                format!("kubectl -n {namespace} get pod {name}   (it has just been made, or is gone)"),
                command_again(),
            ];
        }
        Reason::NoBudget => return vec![budget(told, pooling)],
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

/// What makes an eviction of a service's pod possible.
fn budget(told: &Told<'_>, pooling: &Pooling) -> String {
    let service = plain(&pooling.key.name);
    let namespace = plain(&told.request.namespace);
    let state = told.state.namespace(&told.request.namespace);
    let deployment = deployment(told);
    if let Some(name) = &deployment {
        let replicas = state
            .and_then(|state| state.workloads.get(&(crate::state::Kind::Deployment, name.clone())))
            .map_or(0, |workload| workload.replicas);
        if replicas < 2 {
            return format!("kubectl -n {namespace} scale deployment {name} --replicas=2   (or depool the service)");
        }
    }
    let covering = state.and_then(|state| {
        let pod = state.pods.get(&told.request.name)?;
        let (name, budget) = state.budgets.iter().find(|(_, budget)| budget.covers(&pod.labels))?;
        Some((plain(name), budget, pod))
    });
    match covering {
        None if deployment.is_none() => {
            format!("kubectl -n {namespace} get pods   (two replicas let one be evicted; else depool the service)")
        }
        None if state.is_some_and(|state| state.has_daemons(&pooling.selector)) => format!(
            "kubectl -n {namespace} create pdb {service} --min-available=1 --selector=...   (poolguard makes none where a DaemonSet is among its workloads)"
        ),
        None => format!("kubectl -n {namespace} get pdb   (poolguard makes one within seconds; then try again)"),
        Some((name, budget, _)) if !budget.observed => {
            format!("kubectl -n {namespace} get pdb {name}   (its status is of an earlier spec; try again in a moment)")
        }
        Some((name, budget, _)) if budget.desired_healthy < 1 => format!(
            "kubectl -n {namespace} edit pdb {name}   (it keeps no pod: write minAvailable: 1 in place of what it says)"
        ),
        Some((name, budget, pod)) if !budget.is_asked_about(pod) => format!(
            "kubectl -n {namespace} edit pdb {name}   (the pod is not Ready, and AlwaysAllow lets such pods go: take it out)"
        ),
        Some((name, ..)) => format!(
            "kubectl -n {namespace} edit pdb {name}   (what it keeps may be other pods: have it select those of {service} alone)"
        ),
    }
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
        // What to do next and whom to ask are what a deployer needs most; the evidence gives way.
        let help = one(&lines.help);
        let room = WARNING_LIMIT.saturating_sub(help.len() + GAP.len());
        let evidence = lines.evidence.trim();
        let evidence = if evidence.is_empty() || room < LEAST_EVIDENCE {
            help
        } else {
            format!("{}{GAP}{help}", cut(evidence, room))
        };
        [lines.headline(WARNING_LIMIT), evidence, whole_steps(&lines.next)]
            .into_iter()
            .filter(|line| !line.is_empty())
            .collect()
    } else if request.old.as_ref().is_some_and(|object| object.release.is_some()) {
        vec![lines.headline(WARNING_LIMIT)]
    } else {
        Vec::new()
    }
}

/// Between two parts of one line.
const GAP: &str = "   ";

/// The next steps in one line: as many as fit whole. Half a command is worse than none, and the first steps alone are safe.
fn whole_steps(next: &str) -> String {
    let steps: Vec<&str> = next.lines().map(str::trim).collect();
    let all = steps.join(" ");
    let fit = |count: &usize| steps[..*count].join(" ").len() + " …".len() <= WARNING_LIMIT;
    match (1..steps.len()).rev().find(fit) {
        _ if all.len() <= WARNING_LIMIT => all,
        Some(count) => format!("{} …", steps[..count].join(" ")),
        None => cut(&all, WARNING_LIMIT),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_holds_whole_steps_only_and_says_that_there_are_more() {
        let long = format!("2. {}", "x".repeat(WARNING_LIMIT));
        assert_eq!(whole_steps("  next:      1. one\n             2. two"), "next:      1. one 2. two");
        assert_eq!(whole_steps(&format!("  next:      1. one\n   {long}")), "next:      1. one …");
        assert_eq!(whole_steps(&long).len(), WARNING_LIMIT, "a single step that is too long is cut");
        assert_eq!(whole_steps(""), "");
        // The mark that there are more has room, to the byte.
        let first = "x".repeat(WARNING_LIMIT - " …".len());
        assert_eq!(whole_steps(&format!("{first}\n{long}")), format!("{first} …"));
        assert_eq!(whole_steps(&format!("{first}x\n{long}")).len(), WARNING_LIMIT);
        let half = "y".repeat(WARNING_LIMIT / 2 - " …".len());
        assert_eq!(whole_steps(&format!("{half}\n{half}\n{long}")), format!("{half} {half} …"));
    }

    fn lines(why: &str) -> Lines {
        Lines {
            why: why.to_owned(),
            subject: "Service a/b was not deleted.".to_owned(),
            evidence: String::new(),
            next: String::new(),
            help: String::new(),
        }
    }

    #[test]
    fn a_warning_about_a_release_says_whom_to_ask_and_as_much_of_the_evidence_as_has_room() {
        let door = crate::doors::DOORS.iter().find(|door| door.effect == Effect::RemoveRelease).expect("a door");
        let request = Request {
            door,
            namespace: "a".to_owned(),
            name: "b".to_owned(),
            named: true,
            user: "alice".to_owned(),
            dry_run: false,
            old: None,
            new: None,
        };
        let second = |evidence: usize, help: usize| {
            let told = Lines { evidence: "e".repeat(evidence), help: "h".repeat(help), ..lines("c serves.") };
            warnings(&request, &told).remove(1)
        };
        assert_eq!(second(0, 20), "h".repeat(20));
        assert_eq!(second(9, 20), format!("eeeeeeeee   {}", "h".repeat(20)));
        let full = second(1000, 20);
        assert!(full.len() == WARNING_LIMIT && full.ends_with(&format!("e…   {}", "h".repeat(20))), "{full}");
        // Less evidence than this tells nothing.
        let longest = WARNING_LIMIT - GAP.len() - LEAST_EVIDENCE;
        assert!(second(1000, longest).starts_with("eee"));
        assert_eq!(second(1000, longest + 1), "h".repeat(longest + 1));
    }

    #[test]
    fn a_headline_that_is_too_long_still_says_what_it_is_about() {
        assert_eq!(lines("c serves.").headline(WARNING_LIMIT), "c serves. Service a/b was not deleted.");
        let long = lines(&"x".repeat(1000)).headline(WARNING_LIMIT);
        assert!(long.len() <= WARNING_LIMIT && long.ends_with("x… Service a/b was not deleted."), "{long}");
        // Half of it is left for the reason, however long the subject is.
        let both = Lines { subject: "y".repeat(1000), ..lines(&"x".repeat(1000)) }.headline(WARNING_LIMIT);
        assert!(both.len() <= WARNING_LIMIT && both.starts_with(&"x".repeat(WARNING_LIMIT / 2 - 3)), "{both}");
    }

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
        assert_eq!([cut("abcdef", 2), cut("abcdef", 0)], ["", ""]);
    }

    #[test]
    fn a_fault_names_its_namespace_plainly() {
        assert_eq!(fault("a\nb", "is not there"), "namespace a\u{fffd}b is not there");
    }
}
