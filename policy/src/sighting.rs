//! What a process remembers of a name in DNS: until when clients may hold an answer that leads to a datacenter.
//!
//! Never from status: a status has no revision that would prove that nobody looked away in between. A process that has never
//! seen the name lead to a datacenter believes that it does not only after it has looked for the longest TTL.

use jiff::{SignedDuration, Timestamp};

use crate::evidence::{Says, Why};

/// How long answers are believed to be held, and how closely a name is looked at.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The longest that a client is believed to hold an answer.
    pub longest: SignedDuration,
    /// The longest between two looks in which nothing is believed to have been missed.
    pub gap: SignedDuration,
}

/// The memory of one name and datacenter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sighting {
    /// The last look saw an answer that leads there.
    pub seen: bool,
    /// The TTL of the last answer that did.
    ttl: SignedDuration,
    /// It has been seen at least once, and closely looked at since.
    sighted: bool,
    /// When the last look was.
    looked: Timestamp,
    /// Until when a client may hold an answer that was seen.
    proved: Timestamp,
    /// Until when a client may hold an answer that leads there, seen or not.
    pub held_until: Timestamp,
    /// Since when the looks have said what the last one said.
    pub since: Timestamp,
}

impl Sighting {
    /// The memory after a look at `now` that saw the datacenter with this TTL, or did not see it anywhere.
    pub fn after(before: Option<Self>, seen: Option<SignedDuration>, limits: Limits, now: Timestamp) -> Self {
        let after = |ttl: SignedDuration| now.checked_add(ttl).unwrap_or(Timestamp::MAX);
        let since = before.filter(|before| before.seen == seen.is_some()).map_or(now, |before| before.since);
        let held = before.map_or(Timestamp::MIN, |before| before.held_until);
        let missed = before.is_none_or(|before| now.duration_since(before.looked) > limits.gap);
        // What was seen by the last look may have been handed out until just before this one; and after a while any other.
        let last = before.filter(|before| before.seen).map(|before| if missed { limits.longest } else { before.ttl });
        let proved = before.map_or(Timestamp::MIN, |before| before.proved).max(last.map_or(Timestamp::MIN, after));
        match (seen, before) {
            (Some(ttl), _) => {
                let ttl = ttl.min(limits.longest);
                // What an unsighted memory held on to besides was a guess.
                let proved = proved.max(after(ttl));
                Self { seen: true, ttl, sighted: true, looked: now, proved, held_until: proved, since }
            }
            (None, Some(before)) if before.seen || !missed => {
                Self { seen: false, looked: now, proved, held_until: held.max(proved), since, ..before }
            }
            // Never looked at, or not for a while: what was handed out in between is not known.
            (None, _) => Self {
                seen: false,
                ttl: limits.longest,
                sighted: false,
                looked: now,
                proved,
                held_until: held.max(after(limits.longest)),
                since,
            },
        }
    }

    /// What follows at `now`.
    pub fn says(&self, now: Timestamp) -> Says {
        match (self.seen, now < self.held_until, self.sighted) {
            (true, ..) => Says::Serving,
            (false, true, true) => Says::Draining,
            (false, true, false) => Says::Unknown(Why::Unsettled),
            (false, false, _) => Says::NotServing,
        }
    }
}

/// How long a client may hold an answer with this TTL: one with the top bit set counts as 0 (RFC 2181, section 8).
pub fn ttl(seconds: u32) -> SignedDuration {
    let seconds = if seconds > i32::MAX as u32 { 0 } else { seconds };
    SignedDuration::from_secs(i64::from(seconds))
}
