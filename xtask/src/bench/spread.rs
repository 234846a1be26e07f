//! A figure that was measured several times.

use std::fmt;

use serde::Serialize;

/// Its median, and between what it lay.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    /// The median.
    pub median: f64,
    /// The lowest.
    pub low: f64,
    /// The highest.
    pub high: f64,
}

impl Spread {
    /// Of these figures; none of none.
    pub fn of(figures: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = figures.into_iter().filter(|figure| figure.is_finite()).collect();
        sorted.sort_by(f64::total_cmp);
        let (low, high) = (*sorted.first()?, *sorted.last()?);
        let half = sorted.len() / 2;
        let median = if sorted.len() % 2 == 1 { sorted[half] } else { f64::midpoint(sorted[half - 1], sorted[half]) };
        Some(Self { median, low, high })
    }

    /// How many times those of `floor` these are, each by the one that was measured beside it.
    pub fn ratio(figures: &[f64], floor: &[f64]) -> Option<Self> {
        Self::of(figures.iter().zip(floor).map(|(figure, floor)| figure / floor))
    }
}

/// `1.23 (1.20–1.31)`
impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}–{})", digits(self.median), digits(self.low), digits(self.high))
    }
}

/// Three digits that matter, and commas between thousands.
pub fn digits(figure: f64) -> String {
    if figure >= 1000.0 {
        let whole = format!("{:.0}", (figure / 10.0).round() * 10.0);
        let from_the_end = whole.len();
        return whole
            .char_indices()
            .flat_map(|(at, digit)| {
                let comma = (at > 0 && (from_the_end - at) % 3 == 0).then_some(',');
                comma.into_iter().chain([digit])
            })
            .collect();
    }
    let decimals = if figure >= 100.0 {
        0
    } else if figure >= 10.0 {
        1
    } else if figure >= 1.0 {
        2
    } else {
        3
    };
    format!("{figure:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_taken_of_what_was_measured_side_by_side() {
        let ratio = Spread::ratio(&[2.0, 30.0], &[1.0, 10.0]).expect("figures");
        assert_eq!(ratio, Spread { median: 2.5, low: 2.0, high: 3.0 });
        assert_eq!(Spread::ratio(&[], &[]), None);
        assert_eq!(Spread::ratio(&[1.0], &[0.0]), None);
    }

    #[test]
    fn figures_are_written_with_the_digits_that_matter() {
        for (figure, written) in
            [(0.0671, "0.067"), (1.234, "1.23"), (98.76, "98.8"), (489.2, "489"), (15_234.0, "15,230")]
        {
            assert_eq!(digits(figure), written);
        }
    }
}
