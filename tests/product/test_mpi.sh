#!/bin/sh
# One conversion by several processes of mpirun: the bytes of one process; where one of them fails or is killed the job
# ends with an error and the same command goes on. Needs Open MPI (make mpi).
set -eu
lens=${SHARDLENS:-build/shardlens}
mpi=${OUT:-build}/mpi/shardlens
[ -x "$mpi" ] || { echo "no Open MPI when this was built"; exit 77; }
command -v mpirun >/dev/null 2>&1 || { echo "no mpirun"; exit 77; }
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1
export OMPI_MCA_hwloc_base_binding_policy=none OMPI_MCA_btl_vader_single_copy_mechanism=none
export ASAN_OPTIONS="${ASAN_OPTIONS:+$ASAN_OPTIONS:}detect_leaks=0"     # Open MPI's own
timeout 60 mpirun -n 2 true </dev/null || { echo "mpirun runs nothing here"; exit 77; }
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

together() { # SIZE ARGUMENTS
    n=$1
    shift
    mpirun -n "$n" "$mpi" convert "$@" </dev/null
}
fail() {
    echo "$1"
    [ ! -e "$tmp/err" ] || cat "$tmp/err"
    exit 1
}
same() { # A B: but for the report, which tells the time it took
    diff -r -x shardlens-report.json "$1" "$2" || fail "$2: other bytes than one process writes"
    ls -d "$2".part* >/dev/null 2>&1 && fail "$2: something is left beside it"
    rm -rf "$2"
}

"$lens" demo "$tmp/mega" --tp 2 --pp 2 --size 8MB >/dev/null
"$lens" convert "$tmp/mega" "$tmp/hf" --to hf --max-shard-size 500KB >/dev/null 2>&1
"$lens" convert "$tmp/hf" "$tmp/tp4" --to megatron --tp 4 --pp 2 >/dev/null 2>&1
"$lens" convert "$tmp/hf" "$tmp/dist" --to torch_dist --dist-files 5 >/dev/null 2>&1
"$lens" convert "$tmp/mega" "$tmp/one" --to hf >/dev/null 2>&1

together 4 "$tmp/mega" "$tmp/out" --to hf --max-shard-size 500KB >"$tmp/said" 2>"$tmp/err" || fail "4 processes"
grep -q '^  together  4 processes' "$tmp/said" || fail "its summary does not tell of 4 processes"
[ "$(grep -c '^  written' "$tmp/said")" -eq 1 ] || fail "more than one summary"
same "$tmp/hf" "$tmp/out"
together 3 "$tmp/hf" "$tmp/out" --to megatron --tp 4 --pp 2 --verify checksum >"$tmp/said" 2>"$tmp/err" || fail "to megatron"
same "$tmp/tp4" "$tmp/out"
together 2 "$tmp/hf" "$tmp/out" --to torch_dist --dist-files 5 --json >"$tmp/said" 2>"$tmp/err" || fail "to torch_dist"
grep -q '"summary"' "$tmp/said" || fail "no report with --json"
same "$tmp/dist" "$tmp/out"
together 2 "$tmp/mega" "$tmp/out" --to hf >"$tmp/said" 2>"$tmp/err" || fail "one output file"
same "$tmp/one" "$tmp/out"

# what nobody can do is said once
together 3 "$tmp/none" "$tmp/out" --to hf >"$tmp/said" 2>"$tmp/err" && fail "a source that is not there was converted"
[ "$(grep -c '^shardlens: .*no such file' "$tmp/err")" -eq 1 ] || fail "not one line of a source that is not there"
together 2 "$tmp/mega" "$tmp/out" --to hf --part 1/2 >"$tmp/said" 2>"$tmp/err" && fail "--part was taken"
grep -q -- '--part is not for several processes' "$tmp/err" || fail "--part was not refused by name"
[ ! -e "$tmp/out" ] || fail "a refused job left a target"

strace -o /dev/null true 2>/dev/null || exit 0
# faulty FAULT: two processes, the second of which meets the fault at its 8th write
faulty() {
    mpirun -n 1 "$mpi" convert "$tmp/mega" "$tmp/out" --to hf --max-shard-size 500KB \
        : -n 1 strace -f -qq -o "$tmp/trace" -e trace=pwrite64 -e "inject=pwrite64:$1:when=8" \
          "$mpi" convert "$tmp/mega" "$tmp/out" --to hf --max-shard-size 500KB </dev/null >"$tmp/said" 2>"$tmp/err"
}
rc=0
faulty error=ENOSPC || rc=$?
[ $rc -eq 5 ] || fail "exit $rc when a process finds the disk full, 5 expected"
grep -q '^shardlens: .*No space left.*(process 1 of 2)$' "$tmp/err" || fail "the process that failed is not named"
[ ! -e "$tmp/out" ] || fail "a target of a job that failed"
together 2 "$tmp/mega" "$tmp/out" --to hf --max-shard-size 500KB --resume >"$tmp/said" 2>"$tmp/err" || fail "going on after a failure"
same "$tmp/hf" "$tmp/out"

faulty signal=SIGKILL && fail "the job went well though a process was killed"
grep -q 'killed by SIGKILL' "$tmp/trace" || fail "the process was not killed"
[ ! -e "$tmp/out" ] || fail "a target of a job that was killed"
ls -d "$tmp/out".part* >/dev/null 2>&1 || fail "nothing was kept of a job that was killed"
together 4 "$tmp/mega" "$tmp/out" --to hf --max-shard-size 500KB >"$tmp/said" 2>"$tmp/err" || fail "going on after a kill"
same "$tmp/hf" "$tmp/out"
