# What k3s's arguments mean here; the ones without a meaning are named and ignored.

cluster_range=10.42.0.0/16
service_range=10.43.0.0/16
dns_address=10.43.0.10
node_name=$HOSTNAME
node_labels=node.kubernetes.io/instance-type=k3s
node_taints=
api_names=() disabled=() kubelet_arguments=() apiserver_arguments=() controller_arguments=()

read_arguments() {
    local name value
    while [ $# -gt 0 ]; do
        case $1 in
            --*=*) name=${1%%=*} value=${1#*=} && shift ;;
            --*) name=$1 value=${2:-} && shift && if [ $# -gt 0 ]; then shift; fi ;;
            *) shift && continue ;;
        esac
        case $name in
            --tls-san) api_names+=("$value") ;;
            --disable) IFS=, read -ra some <<<"$value" && disabled+=("${some[@]}") ;;
            --node-name) node_name=$value ;;
            --node-label) node_labels+=,$value ;;
            --node-taint) node_taints+=${node_taints:+,}$value ;;
            --cluster-cidr) cluster_range=$value ;;
            --service-cidr) service_range=$value ;;
            --cluster-dns) dns_address=$value ;;
            --kubelet-arg) kubelet_arguments+=("--$value") ;;
            --kube-apiserver-arg) apiserver_arguments+=("--$value") ;;
            --kube-controller-manager-arg) controller_arguments+=("--$value") ;;
            *) say "ignored: $name $value" ;;
        esac
    done
}
