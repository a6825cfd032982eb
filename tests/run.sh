#!/bin/sh
# run.sh TEST...: runs test programs one after the other, shows what failed, and ends in one
# line "N passed, N failed". Each program runs in the repository's root and says what it does
# in cmocka's words ("[ RUN      ] name", "[       OK ] name"); a test_*.sh is one test, passed
# when it exits with 0, skipped when with 77. A program that dies counts as failed with every
# test that it had begun and not finished. With SHARDLENS_TEST_AGAIN=1 one that fails is run a second
# time, which counts; both are shown ("AGAIN"): some tests watch terminals and clocks, and a machine
# may be busy.
passed=0 failed=0
count() { grep -c "$1" "$log"; }

# once TEST: runs it; sets ok, skipped, bad, rc and log
once() {
    case $1 in
    *.sh)
        log=${OUT:-build}/$1.log
        mkdir -p "$(dirname "$log")"
        timeout "${SHARDLENS_TEST_SECONDS:-300}" sh "$1" >"$log" 2>&1
        rc=$?
        begun=1 ok=0 skipped=0
        [ $rc -eq 0 ] && ok=1
        [ $rc -eq 77 ] && skipped=1 rc=0
        ;;
    *)
        log=$1.log
        CMOCKA_MESSAGE_OUTPUT=stdout timeout "${SHARDLENS_TEST_SECONDS:-300}" "$1" >"$log" 2>&1
        rc=$?
        begun=$(count '^\[ RUN      \]') ok=$(count '^\[       OK \]')
        skipped=$(count '^\[  SKIPPED \] [A-Za-z_]')
        # cmocka names skipped tests a second time in its summary
        [ $rc -eq 0 ] && skipped=$((skipped / 2))
        ;;
    esac
    bad=$((begun - ok - skipped))
    [ "$bad" -lt 0 ] && bad=0
    [ "$begun" -eq 0 ] && bad=1
    [ "$rc" -ne 0 ] && [ "$bad" -eq 0 ] && bad=1
    return 0
}
why() { grep -v -e '^\[ RUN' -e '^\[       OK' "$log" | tail -40; }

for t in "$@"; do
    once "$t"
    if [ "$bad" -gt 0 ] && [ -n "${SHARDLENS_TEST_AGAIN:-}" ]; then
        echo "AGAIN $t (exit $rc)"
        why
        once "$t"
    fi
    passed=$((passed + ok)) failed=$((failed + bad))
    if [ "$bad" -gt 0 ]; then
        echo "FAIL $t (exit $rc)"
        why
    elif [ "$skipped" -gt 0 ]; then
        echo "ok   $t ($ok, $skipped skipped)"
    else
        echo "ok   $t ($ok)"
    fi
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
