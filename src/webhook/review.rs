//! From an AdmissionReview's bytes to a request, and from an answer to bytes.
//!
//! Never: `serde_json::Value`, a panic, or an answer without the request's uid.
//!
//! Source: <https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/>.

use poolguard_policy::doors::{Door, Effect};
use poolguard_policy::request::{Body, Object, Request};
use poolguard_policy::state::Kind;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use thiserror::Error;

use crate::api::{self, PoolingOverride, ServicePooling};
use crate::cluster::slim::{
    Plain, SlimBudget, SlimCustom, SlimDaemonSet, SlimDeployment, SlimHttpRoute, SlimIngress, SlimPod, SlimReplicaSet,
    SlimReplicationController, SlimScale, SlimService, SlimStatefulSet,
};

/// A review that cannot be answered: an HTTP 400.
#[derive(Debug, Error)]
pub enum Error {
    /// Not JSON, or not of the right shape.
    #[error("the body is not an AdmissionReview: {0}")]
    Json(#[source] serde_json::Error),
    /// Another kind or version.
    #[error("the body is not an AdmissionReview of admission.k8s.io/v1 with a request and a uid")]
    Kind,
    /// The object cannot be read.
    #[error("the {which} of the review cannot be read: {error}")]
    Object {
        /// `object` or `oldObject`.
        which: &'static str,
        /// Why.
        #[source]
        error: serde_json::Error,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Review<'a> {
    api_version: Option<String>,
    kind: Option<String>,
    #[serde(borrow)]
    request: Option<Asked<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Asked<'a> {
    #[serde(default)]
    uid: String,
    resource: Named,
    #[serde(default)]
    sub_resource: Option<String>,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    namespace: Option<String>,
    operation: String,
    #[serde(default)]
    user_info: User,
    #[serde(default)]
    dry_run: Option<bool>,
    #[serde(borrow, default)]
    object: Option<&'a RawValue>,
    #[serde(borrow, default)]
    old_object: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Named {
    group: String,
    resource: String,
}

#[derive(Deserialize, Default)]
struct User {
    #[serde(default)]
    username: String,
}

/// A decoded review.
#[derive(Debug)]
pub struct Decoded {
    /// What the answer must repeat.
    pub uid: String,
    /// The request; nothing where it came through no door.
    pub request: Option<Request>,
}

/// Decodes a review. `further` are the doors of the configuration.
///
/// # Errors
/// Where it is not a review that can be answered.
pub fn decode(body: &[u8], further: &'static [Door]) -> Result<Decoded, Error> {
    let review: Review<'_> = serde_json::from_slice(body).map_err(Error::Json)?;
    let ours = review.kind.as_deref() == Some("AdmissionReview")
        && review.api_version.as_deref() == Some("admission.k8s.io/v1");
    let asked = review.request.filter(|asked| ours && !asked.uid.is_empty()).ok_or(Error::Kind)?;
    let old = present(asked.old_object);
    let new = present(asked.object);
    let subresource = asked.sub_resource.as_deref().unwrap_or_default();
    let Some(door) = door(&asked, further, subresource, old)? else {
        return Ok(Decoded { uid: asked.uid, request: None });
    };
    let object = |which, raw: Option<&RawValue>| {
        raw.map(|raw| object(door, raw, &asked).map_err(|error| Error::Object { which, error })).transpose()
    };
    let (old, new) = (object("oldObject", old)?, object("object", new)?);
    let named = asked.name.as_deref().is_some_and(|name| !name.is_empty());
    let name = if named { asked.name } else { old.as_ref().map(|(name, _)| name.clone()) };
    Ok(Decoded {
        uid: asked.uid,
        request: Some(Request {
            door,
            // The request about a namespace itself bears its name as namespace.
            namespace: asked.namespace.unwrap_or_default(),
            name: name.unwrap_or_default(),
            named,
            user: asked.user_info.username,
            dry_run: asked.dry_run.unwrap_or_default(),
            old: old.map(|(_, object)| object),
            new: new.map(|(_, object)| object),
        }),
    })
}

fn present(raw: Option<&RawValue>) -> Option<&RawValue> {
    raw.filter(|raw| raw.get() != "null")
}

/// Secrets and ConfigMaps have two doors: that of a release record, and that of something a template names.
fn door(
    asked: &Asked<'_>,
    further: &'static [Door],
    subresource: &str,
    old: Option<&RawValue>,
) -> Result<Option<&'static Door>, Error> {
    let find = |record| {
        Door::find(further, &asked.resource.group, &asked.resource.resource, subresource, &asked.operation, record)
    };
    let Some(record) = find(true) else { return Ok(find(false)) };
    let plain: Option<Plain> = old
        .map(|raw| serde_json::from_str(raw.get()))
        .transpose()
        .map_err(|error| Error::Object { which: "oldObject", error })?;
    let is_record = plain.is_some_and(|plain| {
        plain.metadata.labels().get("owner").is_some_and(|owner| owner == "helm")
            && plain.metadata.name().starts_with("sh.helm.release.v1.")
            && (record.resource == "configmaps" || plain.r#type.as_deref() == Some("helm.sh/release.v1"))
    });
    Ok(if is_record { Some(record) } else { find(false) })
}

fn object(door: &Door, raw: &RawValue, asked: &Asked<'_>) -> Result<(String, Object), serde_json::Error> {
    let text = raw.get();
    macro_rules! read {
        ($slim:ty, $body:expr) => {{
            let slim: $slim = serde_json::from_str(text)?;
            (slim.metadata.clone(), $body(slim))
        }};
    }
    let (meta, body) = match (door.effect, door.resource) {
        (Effect::RemovePod | Effect::RelabelPod, _) => read!(SlimPod, |slim: SlimPod| Body::Pod(slim.into())),
        (_, "deployments") => read!(SlimDeployment, |slim: SlimDeployment| Body::Workload(Box::new(slim.into()))),
        (_, "statefulsets") => read!(SlimStatefulSet, |slim: SlimStatefulSet| Body::Workload(Box::new(slim.into()))),
        (_, "daemonsets") => read!(SlimDaemonSet, |slim: SlimDaemonSet| Body::Workload(Box::new(slim.into()))),
        (_, "replicasets") => read!(SlimReplicaSet, |slim: SlimReplicaSet| Body::Workload(Box::new(slim.into()))),
        (_, "replicationcontrollers") => {
            read!(SlimReplicationController, |slim: SlimReplicationController| Body::Workload(Box::new(slim.into())))
        }
        (Effect::RemoveWorkload | Effect::ScaleWorkload, resource) if !resource.contains('/') => {
            read!(SlimCustom, |slim: SlimCustom| Body::Workload(Box::new(slim.workload(Kind::Custom(door.kind)))))
        }
        (Effect::ScaleWorkload, _) => {
            let scale: SlimScale = serde_json::from_str(text)?;
            let plain: Plain = serde_json::from_str(text)?;
            (plain.metadata, Body::Scale { replicas: scale.spec.replicas })
        }
        (Effect::RemoveService | Effect::ChangeService, _) => {
            read!(SlimService, |slim: SlimService| Body::Service(slim.into()))
        }
        (_, "ingresses") => read!(SlimIngress, |slim: SlimIngress| Body::Route(slim.into())),
        (_, "httproutes") => read!(SlimHttpRoute, |slim: SlimHttpRoute| Body::Route(slim.into())),
        (Effect::ChangeBudget, _) => read!(SlimBudget, |slim: SlimBudget| Body::Budget(slim.into())),
        (Effect::RemovePooling | Effect::ChangePooling, _) => {
            let plain: Plain = serde_json::from_str(text)?;
            let pooling = serde_json::from_str::<ServicePooling>(text)
                .map_err(|error| error.to_string())
                .and_then(|resource| api::pooling(&resource).map_err(|error| error.to_string()));
            (plain.metadata, Body::Pooling(pooling.map(Box::new)))
        }
        (Effect::CreateOverride, _) => {
            let plain: Plain = serde_json::from_str(text)?;
            let resource: PoolingOverride = serde_json::from_str(text)?;
            let glass = api::pooling_override(&resource).map_err(serde::de::Error::custom)?;
            (plain.metadata, Body::Override(glass))
        }
        _ => read!(Plain, |_| Body::Plain),
    };
    let name = meta.name.clone().or_else(|| asked.name.clone()).unwrap_or_default();
    let object = Object {
        labels: meta.labels(),
        release: meta.release(),
        terminating: meta.deletion_timestamp.is_some(),
        controller: meta.controller(),
        body,
    };
    Ok((name, object))
}

/// The answer to a review.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer<'a> {
    api_version: &'static str,
    kind: &'static str,
    response: Response<'a>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Response<'a> {
    uid: &'a str,
    allowed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Status<'a>>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    warnings: &'a [String],
    #[serde(skip_serializing_if = "<[_]>::is_empty", serialize_with = "as_map")]
    audit_annotations: &'a [(&'static str, String)],
}

#[derive(Debug, Serialize)]
struct Status<'a> {
    code: u16,
    reason: &'static str,
    message: &'a str,
}

fn as_map<S: serde::Serializer>(pairs: &&[(&'static str, String)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(pairs.iter().map(|(key, value)| (*key, value)))
}

/// What an audit annotation holds, by key.
pub type Annotations = [(&'static str, String)];

impl<'a> Answer<'a> {
    /// Lets the request pass.
    pub fn allow(uid: &'a str, warnings: &'a [String], audit: &'a Annotations) -> Self {
        Self::new(Response { uid, allowed: true, status: None, warnings, audit_annotations: audit })
    }

    /// Refuses it with 403 or 429.
    pub fn refuse(uid: &'a str, code: u16, message: &'a str, warnings: &'a [String], audit: &'a Annotations) -> Self {
        let reason = if code == 429 { "TooManyRequests" } else { "Forbidden" };
        let status = Some(Status { code, reason, message });
        Self::new(Response { uid, allowed: false, status, warnings, audit_annotations: audit })
    }

    fn new(response: Response<'a>) -> Self {
        Self { api_version: "admission.k8s.io/v1", kind: "AdmissionReview", response }
    }
}
