# What OPA's server answers to an AdmissionReview that is posted to `/`.
package system

import data.lib.pooling

main := {
	"apiVersion": "admission.k8s.io/v1",
	"kind": "AdmissionReview",
	"response": response,
}

response := {"uid": input.request.uid, "allowed": true} if {
	count(refusals) == 0
} else := {
	"uid": input.request.uid,
	"allowed": false,
	"status": {"code": 403, "reason": "Forbidden", "message": concat("\n", refusals)},
}

refusals := pooling.refusals(input.request)
