#!/usr/bin/env bash
# Process 1 of the node's namespaces, started by `cargo xtask cluster up`. It
# prepares mounts and network, starts every component and restarts those that
# end. Files below ready/ say how far it has come.
set -euo pipefail

# --- Mounts -----------------------------------------------------------------
# The namespace is private to us. Within it the kubelet needs shared mounts:
# containerd unshares again for every container, and what the kubelet mounts
# later has to reach those copies.
mount --make-rshared /
mount -t proc proc /proc
# Fixed, short names: the path of a unix socket is limited to 107 bytes, and
# the state directory may lie deep.
mount -t tmpfs -o mode=755 tmpfs /run
mkdir /run/cluster /run/programs /run/packages /run/objects
mount --bind "$CLUSTER_STATE" /run/cluster
mount --bind "$CLUSTER_PROGRAMS" /run/programs
mount --bind "$CLUSTER_PACKAGES" /run/packages
mount --bind "$CLUSTER_OBJECTS" /run/objects
if [ -n "$CLUSTER_EXTERNAL_SECRETS" ]; then
    mkdir /run/external-secrets
    mount --bind "$CLUSTER_EXTERNAL_SECRETS" /run/external-secrets
fi
export PATH=/run/packages/usr/sbin:/run/packages/usr/bin:$PATH
LD_LIBRARY_PATH=$(echo /run/packages/usr/lib/*-linux-gnu):$(echo /run/packages/lib/*-linux-gnu)
export LD_LIBRARY_PATH
mount -t tmpfs -o mode=755 tmpfs /var/lib
for directory in kubelet containerd; do
    mkdir "/var/lib/$directory"
    mount --bind "/run/cluster/$directory" "/var/lib/$directory"
done
# Logs of pods.
mount --bind /run/cluster/pods /var/log
cd /run/cluster
mkdir ready
hostname node
# The kubelet insists on a few kernel settings that belong to the whole machine.
# It is shown files which already hold what it wants, and leaves it at that.
while read -r name value; do
    echo "$value" >"/run/sysctl.$name"
    mount --bind "/run/sysctl.$name" "/proc/sys/${name//.//}"
done <<'SYSCTL'
kernel.panic 10
kernel.panic_on_oops 1
kernel.keys.root_maxkeys 1000000
kernel.keys.root_maxbytes 25000000
vm.overcommit_memory 1
vm.panic_on_oom 0
SYSCTL

# --- Network ----------------------------------------------------------------
ip link set lo up
until [ -e linked ]; do sleep 0.01; done
sysctl --quiet --write net.ipv4.ip_forward=1
# A pod that reaches another pod of the same bridge through a Service gets the
# answer over the bridge, past the network layer, unless bridged packets pass
# through netfilter as well.
sysctl --quiet --write net.bridge.bridge-nf-call-iptables=1
# There is no default route, on purpose: nothing leaves the node but for the
# host. Processes of the node need some route to a Service address before
# kube-proxy's rules get to rewrite it.
ip route add "$CLUSTER_SERVICE_CIDR" dev eth0 src "$CLUSTER_NODE_IP"

# --- Control plane ----------------------------------------------------------
note() { echo "$(date +%T.%3N) $*"; }
component() { # NAME COMMAND...
    local name=$1
    shift
    note "starting $name"
    while true; do
        "$@" >>"logs/$name.log" 2>&1 || true
        note "$name ended, starting it again"
        sleep 0.5
    done &
}
kube() { component "$1" /run/programs/kube "$@"; }
# The administrator's rights under another name, so that the audit log can tell
# the tests' calls from those of whatever runs beside Kubernetes.
export KUBECONFIG=/run/cluster/config/sidecars.kubeconfig
export KUBECACHEDIR=/run/kubectl

# Nothing here outlives the cluster, so etcd need not wait for the disk.
kube etcd --name=node --data-dir=etcd --unsafe-no-fsync --log-level=warn \
    --listen-client-urls=http://127.0.0.1:2379 --advertise-client-urls=http://127.0.0.1:2379 \
    --listen-peer-urls=http://127.0.0.1:2380 --initial-advertise-peer-urls=http://127.0.0.1:2380 \
    --initial-cluster=node=http://127.0.0.1:2380

# A call's line in the audit log is written before its answer ends (blocking),
# and the log takes 200 MB at most: some 200 000 calls.
kube kube-apiserver \
    --etcd-servers=http://127.0.0.1:2379 \
    --advertise-address="$CLUSTER_NODE_IP" \
    --service-cluster-ip-range="$CLUSTER_SERVICE_CIDR" \
    --tls-cert-file=pki/apiserver.crt --tls-private-key-file=pki/apiserver.key \
    --client-ca-file=pki/ca.crt --token-auth-file=pki/tokens.csv \
    --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction \
    --service-account-issuer=https://kubernetes.default.svc.cluster.local \
    --service-account-signing-key-file=pki/service-account.key --service-account-key-file=pki/service-account.pub \
    --kubelet-client-certificate=pki/kubelet-client.crt --kubelet-client-key=pki/kubelet-client.key \
    --kubelet-preferred-address-types=InternalIP \
    --requestheader-client-ca-file=pki/ca.crt --requestheader-allowed-names=front-proxy \
    --requestheader-username-headers=X-Remote-User --requestheader-group-headers=X-Remote-Group \
    --requestheader-extra-headers-prefix=X-Remote-Extra- \
    --proxy-client-cert-file=pki/front-proxy.crt --proxy-client-key-file=pki/front-proxy.key \
    --allow-privileged=true \
    --runtime-config=admissionregistration.k8s.io/v1beta1=true \
    --audit-policy-file=config/audit.yaml --audit-log-path=logs/audit.log --audit-log-mode=blocking \
    --audit-log-maxsize=50 --audit-log-maxbackup=3 \
    --feature-gates=CrossNamespaceVolumeDataSource=true

if [ "$CLUSTER_KIND" = node ]; then
    component containerd containerd --config config/containerd.toml
    note "waiting for containerd"
    until ctr --connect-timeout 1s version >/dev/null 2>&1; do sleep 0.05; done
    # The sandbox image has to be there under the very name that containerd's
    # configuration has.
    for image in images/*.tar; do
        ctr --namespace k8s.io images import "$image" >>logs/images.log 2>&1
    done
    note "images imported"
fi
until curl --silent --fail --cacert pki/ca.crt "https://$CLUSTER_NODE_IP:6443/readyz" >/dev/null; do sleep 0.05; done
note "the API server is ready"
touch ready/api-server

# Standard input is a pipe which ends with whoever needs the cluster, and the
# node with it; or nobody's, and the node stays until it is taken down.
stay() {
    if [ "$CLUSTER_OWNED" = yes ]; then cat >/dev/null; else wait; fi
}

# --- Definitions ------------------------------------------------------------
definitions() { # DIRECTORY
    /run/programs/kube kubectl create --filename="$1"
    /run/programs/kube kubectl wait --for=condition=Established --timeout=60s --filename="$1"
}
external_secrets() {
    [ -n "$CLUSTER_EXTERNAL_SECRETS" ] || return 0
    definitions /run/external-secrets/definitions
    component external-secrets /run/external-secrets/external-secrets --metrics-addr=127.0.0.1:8085 \
        --concurrent=5 --client-qps=500 --client-burst=1000
}
if [ "$CLUSTER_KIND" = control-plane ]; then
    definitions /run/programs/definitions
    external_secrets
    touch ready/node
    stay
    exit
fi

# --- The rest of Kubernetes -------------------------------------------------
# The clients' own limits on requests are made for large clusters and cost
# seconds here: the controller manager alone makes a hundred requests to start.
limits=(--kube-api-qps=500 --kube-api-burst=1000)
kube kube-controller-manager "${limits[@]}" --kubeconfig=config/kube-controller-manager.kubeconfig --leader-elect=false \
    --use-service-account-credentials --service-account-private-key-file=pki/service-account.key \
    --root-ca-file=pki/ca.crt --cluster-signing-cert-file=pki/ca.crt --cluster-signing-key-file=pki/ca.key \
    --pvclaimbinder-sync-period=5s --flex-volume-plugin-dir=/var/lib/kubelet/volume-plugins \
    --bind-address=127.0.0.1
kube kube-scheduler --config=config/scheduler.yaml --bind-address=127.0.0.1
kube kubelet --config=config/kubelet.yaml --kubeconfig=config/kubelet.kubeconfig \
    --hostname-override=node --node-ip="$CLUSTER_NODE_IP"
kube kube-proxy --config=config/kube-proxy.yaml

/run/programs/kube kubectl create --filename=config/names.yaml
kube coredns config/Corefile

# --- Storage ----------------------------------------------------------------
# The drivers register with the kubelet by themselves. The sidecars run as
# processes of the node, with the administrator's rights, so they need
# neither images nor RBAC. The snapshot controller ends when it finds the
# definitions missing, and so does csi-provisioner for want of ReferenceGrants.
definitions /run/programs/definitions
/run/programs/kube kubectl create --filename=/run/objects/storage.yaml
# The pause between retries doubles from the first to the second of these; by
# default it grows to minutes.
sidecar=("${limits[@]}" --kubeconfig="$KUBECONFIG" --retry-interval-start=200ms)
driver() { # NAME ARGUMENTS...
    local name=$1 short=${1%%.*}
    component "csi-$short" ./csi-driver --name="$name" --node=node --base="/run/cluster/csi/$short" \
        --endpoint="/var/lib/kubelet/plugins/$name/csi.sock" \
        --registration="/var/lib/kubelet/plugins_registry/$name-reg.sock" --registered="ready/csi-$short" "${@:2}"
    component "csi-provisioner-$short" /run/programs/csi-provisioner "${sidecar[@]}" --retry-interval-max=5s \
        --csi-address="/var/lib/kubelet/plugins/$name/csi.sock" \
        --extra-create-metadata --feature-gates=CrossNamespaceVolumeDataSource=true
}
driver plain.csi.perennial.dev --without-snapshots
driver dirs.csi.perennial.dev
socket=/var/lib/kubelet/plugins/dirs.csi.perennial.dev/csi.sock
component csi-snapshotter /run/programs/csi-snapshotter "${sidecar[@]}" --retry-interval-max=5s \
    --csi-address="$socket" --extra-create-metadata
component csi-resizer /run/programs/csi-resizer "${sidecar[@]}" --retry-interval-max=5s \
    --csi-address="$socket"
component snapshot-controller /run/programs/snapshot-controller "${sidecar[@]}" --retry-interval-max=5s
external_secrets

touch ready/node
note "everything is started"
stay
