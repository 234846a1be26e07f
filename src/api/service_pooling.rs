//! `ServicePooling`, version `v1alpha1`: a service, its pods, and where the truth about its pooling is found.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector, Time};
use kube::{CustomResource, KubeSchema};
use poolguard_policy::drift::DriftReason;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Names a service, its pods, and where the truth about its pooling is found. The same bytes serve in every datacenter.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "poolguard.dev",
    version = "v1alpha1",
    kind = "ServicePooling",
    plural = "servicepoolings",
    shortname = "spool",
    category = "poolguard",
    namespaced,
    status = "ServicePoolingStatus",
    derive = "PartialEq",
    doc = "A service, its pods, and where the truth about its pooling is found.",
    printcolumn(
        name = "Pooling",
        type_ = "string",
        json_path = ".status.summary",
        description = "What is pooled where"
    ),
    printcolumn(
        name = "Here",
        type_ = "string",
        json_path = ".status.serving",
        description = "Whether this datacenter serves"
    ),
    printcolumn(
        name = "Guarded",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Guarded\")].status",
        description = "Whether removals are refused while it serves"
    ),
    printcolumn(
        name = "Consistent",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Consistent\")].status",
        description = "Whether intent and evidence agree"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Mode", type_ = "string", json_path = ".spec.mode", priority = 1),
    printcolumn(name = "Enforcement", type_ = "string", json_path = ".spec.enforcement", priority = 1),
    printcolumn(
        name = "Override",
        type_ = "string",
        json_path = ".status.overrides[0].summary",
        description = "By whom the guard is opened here, and until when",
        priority = 1
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Consistent\")].message",
        description = "What disagrees",
        priority = 1
    )
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = kube::core::Rule::new("!has(self.minPooledDatacenters) || self.minPooledDatacenters <= size(self.datacenters)")
        .message("minPooledDatacenters is above the number of datacenters: lower it, or name more datacenters")
        .field_path(".minPooledDatacenters")
)]
#[x_kube(
    validation = kube::core::Rule::new("self.evidence.all(e, !has(e.declared) || e.declared.pooledIn.all(n, self.datacenters.exists(d, d.name == n)))")
        .message("pooledIn names a datacenter that is not in datacenters: write each name as it stands there")
        .field_path(".evidence")
)]
pub struct ServicePoolingSpec {
    /// Selects the pods of the service, as a Service's selector does. Never empty.
    #[x_kube(
        validation = kube::core::Rule::new("(has(self.matchLabels) && size(self.matchLabels) > 0) || (has(self.matchExpressions) && size(self.matchExpressions) > 0)")
            .message("an empty selector would select every pod: write the labels of the service's pods under matchLabels")
    )]
    pub selector: LabelSelector,

    /// How the service is meant to be pooled: in every datacenter, or in one at a time. An intent: it feeds the condition
    /// Consistent. In an active/passive service, conftool is not believed while several datacenters are pooled.
    #[serde(default)]
    pub mode: PoolingMode,

    /// The datacenters in which the service is meant to exist.
    #[schemars(length(max = 16))]
    #[x_kube(
        merge_strategy = kube::core::ListMerge::Map(vec!["name".into()]),
        validation = kube::core::Rule::new("size(self) > 0").message("no datacenter: write at least one name, for example {name: eqiad}"),
        validation = kube::core::Rule::new("self.all(a, self.exists_one(b, a.name == b.name))")
            .message("a datacenter stands twice in the list: write each name once")
    )]
    pub datacenters: Vec<DatacenterRef>,

    /// In how many datacenters the service is meant to be pooled at the least. An intent.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 16))]
    pub min_pooled_datacenters: i32,

    /// Pods that may go while a Ready one that is not expendable exists: canaries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(
        validation = kube::core::Rule::new("(has(self.matchLabels) && size(self.matchLabels) > 0) || (has(self.matchExpressions) && size(self.matchExpressions) > 0)")
            .message("an empty selector would make every pod expendable: write the labels of the canary's pods, or leave expendable out")
    )]
    pub expendable: Option<LabelSelector>,

    /// Where the truth about the pooling is found. All are asked; one that sees traffic is enough to close the guard.
    #[schemars(length(max = 8))]
    #[x_kube(
        merge_strategy = kube::core::ListMerge::Map(vec!["name".into()]),
        validation = kube::core::Rule::new("size(self) > 0")
            .message("no source: write at least one entry, for example {name: discovery, conftool: {record: <dnsdisc>}}")
    )]
    pub evidence: Vec<EvidenceSource>,

    /// Whether a removal is refused while the service serves here, or only warned about.
    #[serde(default)]
    pub enforcement: Enforcement,

    /// Drift that somebody knows of, with a reason and an expiry. It silences the alert, and changes no verdict.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(
        merge_strategy = kube::core::ListMerge::Map(vec!["drift".into()]),
        validation = kube::core::Rule::new("self.all(a, self.exists_one(b, a.drift == b.drift))")
            .message("a drift stands twice in the list: write each reason code once")
    )]
    pub accepted_drift: Vec<AcceptedDrift>,
}

fn one() -> i32 {
    1
}

/// How a service is meant to be pooled.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PoolingMode {
    /// In every datacenter.
    #[default]
    ActiveActive,
    /// In one datacenter at a time.
    ActivePassive,
}

/// What happens to a removal while the service serves.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Enforcement {
    /// It is refused.
    #[default]
    Enforce,
    /// It is allowed, with a warning and a metric.
    Warn,
}

/// A datacenter, by the name that the sources of truth use too.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct DatacenterRef {
    /// The datacenter's name.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
}

