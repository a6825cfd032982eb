#!/bin/sh
# run.sh FUZZ-PROGRAM...: runs libFuzzer targets for FUZZ_SECONDS each, from the seeds that
# gather.c finds and from what earlier runs found (build-fuzz/corpus), with the words of
# tests/fuzz/dict. Each run adds a line to build-fuzz/ledger: seconds, executions, edges.
# Ends in "N passed, N failed"; inputs that crash stay in build-fuzz/found.
set -u
out=build-fuzz
seconds=${FUZZ_SECONDS:-600}
passed=0 failed=0
mkdir -p "$out/found"
for program in "$@"; do
    name=$(basename "$program" | sed 's/^fuzz_//')
    corpus=$out/corpus/$name seeds=$out/seeds/$name dict=tests/fuzz/dict/$name.dict
    mkdir -p "$corpus"
    "$out/tests/fuzz/seeds" "$name" "$seeds" || { failed=$((failed + 1)) && continue; }
    begin=$(date +%s)
    if "$program" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -max_len=65536 -dict="$dict" \
        -print_final_stats=1 -artifact_prefix="$out/found/$name-" "$corpus" "$seeds" >"$out/$name.log" 2>&1; then
        passed=$((passed + 1)) said=ok
    else
        failed=$((failed + 1)) said=FAIL
    fi
    executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$out/$name.log")
    edges=$(sed -n 's/.* cov: \([0-9]*\) .*/\1/p' "$out/$name.log" | tail -1)
    echo "$name $(($(date +%s) - begin)) s, ${executions:-0} executions, ${edges:-0} edges: $said" >>"$out/ledger"
    printf '%-4s %s\n' "$said" "fuzz_$name: ${executions:-0} executions, ${edges:-0} edges"
    [ $said = ok ] || tail -40 "$out/$name.log"
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
