//! Prometheus's answer to an instant query, strictly: one series with one finite number, or a reason why there is none.

use poolguard_policy::evidence::Why;
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::observe::Bad;

/// What a query yields.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Sample {
    pub(super) value: f64,
    /// The server warns that the answer may lack something.
    pub(super) partial: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Response {
    status: String,
    #[serde(default)]
    data: Option<Data>,
    #[serde(default)]
    error: Option<String>,
    #[serde(default)]
    warnings: Option<Vec<IgnoredAny>>,
    /// The same from a cluster of VictoriaMetrics.
    #[serde(default)]
    is_partial: Option<bool>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Data {
    result_type: String,
    result: serde_json::Value,
}

#[derive(Deserialize)]
struct Series {
    value: (f64, String),
}

/// Reads the body of an answer.
pub(super) fn decode(body: &[u8]) -> Result<Sample, Bad> {
    let malformed = |detail: &str| Bad::new(Why::Malformed, detail);
    let response: Response = serde_json::from_slice(body)
        .map_err(|error| malformed(&format!("Prometheus's answer cannot be read ({error})")))?;
    if response.status != "success" {
        let error = response.error.unwrap_or_else(|| "no reason given".to_owned());
        return Err(Bad::new(Why::Unreachable, &format!("Prometheus answered an error: {error}")));
    }
    let data = response.data.ok_or_else(|| malformed("Prometheus's answer has no data"))?;
    if data.result_type != "vector" {
        return Err(malformed(&format!("the query yields a {}, not a vector with one series", data.result_type)));
    }
    let mut series: Vec<Series> = serde_json::from_value(data.result)
        .map_err(|error| malformed(&format!("Prometheus's answer cannot be read ({error})")))?;
    let (text, count) = (series.pop().map(|series| series.value.1), series.len() + 1);
    let Some(text) = text else {
        return Err(Bad::new(Why::Missing, "the query yields nothing: is the scrape up?"));
    };
    if count > 1 {
        return Err(Bad::new(Why::Ambiguous, &format!("the query yields {count} series, not one: aggregate with sum")));
    }
    let value: f64 = text.parse().map_err(|_| malformed(&format!("{text:?} is not a number")))?;
    if !value.is_finite() || value < 0.0 {
        return Err(malformed(&format!("the query yields {text}, not a number from 0 on")));
    }
    let warned = response.warnings.is_some_and(|warnings| !warnings.is_empty());
    Ok(Sample { value, partial: warned || response.is_partial == Some(true) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vector(result: &str, more: &str) -> Result<(f64, bool), Why> {
        let body = format!(r#"{{"status":"success"{more},"data":{{"resultType":"vector","result":[{result}]}}}}"#);
        decode(body.as_bytes()).map(|sample| (sample.value, sample.partial)).map_err(|bad| bad.why)
    }

    fn one(value: &str) -> String {
        format!(r#"{{"metric":{{}},"value":[1700000000.1,"{value}"]}}"#)
    }

    #[test]
    fn one_finite_number_is_read() {
        assert_eq!(vector(&one("312.5"), ""), Ok((312.5, false)));
        assert_eq!(vector(&one("0"), r#","warnings":["a store did not answer"]"#), Ok((0.0, true)));
        assert_eq!(vector(&one("0"), r#","warnings":[],"infos":["i"]"#), Ok((0.0, false)));
        for partial in [true, false] {
            assert_eq!(vector(&one("0"), &format!(r#","isPartial":{partial}"#)), Ok((0.0, partial)));
        }
    }

    #[test]
    fn everything_else_proves_nothing() {
        assert_eq!(vector("", ""), Err(Why::Missing));
        assert_eq!(vector(&format!("{},{}", one("0"), one("0")), ""), Err(Why::Ambiguous));
        for value in ["NaN", "+Inf", "-Inf", "-1", "x", ""] {
            assert_eq!(vector(&one(value), ""), Err(Why::Malformed), "{value}");
        }
        for (body, why) in [
            (r#"{"status":"success","data":{"resultType":"scalar","result":[1,"0"]}}"#, Why::Malformed),
            (r#"{"status":"success","data":{"resultType":"matrix","result":[]}}"#, Why::Malformed),
            (r#"{"status":"success"}"#, Why::Malformed),
            (r#"{"status":"error","error":"query timed out"}"#, Why::Unreachable),
            (r#"{"status":"success","data":{"resultType":"vector","result":[{"value":[1,0]}]}}"#, Why::Malformed),
            ("<html>", Why::Malformed),
            ("", Why::Malformed),
            ("null", Why::Malformed),
        ] {
            assert_eq!(decode(body.as_bytes()).map_err(|bad| bad.why), Err(why), "{body}");
        }
    }
}
