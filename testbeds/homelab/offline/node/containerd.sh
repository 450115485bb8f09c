# Containers: Debian's containerd, with the mirrors of k3s's registries.yaml.

# "host endpoint" for each endpoint, of the form in which k3d writes that file.
mirrors() {
    if [ ! -f /etc/rancher/k3s/registries.yaml ]; then return; fi
    awk '
        /^[a-z]/ { inside = ($1 == "mirrors:") }
        inside && /^ +[^- ].*:$/ && !/endpoint:/ { host = $1; gsub(/[":]+$|^"/, "", host) }
        inside && /^ *- / { gsub(/"/, "", $2); print host, $2 }
    ' /etc/rancher/k3s/registries.yaml
}

write_containerd_configuration() {
    cat <<TOML
version = 2
root = "$AGENT/containerd"
state = "/run/k3s/containerd"
[grpc]
  address = "/run/k3s/containerd/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  restrict_oom_score_adj = true
  sandbox_image = "docker.io/rancher/mirrored-pause:3.6"
  stream_server_port = "0"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$AGENT/etc/cni/net.d"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      BinaryName = "$PARTS/runc-wrapper"
TOML
    local host endpoint
    while read -r host endpoint; do
        echo "  [plugins.\"io.containerd.grpc.v1.cri\".registry.mirrors.\"$host\"]"
        echo "    endpoint = [\"$endpoint\"]"
    done < <(mirrors)
}

start_containerd() {
    write_containerd_configuration >"$AGENT/etc/containerd/config.toml"
    run containerd containerd --config "$AGENT/etc/containerd/config.toml"
}
