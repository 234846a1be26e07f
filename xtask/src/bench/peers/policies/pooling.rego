# The decision, for Gatekeeper and for OPA's own server: both hold the ServicePoolings as Gatekeeper's inventory does.
package lib.pooling

# Why a pod must stay: a sentence for each of its services that is not known to be depooled here.
refusals(request) := {sentence |
	request.operation == "DELETE"
	some name, pooling in data.inventory.namespace[request.namespace]["poolguard.dev/v1alpha1"].ServicePooling
	object.get(pooling, ["status", "serving"], "Unknown") != "NotServing"
	selects(pooling.spec.selector.matchLabels, object.get(request.oldObject.metadata, "labels", {}))
	sentence := sprintf("%v/%v serves live traffic here, and pod %v is part of it", [request.namespace, name, request.name])
}

selects(wanted, labels) if {
	every key, value in wanted {
		labels[key] == value
	}
}
