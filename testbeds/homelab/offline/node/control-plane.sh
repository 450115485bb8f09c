# The API server and what belongs to it; how another node joins; the folder whose manifests are applied.

export KUBECONFIG=$ADMIN_KUBECONFIG
declare -A applied=()

api_is_ready() {
    kubectl get --raw /readyz
}

start_control_plane() {
    local tls=$SERVER/tls etcd=http://127.0.0.1:2379
    # Nothing here has to survive the loss of power.
    run etcd etcd --unsafe-no-fsync --data-dir "$SERVER/db/etcd" --listen-client-urls $etcd \
        --advertise-client-urls $etcd --listen-peer-urls http://127.0.0.1:2380
    make_certificates
    write_admin_kubeconfig
    # Nodes join with the token that k3d gives to all of a cluster, as administrators: k3s gives each an identity.
    (umask 077 && echo "$K3S_TOKEN,node-token,node-token,\"system:masters\"" >"$SERVER/token.csv")
    say "Running kube-apiserver"
    run kube-apiserver "$PROGRAMS/kube-apiserver" --etcd-servers=$etcd --secure-port=6443 --bind-address=0.0.0.0 \
        --advertise-address="$address" --tls-cert-file="$tls/serving.crt" --tls-private-key-file="$tls/serving.key" \
        --client-ca-file="$tls/ca.crt" --token-auth-file="$SERVER/token.csv" --authorization-mode=Node,RBAC \
        --kubelet-client-certificate="$tls/kubelet-client.crt" --kubelet-client-key="$tls/kubelet-client.key" \
        --requestheader-client-ca-file="$tls/front-proxy.crt" --requestheader-allowed-names=front-proxy \
        --requestheader-username-headers=X-Remote-User --requestheader-group-headers=X-Remote-Group \
        --requestheader-extra-headers-prefix=X-Remote-Extra- \
        --proxy-client-cert-file="$tls/front-proxy.crt" --proxy-client-key-file="$tls/front-proxy.key" \
        --service-account-key-file="$tls/service-account.pub" \
        --service-account-signing-key-file="$tls/service-account.key" \
        --service-account-issuer=https://kubernetes.default.svc.cluster.local \
        --service-cluster-ip-range="$service_range" --allow-privileged=true --profiling=false \
        "${apiserver_arguments[@]}"
    wait_for api_is_ready
    run kube-controller-manager "$PROGRAMS/kube-controller-manager" --kubeconfig="$KUBECONFIG" --leader-elect=false \
        --service-account-private-key-file="$tls/service-account.key" --root-ca-file="$tls/ca.crt" \
        --cluster-signing-cert-file="$tls/ca.crt" --cluster-signing-key-file="$tls/ca.key" \
        --allocate-node-cidrs=true --cluster-cidr="$cluster_range" --service-cluster-ip-range="$service_range" \
        --use-service-account-credentials=true --profiling=false "${controller_arguments[@]}"
    run kube-scheduler "$PROGRAMS/kube-scheduler" --kubeconfig="$KUBECONFIG" --leader-elect=false --profiling=false
    wait_for tell_agents
}

# An agent is not given the cluster's ranges: it asks the server, as with k3s.
tell_agents() {
    kubectl -n kube-system create configmap node-ranges --from-literal="dns=$dns_address" \
        --from-literal="pods=$cluster_range" --dry-run=client -o yaml | kubectl apply -f - >>"$LOGS/manifests.log" 2>&1
}

ask_server() { # ConfigMap, key
    kubectl -n kube-system get configmap "$1" -o "jsonpath={.data.$2}" | grep .
}

join_control_plane() {
    (
        umask 077
        cat >"$KUBECONFIG" <<YAML
apiVersion: v1
kind: Config
clusters: [{name: default, cluster: {server: "$K3S_URL", insecure-skip-tls-verify: true}}]
users: [{name: default, user: {token: "$K3S_TOKEN"}}]
contexts: [{name: default, context: {cluster: default, user: default}}]
current-context: default
YAML
    )
    wait_for ask_server node-ranges dns
    dns_address=$(ask_server node-ranges dns)
    cluster_range=$(ask_server node-ranges pods)
    ask_server extension-apiserver-authentication client-ca-file >"$AGENT/client-ca.crt"
}

# The manifests that come with k3s, once; k3d and users may change them afterwards.
lay_out_manifests() {
    local file name
    for file in "$PARTS"/manifests/*.yaml; do
        name=$(basename "$file" .yaml)
        if [ -f "$SERVER/manifests/$name.yaml" ] || [[ " ${disabled[*]} " == *" $name "* ]]; then continue; fi
        sed "s/%{CLUSTER_DNS}%/$dns_address/" "$file" >"$SERVER/manifests/$name.yaml"
    done
}

apply_manifests() {
    local file content
    for file in "$SERVER"/manifests/*.yaml; do
        if [ ! -f "$file" ]; then continue; fi
        content=$(<"$file")
        if [ "${applied[$file]:-}" = "$content" ]; then continue; fi
        if kubectl apply -f - <<<"$content" >>"$LOGS/manifests.log" 2>&1; then applied[$file]=$content; fi
    done
}
