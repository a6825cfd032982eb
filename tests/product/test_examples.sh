#!/bin/sh
# The programs of docs/examples compile without a warning, against the header as C and as C++,
# and do what their first line says; its family files are whole.
set -eu
lens=${SHARDLENS:-build/shardlens}
out=${OUT:-build}
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
if nm -D "$lens" | grep -q -e __asan_init -e __tsan_init; then
    exit 77    # the library then needs the sanitizer's flags
fi

for source in docs/examples/*.c; do
    # shellcheck disable=SC2046,SC2086 # flags and compilers are words
    ${CC:-cc} -std=c11 -Wall -Wextra -Wshadow -Wconversion -Werror -D_GNU_SOURCE -Iinclude "$source" "$out/libshardlens.a" \
        $(pkg-config --libs libzip libcjson zlib libxxhash libdeflate yaml-0.1) -lpthread -lm -o "$tmp/$(basename "$source" .c)"
done
if command -v c++ >/dev/null 2>&1; then
    printf '#include <shardlens/shardlens.h>\nint main() { return sl_version() == nullptr; }\n' >"$tmp/header.cpp"
    c++ -std=c++11 -Wall -Wextra -Werror -Iinclude -fsyntax-only "$tmp/header.cpp"
fi

for family in docs/examples/*.json; do
    "$lens" models --check "$family" >/dev/null
done

"$lens" demo "$tmp/sample" >/dev/null
"$tmp/list" "$tmp/sample" >"$tmp/listed"
grep -q '^megatron-torch, MiniCPM, [0-9]* parameters, TP 2, PP 2$' "$tmp/listed"
grep -q '^decoder.layers.7.mlp.linear_fc1.weight  bf16  \[1280, 256\]  tp' "$tmp/listed"

"$tmp/convert" "$tmp/sample" "$tmp/hf" | grep -q 'every byte read back and compared with the source$'
"$lens" verify "$tmp/sample" "$tmp/hf" >/dev/null
code=0
"$tmp/convert" "$tmp/sample" "$tmp/hf" 2>"$tmp/told" || code=$?
test $code -eq 5
grep -q "^$tmp/hf: " "$tmp/told"

"$tmp/progress" "$tmp/hf" "$tmp/cut" 1 4 2>"$tmp/bar"
tail -c 6 "$tmp/bar" | grep -q '100%$'
"$lens" verify "$tmp/sample" "$tmp/cut" >/dev/null

"$tmp/compare" "$tmp/hf" "$tmp/cut" >"$tmp/compared"
grep -q '^0 of [0-9]* weights differ$' "$tmp/compared"
grep -q 'sound: 0 errors' "$tmp/compared"
"$lens" demo "$tmp/other" --seed 5 >/dev/null
"$tmp/compare" "$tmp/sample" "$tmp/other" | grep -q 'different .* elements, largest difference'

# it is made for one model and says so of another
code=0
"$tmp/one_model" "$tmp/sample" "$tmp/never" "$tmp/hf" 2>"$tmp/told" >/dev/null || code=$?
test $code -eq 2
grep -q 'num_layers' "$tmp/told"
test ! -e "$tmp/never"
