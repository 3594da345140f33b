#!/usr/bin/env bash
# Brings a cluster up and takes it away, again and again, and compares what the
# machine has before and after: processes, mounts, links, routes, rules, control
# groups, files, loop devices, settings. With --kill, the cluster's first
# process, or whoever brings it up and uses it, is killed at a random moment.
#
#   xtask/cluster/leftovers.sh [--kill] [TIMES] [COMMAND...]
#
# COMMAND runs while it is up. UP has options for `up`, and MOMENT the last
# moment for a kill, in milliseconds after the beginning:
#   UP="--with external-secrets" xtask/cluster/leftovers.sh 20 cargo xtask e2e --name left
set -euo pipefail
cd "$(dirname "$0")/../.."
kills=
if [ "${1:-}" = --kill ]; then kills=yes; shift; fi
export UP=${UP:-}
: "${MOMENT:=9000}"
times=${1:-20}
shift || true

cargo build --quiet --package xtask
xtask=${CARGO_TARGET_DIR:-target}/debug/xtask
clusters=${PERENNIAL_CLUSTERS:-${XDG_STATE_HOME:-$HOME/.local/state}/perennial/clusters}

snapshot() {
    echo "== processes"
    # Those of the cluster are found by what they were started from.
    ps -eo args --no-headers |
        grep -E '/run/programs/|/run/packages/|\./csi-driver|cluster/node\.sh|versitygw.* 10\.2[0-3][0-9]\.0\.1' | grep -v grep || true
    echo "== namespaces"
    find /proc/[0-9]*/ns -maxdepth 1 -name net -exec readlink {} + 2>/dev/null | sort -u | wc -l
    echo "== mounts"
    awk '{print $5, $9}' /proc/self/mountinfo | sort
    echo "== links"
    ls /sys/class/net
    echo "== routes"
    cat /proc/net/route
    echo "== rules"
    cat /proc/net/ip_tables_names /proc/net/netfilter/nf_tables 2>/dev/null || true
    echo "== control groups"
    find /sys/fs/cgroup -type d -name '*left*' | sort
    echo "== files"
    ls -A "$clusters" /run /tmp/cni 2>/dev/null || true
    find /etc /opt /usr/libexec /usr/local /var ~/.kube -xdev -maxdepth 3 -type d 2>/dev/null | sort
    echo "== loop devices"
    losetup --list --noheadings --output NAME,BACK-FILE
    echo "== settings"
    grep -s . /proc/sys/kernel/panic /proc/sys/kernel/panic_on_oops /proc/sys/vm/overcommit_memory \
        /proc/sys/vm/panic_on_oom /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/keys/root_maxkeys \
        /proc/sys/net/netfilter/nf_conntrack_max /proc/sys/net/bridge/bridge-nf-call-iptables || true
}

"$xtask" cluster --name left down
before=$(snapshot)
for time in $(seq "$times"); do
    if [ -n "$kills" ]; then
        # A session of its own, to be killed with all that it has started.
        setsid bash -c '"$0" cluster --name left up $UP && "$@"' "$xtask" "${@:-true}" >/dev/null 2>&1 &
        user=$!
        moment=$((RANDOM * 32768 + RANDOM)); moment=$((moment % MOMENT + 1))
        read -r -t "$((moment / 1000)).$(printf %03d $((moment % 1000)))" <> <(:) || true
        what=user
        # Half of the times the cluster itself goes first.
        if [ $((RANDOM % 2)) = 0 ] && [ -s "$clusters/left/pid" ]; then
            what=cluster
            kill -KILL "$(cat "$clusters/left/pid")" 2>/dev/null || true
        fi
        kill -KILL -- "-$user" 2>/dev/null || what="nobody, all had ended"
        wait "$user" 2>/dev/null || true
        said="$what killed after $moment ms"
    else
        "$xtask" cluster --name left up $UP >/dev/null
        [ $# -eq 0 ] || "$@"
        said="up"
    fi
    "$xtask" cluster --name left down
    after=$(snapshot)
    if [ "$before" != "$after" ]; then
        echo "$time: $said, and something is left:" >&2
        diff <(echo "$before") <(echo "$after") >&2 || true
        exit 1
    fi
    echo "$time: $said, down, nothing is left"
done
