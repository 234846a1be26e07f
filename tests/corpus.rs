//! The corpus: request, state and answers in, verdict out; one file a case. A new case is a new file in `tests/admission`.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use jiff::{SignedDuration, Timestamp};
use poolguard::api::{self, PoolingOverride, ServicePooling};
use poolguard::cluster::slim::{SlimCustom, SlimDeployment, SlimPod, SlimService, WatchedBudget, WatchedReplicaSet};
use poolguard::webhook::review::decode;
use poolguard_policy::doors::{Door, custom};
use poolguard_policy::evidence::{Answer, Says, Why, conclude};
use poolguard_policy::given::{Known, Settings, Trusted};
use poolguard_policy::guarded::Live;
use poolguard_policy::pooling::{Enforcement, Key, Watched};
use poolguard_policy::request::{Body, Request};
use poolguard_policy::rules::decide;
use poolguard_policy::state::{Kind, Namespace, State, Workload};
use poolguard_policy::verdict::Decision;
use poolguard_policy::words::{MESSAGE_LIMIT, WARNING_LIMIT};
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Case {
    state: String,
    #[serde(default)]
    replace: BTreeMap<String, Value>,
    answers: Vec<Said>,
    review: Asked,
    #[serde(default)]
    live: Option<Value>,
    /// The whole installation only warns.
    #[serde(default)]
    only_warns: bool,
    /// The override was taken back a moment ago: the view has it still.
    #[serde(default)]
    taken_back: bool,
    /// A ServicePooling is stored that the view has not heard of.
    #[serde(default)]
    unheard: bool,
    expect: Expected,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Said {
    evidence: String,
    datacenter: String,
    says: String,
    detail: String,
    revision: Option<u64>,
    /// Seconds until a depool may be believed.
    remaining: Option<i64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Asked {
    user: String,
    operation: String,
    group: String,
    resource: String,
    namespace: String,
    name: Option<String>,
    #[serde(default)]
    dry_run: bool,
    object: Option<Value>,
    old_object: Option<Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Expected {
    decision: String,
    reason: Option<String>,
    code: Option<u16>,
    #[serde(default)]
    says: Vec<String>,
    warnings: Option<usize>,
}

const NOW: &str = "2026-01-02T03:04:05Z";

#[test]
fn every_case_of_the_corpus_gets_its_verdict() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/admission");
    let mut failed = Vec::new();
    let mut count = 0;
    for entry in std::fs::read_dir(&folder).expect("the corpus") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            count += 1;
            if let Err(error) = check(&folder, &path) {
                failed.push(format!("{}: {error}", path.file_name().unwrap_or_default().to_string_lossy()));
            }
        }
    }
    assert!(count >= 40, "only {count} cases were found");
    assert!(failed.is_empty(), "{} of {count} cases:\n{}", failed.len(), failed.join("\n"));
}

fn check(folder: &Path, path: &Path) -> Result<(), String> {
    let read = |path: &Path| std::fs::read_to_string(path).map_err(|error| error.to_string());
    let case: Case = serde_yaml_ng::from_str(&read(path)?).map_err(|error| error.to_string())?;
    let objects: Vec<Value> =
        serde_yaml_ng::from_str(&read(&folder.join("states").join(format!("{}.yaml", case.state)))?)
            .map_err(|error| error.to_string())?;
    let state = state(objects, &case.replace)?;
    let request = request(&case.review)?;
    let decision = judge(&case, &request, &state)?;
    compare(&case.expect, &decision)
}

fn state(objects: Vec<Value>, replace: &BTreeMap<String, Value>) -> Result<State, String> {
    let mut namespace = Namespace { protected: true, ..Namespace::default() };
    for mut object in objects {
        let kind = object["kind"].as_str().unwrap_or_default().to_owned();
        match replace.get(&kind) {
            Some(Value::Null) => continue,
            Some(Value::Object(changes)) => {
                for (field, value) in changes {
                    object[field] = value.clone();
                }
            }
            _ => {}
        }
        put(&mut namespace, &kind, object)?;
    }
    let mut state = State::default();
    state.namespaces.insert("eventgate-main".to_owned(), namespace);
    Ok(state)
}

