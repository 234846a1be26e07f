//! The chart on a real node: what people set, and what is in force then.

use poolguard_harness::image::Image;
use poolguard_harness::node::Node;
use poolguard_harness::node::release::Release;

/// Installs it with a datacenter and one source.
pub fn with_two_values(node: &Node, image: &Image) -> Release {
    let release = Release::install(node, image).expect("poolguard");
    println!("every pod was ready {:.1} s after `helm install`", release.took.as_secs_f64());
    release
}

/// Looks at the processes themselves, and asks the API server what they may.
pub fn what_the_chart_asks_for_is_in_force(node: &Node) {
    let filter = r#"labels."io.kubernetes.pod.namespace"==poolguard,labels."io.cri-containerd.kind"==container"#;
    let containers = node.ctr(&["-n", "k8s.io", "containers", "list", "-q", filter]).expect("containers");
    let tasks = node.ctr(&["-n", "k8s.io", "tasks", "list"]).expect("tasks");
    let mut looked_at = 0;
    for container in containers.lines() {
        let task = tasks.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let Some(task) = task.into_iter().find(|words| words.first() == Some(&container)) else { continue };
        let read = |file: &str| node.shell(&format!("cat /proc/{}/{file}", task[1])).expect("a process");
        let status = read("status");
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ")
        };
        assert_eq!(field("Name"), "poolguard");
        assert_eq!(field("Uid"), "65532 65532 65532 65532", "{status}");
        for rights in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            assert_eq!(u64::from_str_radix(&field(rights), 16), Ok(0), "{rights}: {status}");
        }
        assert_eq!(field("NoNewPrivs"), "1");
        assert_eq!(field("Seccomp"), "2", "calls of the kernel are not filtered");
        let mounts = read("mountinfo");
        let root = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>()).find(|words| words[4] == "/");
        let root = root.expect("a root");
        assert!(root[5].split(',').any(|option| option == "ro"), "the root can be written: {root:?}");
        looked_at += 1;
    }
    assert_eq!(looked_at, 3, "two replicas of the webhook and a controller: {tasks}");
    for (process, verb, resource, may) in [
        ("webhook", "list", "pods", true),
        ("webhook", "patch", "pods", false),
        ("webhook", "get", "secrets", false),
        ("controller", "patch", "servicepoolings/status", true),
        ("controller", "list", "secrets", false),
        ("controller", "delete", "pods", false),
    ] {
        let account = format!("--as=system:serviceaccount:poolguard:poolguard-{process}");
        let output = node.datacenter.kubectl(&["auth", "can-i", verb, resource, &account, "-A"]).expect("kubectl");
        assert_eq!(output.ok(), may, "{process}, {verb} {resource}: {}", output.text());
    }
    let path = "jsonpath={.webhooks[*].clientConfig['service']['name']}{.webhooks[*].clientConfig.url}";
    let registered = node.datacenter.kubectl(&["get", "validatingwebhookconfiguration", "poolguard", "-o", path]);
    let registered = registered.expect("kubectl").success().expect("the registration");
    assert!(registered.split_whitespace().all(|word| word == "poolguard-webhook"), "{registered}");
}

/// The static program reads its evidence by a name that DNS knows, and by TLS.
pub fn evidence_by_tls(node: &Node, release: &Release) {
    let start = std::time::Instant::now();
    release.upgrade_to_tls(node).expect("a rolling upgrade");
    println!("`helm upgrade` to a source by TLS was rolled out after {:.1} s", start.elapsed().as_secs_f64());
}
