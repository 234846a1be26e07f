//! Choices from bytes: proptest makes the bytes, and what is made of them gets smaller as they do. Never runs dry: a byte that is
//! not there is zero, and zero is always the plainest choice.

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

/// The bytes, from the front.
#[derive(Clone)]
pub struct Dice(std::vec::IntoIter<u8>);

impl std::fmt::Debug for Dice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let used = self.0.as_slice().iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        write!(f, "Dice({:?})", &self.0.as_slice()[..used])
    }
}

/// Checks a law as often as told, or a share of that where `PROPTEST_CASES` is below its usual 256; a failure prints the bytes that it shrank to, and no file keeps them. One function for all laws,
/// and not a macro, so that they compile fast.
///
/// # Panics
/// If it does not hold.
pub fn holds(cases: u32, law: fn(&mut Dice) -> Result<(), TestCaseError>) {
    let usual = ProptestConfig::default();
    let cases = (cases * usual.cases / 256).max(1);
    let config = ProptestConfig { cases, failure_persistence: None, ..usual };
    let tried = TestRunner::new(config).run(&dice(), |mut dice| law(&mut dice));
    let failure = tried.err().map(|error| error.to_string());
    assert!(failure.is_none(), "{}", failure.unwrap_or_default());
}

/// Enough for a world and a request, always the same, as many times as told.
pub fn always_the_same(times: usize, mut each: impl FnMut(&mut Dice)) {
    let mut runner = TestRunner::deterministic();
    for _ in 0..times {
        each(&mut dice().new_tree(&mut runner).expect("bytes").current());
    }
}

fn dice() -> BoxedStrategy<Dice> {
    let bytes = |words: Vec<u64>| words.into_iter().flat_map(u64::to_le_bytes).collect::<Vec<u8>>();
    prop::collection::vec(any::<u64>(), 64).prop_map(move |words| Dice(bytes(words).into_iter())).boxed()
}

impl Dice {
    fn roll(&mut self) -> usize {
        usize::from(self.0.next().unwrap_or_default())
    }

    /// A number below this one.
    pub fn below(&mut self, sides: usize) -> usize {
        self.roll() % sides
    }

    /// True in one of this many cases.
    pub fn one_in(&mut self, sides: usize) -> bool {
        self.roll() % sides == sides - 1
    }

    /// One of these; the first is the plainest.
    pub fn pick<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[self.below(of.len())]
    }

    /// One of these values.
    pub fn choose<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())].clone()
    }

    /// Something, in one of this many cases.
    pub fn maybe<T>(&mut self, sides: usize, make: impl FnOnce(&mut Self) -> T) -> Option<T> {
        self.one_in(sides).then(|| make(self))
    }

    /// A character.
    pub fn char(&mut self) -> char {
        let code = u32::from_le_bytes([self.roll() as u8, self.roll() as u8, self.roll() as u8 & 15, 0]);
        char::from_u32(code).unwrap_or('x')
    }

    /// A few of these, each at even odds.
    pub fn some(&mut self, of: &[&str]) -> std::collections::BTreeSet<String> {
        of.iter().filter(|_| self.one_in(2)).map(|word| (*word).to_owned()).collect()
    }
}
