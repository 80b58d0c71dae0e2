#!/usr/bin/env bash
# The chart on a real cluster: kind, kube-prometheus-stack, PostgreSQL, the demo's model on CPUs. Ends with "All of it holds." or says what does not.
#   k8s/verify.sh          needs docker, kind, kubectl, helm, curl and jq; 8 GB of memory; about 15 minutes
#   k8s/verify.sh --keep   leaves the cluster (kind delete cluster --name mend-verify)
set -euo pipefail
cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.."
for tool in docker kind kubectl helm curl jq; do
  command -v "$tool" >/dev/null || { echo "$tool is missing" >&2; exit 1; }
done
name=mend-verify space=mend release=edits image=mendcluster:verify
folder=$(mktemp -d)
export KUBECONFIG=$folder/kubeconfig
forwards=()
finish() {
  for process in "${forwards[@]}"; do kill "$process" 2>/dev/null || true; done
  if [ "${1:-}" != --keep ]; then kind delete cluster --name "$name" >/dev/null 2>&1 || true; rm -rf "$folder"; else echo "KUBECONFIG=$KUBECONFIG"; fi
}
trap 'finish "${keep:-}"' EXIT
keep=${1:-}
step() { echo "== $*"; }
fail() { echo "FAILED: $*" >&2; kubectl --namespace "$space" get pods --output wide >&2 || true; exit 1; }
forward() { # service in a namespace, its port, the port here
  kubectl --namespace "$1" port-forward "service/$2" "$4:$3" >/dev/null 2>&1 & forwards+=($!)
  for _ in $(seq 60); do if (exec 3<>"/dev/tcp/127.0.0.1/$4") 2>/dev/null; then return; fi; sleep 1; done
  fail "service $2 is not reached"
}

step "Image"
docker build --file k8s/Dockerfile --tag "$image" .

step "Cluster of three nodes; the demo's model is a folder of each"
node="{role: worker, extraMounts: [{hostPath: $PWD/src/Cli/Demo, containerPath: /srv/models, readOnly: true}]}"
kind create cluster --name "$name" --wait 3m --config - <<EOF
{kind: Cluster, apiVersion: kind.x-k8s.io/v1alpha4, nodes: [{role: control-plane}, $node, $node]}
EOF
kind load docker-image "$image" --name "$name"

step "Prometheus, Alertmanager, Grafana"
helm repo add prometheus-community https://prometheus-community.github.io/helm-charts >/dev/null
helm install monitoring prometheus-community/kube-prometheus-stack --namespace monitoring --create-namespace --wait --timeout 10m \
  --set prometheus.prometheusSpec.serviceMonitorSelectorNilUsesHelmValues=false --set prometheus.prometheusSpec.ruleSelectorNilUsesHelmValues=false \
  --set grafana.sidecar.dashboards.searchNamespace=ALL

step "PostgreSQL and Secrets"
kubectl create namespace "$space"
password=$(head -c 16 /dev/urandom | od -An -tx1 | tr -d ' \n')
kubectl --namespace "$space" create secret generic postgres --from-literal=password="$password"
kubectl --namespace "$space" apply --filename - <<EOF
apiVersion: v1
kind: Service
metadata: {name: postgres}
spec: {selector: {app: postgres}, ports: [{port: 5432}]}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: postgres}
spec:
  serviceName: postgres
  selector: {matchLabels: {app: postgres}}
  template:
    metadata: {labels: {app: postgres}}
    spec:
      containers:
        - name: postgres
          image: postgres:17
          env: [{name: POSTGRES_PASSWORD, valueFrom: {secretKeyRef: {name: postgres, key: password}}}]
          readinessProbe: {exec: {command: [pg_isready, --username, postgres, --host, 127.0.0.1]}}
EOF
kubectl --namespace "$space" rollout status statefulset/postgres --timeout 5m
connection="Host=postgres;Database=postgres;Username=postgres;Password=$password"
kubectl --namespace "$space" create secret generic mend-postgresql --from-literal=membership="$connection" --from-literal=ledger="$connection"
key=$(docker run --rm --user "$(id -u)" --volume "$folder:/keys" "$image" dotnet mend.dll key verify --right admin --keys /keys/keys.json)
kubectl --namespace "$space" create secret generic mend-keys --from-file="$folder/keys.json"

step "Install: two replicas of two stages"
cat >"$folder/values.yaml" <<EOF
image: {repository: mendcluster, tag: verify}
model: {stages: 2, replicas: 2, dtype: Float32}
modelStore: {hostPath: /srv/models}
silo:
  gpu: {count: 0}
  threads: 1
  resources: {requests: {cpu: 100m, memory: 512Mi}, limits: {memory: 1Gi}}
