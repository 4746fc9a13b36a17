# lib.sh: what make, run and cluster share: where the testbed lives, how a command gets into its root, and as whom.

set -euo pipefail
testbed_source=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
project=$(cd "$testbed_source/../.." && pwd)
cache=${STILLPOINT_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/stillpoint}
root=$cache/root
stamp=$root/etc/stillpoint-testbed     # holds the key of the package list once all of it is installed
tree_name=$(basename "$project")-$(echo "$project" | sha256sum | cut -c1-8)   # one for each source tree

say() { echo "testbed: $*" >&2; }
fail() { say "$*"; exit 1; }

testbed_key() { cat "$testbed_source/packages" "$testbed_source/make" | sha256sum | cut -c1-16; }
testbed_fit() { [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$(testbed_key)" ]; }

# enter COMMAND...: runs COMMAND inside the root, in a mount namespace of its own that ends with it.  pivot_root, not
# chroot: CRIU needs every mount to have a proper parent.  $binds: directories to show at the path they have outside.
# What is mounted is the machine's own /proc, /sys, /dev and /tmp, so that two calls see each other's processes and files.
enter() {
  root=$root binds="${binds-}" exec unshare --mount --propagation private bash -ec '
    mount --bind "$root" "$root"
    mount --rbind /proc "$root/proc"
    mount --rbind /sys "$root/sys"
    mount --rbind /dev "$root/dev"
    mount --bind /tmp "$root/tmp"
    while IFS= read -r pair; do
      [ -n "$pair" ] || continue
      mkdir -p "$root${pair#*=>}"
      mount --bind "${pair%%=>*}" "$root${pair#*=>}"
    done <<< "$binds"
    cd "$root"
    mkdir -p .old
    pivot_root . .old
    umount -l /.old
    mount --make-rprivate /
    unset root binds OLDPWD
    cd "${WORKDIR:-/}"
    exec "$@"' -- "$@"
}

# login_as USER: sets `login` to what goes in front of a command that USER calls ('' is root).
login_as() {
  local path=/opt/stillpoint/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
  if [ -z "$1" ]; then
    login=(env -u WORKDIR PATH=$path HOME=/root CCACHE_DIR=/var/cache/ccache)
  else
    login=(setpriv --reuid "$1" --regid "$1" --init-groups --inh-caps=-all --
      env -u WORKDIR PATH=$path HOME="/home/$1" USER="$1" LOGNAME="$1")
  fi
}
