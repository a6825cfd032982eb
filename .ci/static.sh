#!/bin/sh
# static.sh FOLDER: libzip and cJSON as static libraries, which Debian has as shared ones only,
# built from the source packages of this machine's own release into FOLDER/{include,lib}. Without
# the ciphers and compressors that no checkpoint uses. Does nothing when they are there.
set -eu
dir=$(mkdir -p "$1" && cd "$1" && pwd)
[ -f "$dir/lib/libzip.a" ] && [ -f "$dir/lib/libcjson.a" ] && exit 0

for tool in apt-get dpkg-source cmake; do
    command -v $tool >/dev/null 2>&1 || {
        echo "static: there is no $tool. Please put libzip.a, libcjson.a and their headers into $dir/lib and $dir/include" >&2
        exit 1
    }
done

# the machine's package sources, asked for source packages, with lists of their own
mkdir -p "$dir/lists/partial" "$dir/parts"
: >"$dir/sources.list"
for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
    [ -f "$file" ] && sed -n 's/^deb /deb-src /p' "$file" >>"$dir/sources.list"
done
for file in /etc/apt/sources.list.d/*.sources; do
    [ -f "$file" ] && sed 's/^Types:.*/Types: deb-src/' "$file" >"$dir/parts/$(basename "$file")"
done
from() {
    apt-get -q -o "Dir::Etc::SourceList=$dir/sources.list" -o "Dir::Etc::SourceParts=$dir/parts" \
        -o "Dir::State::Lists=$dir/lists" -o APT::Sandbox::User=root "$@"
}
echo "static: fetching the sources of libzip and cJSON"
log=$dir/log
(from update && cd "$dir" && from source libzip cjson) >"$log" 2>&1 || { tail -5 "$log" >&2; exit 1; }

# build NAME CMAKE-OPTION...
build() {
    name=$1
    shift
    source=$(find "$dir" -maxdepth 1 -type d -name "$name-*" | head -1)
    echo "static: building $(basename "$source")"
    cmake -S "$source" -B "$dir/build-$name" -DCMAKE_BUILD_TYPE=Release -DCMAKE_INSTALL_PREFIX="$dir" \
        -DCMAKE_INSTALL_LIBDIR=lib -DCMAKE_POLICY_VERSION_MINIMUM=3.5 -DBUILD_SHARED_LIBS=OFF "$@" >>"$log" 2>&1 &&
        cmake --build "$dir/build-$name" --target install >>"$log" 2>&1 || { tail -20 "$log" >&2; exit 1; }
}
build libzip -DENABLE_COMMONCRYPTO=OFF -DENABLE_GNUTLS=OFF -DENABLE_MBEDTLS=OFF -DENABLE_OPENSSL=OFF \
    -DENABLE_BZIP2=OFF -DENABLE_LZMA=OFF -DENABLE_ZSTD=OFF -DBUILD_TOOLS=OFF -DBUILD_REGRESS=OFF -DBUILD_EXAMPLES=OFF -DBUILD_DOC=OFF
build cjson -DENABLE_CJSON_TEST=OFF -DENABLE_CJSON_UTILS=OFF