/// One source of truth; exactly one arm is set.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = kube::core::Rule::new("[has(self.declared), has(self.conftool), has(self.dns), has(self.prometheus)].filter(set, set).size() == 1")
        .message("each entry of evidence names exactly one source: write one of declared, conftool, dns and prometheus; for two sources write two entries")
)]
#[x_kube(
    validation = kube::core::Rule::new("!has(self.source) || !has(self.declared)")
        .message("a declared state has no source: leave source out")
)]
pub struct EvidenceSource {
    /// The entry's name, which status and messages use.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,

    /// The source of the operator's configuration to ask. Only needed where it has several of the kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub source: Option<String>,

    /// This resource says where the service is pooled. Needs nothing outside the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub declared: Option<DeclaredEvidence>,

    /// A discovery record of conftool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conftool: Option<ConftoolEvidence>,

    /// A name that clients look up, asked of the authoritative servers. The operator's configuration says which addresses
    /// belong to which datacenter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns: Option<DnsEvidence>,

    /// Traffic that this datacenter's Prometheus sees.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prometheus: Option<PrometheusEvidence>,
}

/// The declared state.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DeclaredEvidence {
    /// The datacenters in which the service is pooled. Taking one off the list is the depool.
    #[schemars(length(max = 16), inner(length(min = 1, max = 63)))]
    #[x_kube(merge_strategy = kube::core::ListMerge::Set)]
    pub pooled_in: Vec<String>,
}

/// A discovery record of conftool.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConftoolEvidence {
    /// The record's `dnsdisc`.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[A-Za-z0-9]([-._A-Za-z0-9]*[A-Za-z0-9])?$"))]
    pub record: String,
}

/// A name in DNS.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DnsEvidence {
    /// The name that clients look up, whole: `eventgate-main.discovery.wmnet`.
    #[schemars(
        length(min = 1, max = 253),
        regex(
            pattern = r"^[A-Za-z0-9_]([-A-Za-z0-9_]*[A-Za-z0-9_])?(\.[A-Za-z0-9_]([-A-Za-z0-9_]*[A-Za-z0-9_])?)*\.?$"
        )
    )]
    pub name: String,
}

/// A query to Prometheus.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PrometheusEvidence {
    /// An instant query that yields one series, and none where the scrape is lost. `$service`, `$datacenter` and
    /// `$namespace` inside of quotes stand for this resource's name, this datacenter and this namespace.
    #[schemars(length(min = 1, max = 4096))]
    pub query: String,

    /// Above this number there is traffic: `2`, `0.5` or `500m`.
    #[serde(default = "zero")]
    #[schemars(length(max = 14), regex(pattern = r"^([0-9]{1,9}(\.[0-9]{1,3})?|[0-9]{1,12}m)$"))]
    pub threshold: String,
}

fn zero() -> String {
    "0".to_owned()
}

/// Drift that somebody knows of.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AcceptedDrift {
    /// The reason code of the drift, such as Snowflake.
    #[schemars(extend("enum" = DriftReason::ALL.map(DriftReason::as_str)))]
    pub drift: String,
    /// Why it is accepted, for people: a ticket, a sentence.
    #[schemars(length(min = 1, max = 256))]
    pub reason: String,
    /// When it is accepted no longer: before the year 9999.
    #[x_kube(
        validation = kube::core::Rule::new("self < timestamp('9999-01-01T00:00:00Z')")
            .message("expires is too late: write a day before the year 9999, soon enough that somebody looks again")
    )]
    pub expires: Time,
}

/// What the controller observed.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ServicePoolingStatus {
    /// The generation of the spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// Whether this datacenter serves the service: Serving, NotServing or Unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serving: Option<String>,

    /// One word for each datacenter: `codfw=depooled eqiad=serving`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,

    /// The Helm releases that the service's workloads belong to, as `namespace/name`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub releases: Vec<String>,

    /// The service's workloads in this cluster.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub workloads: Vec<WorkloadStatus>,

    /// What each source says about each datacenter.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = kube::core::ListMerge::Map(vec!["name".into()]))]
    pub datacenters: Vec<DatacenterStatus>,

    /// What disagrees, the gravest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = kube::core::ListMerge::Atomic)]
    pub drift: Vec<DriftStatus>,

    /// Overrides that are in force here, the longest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = kube::core::ListMerge::Map(vec!["name".into()]))]
    pub overrides: Vec<OverrideStatus>,

    /// Ready, Serving, Guarded, Consistent and SourcesReady.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = kube::core::ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// A workload of the service.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadStatus {
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// How many pods it wants.
    pub replicas: i32,
    /// How many of them are Ready.
    pub ready: i32,
}

/// One disagreement.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct DriftStatus {
    /// Its reason code.
    pub reason: String,
    /// A sentence for people.
    pub message: String,
    /// Until when spec.acceptedDrift silences its alert.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted_until: Option<Time>,
}

/// An override that is in force.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct OverrideStatus {
    /// The name of the `PoolingOverride`.
    pub name: String,
    /// Who asked for it.
    pub requested_by: String,
    /// Why.
    pub reason: String,
    /// When it ends.
    pub until: Time,
    /// Who, and until when.
    pub summary: String,
}

/// What is known about one datacenter.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct DatacenterStatus {
    /// Its name.
    pub name: String,
    /// Serving, NotServing or Unknown.
    pub state: String,
    /// What each source says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = kube::core::ListMerge::Map(vec!["name".into()]))]
    pub evidence: Vec<EvidenceStatus>,
}

/// What one source says about one datacenter.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct EvidenceStatus {
    /// The entry of `spec.evidence`.
    pub name: String,
    /// Serving, NotServing, or Unknown with its reason.
    pub says: String,
    /// The same in the source's own words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The source's revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<i64>,
    /// When this revision was first seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
    /// From when on "depooled" may be believed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_serving_after: Option<Time>,
}
