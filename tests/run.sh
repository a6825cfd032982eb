#!/bin/sh
# run.sh TEST...: runs cmocka test programs one after the other, shows what failed,
# and ends in one line "N passed, N failed". Each program runs in the repository's root.
passed=0 failed=0
for t in "$@"; do
    log=$t.log
    CMOCKA_MESSAGE_OUTPUT=stdout timeout "${SHARDLENS_TEST_SECONDS:-300}" "$t" >"$log" 2>&1
    rc=$?
    ok=$(grep -c '^\[       OK \]' "$log")
    bad=$(grep -c '^\[  FAILED  \] [A-Za-z_]' "$log")
    n=$(grep -c '^\[ RUN      \]' "$log")
    [ "$n" -gt "$ok" ] && bad=$((n - ok)) || bad=0
    [ "$n" -eq 0 ] && bad=1
    [ "$rc" -ne 0 ] && [ "$bad" -eq 0 ] && bad=1
    passed=$((passed + ok)) failed=$((failed + bad))
    if [ "$bad" -gt 0 ]; then
        echo "FAIL $t (exit $rc)"
        grep -v -e '^\[ RUN' -e '^\[       OK' "$log" | tail -40
    else
        echo "ok   $t ($ok)"
    fi
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
