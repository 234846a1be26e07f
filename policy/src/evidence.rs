//! Evidence and conclusion: what each source says about a service in a datacenter, and what follows from all of it.
//!
//! Never: I/O, a clock, or a way from "no answer" to "not serving". A source that was expected to answer and did not is
//! [`Why::NotAnswered`], and that closes the guard like any other [`Says::Unknown`].

use jiff::{SignedDuration, Timestamp};

use crate::pooling::Pooling;

/// What one source says about one datacenter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Says {
    /// Traffic may arrive there.
    Serving,
    /// Depooled, but clients may still hold the old answer: traffic may arrive there, and will soon stop.
    Draining,
    /// Traffic does not arrive there.
    NotServing,
    /// The source does not tell, or cannot be believed.
    Unknown(Why),
}

impl Says {
    /// Whether traffic may arrive.
    pub fn is_traffic(&self) -> bool {
        matches!(self, Self::Serving | Self::Draining)
    }
}

/// Why a source does not tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Why {
    /// The source has nothing about this datacenter.
    Missing,
    /// The source answered something that cannot be read.
    Malformed,
    /// The source could not be reached, or answered with an error.
    Unreachable,
    /// The source did not answer in time.
    TimedOut,
    /// An active/passive record with several datacenters pooled: the source does not say which one serves.
    Ambiguous,
    /// The operator's configuration has no such source.
    NotConfigured,
    /// The spec does not name this datacenter.
    NotNamed,
    /// The spec expects an answer and there is none.
    NotAnswered,
    /// The source has not been watched for long enough to say that nobody holds an older answer.
    Unsettled,
    /// The source says itself that its answer lacks something.
    Incomplete,
    /// The answer is too old.
    Stale,
}

impl Why {
    /// All of them, for documentation and tests.
    pub const ALL: [Self; 11] = [
        Self::Missing,
        Self::Malformed,
        Self::Unreachable,
        Self::TimedOut,
        Self::Ambiguous,
        Self::NotConfigured,
        Self::NotNamed,
        Self::NotAnswered,
        Self::Unsettled,
        Self::Incomplete,
        Self::Stale,
    ];

    /// The CamelCase name that status and metrics carry.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "Missing",
            Self::Malformed => "Malformed",
            Self::Unreachable => "Unreachable",
            Self::TimedOut => "TimedOut",
            Self::Ambiguous => "Ambiguous",
            Self::NotConfigured => "NotConfigured",
            Self::NotNamed => "NotNamed",
            Self::NotAnswered => "NotAnswered",
            Self::Unsettled => "Unsettled",
            Self::Incomplete => "Incomplete",
            Self::Stale => "Stale",
        }
    }
}

/// One source's answer about one datacenter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The entry of `spec.evidence` that was asked.
    pub evidence: String,
    /// The datacenter that it is about.
    pub datacenter: String,
    /// What it says.
    pub says: Says,
    /// The same in the source's own words, for people: `pooled=true`, `key missing`.
    pub detail: String,
    /// The source's revision (etcd's `modifiedIndex`), where it has one.
    pub revision: Option<u64>,
    /// Since when the source has said so, as far as we know: when this revision was first seen.
    pub since: Option<Timestamp>,
    /// From when on "depooled" may be believed, where the source has such a time.
    pub not_serving_after: Option<Timestamp>,
    /// When the answer arrived.
    pub read: Timestamp,
}

/// What all evidence together says about one datacenter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// At least one source says that traffic may arrive.
    Serving,
    /// Every expected source says that none does.
    NotServing,
    /// Anything else.
    Unknown,
}

impl State {
    /// The CamelCase name that status and metrics carry.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Serving => "Serving",
            Self::NotServing => "NotServing",
            Self::Unknown => "Unknown",
        }
    }
}

/// The conclusion about one datacenter, with the answers that it rests on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Datacenter {
    /// Its name.
    pub name: String,
    /// What follows.
    pub state: State,
    /// One answer for each entry of `spec.evidence` that tells of it, in that order.
    pub answers: Vec<Answer>,
}

/// The conclusion about a service in all of its datacenters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conclusion {
    /// This datacenter's name.
    pub here: String,
    /// Every datacenter that the spec names, in its order, and this one if it does not.
    pub datacenters: Vec<Datacenter>,
}

impl Conclusion {
    /// What follows for this datacenter.
    pub fn here(&self) -> &Datacenter {
        self.datacenters
            .iter()
            .find(|datacenter| datacenter.name == self.here)
            .expect("conclude() always adds this datacenter")
    }

    /// The other datacenters.
    pub fn elsewhere(&self) -> impl Iterator<Item = &Datacenter> {
        self.datacenters.iter().filter(|datacenter| datacenter.name != self.here)
    }
}

/// An answer that was read longer ago than this is no proof that nothing arrives: questions take at most four seconds, and a
/// refusal reuses an answer for one.
pub const MAX_AGE: SignedDuration = SignedDuration::from_secs(6);

