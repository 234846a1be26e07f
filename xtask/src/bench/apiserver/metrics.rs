//! The API server's own figures about admission, read before and after what is measured.

use anyhow::{Result, ensure};
use poolguard_harness::http::{request, sum};

/// What is called, and for how long, of DELETE requests.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Durations {
    /// How often.
    pub count: f64,
    /// Seconds in all.
    pub sum: f64,
}

impl Durations {
    /// What came since then.
    pub fn since(self, before: Self) -> Self {
        Self { count: self.count - before.count, sum: self.sum - before.sum }
    }

    /// Milliseconds of one; nothing where there was none.
    pub fn mean(self) -> Option<f64> {
        (self.count > 0.0).then(|| self.sum / self.count * 1000.0)
    }
}

/// The metrics of one moment.
pub struct Metrics(String);

impl Metrics {
    /// Reads them.
    ///
    /// # Errors
    /// If the API server does not answer.
    pub fn read(proxy: &str) -> Result<Self> {
        let answer = request(proxy, "GET", "/metrics", &[], "")?;
        ensure!(answer.status == 200, "the API server answered {}: {}", answer.status, answer.body);
        Ok(Self(answer.body))
    }

    /// The whole of validating admission, webhooks and policies.
    pub fn validating(&self) -> Durations {
        let labels = ["operation=\"DELETE\"", "type=\"validate\""];
        self.durations("apiserver_admission_step_admission_duration_seconds", &labels)
    }

    /// The calls of one webhook.
    pub fn webhook(&self, name: &str) -> Durations {
        let labels = [&*format!("name=\"{name}\""), "operation=\"DELETE\""];
        self.durations("apiserver_admission_webhook_admission_duration_seconds", &labels)
    }

    /// The evaluations of one ValidatingAdmissionPolicy that refuse: those that allow are not counted.
    pub fn policy(&self, name: &str) -> Durations {
        let labels = [&*format!("policy=\"{name}\"")];
        self.durations("apiserver_validating_admission_policy_check_duration_seconds", &labels)
    }

    /// The histogram with these labels.
    fn durations(&self, name: &str, labels: &[&str]) -> Durations {
        let all = |suffix: &str| sum(&self.0, &format!("{name}_{suffix}"), labels);
        Durations { count: all("count"), sum: all("sum") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_those_of_the_labels_alone() {
        let metrics = Metrics(
            "apiserver_admission_webhook_admission_duration_seconds_sum{name=\"a\",operation=\"DELETE\",rejected=\"true\"} 0.5\n\
             apiserver_admission_webhook_admission_duration_seconds_count{name=\"a\",operation=\"DELETE\",rejected=\"true\"} 10\n\
             apiserver_admission_webhook_admission_duration_seconds_sum{name=\"a\",operation=\"UPDATE\",rejected=\"true\"} 7\n\
             apiserver_admission_webhook_admission_duration_seconds_sum{name=\"b\",operation=\"DELETE\",rejected=\"false\"} 9\n"
                .to_owned(),
        );
        let durations = metrics.webhook("a");
        assert_eq!(durations, Durations { count: 10.0, sum: 0.5 });
        assert_eq!(durations.since(Durations { count: 5.0, sum: 0.25 }).mean(), Some(50.0));
        assert_eq!(metrics.webhook("c").mean(), None);
    }
}
