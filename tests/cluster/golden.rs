//! Golden messages: what people see of a reason in their own client, compared with a file for each reason and client.
//!
//! What changes from run to run is replaced. That a command was judged for the reason that its file is named after is read from the
//! API server's audit log. `UPDATE_GOLDEN=1` writes the files instead of comparing.

use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;

use poolguard_harness::datacenter::Who;
use poolguard_policy::verdict::Reason;
use poolguard_policy::words::MESSAGE_LIMIT;

use crate::scenario::Scenario;

/// Where every refusal says how the glass is broken.
const EMERGENCY: &str = "emergency: https://wikitech.example/Poolguard#override";

/// The programs in which people meet a verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Client {
    /// `kubectl`
    Kubectl,
    /// Helm 3
    Helm3,
    /// Helm 4
    Helm4,
    /// `kubectl drain`
    Drain,
}

impl Client {
    fn name(self) -> &'static str {
        match self {
            Self::Kubectl => "kubectl",
            Self::Helm3 => "helm3",
            Self::Helm4 => "helm4",
            Self::Drain => "drain",
        }
    }

    fn program(self) -> &'static str {
        if self == Self::Drain { "kubectl" } else { self.name() }
    }
}

/// What a verdict makes of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    /// It fails, and is told why.
    Refused,
    /// It passes, with a warning.
    Warned,
    /// It passes, and nothing is said.
    Nothing,
}

/// What a reason makes of a command.
pub fn said(reason: Reason) -> Said {
    match reason {
        Reason::Serving
        | Reason::Draining
        | Reason::EvidenceUnknown
        | Reason::Undecodable
        | Reason::NoBudget
        | Reason::PodUnknown
        | Reason::NotTheRequester
        | Reason::Canary => Said::Refused,
        Reason::Overridden | Reason::WarnOnly => Said::Warned,
        Reason::NotGuarded
        | Reason::AlreadyGoing
        | Reason::ControllerAtWork
        | Reason::CarriesNoTraffic
        | Reason::Expendable
        | Reason::NotWeakened
        | Reason::Trusted
        | Reason::NotServing
        | Reason::WithinBudget
        | Reason::OverrideCreated => Said::Nothing,
    }
}

