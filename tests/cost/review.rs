//! The reviews that are measured, and the least that could answer them.

use axum::body::Bytes;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::world::{self, World};

/// What is asked: to delete a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    /// Of no service, in a guarded namespace; of a handler that decodes the uid and allows everything.
    Floor,
    /// The same, of the webhook.
    Unguarded,
    /// Of a service that is served here, as its source has said a moment ago.
    Refused,
    /// Of a service that is served elsewhere, which is asked of its source each time.
    Allowed,
}

impl Question {
    /// Its name on record.
    pub fn name(self) -> &'static str {
        match self {
            Self::Floor => "floor",
            Self::Unguarded => "unguarded",
            Self::Refused => "refused",
            Self::Allowed => "allowed",
        }
    }
}

/// A review of as many bytes, within a hundred.
pub fn review(world: World, question: Question, bytes: usize) -> Bytes {
    let around = build(world, question, 0).len() - pod(world, question, 0).to_string().len();
    Bytes::from(build(world, question, bytes - around))
}

fn pod(world: World, question: Question, bytes: usize) -> Value {
    match question {
        Question::Refused => World { pod_bytes: bytes, ..world }.pod(world::SERVED, 0),
        Question::Allowed => World { pod_bytes: bytes, ..world }.pod(world::DEPOOLED, 0),
        Question::Floor | Question::Unguarded => {
            let labels = json!({"app": "bare", "routed_via": "nobody"});
            world::pod(world.meta(world::SERVED, "bare-7c9f5d8b6d-00000"), labels, "bare-7c9f5d8b6d", bytes)
        }
    }
}

fn build(world: World, question: Question, bytes: usize) -> String {
    let pod = pod(world, question, bytes);
    let kind = json!({"group": "", "version": "v1", "kind": "Pod"});
    let resource = json!({"group": "", "version": "v1", "resource": "pods"});
    let review = json!({
        "kind": "AdmissionReview",
        "apiVersion": "admission.k8s.io/v1",
        "request": {
            "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
            "kind": kind,
            "resource": resource,
            "requestKind": kind,
            "requestResource": resource,
            "name": pod["metadata"]["name"],
            "namespace": pod["metadata"]["namespace"],
            "operation": "DELETE",
            "userInfo": {"username": "deployer", "groups": ["deployers", "system:authenticated"]},
            "object": null,
            "oldObject": pod,
            "dryRun": false,
            "options": {"kind": "DeleteOptions", "apiVersion": "meta.k8s.io/v1", "propagationPolicy": "Background"},
        },
    });
    review.to_string()
}

#[derive(Deserialize)]
struct Least<'a> {
    #[serde(borrow)]
    request: LeastRequest<'a>,
}

#[derive(Deserialize)]
struct LeastRequest<'a> {
    uid: &'a str,
}

/// Allows everything.
pub async fn floor(body: Bytes) -> Response {
    let Ok(Least { request: LeastRequest { uid } }) = serde_json::from_slice(&body) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let answer = json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": {"uid": uid, "allowed": true},
    });
    ([(header::CONTENT_TYPE, "application/json")], answer.to_string()).into_response()
}
