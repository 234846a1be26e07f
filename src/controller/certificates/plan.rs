//! The next step of a rotation, from what there is. Pure.
//!
//! An authority goes in three steps: the new one is trusted, then serves, then the old one is dropped. Each waits until the
//! one before it is everywhere, so that at no moment somebody serves what somebody else does not trust.

use std::time::Duration;

use jiff::Timestamp;

/// From when to when something may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Life {
    /// When it was made.
    pub(super) made: Timestamp,
    /// When it ends.
    pub(super) end: Timestamp,
}

impl Life {
    fn ended(self, now: Timestamp) -> bool {
        self.end <= now
    }

    /// Two thirds are over.
    fn due(self, now: Timestamp) -> bool {
        now.duration_since(self.made) >= self.end.duration_since(self.made) * 2 / 3
    }
}

/// The certificate that is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Serving {
    /// There is none that whoever trusts all our authorities would accept.
    Unusable,
    /// One of the authority that signs now.
    Current(Life),
    /// One of another authority that is trusted.
    Former,
}

/// What there is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Held {
    /// The authority that signs.
    pub(super) authority: Option<Life>,
    /// The one that will sign next, trusted already.
    pub(super) next: Option<Life>,
    /// One that signed before is still trusted.
    pub(super) previous: bool,
    /// What is served.
    pub(super) serving: Serving,
    /// The API server trusts all of these authorities.
    pub(super) in_force: bool,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Make the first authority.
    Begin,
    /// Make a further authority, which is trusted and does not sign yet.
    Introduce,
    /// The next authority signs from now on, the one before is only trusted.
    Promote,
    /// Make a serving certificate.
    Issue,
    /// The previous authority is no longer trusted.
    Drop,
}

/// The next step, if there is one now.
pub(super) fn step(held: &Held, overlap: Duration, now: Timestamp) -> Option<Step> {
    let lasts = |since: Life| {
        now.duration_since(since.made) >= jiff::SignedDuration::try_from(overlap).unwrap_or(jiff::SignedDuration::MAX)
    };
    let Some(authority) = held.authority.filter(|authority| !authority.ended(now)) else {
        let next = held.next.is_some_and(|next| !next.ended(now));
        return Some(if next { Step::Promote } else { Step::Begin });
    };
    let serving = match held.serving {
        Serving::Unusable => return Some(Step::Issue),
        // Trusted first, then served.
        Serving::Former => return held.in_force.then_some(Step::Issue),
        Serving::Current(serving) => serving,
    };
    if serving.due(now) {
        return Some(Step::Issue);
    }
    if let Some(next) = held.next {
        return (held.in_force && lasts(next)).then_some(Step::Promote);
    }
    if held.previous {
        return lasts(serving).then_some(Step::Drop);
    }
    authority.due(now).then_some(Step::Introduce)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OVERLAP: Duration = Duration::from_secs(10);

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).expect("a time")
    }

    fn life(made: i64, end: i64) -> Life {
        Life { made: at(made), end: at(end) }
    }

    fn held() -> Held {
        Held {
            authority: Some(life(0, 900)),
            next: None,
            previous: false,
            serving: Serving::Current(life(0, 300)),
            in_force: true,
        }
    }

    fn next(held: Held, now: i64) -> Option<Step> {
        step(&held, OVERLAP, at(now))
    }

    #[test]
    fn it_begins_with_nothing_and_then_rests() {
        let nothing = Held { authority: None, serving: Serving::Unusable, in_force: false, ..held() };
        assert_eq!(next(nothing, 0), Some(Step::Begin));
        assert_eq!(next(Held { authority: Some(life(0, 900)), ..nothing }, 0), Some(Step::Issue));
        assert_eq!(next(held(), 0), None);
        assert_eq!(next(held(), 199), None);
    }

    #[test]
    fn a_serving_certificate_is_made_anew_after_two_thirds_also_while_nobody_is_registered() {
        assert_eq!(next(held(), 200), Some(Step::Issue));
        assert_eq!(next(Held { in_force: false, ..held() }, 200), Some(Step::Issue));
        assert_eq!(next(Held { serving: Serving::Unusable, in_force: false, ..held() }, 1), Some(Step::Issue));
    }

    #[test]
    fn an_authority_is_trusted_then_serves_then_the_old_one_goes() {
        let fresh = Held { serving: Serving::Current(life(590, 890)), ..held() };
        assert_eq!(next(fresh, 599), None);
        assert_eq!(next(fresh, 600), Some(Step::Introduce));
        let introduced = Held { next: Some(life(600, 1500)), ..fresh };
        assert_eq!(next(introduced, 609), None, "not before it is known everywhere");
        assert_eq!(next(Held { in_force: false, ..introduced }, 620), None, "not before the API server trusts it");
        assert_eq!(next(introduced, 610), Some(Step::Promote));
        let promoted = Held { authority: Some(life(600, 1500)), previous: true, serving: Serving::Former, ..fresh };
        assert_eq!(next(promoted, 610), Some(Step::Issue));
        assert_eq!(next(Held { in_force: false, ..promoted }, 610), None);
        let serves = Held { serving: Serving::Current(life(610, 910)), ..promoted };
        assert_eq!(next(serves, 619), None, "pods still show the old certificate");
        assert_eq!(next(serves, 620), Some(Step::Drop));
        assert_eq!(next(Held { previous: false, ..serves }, 620), None);
    }

    #[test]
    fn an_authority_that_has_ended_is_replaced_at_once() {
        assert_eq!(next(held(), 900), Some(Step::Begin));
        let introduced = Held { next: Some(life(600, 1500)), in_force: false, ..held() };
        assert_eq!(next(introduced, 900), Some(Step::Promote));
        assert_eq!(next(introduced, 1500), Some(Step::Begin));
    }
}
