#!/bin/sh
# packages.sh: make static, make dist and make deb give what they promise. Needs the network for
# the sources of two libraries, so it is no part of make test; the last line counts.
set -u
passed=0 failed=0
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
unset MAKEFLAGS MFLAGS

# is WHAT COMMAND...: one test
is() {
    what=$1
    shift
    if "$@" >"$tmp/log" 2>&1; then
        passed=$((passed + 1))
        echo "ok   $what"
    else
        failed=$((failed + 1))
        echo "FAIL $what"
        tail -20 "$tmp/log"
    fi
}

static=build-static/shardlens
no_loader() { ! readelf -l "$static" | grep -q INTERP; }
# nothing but the program: no libraries, no /etc, no /proc
alone() {
    mkdir "$tmp/alone" && cp "$static" "$tmp/alone/" &&
        chroot "$tmp/alone" /shardlens demo /sample &&
        chroot "$tmp/alone" /shardlens convert /sample /out --to hf &&
        chroot "$tmp/alone" /shardlens verify /sample /out
}
is "make static builds a program" make static
is "it asks for no loader" no_loader
is "its version is that of the archive" test "shardlens $(sed -n 's/^VERSION *= *//p' Makefile)" = "$("$static" --version)"
if [ "$(id -u)" -eq 0 ]; then
    is "it converts in a folder that holds nothing else" alone
fi

archive=shardlens-$(sed -n 's/^VERSION *= *//p' Makefile).tar.xz
from_archive() {
    tar -xJf "$archive" -C "$tmp" && make -C "$tmp/${archive%.tar.xz}" -j"$(nproc)" all &&
        "$tmp/${archive%.tar.xz}/build/shardlens" --version
}
is "make dist writes the source archive" make dist
is "the archive builds" from_archive
rm -f "$archive"

installed() {
    mkdir "$tmp/deb" && for deb in build-deb/shardlens_*.deb build-deb/libshardlens0_*.deb build-deb/libshardlens-dev_*.deb; do
        dpkg-deb -x "$deb" "$tmp/deb" || return 1
    done
    "$tmp/deb/usr/bin/shardlens" --version && test -n "$(find "$tmp/deb/usr/lib" -name shardlens.pc)" &&
        test -s "$tmp/deb/usr/share/man/man1/shardlens.1.gz"
}
is "make deb builds packages that lintian has nothing against" make deb
is "they hold the program, the library and the man page" installed
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
