# The kubelet, kube-proxy and the pods' network: a bridge on each node, and a route to each other node's pods.

write_kubelet_configuration() { # client authority
    cat <<YAML
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
containerRuntimeEndpoint: unix:///run/k3s/containerd/containerd.sock
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $1}}
authorization: {mode: Webhook}
clusterDNS: ["$dns_address"]
clusterDomain: cluster.local
resolvConf: /etc/resolv.conf
cgroupDriver: cgroupfs
failCgroupV1: false
failSwapOn: false
oomScoreAdj: 0
imageGCHighThresholdPercent: 100
evictionHard: {"nodefs.available": "1%", "imagefs.available": "1%", "memory.available": "50Mi"}
YAML
}

write_proxy_configuration() {
    cat <<YAML
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
clientConnection: {kubeconfig: $KUBECONFIG}
hostnameOverride: $node_name
clusterCIDR: $cluster_range
mode: nftables
oomScoreAdj: 0
conntrack: {maxPerCore: 0, min: 0}
YAML
}

pod_range() {
    kubectl get node "$node_name" -o 'jsonpath={.spec.podCIDR}' | grep .
}

write_network() { # range of this node's pods
    cat <<JSON
{
  "cniVersion": "0.4.0",
  "name": "pods",
  "plugins": [
    {
      "type": "bridge", "bridge": "cni0", "isGateway": true, "hairpinMode": true,
      "ipam": {"type": "host-local", "ranges": [[{"subnet": "$1"}]], "routes": [{"dst": "0.0.0.0/0"}]}
    },
    {"type": "portmap", "capabilities": {"portMappings": true}}
  ]
}
JSON
}

# What a pod sends out of the cluster has its node's address. What it sends to another node's pods keeps its own, by which
# network policies know it: the bridge's own `ipMasq` would change that, too.
masquerade() {
    local rule=(POSTROUTING -s "$cluster_range" ! -d "$cluster_range" -j MASQUERADE)
    iptables -t nat -C "${rule[@]}" 2>/dev/null || iptables -t nat -A "${rule[@]}"
}

# Network policies, by the controller that k3s has inside.
start_policies() {
    NODE_NAME=$node_name run kube-router "$PROGRAMS/kube-router" --kubeconfig="$KUBECONFIG" --run-firewall=true \
        --run-router=false --run-service-proxy=false --service-cluster-ip-range="$service_range" --health-port=0
}

start_node() {
    local authority=$SERVER/tls/ca.crt
    if [ "$role" = agent ]; then authority=$AGENT/client-ca.crt; fi
    wait_for ctr --address /run/k3s/containerd/containerd.sock version
    say "Containerd is now running"
    write_kubelet_configuration "$authority" >"$AGENT/etc/kubelet.yaml"
    # --containerd is cAdvisor's own: without it, as k3s knows, no metric has a container's name.
    run kubelet "$PROGRAMS/kubelet" --config="$AGENT/etc/kubelet.yaml" --kubeconfig="$KUBECONFIG" \
        --root-dir=/var/lib/kubelet --cert-dir=/var/lib/kubelet/pki --hostname-override="$node_name" \
        --node-ip="$address" --node-labels="$node_labels" ${node_taints:+"--register-with-taints=$node_taints"} \
        --containerd=/run/k3s/containerd/containerd.sock \
        "${kubelet_arguments[@]}"
    write_proxy_configuration >"$AGENT/etc/kube-proxy.yaml"
    run kube-proxy "$PROGRAMS/kube-proxy" --config="$AGENT/etc/kube-proxy.yaml"
    wait_for pod_range
    masquerade
    start_policies
    write_network "$(pod_range)" >"$AGENT/etc/cni/net.d/10-pods.conflist"
    if [ "$role" = server ]; then
        kubectl label node "$node_name" --overwrite node-role.kubernetes.io/control-plane=true >>"$LOGS/misc.log" 2>&1
    fi
    say "Successfully registered node $node_name"
}

# Routes to the pods of the other nodes.
set_routes() {
    local columns='{.metadata.name} {.spec.podCIDR} {.status.addresses[?(@.type=="InternalIP")].address}{"\n"}'
    local name range gateway
    kubectl get nodes --request-timeout=5s -o "jsonpath={range .items[*]}$columns{end}" |
        while read -r name range gateway; do
            if [ "$name" = "$node_name" ] || [ -z "$gateway" ]; then continue; fi
            ip route replace "$range" via "$gateway"
        done
} 2>>"$LOGS/routes.log"
