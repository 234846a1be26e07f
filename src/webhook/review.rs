//! From an AdmissionReview's bytes to a request, and from an answer to bytes.
//!
//! Never: `serde_json::Value`, a panic, or an answer without the request's uid.
//!
//! Source: <https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/>.

use std::borrow::Cow;

use poolguard_policy::doors::{Door, Effect};
use poolguard_policy::request::{Body, Object, Request};
use poolguard_policy::state::Kind;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use thiserror::Error;

use crate::api::{self, PoolingOverride, ServicePooling};
use crate::cluster::slim::{
    Meta, Plain, SlimBudget, SlimCustom, SlimDaemonSet, SlimDeployment, SlimHttpRoute, SlimIngress, SlimPod,
    SlimReplicaSet, SlimReplicationController, SlimScale, SlimService, SlimStatefulSet,
};

/// A review that cannot be answered: an HTTP 400.
#[derive(Debug, Error)]
pub enum Error {
    /// Not text.
    #[error("the body is not UTF-8: {0}")]
    Text(#[source] std::str::Utf8Error),
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

/// A string where it stands in the body, unless it has escapes.
#[derive(Deserialize, Default)]
#[serde(transparent)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Review<'a> {
    #[serde(borrow)]
    api_version: Option<Text<'a>>,
    #[serde(borrow)]
    kind: Option<Text<'a>>,
    #[serde(borrow)]
    request: Option<Asked<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Asked<'a> {
    #[serde(borrow, default)]
    uid: Cow<'a, str>,
    #[serde(borrow)]
    resource: Named<'a>,
    #[serde(borrow, default)]
    sub_resource: Option<Text<'a>>,
    #[serde(borrow, default)]
    name: Option<Text<'a>>,
    #[serde(borrow, default)]
    namespace: Option<Text<'a>>,
    #[serde(borrow)]
    operation: Cow<'a, str>,
    #[serde(borrow, default)]
    user_info: User<'a>,
    #[serde(default)]
    dry_run: Option<bool>,
    #[serde(borrow, default)]
    object: Option<&'a RawValue>,
    #[serde(borrow, default)]
    old_object: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Named<'a> {
    #[serde(borrow)]
    group: Cow<'a, str>,
    #[serde(borrow)]
    resource: Cow<'a, str>,
}

#[derive(Deserialize, Default)]
struct User<'a> {
    #[serde(borrow, default)]
    username: Cow<'a, str>,
}

fn text<'a>(text: &'a Option<Text<'_>>) -> Option<&'a str> {
    text.as_ref().map(|text| &*text.0)
}

/// A decoded review.
#[derive(Debug)]
pub struct Decoded<'a> {
    /// What the answer must repeat.
    pub uid: Cow<'a, str>,
    /// The request; nothing where it came through no door.
    pub request: Option<Request>,
}

/// Decodes a review. `further` are the doors of the configuration.
///
/// # Errors
/// Where it is not a review that can be answered.
pub fn decode<'a>(body: &'a [u8], further: &'static [Door]) -> Result<Decoded<'a>, Error> {
    // Once for all of it, and not for each string.
    let json = std::str::from_utf8(body).map_err(Error::Text)?;
    let review: Review<'a> = serde_json::from_str(json).map_err(Error::Json)?;
    let ours =
        text(&review.kind) == Some("AdmissionReview") && text(&review.api_version) == Some("admission.k8s.io/v1");
    let asked = review.request.filter(|asked| ours && !asked.uid.is_empty()).ok_or(Error::Kind)?;
    let old = present(asked.old_object);
    let new = present(asked.object);
    let Some(door) = door(&asked, further, old)? else {
        return Ok(Decoded { uid: asked.uid, request: None });
    };
    let object = |which, raw: Option<&RawValue>| {
        raw.map(|raw| object(door, raw).map_err(|error| Error::Object { which, error })).transpose()
    };
    let (old, new) = (object("oldObject", old)?, object("object", new)?);
    let (old_name, old) = old.unzip();
    let given = text(&asked.name).filter(|name| !name.is_empty());
    let name = given.map(str::to_owned).or(old_name);
    Ok(Decoded {
        request: Some(Request {
            door,
            // The request about a namespace itself bears its name as namespace.
            namespace: text(&asked.namespace).unwrap_or_default().to_owned(),
            name: name.unwrap_or_default(),
            named: given.is_some(),
            user: asked.user_info.username.into_owned(),
            dry_run: asked.dry_run.unwrap_or_default(),
            old,
            new: new.map(|(_, object)| object),
        }),
        uid: asked.uid,
    })
}

