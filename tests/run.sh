#!/bin/sh
# run.sh TEST...: runs cmocka test programs one after the other, shows what failed,
# and ends in one line "N passed, N failed". Each program runs in the repository's root.
# A program that dies counts as failed with every test it had begun and not finished.
passed=0 failed=0
for t in "$@"; do
    log=$t.log
    CMOCKA_MESSAGE_OUTPUT=stdout timeout "${SHARDLENS_TEST_SECONDS:-300}" "$t" >"$log" 2>&1
    rc=$?
    begun=$(grep -c '^\[ RUN      \]' "$log")
    ok=$(grep -c '^\[       OK \]' "$log")
    skipped=$(grep -c '^\[  SKIPPED \] [A-Za-z_]' "$log")
    # cmocka names skipped tests a second time in its summary
    [ "$rc" -eq 0 ] && skipped=$((skipped / 2))
    bad=$((begun - ok - skipped))
    [ "$bad" -lt 0 ] && bad=0
    [ "$begun" -eq 0 ] && bad=1
    [ "$rc" -ne 0 ] && [ "$bad" -eq 0 ] && bad=1
    passed=$((passed + ok)) failed=$((failed + bad))
    if [ "$bad" -gt 0 ]; then
        echo "FAIL $t (exit $rc)"
        grep -v -e '^\[ RUN' -e '^\[       OK' "$log" | tail -40
    elif [ "$skipped" -gt 0 ]; then
        echo "ok   $t ($ok, $skipped skipped)"
    else
        echo "ok   $t ($ok)"
    fi
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
