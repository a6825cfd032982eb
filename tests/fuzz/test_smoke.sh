#!/bin/sh
# test_smoke.sh: libFuzzer, a second for each reader of bytes, from the seeds: does the harness still
# build and run, and is nothing found at once? `make fuzz` is the same for longer, for the targets above the
# formats too, which need the whole library; here those are replayed (replay.c).
# Needs clang with libFuzzer; compiles the rooms base and format into OUT/fuzz with both sanitizers.
set -u
out=${OUT:-build}/fuzz
case ${OUT:-build} in
*asan* | *tsan*) echo "skipped: make test runs it, with sanitizers of its own" && exit 77 ;;
esac
command -v clang >/dev/null 2>&1 || { echo "skipped: no clang"; exit 77; }
mkdir -p "$out"
echo 'int LLVMFuzzerTestOneInput(const unsigned char *d, unsigned long n) { (void)d; (void)n; return 0; }' >"$out/probe.c"
clang -fsanitize=fuzzer,address "$out/probe.c" -o "$out/probe" 2>/dev/null || { echo "skipped: clang has no libFuzzer"; exit 77; }

pkgs="libzip libcjson zlib libxxhash libdeflate yaml-0.1"
flags="-std=c11 -O1 -g -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -Iinclude -Isrc -fsanitize=fuzzer-no-link,address,undefined
       -fno-sanitize-recover=undefined $(pkg-config --cflags $pkgs)"

names="item json metadata pickle safetensors torch torch_pickle yaml zip"
targets=$(for name in $names; do echo "tests/fuzz/fuzz_$name.c"; done)
common="tests/fuzz/refused.c tests/fuzz/repair.c tests/fuzz/wrap.c"

# compiles what is older than its source or than any header
newest=$(find src/base src/format src/checkpoint include tests/fuzz -name '*.h' -newer "$out/stamp" 2>/dev/null | head -1)
for source in src/base/*.c src/format/*.c src/checkpoint/tiling.c $common $targets; do
    object=$out/$(echo "$source" | tr / _).o
    [ -f "$out/stamp" ] && [ -z "$newest" ] && [ "$object" -nt "$source" ] || echo "$source $object"
done | xargs -r -P "$(nproc)" -n 2 sh -c 'clang $0 -c "$1" -o "$2"' "$flags" || exit 1
touch "$out/stamp"

failed=0
for name in $names; do
    program=$out/fuzz_$name corpus=$out/corpus-$name seeds=$out/seeds-$name
    clang -fsanitize=fuzzer,address,undefined "$out/tests_fuzz_fuzz_$name.c.o" "$out"/tests_fuzz_re*.o "$out"/tests_fuzz_wrap.c.o \
        "$out"/src_*.o -o "$program" $(pkg-config --libs $pkgs) -lpthread -lm || exit 1
    mkdir -p "$corpus"
    "${OUT:-build}/tests/fuzz/seeds" "$name" "$seeds" || exit 1
    "$program" -max_total_time=1 -timeout=10 -rss_limit_mb=2048 -max_len=65536 -dict="tests/fuzz/dict/$name.dict" -print_final_stats=1 \
        -artifact_prefix="$out/found-$name-" "$corpus" "$seeds" >"$out/$name.log" 2>&1 || { tail -40 "$out/$name.log"; failed=1; }
    echo "$name: $(sed -n 's/^stat::number_of_executed_units: *//p' "$out/$name.log") executions"
done
exit $failed