impl Scenario<'_> {
    /// Runs a command, and compares what is seen of it with the golden message of this reason in this client.
    pub fn golden(&self, reason: Reason, client: Client, who: Who, arguments: &[&str]) {
        let judged = self.audited();
        let mut all: Vec<&str> = arguments.to_vec();
        if client != Client::Drain && !all.contains(&"-n") && !all.contains(&"--raw") {
            all.extend(["-n", self.name.as_str()]);
        }
        let output = self.datacenter().call(who, client.program(), &all).expect("the program starts");
        let text = output.text();
        assert_eq!(output.ok(), said(reason) != Said::Refused, "`{}` for {reason:?}: {text}", output.command);
        // The API server does not ask about what is going already.
        if reason != Reason::AlreadyGoing {
            let judged = self.judged_since(judged);
            let expected = if reason == Reason::WarnOnly { "warned" } else { reason.as_str() };
            let found = judged.iter().any(|(decision, why)| decision == expected || why == expected);
            assert!(found, "`{}` was not judged {expected}, but {judged:?}: {text}", output.command);
        }
        match said(reason) {
            Said::Refused => whole(client, &text),
            Said::Warned => assert!(text.contains("poolguard "), "it is told: {text}"),
            Said::Nothing => {
                for word in ["arning", "WARN", "poolguard ", "denied"] {
                    assert!(!text.contains(word), "nothing is said: {text}");
                }
            }
        }
        let program = if client == Client::Kubectl || client == Client::Drain { "kubectl" } else { "helm" };
        let mut seen = self.normalised(&format!("$ {program} {}\n{}\n", all.join(" "), text.trim_end()));
        if said(reason) == Said::Warned {
            seen = once(&seen);
        }
        compare(&format!("{}.{}", reason.as_str(), client.name()), &seen);
    }

    /// Replaces what changes from run to run.
    fn normalised(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (from, to) in [
            (format!("{}/", self.datacenter().folder.display()), ""),
            (format!("{}/", poolguard_harness::root().display()), ""),
        ] {
            text = text.replace(&from, to);
        }
        for set in self.names("replicasets") {
            let Some((_, hash)) = set.rsplit_once('-') else { continue };
            while let Some(at) = text.find(&format!("-{hash}-")) {
                let start = at + hash.len() + 2;
                let end =
                    text[start..].find(|c: char| !c.is_ascii_alphanumeric()).map_or(text.len(), |end| start + end);
                text.replace_range(at..end, "-7d4b9c6f5-x2x7k");
            }
        }
        for (pattern, to) in [
            ("####-##-##T##:##:##Z", "2021-11-25T10:20:00Z"),
            ("##:##:## UTC", "10:20:00 UTC"),
            ("##:##:##.######", "10:20:00.000000"),
            ("W#### ", "W1125 "),
            ("E#### ", "E1125 "),
            ("I#### ", "I1125 "),
        ] {
            text = shaped(&text, pattern, to);
        }
        for (before, after, to) in [
            ("revision ", ",", "812"),
            ("read ", " ms", "3"),
            ("for ", " s.", "297"),
            ("wait ", " s", "297"),
            ("10:20:00.000000 ", " ", "4711"),
        ] {
            text = counted(&text, before, after, to);
        }
        // Clients pad the number of their process.
        while text.contains("10:20:00.000000  ") {
            text = counted(&text.replace("10:20:00.000000  ", "10:20:00.000000 "), "10:20:00.000000 ", " ", "4711");
        }
        let lines = text.lines().map(|line| match line.split_once("LAST DEPLOYED: ") {
            Some((before, _)) => format!("{before}LAST DEPLOYED: Thu Nov 25 10:20:00 2021\n"),
            None => format!("{line}\n"),
        });
        lines.collect()
    }

    /// The names of objects of a kind in the namespace, and in the canary's.
    fn names(&self, kind: &str) -> Vec<String> {
        let names = |namespace: &str| {
            let path = "jsonpath={.items[*].metadata.name}";
            let output = self.datacenter().kubectl(&["-n", namespace, "get", kind, "-o", path]);
            output.expect("kubectl").success().expect("a list")
        };
        let all = format!("{} {}", names(&self.name), names("poolguard-canary"));
        all.split_whitespace().map(str::to_owned).collect()
    }

    /// How long the audit log is now.
    pub fn audited(&self) -> u64 {
        fs::metadata(self.datacenter().audit_log()).map_or(0, |meta| meta.len())
    }

    /// What the audit log says since then of requests in this namespace, and in the canary's.
    pub fn audit_since(&self, offset: u64) -> Vec<serde_json::Value> {
        let mut file = fs::File::open(self.datacenter().audit_log()).expect("the audit log");
        file.seek(SeekFrom::Start(offset)).expect("a place in the audit log");
        let mut text = String::new();
        file.read_to_string(&mut text).expect("the audit log");
        let events = text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        let ours = |event: &serde_json::Value| {
            let namespace = event["objectRef"]["namespace"].as_str();
            namespace == Some(self.name.as_str()) || namespace == Some("poolguard-canary")
        };
        events.filter(ours).collect()
    }

    /// Decisions and reasons that the webhook has noted in the audit log since then.
    fn judged_since(&self, offset: u64) -> Vec<(String, String)> {
        self.audit_since(offset)
            .iter()
            .filter_map(|event| Some((noted(event, "decision")?, noted(event, "reason")?)))
            .collect()
    }
}

