#!/bin/sh
# What `make install` puts down works: the program runs, a C program finds the library through
# pkg-config, statically and shared, and `make uninstall` takes everything away.
set -eu
out=${OUT:-build}
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
unset MAKEFLAGS MFLAGS

if nm -D "$out/shardlens" 2>/dev/null | grep -q -e __asan_init -e __tsan_init; then
    exit 77    # a sanitizer must be the first library of a program
fi
make --no-print-directory OUT="$out" DESTDIR="$root" PREFIX=/usr install
for f in bin/shardlens lib/libshardlens.a lib/libshardlens.so lib/pkgconfig/shardlens.pc \
    include/shardlens/shardlens.h include/shardlens/types.h share/man/man1/shardlens.1 \
    share/bash-completion/completions/shardlens share/zsh/site-functions/_shardlens \
    share/fish/vendor_completions.d/shardlens.fish; do
    test -s "$root/usr/$f"
done
version=$("$root/usr/bin/shardlens" --version)
test "$version" = "shardlens $(sed -n 's/^Version: //p' "$root/usr/lib/pkgconfig/shardlens.pc")"

cat >"$root/user.c" <<'C'
#include <shardlens/shardlens.h>
#include <stdio.h>

int main(int argc, char **argv)
{
    struct sl_checkpoint *ck;
    struct sl_error err;
    if (argc < 2 || sl_open(argv[1], NULL, &ck, &err))
        return 1;
    printf("%s %s %zu\n", sl_version(), sl_container_name(sl_info(ck)->container), sl_tensor_count(ck));
    sl_close(ck);
    return 0;
}
C
export PKG_CONFIG_PATH="$root/usr/lib/pkgconfig" PKG_CONFIG_SYSROOT_DIR="$root"
"$root/usr/bin/shardlens" demo "$root/sample" >/dev/null
cc=${CC:-cc}
# the system's own libraries must not get the sysroot
flags="-I$root/usr/include -L$root/usr/lib"
told=$(pkg-config --cflags --libs shardlens)
for flag in $flags -lshardlens; do
    case " $told " in *" $flag "*) ;; *) echo "pkg-config does not say $flag but $told"; exit 1 ;; esac
done
# shellcheck disable=SC2086 # flags are words
$cc -std=c11 -Wall -Wextra -Werror "$root/user.c" $flags -lshardlens -o "$root/user"
LD_LIBRARY_PATH="$root/usr/lib" "$root/user" "$root/sample"
unset PKG_CONFIG_SYSROOT_DIR PKG_CONFIG_PATH
# shellcheck disable=SC2046 # flags are words
$cc "$root/user.c" -I"$root/usr/include" "$root/usr/lib/libshardlens.a" \
    $(pkg-config --libs libzip libcjson zlib libxxhash libdeflate yaml-0.1) -lpthread -lm -o "$root/user-static"
"$root/user-static" "$root/sample"

# only what the header declares is exported
nm -D --defined-only "$root/usr/lib/libshardlens.so" | awk '$2 == "T" { print $3 }' | sed 's/@.*//' | sort >"$root/exported"
sh src/api/exports.sh 0 <include/shardlens/shardlens.h | sed -n 's/^ *\(sl_[a-z0-9_]*\);/\1/p' | sort >"$root/declared"
diff "$root/declared" "$root/exported"

make --no-print-directory OUT="$out" DESTDIR="$root" PREFIX=/usr uninstall
left=$(find "$root/usr" -type f -o -type l)
test -z "$left"
