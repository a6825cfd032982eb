#!/bin/sh
# deps.sh build|check|package|interop: installs the Debian or Ubuntu packages that are missing,
# and only those. Says nothing and needs no network when all are there.
#
# build    what `make` and `make test` need
# check    what `make lint`, `make fuzz` and a second compiler need
# package  what `make static` and `make deb` need
# interop  what `make interop` needs before it makes its own Python environment, and `make mpi`
set -u
missing=

# has_lib PKG-CONFIG-NAME PACKAGE, has_tool PROGRAM PACKAGE
has_lib() { pkg-config --exists "$1" 2>/dev/null || missing="$missing $2"; }
has_tool() { command -v "$1" >/dev/null 2>&1 || missing="$missing $2"; }

for group in "$@"; do
    case $group in
    build)
        has_tool "${CC:-cc}" build-essential
        has_tool make make
        has_tool pkg-config pkg-config
        has_lib ncursesw libncurses-dev
        has_lib libzip libzip-dev
        has_lib libcjson libcjson-dev
        has_lib zlib zlib1g-dev
        has_lib libxxhash libxxhash-dev
        has_lib libdeflate libdeflate-dev
        has_lib yaml-0.1 libyaml-dev
        has_lib cmocka libcmocka-dev
        has_lib vterm libvterm-dev
        has_tool strace strace
        ;;
    check)
        has_tool clang clang
        # libFuzzer is a package of its own in newer releases
        case $missing in
        *clang*) apt-cache show libclang-rt-dev >/dev/null 2>&1 && missing="$missing libclang-rt-dev" ;;
        esac
        has_tool clang-tidy clang-tidy
        has_tool cppcheck cppcheck
        ;;
    package)
        has_tool cmake cmake
        has_tool xz xz-utils
        has_tool dpkg-source dpkg-dev
        has_tool dh debhelper
        has_tool lintian lintian
        ;;
    interop)
        has_tool mpirun openmpi-bin
        has_lib ompi-c libopenmpi-dev
        has_tool python3 python3
        python3 -c 'import venv, ensurepip' 2>/dev/null || missing="$missing python3-venv"
        ;;
    *)
        echo "deps.sh: $group: not one of build, check, package, interop" >&2
        exit 2
        ;;
    esac
done
[ -z "$missing" ] && exit 0

if ! command -v apt-get >/dev/null 2>&1; then
    echo "deps: this system has no apt-get. Please install what these Debian packages hold, then run make again:" >&2
    echo "   $missing" >&2
    exit 1
fi
as_root=
if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null 2>&1; then
        echo "deps: packages are missing and there is no sudo. As root, please run:" >&2
        echo "    apt-get install$missing" >&2
        exit 1
    fi
    as_root=sudo
fi
echo "deps: installing$missing"
# shellcheck disable=SC2086 # the list is words
install_missing() {
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $missing
}
# package lists may be absent or old: refresh them once and try again
install_missing >/dev/null 2>&1 || { $as_root apt-get update -q && install_missing; } || {
    echo "deps: apt-get could not install$missing" >&2
    exit 1
}