fn put(namespace: &mut Namespace, kind: &str, object: Value) -> Result<(), String> {
    fn typed<T: for<'de> Deserialize<'de>>(object: Value) -> Result<T, String> {
        serde_json::from_value(object).map_err(|error| error.to_string())
    }
    let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    match kind {
        "ServicePooling" => {
            let key = Key { namespace: "eventgate-main".to_owned(), name: name.clone() };
            let watched = typed::<ServicePooling>(object)
                .and_then(|resource| api::pooling(&resource).map_err(|error| error.to_string()))
                .map_or_else(|error| Watched::Undecodable { key, error }, Watched::Known);
            namespace.poolings.insert(name, watched);
        }
        "Deployment" => {
            namespace.workloads.insert((Kind::Deployment, name), typed::<SlimDeployment>(object)?.into());
        }
        // As a watch delivers it, so that this way is covered too.
        "ReplicaSet" => {
            namespace.workloads.insert((Kind::ReplicaSet, name), typed::<WatchedReplicaSet>(object)?.into());
        }
        "Pod" => {
            namespace.pods.insert(name, typed::<SlimPod>(object)?.into());
        }
        "Service" => {
            namespace.services.insert(name, typed::<SlimService>(object)?.into());
        }
        "PodDisruptionBudget" => {
            namespace.budgets.insert(name, typed::<WatchedBudget>(object)?.into());
        }
        "Rollout" => {
            let kind = Kind::Custom("Rollout");
            namespace.workloads.insert((kind, name), typed::<SlimCustom>(object)?.workload(kind));
        }
        "PoolingOverride" => {
            let glass = typed::<PoolingOverride>(object)?;
            namespace.overrides.insert(name, api::pooling_override(&glass).map_err(|error| error.to_string())?);
        }
        other => return Err(format!("the corpus has no {other}")),
    }
    Ok(())
}

/// The doors of a custom workload.
fn further() -> &'static [Door] {
    static FURTHER: LazyLock<[Door; 3]> =
        LazyLock::new(|| custom(("argoproj.io", "v1alpha1"), "rollouts", "rollouts/scale", "Rollout"));
    &*FURTHER
}

/// The request goes the way of a real one: as an AdmissionReview's bytes.
fn request(asked: &Asked) -> Result<Request, String> {
    let (resource, subresource) = asked.resource.split_once('/').unwrap_or((&asked.resource, ""));
    let review = json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "705ab4f5", "operation": asked.operation, "userInfo": {"username": asked.user},
            "resource": {"group": asked.group, "version": "v1", "resource": resource}, "subResource": subresource,
            "namespace": asked.namespace, "name": asked.name, "dryRun": asked.dry_run, "object": asked.object, "oldObject": asked.old_object,
        },
    });
    let body = review.to_string();
    let decoded = decode(body.as_bytes(), further()).map_err(|error| error.to_string())?;
    decoded.request.ok_or_else(|| "no door".to_owned())
}

