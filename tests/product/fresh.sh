#!/bin/sh
# fresh.sh ROOT: the README's two commands on a fresh system. ROOT is a minimal Debian or Ubuntu as
# debootstrap --variant=minbase --include=git,ca-certificates makes it (Ubuntu: --components=main,universe);
# it is changed. Needs root and, in ROOT, a network. The last line counts.
set -u
root=$1
passed=0 failed=0
test -x "$root/bin/sh" || { echo "fresh: $root holds no system; make one with debootstrap" >&2; exit 2; }
rm -rf "$root/src/shardlens"
git clone -q . "$root/src/shardlens" || exit 2
cp /etc/resolv.conf "$root/etc/resolv.conf"
mount -t proc proc "$root/proc" && mount --rbind /dev "$root/dev" || exit 2
trap 'umount -l "$root/dev" "$root/proc"' EXIT

# inside WHAT COMMAND: one test
inside() {
    if chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/ TERM=xterm sh -c "cd /src/shardlens && $2" >"$root/log" 2>&1 </dev/null; then
        passed=$((passed + 1))
        echo "ok   $1"
    else
        failed=$((failed + 1))
        echo "FAIL $1"
    fi
    tail -"${3:-3}" "$root/log"
}
. "$root/etc/os-release" && echo "$PRETTY_NAME"
# git does not like a folder of another owner
inside "make is there or comes from the package manager" "git config --global --add safe.directory '*'; command -v make || (apt-get update && apt-get install -y --no-install-recommends make)" 1
inside "make demo" "make demo" 6
inside "make test" "make test" 1
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
