#!/bin/sh
# run.sh FUZZ-PROGRAM...: runs libFuzzer targets for FUZZ_SECONDS each, from the seeds in
# tests/fuzz/seeds and tests/fixtures and from what earlier runs found (build-fuzz/corpus).
# Ends in "N passed, N failed"; inputs that crash stay in build-fuzz/found.
set -u
out=build-fuzz
seconds=${FUZZ_SECONDS:-600}
passed=0 failed=0
mkdir -p "$out/found"
for program in "$@"; do
    name=$(basename "$program")
    corpus=$out/corpus/$name
    mkdir -p "$corpus"
    find tests/fuzz/seeds tests/fixtures -type f -size -256k 2>/dev/null |
        while read -r f; do cp "$f" "$corpus/seed-$(echo "$f" | tr / -)"; done
    [ "$name" = fuzz_pickle ] && find tests/fixtures -name '*.pt' -exec "$out/tests/fuzz/seeds" "$corpus" {} +
    if "$program" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -max_len=262144 \
        -print_final_stats=1 -artifact_prefix="$out/found/$name-" "$corpus" >"$out/$name.log" 2>&1; then
        passed=$((passed + 1))
        echo "ok   $name: $(sed -n 's/^stat::number_of_executed_units: *//p' "$out/$name.log") executions"
    else
        failed=$((failed + 1))
        echo "FAIL $name"
        tail -40 "$out/$name.log"
    fi
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
