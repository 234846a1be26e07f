//! Files that are accepted, and files that are not.

use super::*;

#[test]
fn a_complete_file_is_accepted_and_single_values_can_be_overridden() {
    let text = r##"
datacenter: codfw
contact: "#sre"
runbookURL: https://wikitech.example/poolguard
networks: [{datacenter: codfw, cidrs: ["10.192.0.0/12", "2620:0:860::/46"]}]
sources: [{name: main, conftool: {endpoints: ["https://conf2004.example:4001"], timeout: 1500ms}}]
evidenceTimeout: 2s
trustedIdentities: [{user: "system:serviceaccount:argo:rollouts", resources: [pods], verbs: [DELETE]}]
webhook: {listen: "127.0.0.1:9443", watchSilence: 2m}
metrics: {listen: "127.0.0.1:9090"}
controller: {namespace: guard}
log: {format: text}
"##;
    let overrides = Overrides { datacenter: Some("eqiad".to_owned()), ..Overrides::default() };
    let config = Config::parse(text, overrides).expect("a complete file");
    assert_eq!(config.datacenter, "eqiad");
    assert_eq!(config.sources[0].conftool.timeout, Duration::from_millis(1500));
    assert_eq!(config.sources[0].conftool.namespace, "/conftool/v1");
    assert_eq!(config.webhook.watch_silence, Duration::from_secs(120));
    assert_eq!(config.controller.lease_name, "poolguard-controller");
}

#[test]
fn every_error_is_told_at_once_with_its_path() {
    let text = r#"
data_center: eqiad
evidenceTimeout: 30s
sources:
- {name: one, conftool: {endpoints: ["nowhere"]}}
- {name: two, conftool: {endpoints: [], passwrdFile: /x}}
log: {format: xml}
networks: [{datacenter: eqiad, cidrs: ["10.0.0.0/40"]}]
"#;
    let ConfigErrors(errors) = Config::parse(text, Overrides::default()).expect_err("much is wrong");
    let paths: Vec<&str> = errors.iter().map(|error| error.path.as_str()).collect();
    assert_eq!(
        paths,
        [
            "data_center",
            "sources[1]",
            "log",
            "datacenter",
            "evidenceTimeout",
            "sources[0].conftool.endpoints",
            "networks[0].cidrs"
        ]
    );
    assert!(errors[1].message.contains("passwrdFile"), "{}", errors[1].message);
}

#[test]
fn a_file_that_is_missing_or_not_yaml_is_one_clear_line() {
    let missing = Config::load(Path::new("/nowhere/at/all.yaml"), Overrides::default()).expect_err("missing");
    assert!(missing.to_string().contains("/nowhere/at/all.yaml: cannot be read"), "{missing}");
    let broken = Config::parse("a: [", Overrides::default()).expect_err("broken");
    assert!(broken.to_string().contains("is not YAML"), "{broken}");
}
