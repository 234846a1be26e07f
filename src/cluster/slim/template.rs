//! Pod templates: what they name, and where their pods may run.

use std::collections::BTreeSet;

use poolguard_policy::selector::{Labels, Operator, Requirement, Selector};
use poolguard_policy::state::{Placement, References};
use serde::Deserialize;

use super::meta::{Meta, labels};

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Template {
    pub(super) metadata: Meta,
    pub(super) spec: TemplateSpec,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct TemplateSpec {
    service_account_name: Option<String>,
    containers: Option<Vec<Container>>,
    init_containers: Option<Vec<Container>>,
    volumes: Option<Vec<Volume>>,
    image_pull_secrets: Option<Vec<Named>>,
    #[serde(deserialize_with = "labels")]
    node_selector: Option<Labels>,
    affinity: Option<Affinity>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Named {
    name: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Container {
    env: Option<Vec<Variable>>,
    env_from: Option<Vec<FromSource>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Variable {
    value_from: Option<ValueFrom>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ValueFrom {
    config_map_key_ref: Option<Named>,
    secret_key_ref: Option<Named>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct FromSource {
    config_map_ref: Option<Named>,
    secret_ref: Option<Named>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Volume {
    config_map: Option<Named>,
    secret: Option<SecretVolume>,
    persistent_volume_claim: Option<ClaimVolume>,
    projected: Option<Projected>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct SecretVolume {
    secret_name: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ClaimVolume {
    claim_name: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Projected {
    sources: Option<Vec<Projection>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Projection {
    config_map: Option<Named>,
    secret: Option<Named>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Affinity {
    node_affinity: Option<NodeAffinity>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct NodeAffinity {
    required_during_scheduling_ignored_during_execution: Option<NodeTerms>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct NodeTerms {
    node_selector_terms: Vec<NodeTerm>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct NodeTerm {
    match_expressions: Option<Vec<NodeRequirement>>,
    match_fields: Option<Vec<NodeRequirement>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct NodeRequirement {
    key: String,
    operator: String,
    values: Option<Vec<String>>,
}

pub(super) fn references(spec: &TemplateSpec) -> References {
    let mut found = References::default();
    let add = |set: &mut BTreeSet<String>, name: Option<&String>| {
        set.extend(name.filter(|name| !name.is_empty()).cloned());
    };
    let named = |named: &Option<Named>| named.as_ref().and_then(|named| named.name.clone());
    for container in spec.containers.iter().flatten().chain(spec.init_containers.iter().flatten()) {
        for from in container.env.iter().flatten().filter_map(|variable| variable.value_from.as_ref()) {
            add(&mut found.config_maps, named(&from.config_map_key_ref).as_ref());
            add(&mut found.secrets, named(&from.secret_key_ref).as_ref());
        }
        for from in container.env_from.iter().flatten() {
            add(&mut found.config_maps, named(&from.config_map_ref).as_ref());
            add(&mut found.secrets, named(&from.secret_ref).as_ref());
        }
    }
    for volume in spec.volumes.iter().flatten() {
        add(&mut found.config_maps, named(&volume.config_map).as_ref());
        add(&mut found.secrets, volume.secret.as_ref().and_then(|secret| secret.secret_name.as_ref()));
        add(&mut found.claims, volume.persistent_volume_claim.as_ref().and_then(|claim| claim.claim_name.as_ref()));
        for source in volume.projected.iter().flat_map(|projected| projected.sources.iter().flatten()) {
            add(&mut found.config_maps, named(&source.config_map).as_ref());
            add(&mut found.secrets, named(&source.secret).as_ref());
        }
    }
    for secret in spec.image_pull_secrets.iter().flatten() {
        add(&mut found.secrets, secret.name.as_ref());
    }
    add(&mut found.service_accounts, spec.service_account_name.as_ref());
    found
}

pub(super) fn placement(spec: &TemplateSpec) -> Placement {
    let terms = spec
        .affinity
        .as_ref()
        .and_then(|affinity| affinity.node_affinity.as_ref())
        .and_then(|node| node.required_during_scheduling_ignored_during_execution.as_ref())
        .map(|terms| terms.node_selector_terms.as_slice())
        .unwrap_or_default();
    let mut beyond_labels = false;
    let required_terms = terms
        .iter()
        .map(|term| {
            beyond_labels |= term.match_fields.as_ref().is_some_and(|fields| !fields.is_empty());
            let requirements = term.match_expressions.iter().flatten();
            let match_expressions = requirements
                .filter_map(|requirement| {
                    let Some(operator) = operator(&requirement.operator) else {
                        beyond_labels = true;
                        return None;
                    };
                    Some(Requirement {
                        key: requirement.key.clone(),
                        operator,
                        values: requirement.values.clone().unwrap_or_default(),
                    })
                })
                .collect();
            Selector { match_labels: Labels::new(), match_expressions }
        })
        .collect();
    Placement { node_selector: spec.node_selector.clone().unwrap_or_default(), required_terms, beyond_labels }
}

fn operator(text: &str) -> Option<Operator> {
    match text {
        "In" => Some(Operator::In),
        "NotIn" => Some(Operator::NotIn),
        "Exists" => Some(Operator::Exists),
        "DoesNotExist" => Some(Operator::DoesNotExist),
        _ => None,
    }
}
