//! A `ServicePooling` as the decision sees it: converted from the API type once, when the object is read.

use jiff::Timestamp;

use crate::selecting::Selects;
use crate::selector::{Labels, Selector};

/// Namespace and name of a `ServicePooling`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// The namespace that it guards.
    pub namespace: String,
    /// Its name, which messages use as the service's name.
    pub name: String,
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A `ServicePooling` that a watch has delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Watched {
    /// It decodes.
    Known(Pooling),
    /// It does not: everything in its namespace is guarded as `Unknown`.
    Undecodable {
        /// Which one.
        key: Key,
        /// What the decoder said.
        error: String,
    },
}

impl Selects for Watched {
    fn wanted(&self) -> &Labels {
        static NONE: Labels = Labels::new();
        match self {
            Self::Known(pooling) => &pooling.selector.match_labels,
            Self::Undecodable { .. } => &NONE,
        }
    }
}

/// The spec of a `ServicePooling`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pooling {
    /// Namespace and name.
    pub key: Key,
    /// Changes with every change of the spec, and between two objects of one name: `uid/generation`.
    pub version: String,
    /// The pods of the service; never empty.
    pub selector: Selector,
    /// Pods that may go while a Ready one that is not expendable exists.
    pub expendable: Option<Selector>,
    /// How the service is meant to be pooled.
    pub mode: Mode,
    /// Where the service is meant to exist.
    pub datacenters: Vec<String>,
    /// How many of them are meant to be pooled at the least.
    pub min_pooled_datacenters: u32,
    /// Where the truth is found.
    pub evidence: Vec<Evidence>,
    /// Refuse, or only warn.
    pub enforcement: Enforcement,
    /// Drift that somebody knows of, for a time.
    pub accepted: Vec<Accepted>,
}

/// Drift that somebody knows of: it silences an alert, and changes no verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// Which kind, by the name of its reason code.
    pub drift: String,
    /// Why it is accepted.
    pub because: String,
    /// Until when.
    pub until: Timestamp,
}

/// How a service is meant to be pooled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// In every datacenter.
    ActiveActive,
    /// In one at a time.
    ActivePassive,
}

/// What happens to a removal that the guard is closed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Enforcement {
    /// It is refused.
    Enforce,
    /// It is allowed, with a warning and a metric.
    Warn,
}

/// One entry of `spec.evidence`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// Its name in the list.
    pub name: String,
    /// What is asked.
    pub arm: Arm,
}

/// What one entry of `spec.evidence` asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Arm {
    /// The resource itself says where the service is pooled.
    Declared {
        /// The datacenters that it says are pooled.
        pooled_in: Vec<String>,
    },
    /// conftool's etcd.
    Conftool {
        /// The configured source; `None` is the only one of its kind.
        source: Option<String>,
        /// `dnsdisc` of the discovery record.
        record: String,
    },
    /// Authoritative DNS servers.
    Dns {
        /// The configured source; `None` is the only one of its kind.
        source: Option<String>,
        /// The name that clients look up.
        name: String,
    },
    /// This datacenter's Prometheus.
    Prometheus {
        /// The configured source; `None` is the only one of its kind.
        source: Option<String>,
        /// The query, with its placeholders.
        query: String,
        /// Above it, traffic arrives.
        threshold: Threshold,
    },
}

impl Arm {
    /// Whether it tells of this datacenter alone. Of another one, no answer of it is expected.
    pub fn is_local(&self) -> bool {
        matches!(self, Self::Prometheus { .. })
    }

    /// Whether it shows what happens, and has no switch of its own.
    pub fn only_observes(&self) -> bool {
        matches!(self, Self::Dns { .. } | Self::Prometheus { .. })
    }

    /// The word for it in messages.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Declared { .. } => "declared",
            Self::Conftool { .. } => "conftool",
            Self::Dns { .. } => "dns",
            Self::Prometheus { .. } => "prometheus",
        }
    }
}

/// A number of thousandths, as a Kubernetes quantity such as `500m` gives it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Threshold {
    /// Thousandths.
    pub thousandths: u64,
}

impl Threshold {
    /// As a number.
    pub fn value(self) -> f64 {
        self.thousandths as f64 / 1000.0
    }
}

/// What is not a [`Threshold`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAThreshold;

impl std::str::FromStr for Threshold {
    type Err = NotAThreshold;

    /// Reads `2`, `0.5` or `500m`: at most nine digits before the point and three behind it.
    fn from_str(text: &str) -> Result<Self, NotAThreshold> {
        let digits = |text: &str, most: usize| {
            let right = (1..=most).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
            right.then(|| text.parse::<u64>().ok()).flatten().ok_or(NotAThreshold)
        };
        let thousandths = match (text.strip_suffix('m'), text.split_once('.')) {
            (Some(thousandths), _) => digits(thousandths, 12)?,
            (None, Some((whole, part))) => {
                let scale = [100, 10, 1];
                digits(whole, 9)? * 1000 + digits(part, 3)? * scale[part.len() - 1]
            }
            (None, None) => digits(text, 9)? * 1000,
        };
        Ok(Self { thousandths })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_threshold_is_read_as_a_quantity() {
        for (text, thousandths) in [("2", 2000), ("0.5", 500), ("500m", 500), ("0", 0), ("1.25", 1250), ("0.001", 1)] {
            assert_eq!(text.parse(), Ok(Threshold { thousandths }), "{text}");
        }
        for text in ["", "-1", "1.", ".5", "0.0001", "1e3", "m", "1.5m", "+1", "NaN", "1k", "12345678901"] {
            assert_eq!(text.parse::<Threshold>(), Err(NotAThreshold), "{text}");
        }
    }
}
