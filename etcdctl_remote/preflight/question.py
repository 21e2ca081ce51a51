"""The one question to a host: a shell script that prints every fact, in sections.

Everything it uses is coreutils, grep, sed and systemd; what it uses beyond that has another
way (`ip`, or the kernel's own table). It reads only.
"""

from __future__ import annotations

from ..desired.hostspec import UNIT_PATH, release_dir
from ..desired.model import ClusterSpec
from ..observed.holding import HOLDS
from ..remote.host import Command
from .sockets import LISTEN, as_address, grep

NEEDED = (
    "base64 cat chmod chown date dd df dirname env find flock getent grep groupadd gzip head id "
    "journalctl ln ls mkdir mktemp mountpoint mv readlink rm rmdir sed setsid sha256sum sleep sort "
    "stat sync systemctl systemd-analyze tail tar timeout touch tr uname useradd wc"
)
"""What deploy runs on a host, here and in the floors above and below."""
OPTIONAL = "bash ip systemd-socket-activate"
FIREWALLS = ("ufw", "firewalld", "nftables")

_SCRIPT = (
    HOLDS
    + r"""
date=$(date +%s.%N)
data=$1 wal=$2 config=$3 bin=$4 user=$5 listening=$6 names=$7 needed=$8 optional=$9; shift 9
unitfile=$1 firewalls=$2 release=$3
section() { printf '\n@@%s\n' "$1"; }
near() { p=/$1; while [ ! -e "$p" ]; do p=${p%/*}; p=${p:-/}; done; readlink -f -- "$p"; }
others() {
  found=$(ls -A -- "$1/" 2>/dev/null | grep -vxE "$2" | head -n 4 | tr '\n' /)
  [ -z "$found" ] || echo "$(stat -L -c '%04a %U:%G' -- "$1") $1//$found"
}
section clock; echo "$date"
section id; id -u; id -u "$user" 2>/dev/null
section os; (PRETTY_NAME=unknown; . /etc/os-release 2>/dev/null; echo "$PRETTY_NAME"); uname -m; uname -r
section init; cat /proc/1/comm; systemctl --version 2>/dev/null | head -n 1
section missing; for c in $needed; do command -v "$c" >/dev/null || echo "$c"; done
section have; for c in $optional; do command -v "$c" >/dev/null && echo "$c"; done
for p in /usr/lib/systemd /lib/systemd; do [ -x $p/systemd-socket-proxyd ] && echo systemd-socket-proxyd; done
section unit; unit=$(systemctl show etcd.service -p MainPID -p ActiveState -p FragmentPath -p UnitFileState 2>/dev/null)
printf '%s\n' "$unit"
pid=${unit##*MainPID=}; pid=${pid%%[!0-9]*}
[ "${pid:-0}" != 0 ] && tr '\0' '\n' <"/proc/$pid/environ" | sed -n 's/^ETCDCTL_REMOTE_DIGEST=/digest=/p'
section release; [ -e "$release/.complete" ] && echo installed
section foreign
{ [ -e "$unitfile" ] || [ -L "$unitfile" ]; } && ! grep -q ETCDCTL_REMOTE_DIGEST= "$unitfile" 2>/dev/null && echo "$unitfile"
for p in etcd etcdctl etcdutl; do p=$bin/$p; [ -e "$p" ] && [ ! -L "$p" ] && echo "$p"; done
section config
if ! readlink -- "$config/pki/current" | grep -qxE '[0-9a-f]{16}' && [ "$(readlink -- "$config/member")" != identity ]; then
  others "$config" 'pki|member|identity|etcdctl[.]env|etcd[.]conf.*|lost[+]found|[.]etcdctl-remote[.].*'
  others "$config/pki" 'current|[0-9a-f]{16}|[.]etcdctl-remote[.].*'
fi
section token; sed -n 's/.*--initial-cluster-token=\([^" \\]*\).*/\1/p' "$unitfile" 2>/dev/null
section marker; if [ -e "$config/member" ] || [ -L "$config/member" ]; then
  echo "of $(sed -n 's/.*"cluster": *"\([^"]*\)".*/\1/p' "$config/member" 2>/dev/null)"
fi
section holds; data_holds
section owners; for p in "$data" "$wal"; do
  [ -d "$p" ] && find "$p" -maxdepth 3 -name lost+found -prune -o ! -user "$user" -print 2>/dev/null | head -n 1
done
section listen; found=$(cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | grep -E "$listening"); printf '%s\n' "$found"
section sockets; if [ -n "$found" ]; then
  inodes=$(printf '%s\n' "$found" | while read -r _ _ _ _ _ _ _ _ _ inode _; do printf '|socket:.%s[]]' "$inode"; done)
  ls -l /proc/[0-9]*/fd 2>/dev/null | grep -E "^/proc/${inodes}" | while read -r first rest; do
    case $first in
      /proc/*) p=${first#/proc/}; p=${p%%/*} ;;
      *) printf '%s %s %s\n' "${rest##*socket:}" "$p" "$(cat "/proc/$p/comm" 2>/dev/null)" ;;
    esac
  done
fi
section places; set -- "$data" "${wal:-$data}" "$config" "$bin" /opt/etcd /etc/systemd/system; i=0
for p do set -- "$@" "$(near "$p")"; done; shift 6
df -Pk -- "$@" | sed 1d
section inodes; df -Pi -- "$@" | sed 1d
section types; stat -f -c %T -- "$@"
section near; printf '%s\n' "$@"
mounts=$(df -Pk -- "$@" | sed '1d;s/.*% //'); section mounts
while read -r _ mount type options _; do
  case "
$mounts
" in *"
$mount
"*) echo "$mount $type $options" ;; esac
done </proc/self/mounts
section memory; grep -E '^(MemTotal|MemAvailable):' /proc/meminfo
section limits; grep -E '^Max open files' /proc/1/limits
sed -n 's/^CapEff:[[:space:]]*/CapEff /p' /proc/1/status
echo "userns $(cat /proc/1/uid_map)"
section addresses; if command -v ip >/dev/null; then
  ip -o addr show | while read -r _ name family address _; do case $family in inet*) echo "$name $address" ;; esac; done
else
  before=; while read -r a b _; do
    case $a in '|--') before=$b ;; esac
    case "$a $b" in "/32 host") echo "- $before" ;; esac
  done </proc/net/fib_trie
  while read -r a _ _ _ _ name; do
    echo "$name $(echo "$a" | sed 's/..../&:/g;s/:$//')"
  done </proc/net/if_inet6 2>/dev/null
fi
section names; for n in $names; do echo "$n $(getent ahosts "$n" | while read -r a _; do printf '%s ' "$a"; done)"; done
section firewalls; systemctl is-active $firewalls 2>/dev/null
section proxies; systemctl show-environment 2>/dev/null | sed -n 's/^\([a-zA-Z]*_[pP][rR][oO][xX][yY]\)=.*/\1/p'
section selinux; cat /sys/fs/selinux/enforce 2>/dev/null
exit 0
"""
)


def host_names(cluster: ClusterSpec) -> tuple[str, ...]:
    """The host names that members dial: only `advertise` can hold one."""
    return tuple(sorted({node.advertised for node in cluster.nodes if as_address(node.advertised) is None}))


def ports(cluster: ClusterSpec) -> dict[str, int]:
    """The TCP ports etcd listens on, by what they are for."""
    found = {"client": cluster.ports.client, "peer": cluster.ports.peer}
    return found | ({"metrics": cluster.ports.metrics} if cluster.ports.metrics else {})


def command(cluster: ClusterSpec) -> Command:
    """Build the one command that asks a host for everything."""
    paths = cluster.paths
    values = (
        paths.data,
        paths.wal or "",
        paths.config,
        paths.bin,
        cluster.user,
        grep(ports(cluster).values(), LISTEN),
        " ".join(host_names(cluster)),
        f"{NEEDED} ip" if any(node.interface for node in cluster.nodes) else NEEDED,
        OPTIONAL,
        UNIT_PATH,
        " ".join(FIREWALLS),
        release_dir(cluster.version),
    )
    return Command(_SCRIPT, values, about="look at the host", writes=False, timeout=30)