front: {resources: {requests: {cpu: 100m, memory: 256Mi}, limits: {memory: 1Gi}}}
postgresql: {existingSecret: mend-postgresql}
auth: {apiKeysSecret: mend-keys}
metrics: {serviceMonitor: {enabled: true}, rules: {enabled: true}, dashboards: {enabled: true}}
EOF
install() { helm upgrade --install "$release" k8s/charts/mendcluster --namespace "$space" --values "$folder/values.yaml" --wait --timeout 10m "$@"; }
install
silos=$release-mendcluster-silo front=$release-mendcluster-front

step "An edit, asked and reverted"
forward "$space" "$front" 80 18080
api() { curl --silent --show-error --fail --max-time 120 --header "Authorization: Bearer $key" --header "Content-Type: application/json" "http://127.0.0.1:18080/v1/$1" "${@:2}"; }
question="What club does Lionel Messi play for?"
ask() { api ask --data "$(jq --null-input --arg prompt "$question" '{$prompt}')" | jq --raw-output .text; }
before=$(ask)
edit=$(api edits --data "$(jq --null-input --arg prompt "$question" '{$prompt, target: "PSG"}')" | jq --raw-output .id)
[ "$(ask)" = PSG ] || fail "the edited answer is '$(ask)'"
api "edits/$edit/revert" --data '{}' >/dev/null
[ "$(ask)" = "$before" ] || fail "after the revert the answer is '$(ask)', not '$before'"
if curl --silent --fail "http://127.0.0.1:18080/v1/status" >/dev/null; then fail "status is answered without a key"; fi

step "Edits without a pause through a killed pod and a rolling update"
made=$folder/made stop=$folder/stop
: >"$made"
(for i in $(seq 100000); do
  if [ -f "$stop" ]; then break; fi
  if api edits --header "Idempotency-Key: verify-$i" --retry 60 --retry-all-errors --retry-delay 1 \
    --data "$(jq --null-input --arg prompt "$question" --arg target PSG '{$prompt, $target}')" >"$folder/answer"; then
    jq --raw-output .id "$folder/answer" >>"$made"
  else
    echo "edit $i" >>"$folder/lost"
  fi
  sleep 1 # fewer than a page of the ledger
done) & writer=$!
kubectl --namespace "$space" delete pod "$silos-3" --force --grace-period 0
kubectl --namespace "$space" rollout status "statefulset/$silos" --timeout 5m
install --set silo.podAnnotations.verify=again
kubectl --namespace "$space" rollout status "statefulset/$silos" --timeout 10m
touch "$stop"; wait "$writer"
[ ! -f "$folder/lost" ] || fail "edits were not acknowledged: $(cat "$folder/lost")"
missing=$(comm -23 <(sort -u "$made") <(api "ledger?kind=edit&limit=1000" | jq --raw-output '.entries[].edit' | sort -u))
[ -z "$missing" ] || fail "acknowledged edits are not in the ledger: $missing"
[ "$(sort "$made" | uniq --repeated)" = "" ] || fail "two requests have one edit"
echo "$(wc -l <"$made") edits, all of them in the ledger once"

step "A layout that would strand weights is refused"
if install --set model.stages=1 2>"$folder/refused"; then fail "an upgrade to another layout passed"; fi
grep --quiet "stages was 2 and is to be 1" "$folder/refused" || fail "$(cat "$folder/refused")"

step "Nobody else reaches the gateway"
gateway=$(kubectl --namespace "$space" get pod "$silos-0" --output jsonpath='{.status.podIP}')
if kubectl --namespace "$space" run stranger --rm --attach --restart Never --quiet --image postgres:17 --command -- timeout 5 bash -c "exec 3<>/dev/tcp/$gateway/30000"; then
  fail "a pod that is no part of the release reaches the gateway"
fi

step "Metrics, rules, dashboards"
forward monitoring monitoring-kube-prometheus-prometheus 9090 19090
for _ in $(seq 60); do
  found=$(curl --silent --get http://127.0.0.1:19090/api/v1/query --data-urlencode "query=sum(mend_edits_total{namespace=\"$space\",job=\"$release\",outcome=\"made\"})" | jq --raw-output '.data.result[0].value[1] // 0')
  if [ "${found%.*}" -gt 0 ]; then break; fi
  sleep 2
done
[ "${found%.*}" -gt 0 ] || fail "Prometheus has no mend_edits_total of the release"
curl --silent http://127.0.0.1:19090/api/v1/rules | jq --exit-status '[.data.groups[].rules[] | select(.name == "MendNoReplicaReady" and .health == "ok")] | length == 1' >/dev/null ||
  fail "Prometheus has not loaded the rules"
[ "$(kubectl --namespace "$space" get configmaps --selector grafana_dashboard=1 --output name | wc -l)" -eq 4 ] || fail "there are not four dashboards"

echo "All of it holds."
