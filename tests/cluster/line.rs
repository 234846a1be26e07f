//! The log line of a refusal, as the real process writes it about requests of a real API server.

use serde_json::Value;

use crate::scenario::Scenario;

/// The webhook's log lines about refusals in a namespace. Every line of it is one JSON object.
fn lines(scenario: &Scenario<'_>) -> Vec<Value> {
    let text = scenario.fleet.run().log_text("eqiad-poolguard-webhook").expect("a log");
    // What is being written at this moment is nobody's yet.
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let all = whole.lines().map(|line| {
        let parsed = serde_json::from_str::<Value>(line);
        assert!(parsed.as_ref().is_ok_and(Value::is_object), "not one JSON object: {line:?}");
        parsed.unwrap_or_default()
    });
    all.filter(|line| line["message"] == "refused" && line["namespace"] == scenario.name.as_str()).collect()
}

#[test]
fn each_refusal_is_one_line_that_says_who_was_refused_what_and_on_what_evidence() {
    let scenario = Scenario::guarded("line");
    let deployer = scenario.kubectl(&["auth", "whoami", "-o", "jsonpath={.status.userInfo.username}"]);
    let deployer = deployer.success().expect("a name");
    scenario.refused("kubectl", &["delete", "deployment", "line-main"]);
    let hostile = r#"eve","reason":"NotServing"} {"message":"refused"#;
    let as_eve = format!("--as={hostile}");
    let arguments = ["-n", "line", &as_eve, "--as-group=system:masters", "delete", "service", "line-main"];
    let output = scenario.datacenter().kubectl(&arguments).expect("kubectl starts");
    assert!(!output.ok() && output.text().contains("Service line/line-main was not deleted"), "{}", output.text());
    // A dry run leaves only the metric.
    let dry = scenario.kubectl(&["delete", "service", "line-main", "--dry-run=server"]);
    assert!(!dry.ok(), "{}", dry.text());

    let lines = lines(&scenario);
    assert_eq!((lines.len(), scenario.refusals()), (2, 2.0), "one line for each: {lines:?}");
    for (line, [user, resource]) in lines.iter().zip([[deployer.as_str(), "deployments"], [hostile, "services"]]) {
        for (field, expected) in [
            ("level", "INFO"),
            ("service", "line/line"),
            ("datacenter", "eqiad"),
            ("user", user),
            ("verb", "DELETE"),
            ("resource", resource),
            ("namespace", "line"),
            ("object", "line-main"),
            ("reason", "Serving"),
        ] {
            assert_eq!(line[field], expected, "{field} of {line}");
        }
        let time = line["timestamp"].as_str().and_then(|time| time.parse::<jiff::Timestamp>().ok());
        assert!(time.is_some(), "{line}");
        let told = line["told"].as_str().expect("what the user was told");
        assert!(told.starts_with("line serves live traffic in eqiad and nowhere else."), "{told}");
        let evidence = line["evidence"].as_str().expect("JSON in a string");
        let evidence: Value = serde_json::from_str(evidence).expect("JSON");
        let of = |index: usize, field: &str| evidence[index][field].as_str().unwrap_or_default().to_owned();
        let seen = |index| ["evidence", "source", "datacenter", "says", "detail"].map(|field| of(index, field));
        assert_eq!(seen(0), ["discovery", "conftool", "eqiad", "Serving", "pooled=true"]);
        assert_eq!(seen(1), ["discovery", "conftool", "codfw", "NotServing", "pooled=false"]);
        // The same revision and age that the user was told.
        let (revision, age) = (evidence[0]["revision"].as_u64(), evidence[0]["age_ms"].as_i64());
        let (revision, age) = (revision.expect("a revision"), age.expect("an age"));
        assert!(told.contains(&format!("(revision {revision}, read {age} ms ago)")), "{evidence} {told}");
        assert!(evidence[1]["revision"].as_u64().is_some_and(|revision| revision > 0), "{evidence}");
    }
}