/// Each line once, and none about what comes after the Deployment: whether that still belongs to it when Helm gets there is a race
/// with the view and the garbage collector.
fn once(text: &str) -> String {
    let mut lines: Vec<&str> = Vec::new();
    for line in text.lines() {
        let after = ["(ConfigMap ", "(Secret ", "(ServiceAccount ", "(RoleBinding ", "(Role ", "(NetworkPolicy "];
        if !after.iter().any(|kind| line.contains(kind)) && !lines.contains(&line) {
            lines.push(line);
        }
    }
    lines.join("\n") + "\n"
}

/// What the webhook noted of a request: the API server puts the entry's name before the key.
pub fn noted(event: &serde_json::Value, key: &str) -> Option<String> {
    let key = format!(".poolguard.dev/{key}");
    let (_, value) = event["annotations"].as_object()?.iter().find(|(name, _)| name.ends_with(&key))?;
    value.as_str().map(str::to_owned)
}

/// A refusal says what to type next and whom to ask, and is no longer than it may be. Helm shows warnings in its stead.
fn whole(client: Client, text: &str) {
    let (_, message) = text.split_once("denied the request: ").unwrap_or(("", text));
    if let Some((_, message)) = text.split_once("denied the request: ") {
        let end = message.find("#override").map_or(message.len(), |at| at + "#override".len());
        assert!(message[..end].len() <= MESSAGE_LIMIT, "it is {} bytes long: {message}", end);
    } else {
        assert!(client == Client::Helm3 || client == Client::Helm4, "no refusal: {text}");
    }
    let next = message.split_once("next: ").map_or("", |(_, next)| next);
    let commands = ["kubectl ", "confctl ", "run your command again"];
    assert!(commands.iter().any(|command| next.contains(command)), "no command: {text}");
    assert!(message.contains(EMERGENCY), "no way to an override: {text}");
}

/// Replaces what has this shape, where `#` stands for a digit.
fn shaped(text: &str, shape: &str, to: &str) -> String {
    let fits =
        |part: &[u8]| part.iter().zip(shape.bytes()).all(|(c, s)| if s == b'#' { c.is_ascii_digit() } else { *c == s });
    let (bytes, mut out, mut at) = (text.as_bytes(), String::new(), 0);
    while at < bytes.len() {
        match bytes.get(at..at + shape.len()) {
            Some(part) if fits(part) => {
                out.push_str(to);
                at += shape.len();
            }
            _ => {
                let end = (at + 1..=bytes.len()).find(|end| text.is_char_boundary(*end)).unwrap_or(bytes.len());
                out.push_str(&text[at..end]);
                at = end;
            }
        }
    }
    out
}

/// Replaces numbers between these words.
fn counted(text: &str, before: &str, after: &str, to: &str) -> String {
    let (mut out, mut rest) = (String::new(), text);
    while let Some(at) = rest.find(before) {
        let (head, tail) = rest.split_at(at + before.len());
        let digits = tail.find(|c: char| !c.is_ascii_digit()).unwrap_or(tail.len());
        out.push_str(head);
        rest = if digits > 0 && tail[digits..].starts_with(after) {
            out.push_str(to);
            &tail[digits..]
        } else {
            tail
        };
    }
    out + rest
}

fn compare(name: &str, seen: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/cluster/messages/{name}.txt"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::create_dir_all(path.parent().expect("a folder")).expect("the folder of golden messages");
        fs::write(&path, seen).expect("a golden message");
        return;
    }
    let golden = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(golden, seen, "{name} differs: where it should, write it with UPDATE_GOLDEN=1, and read it");
}

#[test]
fn what_changes_from_run_to_run_is_replaced() {
    let text = "until 09:08:07 UTC (revision 9, read 17 ms ago) … for 4 s. 2026-01-02T03:04:05Z";
    let text = shaped(text, "##:##:## UTC", "10:20:00 UTC");
    let text = shaped(&text, "####-##-##T##:##:##Z", "then");
    let text = counted(&counted(&text, "revision ", ",", "812"), "read ", " ms", "3");
    let text = counted(&text, "for ", " s.", "297");
    assert_eq!(text, "until 10:20:00 UTC (revision 812, read 3 ms ago) … for 297 s. then");
}
