//! What a conftool record says as a whole.
//!
//! confd hands a record to DNS whole or not at all: where one of its values cannot be read, or an active/passive record has
//! several datacenters pooled, DNS keeps what it had. For as long, a datacenter that the record calls depooled may be the one
//! that serves, and afterwards clients hold the old answer for its TTL.
//!
//! Never narrowed to the datacenters that a spec names: DNS does not know the spec.

use jiff::{SignedDuration, Timestamp};

use crate::evidence::Why;
use crate::pooling::Mode;

/// One datacenter's value, as confd takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Switch {
    /// `pooled: true`
    Pooled,
    /// `pooled: false`
    Depooled,
    /// Anything else.
    Unreadable,
}

/// Why the depooled values of a record prove nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Doubt {
    /// Which kind of doubt.
    pub why: Why,
    /// In words, to follow what the value says.
    pub detail: String,
}

/// Whether DNS keeps what it had.
pub fn is_stuck<'a>(mode: Mode, values: impl IntoIterator<Item = (&'a str, Switch)>) -> bool {
    doubt(mode, values, &[]).is_some()
}

/// Why the depooled values of a record prove nothing, if they do not: DNS is stuck, or would be if a datacenter that the spec
/// names, and the record does not, were pooled.
pub fn doubt<'a>(mode: Mode, values: impl IntoIterator<Item = (&'a str, Switch)>, named: &[String]) -> Option<Doubt> {
    let (mut pooled, mut unreadable) = (Vec::new(), Vec::new());
    let mut missing: Vec<&str> = named.iter().map(String::as_str).collect();
    for (datacenter, switch) in values {
        missing.retain(|name| *name != datacenter);
        match switch {
            Switch::Pooled => pooled.push(datacenter),
            Switch::Unreadable => unreadable.push(datacenter),
            Switch::Depooled => {}
        }
    }
    let kept = |why, cause: String| Some(Doubt { why, detail: format!("but DNS may keep what it had: {cause}") });
    if !unreadable.is_empty() {
        return kept(Why::Malformed, format!("the record's value for {} cannot be read", unreadable.join(" and ")));
    }
    if mode == Mode::ActiveActive || pooled.len() + missing.len() < 2 {
        return None;
    }
    if missing.is_empty() || pooled.len() >= 2 {
        kept(Why::Ambiguous, format!("the active/passive record has {} pooled", pooled.join(" and ")))
    } else {
        kept(Why::Ambiguous, format!("the active/passive record has no value for {}", missing.join(" and ")))
    }
}

/// What a process remembers of how DNS may have kept a datacenter in one record: until when clients may hold that answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    /// DNS was stuck at the last look.
    stuck: bool,
    /// The longest TTL since DNS last followed, in seconds.
    ttl: u32,
    /// Until when a client may hold an answer of that time.
    pub until: Timestamp,
}

impl Kept {
    /// The memory after a look at `now`: whether DNS is stuck, and the TTL of the datacenter's value where it can be read.
    pub fn after(before: Option<Self>, stuck: bool, ttl: Option<u32>, now: Timestamp) -> Self {
        let fresh = Self { stuck: false, ttl: 0, until: Timestamp::MIN };
        let before = before.unwrap_or(fresh);
        let ttl = ttl.unwrap_or(before.ttl);
        let longest = ttl.max(before.ttl);
        if stuck {
            return Self { stuck, ttl: longest, ..before };
        }
        let until = if before.stuck {
            // It may have been stuck until just before this look.
            let held = now.checked_add(SignedDuration::from_secs(i64::from(longest))).unwrap_or(Timestamp::MAX);
            before.until.max(held)
        } else {
            before.until
        };
        Self { stuck, ttl, until }
    }
}

#[cfg(test)]
mod tests {
    use super::Switch::{Depooled, Pooled, Unreadable};
    use super::*;

    fn why(mode: Mode, values: &[(&str, Switch)], named: &[&str]) -> Option<Why> {
        let named: Vec<String> = named.iter().map(|name| (*name).to_owned()).collect();
        doubt(mode, values.iter().copied(), &named).map(|doubt| doubt.why)
    }

    #[test]
    fn an_active_passive_record_pooled_twice_anywhere_says_nothing_of_the_others() {
        let values = [("codfw", Pooled), ("eqiad", Depooled), ("ulsfo", Pooled)];
        assert_eq!(why(Mode::ActivePassive, &values, &["codfw", "eqiad"]), Some(Why::Ambiguous));
        assert_eq!(why(Mode::ActiveActive, &values, &["codfw", "eqiad"]), None);
        assert_eq!(why(Mode::ActivePassive, &values[..2], &["codfw", "eqiad"]), None);
        assert_eq!(why(Mode::ActivePassive, &values[..2], &["codfw", "eqiad", "ulsfo"]), Some(Why::Ambiguous));
    }

    #[test]
    fn the_doubt_names_what_makes_it() {
        let detail = |values: &[(&str, Switch)]| {
            let named = ["codfw".to_owned(), "eqiad".to_owned()];
            doubt(Mode::ActivePassive, values.iter().copied(), &named).map(|doubt| doubt.detail).unwrap_or_default()
        };
        let twice = detail(&[("codfw", Pooled), ("ulsfo", Pooled)]);
        assert!(twice.ends_with("the active/passive record has codfw and ulsfo pooled"), "{twice}");
        let missing = detail(&[("codfw", Pooled)]);
        assert!(missing.ends_with("the active/passive record has no value for eqiad"), "{missing}");
    }

    #[test]
    fn a_value_that_cannot_be_read_leaves_dns_as_it_was_in_every_mode() {
        let values = [("codfw", Unreadable), ("eqiad", Depooled)];
        for mode in [Mode::ActiveActive, Mode::ActivePassive] {
            assert_eq!(why(mode, &values, &["codfw", "eqiad"]), Some(Why::Malformed));
            assert!(is_stuck(mode, values));
        }
        assert!(!is_stuck(Mode::ActivePassive, [("codfw", Pooled), ("eqiad", Depooled)]));
    }

    #[test]
    fn what_dns_kept_while_it_was_stuck_is_held_for_the_longest_ttl_of_that_time() {
        let at = |second: i64| Timestamp::from_second(second).expect("a time");
        let stuck = Kept::after(None, true, Some(600), at(0));
        let still = Kept::after(Some(stuck), true, Some(5), at(10));
        assert_eq!(Kept::after(Some(still), false, Some(5), at(20)).until, at(620));
        assert_eq!(Kept::after(None, false, Some(600), at(0)).until, Timestamp::MIN);
    }
}