fn present(raw: Option<&RawValue>) -> Option<&RawValue> {
    raw.filter(|raw| raw.get() != "null")
}

/// Secrets and ConfigMaps have two doors: that of a release record, and that of something a template names.
fn door(asked: &Asked<'_>, further: &'static [Door], old: Option<&RawValue>) -> Result<Option<&'static Door>, Error> {
    let subresource = text(&asked.sub_resource).unwrap_or_default();
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

/// What every object has, but its labels.
fn outline(meta: &Meta) -> (String, Object) {
    let object = Object {
        release: meta.release(),
        terminating: meta.deletion_timestamp.is_some(),
        controller: meta.controller(),
        ..Object::default()
    };
    (meta.name(), object)
}

fn object(door: &Door, raw: &RawValue) -> Result<(String, Object), serde_json::Error> {
    let text = raw.get();
    macro_rules! read {
        ($slim:ty, $body:expr) => {{
            let slim: $slim = serde_json::from_str(text)?;
            (outline(&slim.metadata), $body(slim))
        }};
    }
    let ((name, object), body) = match (door.effect, door.resource) {
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
            (outline(&plain.metadata), Body::Scale { replicas: scale.spec.replicas })
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
            (outline(&plain.metadata), Body::Pooling(pooling.map(Box::new)))
        }
        (Effect::CreateOverride, _) => {
            let plain: Plain = serde_json::from_str(text)?;
            let resource: PoolingOverride = serde_json::from_str(text)?;
            let glass = api::pooling_override(&resource).map_err(serde::de::Error::custom)?;
            (outline(&plain.metadata), Body::Override(glass))
        }
        _ => {
            let mut plain: Plain = serde_json::from_str(text)?;
            let labels = plain.metadata.labels.take().unwrap_or_default();
            let (name, object) = outline(&plain.metadata);
            ((name, Object { labels, ..object }), Body::Plain)
        }
    };
    Ok((name, Object { body, ..object }))
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
    audit_annotations: &'a [Annotation<'a>],
}

#[derive(Debug, Serialize)]
struct Status<'a> {
    code: u16,
    reason: &'static str,
    message: &'a str,
}

fn as_map<S: serde::Serializer>(pairs: &&[Annotation<'_>], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(pairs.iter().map(|(key, value)| (*key, value)))
}

/// An audit annotation: its key, and what it holds.
pub type Annotation<'a> = (&'static str, Cow<'a, str>);

impl<'a> Answer<'a> {
    /// Lets the request pass.
    pub fn allow(uid: &'a str, warnings: &'a [String], audit: &'a [Annotation<'a>]) -> Self {
        Self::new(Response { uid, allowed: true, status: None, warnings, audit_annotations: audit })
    }

    /// Refuses it with 403 or 429.
    pub fn refuse(
        uid: &'a str,
        code: u16,
        message: &'a str,
        warnings: &'a [String],
        audit: &'a [Annotation<'a>],
    ) -> Self {
        let reason = if code == 429 { "TooManyRequests" } else { "Forbidden" };
        let status = Some(Status { code, reason, message });
        Self::new(Response { uid, allowed: false, status, warnings, audit_annotations: audit })
    }

    fn new(response: Response<'a>) -> Self {
        Self { api_version: "admission.k8s.io/v1", kind: "AdmissionReview", response }
    }
}
