//! Files that are accepted, and files that are not.

use super::*;

#[test]
fn a_complete_file_is_accepted_and_single_values_can_be_overridden() {
    let text = r##"
datacenter: codfw
contact: "#sre"
runbookURL: https://wikitech.example/poolguard
networks: [{datacenter: codfw, cidrs: ["10.192.0.0/12", "2620:0:860::/46"]}]
sources:
- {name: main, conftool: {endpoints: ["https://conf2004.example:4001"], timeout: 1500ms}}
- {name: gdnsd, dns: {servers: ["10.3.0.1", "[2620:0:861::1]:5353"], clientNetworks: ["10.64.0.0/12"]}}
- {name: k8s, prometheus: {url: "https://prometheus.example/k8s", bearerTokenFile: /token}}
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
    let conftool = config.sources[0].conftool.as_ref().expect("a conftool source");
    assert_eq!(conftool.timeout, Duration::from_millis(1500));
    assert_eq!(conftool.namespace, "/conftool/v1");
    assert_eq!(conftool.propagation, Duration::from_secs(3));
    let dns = config.sources[1].dns.as_ref().expect("a dns source");
    let servers: Vec<String> = dns.servers.iter().map(ToString::to_string).collect();
    assert_eq!(servers, ["10.3.0.1:53", "[2620:0:861::1]:5353"]);
    assert_eq!(dns.max_ttl, Duration::from_secs(300));
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
- {name: both, conftool: {endpoints: ["http://x"]}, prometheus: {url: "http://x"}}
- {name: dns, dns: {servers: ["ns.example"]}}
- {name: traffic, prometheus: {url: x, clientKeyFile: /key, interval: 1ms}}
log: {format: xml}
networks: [{datacenter: eqiad, cidrs: ["10.0.0.0/40"]}]
"#;
    let ConfigErrors(errors) = Config::parse(text, Overrides::default()).expect_err("much is wrong");
    let paths: Vec<&str> = errors.iter().map(|error| error.path.as_str()).collect();
    assert_eq!(
        paths,
        [
            "data_center",
            "networks[0]",
            "sources[1]",
            "sources[3]",
            "log",
            "datacenter",
            "evidenceTimeout",
            "sources[0].conftool.endpoints",
            "sources[1]",
            "sources[2].prometheus.url",
            "sources[2].prometheus",
            "sources[2].prometheus.interval",
        ]
    );
    assert!(errors[1].message.contains("10.0.0.0/40"), "{}", errors[1].message);
    assert!(errors[2].message.contains("passwrdFile"), "{}", errors[2].message);
    assert!(errors[3].message.contains("ns.example"), "{}", errors[3].message);
}

#[test]
fn traces_are_a_matter_of_the_build_and_an_empty_variable_is_none() {
    let read = |text: &str, variable: Option<&str>| {
        let traces_endpoint = variable.map(str::to_owned);
        let overrides = Overrides { traces_endpoint, ..Overrides::default() };
        let config = Config::parse(&format!("{{datacenter: eqiad, {text}}}"), overrides);
        config.map(|config| config.traces.endpoint).map_err(|ConfigErrors(errors)| errors)
    };
    assert_eq!(read("", None), Ok(None));
    assert_eq!(read("", Some("")), Ok(None));
    if cfg!(feature = "otlp") {
        let file = "traces: {endpoint: 'http://from.file:4318'}";
        assert_eq!(read(file, Some("")), Ok(Some("http://from.file:4318".to_owned())));
        assert_eq!(read(file, Some("http://variable")), Ok(Some("http://variable".to_owned())));
    }
    let errors = read("traces: {endpoint: collector}", None).expect_err("not a URL, or not this build");
    assert_eq!(errors.iter().map(|error| error.path.as_str()).collect::<Vec<_>>(), ["traces.endpoint"]);
    let words = if cfg!(feature = "otlp") { "https://" } else { "--features otlp" };
    assert!(errors[0].message.contains(words), "{}", errors[0].message);
}

#[test]
fn a_file_that_is_missing_or_not_yaml_is_one_clear_line() {
    let missing = Config::load(Path::new("/nowhere/at/all.yaml"), Overrides::default()).expect_err("missing");
    assert!(missing.to_string().contains("/nowhere/at/all.yaml: cannot be read"), "{missing}");
    let broken = Config::parse("a: [", Overrides::default()).expect_err("broken");
    assert!(broken.to_string().contains("is not YAML"), "{broken}");
}
