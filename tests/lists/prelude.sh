# What the commands of the lists may use. $N is the namespace of the scenario, $MAIN the objects of its release main.
set -euo pipefail
MAIN="$N-main"

kubectl() { command kubectl -n "$N" "$@"; }
helm3() { command helm3 -n "$N" "$@"; }
helm4() { command helm4 -n "$N" "$@"; }
# As an administrator: for what a deployer may not do, and for acting as a controller.
admin() { (export KUBECONFIG="$ADMIN_KUBECONFIG"; "$@"); }
# Writes the scale of the main Deployment as a controller does, by that controller's identity.
scale_as() {
  local scale="/apis/apps/v1/namespaces/$N/deployments/$MAIN/scale"
  admin command kubectl get --raw "$scale" | sed "s/\"replicas\":[0-9]*/\"replicas\":$2/; s/\"resourceVersion\":\"[0-9]*\",//" |
    admin command kubectl replace --raw "$scale" --as="$1" -f -
}
# A condition, with a deadline: the pods of a lost node are collected after a minute.
wait_until() {
  local end=$((SECONDS + 150))
  until "$@" >/dev/null 2>&1; do
    ((SECONDS < end)) || { echo "waited 150 s for: $*" >&2; "$@"; return 1; }
    sleep 0.1
  done
}
gone() { ! kubectl get "$@"; }
# The controller and the webhook know the ServicePooling as it is now, and that its service is depooled here.
depooled() {
  local generation observed serving
  read -r generation observed serving <<<"$(kubectl get servicepooling "$N" \
    -o jsonpath='{.metadata.generation} {.status.observedGeneration} {.status.serving}')"
  [ "$generation" = "$observed" ] && [ "$serving" = NotServing ] && kubectl delete deployment "$MAIN" --dry-run=server
}
# A manifest of this folder, for this namespace.
manifest() { sed "s/NAME/$N/g" "$LISTS/$1.yaml"; }
release() { helm3 upgrade --install main "$CHART" --set "app=$N" "$@"; }
kinds() {
  manifest volume | admin kubectl apply -f -
  manifest kinds | kubectl apply --server-side --force-conflicts -f -
  kubectl rollout status statefulset/stateful --timeout=90s
  kubectl rollout status daemonset/daemon --timeout=90s
  kubectl wait replicaset/bare --for=jsonpath='{.status.readyReplicas}'=1 --timeout=90s
  kubectl wait replicationcontroller/controller --for=jsonpath='{.status.readyReplicas}'=1 --timeout=90s
  # Nothing controls Rollouts here: its controller is played.
  kubectl patch rollout rollout --subresource=status --type=merge -p '{"status":{"replicas":1,"readyReplicas":1}}'
}