/// Draws the conclusion. `answers` may be in any order, incomplete, or about datacenters that nobody asked for.
///
/// An answer is used only for an evidence name and a datacenter that the spec names; where one is missing,
/// [`Why::NotAnswered`] stands in its place, and about a datacenter that the spec does not name [`Why::NotNamed`].
pub fn conclude(here: &str, pooling: &Pooling, answers: &[Answer], now: Timestamp) -> Conclusion {
    let mut names: Vec<&str> = pooling.datacenters.iter().map(String::as_str).collect();
    if !names.contains(&here) {
        names.push(here);
    }
    let datacenters = names
        .into_iter()
        .map(|name| {
            let named = pooling.datacenters.iter().any(|datacenter| datacenter == name);
            let answers: Vec<Answer> = pooling
                .evidence
                .iter()
                .filter(|evidence| name == here || !evidence.arm.is_local())
                .map(|evidence| {
                    let stand_in = |why, detail: &str| Answer {
                        evidence: evidence.name.clone(),
                        datacenter: name.to_owned(),
                        says: Says::Unknown(why),
                        detail: detail.to_owned(),
                        revision: None,
                        since: None,
                        not_serving_after: None,
                        read: now,
                    };
                    let mut about =
                        answers.iter().filter(|answer| answer.evidence == evidence.name && answer.datacenter == name);
                    match (about.next(), about.next()) {
                        (Some(answer), None) if answer.says.is_traffic() => answer.clone(),
                        (Some(answer), None) if now.duration_since(answer.read) > MAX_AGE => {
                            stand_in(Why::Stale, "the answer is too old")
                        }
                        (Some(answer), None) if named => answer.clone(),
                        (Some(_), None) => stand_in(Why::NotNamed, "spec.datacenters does not name it"),
                        // Two answers from one source are as good as none, unless one of them saw traffic.
                        (Some(first), Some(second)) => [first, second]
                            .into_iter()
                            .chain(about)
                            .find(|answer| answer.says.is_traffic())
                            .cloned()
                            .unwrap_or_else(|| stand_in(Why::Ambiguous, "the source gave two answers")),
                        (None, _) => stand_in(Why::NotAnswered, "no answer"),
                    }
                })
                .collect();
            Datacenter { name: name.to_owned(), state: state(&answers), answers }
        })
        .collect();
    Conclusion { here: here.to_owned(), datacenters }
}

/// Any sign of traffic → serving; else any `Unknown`, or not one `NotServing` → unknown; else → not serving.
fn state(answers: &[Answer]) -> State {
    if answers.iter().any(|answer| answer.says.is_traffic()) {
        State::Serving
    } else if answers.is_empty() || answers.iter().any(|answer| answer.says != Says::NotServing) {
        State::Unknown
    } else {
        State::NotServing
    }
}

/// One datacenter's value in a conftool discovery record, as read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    /// The switch.
    pub pooled: bool,
    /// How long clients may hold an answer, in seconds.
    pub ttl: u32,
    /// etcd's `modifiedIndex`.
    pub revision: u64,
}

/// What a process remembers of one datacenter's value in one conftool record: since when it has been as it is, and until
/// when clients may hold an answer from before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// The value that was seen last.
    pub record: Record,
    /// When this revision was first seen.
    pub since: Timestamp,
    /// Until when a client may hold the answer that led here.
    pub held_until: Timestamp,
    /// This process saw the change to this revision happen, and timed it by its own clock.
    pub witnessed: bool,
}

/// Two processes that see the same change happen time it this closely, whatever their load.
const TOGETHER: SignedDuration = SignedDuration::from_secs(10);

impl Memory {
    /// The memory after `record` was read at `now`, from what was remembered before and from what the status of the
    /// `ServicePooling` holds.
    ///
    /// Status is believed only where its revision and switch are those just read: another one says nothing about this one.
    pub fn after(record: Record, before: Option<Self>, status: Option<Self>, now: Timestamp) -> Self {
        let same = |memory: &Self| memory.record.revision == record.revision && memory.since <= now;
        // A revision has one value. Another one under the same number comes from a restored store: what was remembered of it,
        // here or in status, says nothing.
        let restored =
            before.is_some_and(|before| before.record.revision == record.revision && before.record != record);
        let same = |memory: &Self| !restored && same(memory);
        let status = status.filter(|status| status.record.pooled == record.pooled);
        let seen = match (before.filter(same), status.filter(same)) {
            (Some(before), Some(status)) => Some(before.or_told(status)),
            (before, status) => before.or(status),
        };
        if let Some(memory) = seen {
            return Self { record, ..memory };
        }
        let ttl = |record: &Record| SignedDuration::from_secs(i64::from(record.ttl));
        let later = |from: Timestamp, record: &Record| from.checked_add(ttl(record)).unwrap_or(Timestamp::MAX);
        let mut held_until = later(now, &record);
        if let Some(memory) = before {
            // The TTL may have been lowered together with the switch or shortly before: what was handed out under the
            // old one counts.
            held_until = held_until.max(memory.held_until);
            if memory.record.pooled {
                held_until = held_until.max(later(now, &memory.record));
            }
        }
        Self { record, since: now, held_until, witnessed: before.is_some() }
    }

    /// What is to be believed of a revision that status remembers too.
    ///
    /// Whoever has seen it for longer knows more of what came before it; where both saw it come, either may know of a longer TTL
    /// from before. What this process saw happen itself, nobody shortens: another one's clock may be wrong.
    fn or_told(self, status: Self) -> Self {
        // Status holds whole seconds, so less than one is no difference.
        let earlier = self.since.duration_since(status.since) >= SignedDuration::from_secs(1);
        // A status that is much later tells of when its writer found the revision, not of the change.
        let of_the_change = status.since.duration_since(self.since) < TOGETHER;
        let held_until = if earlier && !self.witnessed {
            status.held_until
        } else if of_the_change {
            self.held_until.max(status.held_until)
        } else {
            self.held_until
        };
        Self { since: if earlier { status.since } else { self.since }, held_until, ..self }
    }

    /// What this value says at `now`.
    pub fn says(&self, now: Timestamp) -> Says {
        if self.record.pooled {
            Says::Serving
        } else if now < self.held_until {
            Says::Draining
        } else {
            Says::NotServing
        }
    }
}
