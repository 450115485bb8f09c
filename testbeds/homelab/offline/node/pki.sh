# Keys and certificates: one authority, made once; what it signs is signed at each start, since the address may change.

new_key() { # file
    openssl ecparam -name prime256v1 -genkey -noout -out "$1"
}

make_authority() {
    if [ -f ca.crt ]; then return; fi
    new_key ca.key
    openssl req -x509 -new -key ca.key -days 3650 -subj "/CN=k3s-server-ca@$(date +%s)" -out ca.crt \
        -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,digitalSignature
    openssl genrsa -out service-account.key 2048
    openssl rsa -in service-account.key -pubout -out service-account.pub
}

sign() { # name, subject, usage, alternative names
    new_key "$1.key"
    openssl req -new -key "$1.key" -subj "$2" -out "$1.csr"
    {
        echo "extendedKeyUsage=$3"
        echo "keyUsage=critical,digitalSignature"
        if [ -n "${4:-}" ]; then echo "subjectAltName=$4"; fi
    } >"$1.ext"
    openssl x509 -req -in "$1.csr" -CA ca.crt -CAkey ca.key -CAcreateserial -days 3650 -extfile "$1.ext" -out "$1.crt"
}

make_certificates() (
    cd "$SERVER/tls" || exit
    make_authority
    names=IP:127.0.0.1,IP:$address,IP:${service_range%.*}.1,DNS:localhost,DNS:$node_name,DNS:kubernetes
    names+=,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.cluster.local
    for name in "${api_names[@]}"; do
        if [[ $name =~ ^[0-9.]+$ ]]; then names+=,IP:$name; else names+=,DNS:$name; fi
    done
    # Its own authority, so that no other certificate lets anybody speak for others before an aggregated API.
    new_key front-proxy.key
    openssl req -x509 -new -key front-proxy.key -days 3650 -subj /CN=front-proxy -out front-proxy.crt \
        -addext extendedKeyUsage=clientAuth
    sign serving /CN=k3s serverAuth "$names"
    sign admin /O=system:masters/CN=system:admin clientAuth
    sign kubelet-client /O=system:masters/CN=kube-apiserver clientAuth
) >>"$LOGS/pki.log" 2>&1

# An administrator's kubeconfig, as k3s writes it and k3d reads it.
write_admin_kubeconfig() (
    umask 077
    cat >"$ADMIN_KUBECONFIG" <<YAML
apiVersion: v1
kind: Config
clusters:
- name: default
  cluster:
    server: https://127.0.0.1:6443
    certificate-authority-data: $(base64 -w0 "$SERVER/tls/ca.crt")
users:
- name: default
  user:
    client-certificate-data: $(base64 -w0 "$SERVER/tls/admin.crt")
    client-key-data: $(base64 -w0 "$SERVER/tls/admin.key")
contexts:
- name: default
  context: {cluster: default, user: default}
current-context: default
YAML
    if [ -n "${K3S_KUBECONFIG_OUTPUT:-}" ]; then
        mkdir -p "$(dirname "$K3S_KUBECONFIG_OUTPUT")"
        cp "$ADMIN_KUBECONFIG" "$K3S_KUBECONFIG_OUTPUT"
    fi
)