fn judge(case: &Case, request: &Request, state: &State) -> Result<Decision, String> {
    let now: Timestamp = NOW.parse().expect("a time");
    let answers: Vec<Answer> = case.answers.iter().map(|said| answer(said, now)).collect::<Result<_, _>>()?;
    let settings = Settings {
        here: "eqiad".to_owned(),
        contact: Some("#sre".to_owned()),
        runbook_url: "https://runbook.example".to_owned(),
        trusted: vec![Trusted {
            user: "system:serviceaccount:argo:rollouts".to_owned(),
            resources: vec!["pods".to_owned()],
            verbs: vec!["DELETE".to_owned()],
        }],
        enforcement: if case.only_warns { Enforcement::Warn } else { Enforcement::Enforce },
        custom_kinds: vec!["Rollout"],
        canary_namespace: "poolguard-canary".to_owned(),
    };
    let (mut conclusions, mut live, mut overrides) = (BTreeMap::new(), Live::new(), BTreeMap::new());
    let mut unheard = None;
    for _ in 0..6 {
        let known = Known { conclusions: &conclusions, live: &live, overrides: &overrides, unheard };
        match decide(request, state, &settings, known, now) {
            Decision::Search(_) => unheard = Some(case.unheard),
            Decision::Confirm(references) => {
                for reference in references {
                    let held = state.namespaces[&reference.namespace].overrides.get(&reference.name).cloned();
                    overrides.insert(reference, held.filter(|_| !case.taken_back));
                }
            }
            Decision::Ask(keys) => {
                for key in keys {
                    let own = match request.old.as_ref().map(|object| &object.body) {
                        Some(Body::Pooling(Ok(pooling))) => Some(pooling.as_ref()),
                        _ => None,
                    };
                    let held = match state.namespaces[&key.namespace].poolings.get(&key.name) {
                        Some(Watched::Known(pooling)) => Some(pooling),
                        Some(Watched::Undecodable { .. }) | None => None,
                    };
                    let pooling = own.or(held).ok_or("asked about a resource that does not decode")?;
                    conclusions.insert(key, Arc::new(conclude("eqiad", pooling, &answers, now)));
                }
            }
            Decision::Read(references) => {
                for reference in references {
                    let view = &state.namespaces[&reference.namespace].workloads;
                    let known = view.get(&(reference.kind, reference.name.clone())).cloned();
                    let workload: Option<Workload> = match &case.live {
                        Some(Value::Object(live)) => {
                            let object = live.get(&reference.name).cloned().ok_or("read another workload")?;
                            let slim: SlimDeployment =
                                serde_json::from_value(object).map_err(|error| error.to_string())?;
                            Some(slim.into())
                        }
                        Some(Value::String(current)) if current == "current" => known,
                        _ => return Err(format!("read {} unexpectedly", reference.name)),
                    };
                    live.insert(reference, workload);
                }
            }
            decided => return Ok(decided),
        }
    }
    Err("the decision kept asking".to_owned())
}

fn answer(said: &Said, now: Timestamp) -> Result<Answer, String> {
    Ok(Answer {
        evidence: said.evidence.clone(),
        datacenter: said.datacenter.clone(),
        says: match said.says.as_str() {
            "Serving" => Says::Serving,
            "NotServing" => Says::NotServing,
            "Draining" => Says::Draining,
            other => other
                .strip_prefix("Unknown: ")
                .and_then(|why| Why::ALL.into_iter().find(|known| known.as_str() == why))
                .map(Says::Unknown)
                .ok_or_else(|| format!("nothing says {other}"))?,
        },
        detail: said.detail.clone(),
        revision: said.revision,
        since: None,
        not_serving_after: said.remaining.map(|seconds| now + SignedDuration::from_secs(seconds)),
        read: now,
    })
}

fn compare(expected: &Expected, decision: &Decision) -> Result<(), String> {
    let (word, reason, code, message, warnings) = match decision {
        Decision::Allow(allowed) => ("allowed", allowed.reason.as_str(), None, "", allowed.warnings.as_slice()),
        Decision::Refuse(refusal) => (
            "refused",
            refusal.reason.as_str(),
            Some(refusal.code),
            refusal.message.as_str(),
            refusal.warnings.as_slice(),
        ),
        Decision::Fault(_) => ("fault", "", None, "", &[] as &[String]),
        other => return Err(format!("not final: {other:?}")),
    };
    if word != expected.decision || expected.reason.as_deref().is_some_and(|expected| expected != reason) {
        return Err(format!("expected {} {:?}, got {word} {reason}: {message}", expected.decision, expected.reason));
    }
    if word == "refused" && expected.code != code {
        return Err(format!("expected code {:?}, got {code:?}", expected.code));
    }
    for sentence in &expected.says {
        if !message.contains(sentence.as_str()) {
            return Err(format!("does not say {sentence:?}:\n{message}"));
        }
    }
    if message.len() > MESSAGE_LIMIT || warnings.len() > 3 || warnings.iter().any(|line| line.len() > WARNING_LIMIT) {
        return Err("too long".to_owned());
    }
    if expected.warnings.is_some_and(|count| count != warnings.len()) {
        return Err(format!("expected {:?} warnings, got {warnings:?}", expected.warnings));
    }
    Ok(())
}
