#!/bin/sh
# bench.sh: how long conversions take, beside plain copies and a plain torch script.
#
# Makes checkpoints of BENCH_SIZE (2GB) bytes: Llama TP2 PP2, the same in Hugging Face's layout, at
# TP4 PP2 and as torch_dist, and Qwen3-MoE at TP2 EP2. RUNS (5) times in turn, it copies them with cp,
# reads them with cat, and converts, verifies and checks them. Prints medians, peak memory, and
# each as a ratio to what it is measured against: a copy of the same bytes, or reading them. Twice:
# with files in the page cache, and with caches dropped before each run where that is permitted
# (BENCH_CACHE = warm, cold or both). tests/bench/torch_convert.py is timed where a Python with torch
# is found (BENCH_PYTHON, else that of make interop, else python3). Nothing is asserted: a number is a
# fact about one machine.
set -eu
lens=${SHARDLENS:-build/shardlens}
measure=${MEASURE:-build/tests/bench/measure}
folder=${BENCH_DIR:-$(dirname "$lens")/bench}
runs=${RUNS:-5}
size=${BENCH_SIZE:-2GB}
caches=${BENCH_CACHE:-both}
python=${BENCH_PYTHON:-python3}
[ -z "${BENCH_PYTHON:-}" ] && [ -x build/interop-venv/bin/python ] && python=build/interop-venv/bin/python

# ---- the checkpoints ----

mkdir -p "$folder"
source=$folder/megatron hf=$folder/hf tp4pp2=$folder/tp4pp2 dist=$folder/dist moe=$folder/moe
rm -rf "$folder/out"
if [ ! -e "$folder/made-$size" ]; then
    rm -rf "$folder"/*
    quiet() { "$lens" "$@" >/dev/null 2>&1; }
    quiet demo "$source" --family llama --tp 2 --pp 2 --size "$size"
    quiet convert "$source" "$hf" --to hf --progress none
    quiet convert "$source" "$tp4pp2" --to megatron --tp 4 --pp 2 --progress none
    quiet convert "$source" "$dist" --to torch_dist --dist-files 4 --progress none
    quiet demo "$moe" --family qwen3-moe --tp 2 --pp 1 --ep 2 --size "$size"
    : >"$folder/made-$size"
fi
bytes_of() { du -sb "$1" | cut -f1; }
bytes=$(bytes_of "$source")
free=$(df -B1 --output=avail "$folder" | tail -1)
if [ "$free" -lt $((bytes * 2)) ]; then
    echo "bench: $folder has $free bytes free, a run needs $((bytes * 2))" >&2
    exit 1
fi

# ---- runs ----

may_drop() { sync && echo 3 2>/dev/null >/proc/sys/vm/drop_caches; }
warm_up() { find "$source" "$hf" "$tp4pp2" "$dist" "$moe" -type f -exec cat {} + >/dev/null; }

# what a reread from the disk is measured against: the copy is dropped from the page cache before it is read
forget='forget() { find "$1" -type f -exec dd if={} iflag=nocache count=0 status=none \;; }; forget'

# once NAME COMMAND...: one timed run; its output is removed before, the disk is quiet
once() {
    name=$1
    shift
    rm -rf "$folder/out"
    sync -f "$folder"
    [ "$cache" = cold ] && may_drop
    "$measure" "$times/$name" "$@" >"$folder/log" 2>&1 || {
        echo "bench: $name failed:" >&2
        tail -5 "$folder/log" >&2
        rm -f "$times/$name"
        return 1
    }
}
convert() { # NAME SOURCE OPTION...
    name=$1 from=$2
    shift 2
    once "$name" "$lens" convert "$from" "$folder/out" --progress none "$@"
}
read_all() { # NAME FOLDER...
    name=$1
    shift
    once "$name" sh -c 'find "$@" -type f -exec cat {} + >/dev/null' sh "$@"
}
one() {
    case $1 in
    cp) once cp cp -r "$source" "$folder/out" ;;
    cp-sync) once cp-sync sh -c "cp -r '$source' '$folder/out' && sync -f '$folder/out'" ;;
    cp-read) once cp-read sh -c "cp -r '$source' '$folder/out' && sync -f '$folder/out' && find '$folder/out' -type f -exec cat {} + >/dev/null" ;;
    cp-reread) once cp-reread sh -c "cp -r '$source' '$folder/out' && sync -f '$folder/out' && $forget '$folder/out' && find '$folder/out' -type f -exec cat {} + >/dev/null" ;;
    cp-moe) once cp-moe cp -r "$moe" "$folder/out" ;;
    cp-moe-sync) once cp-moe-sync sh -c "cp -r '$moe' '$folder/out' && sync -f '$folder/out'" ;;
    cat) read_all cat "$source" ;;
    cat-both) read_all cat-both "$source" "$hf" ;;
    none) convert none "$source" --to hf --verify none ;;
    reread) convert reread "$source" --to hf --verify reread ;;
    to-megatron) convert to-megatron "$hf" --to megatron --tp 2 --pp 2 --verify none ;;
    reshard) convert reshard "$tp4pp2" --to megatron --tp 2 --pp 4 --verify none ;;
    from-dist) convert from-dist "$dist" --to hf --verify none ;;
    to-dist) convert to-dist "$hf" --to torch_dist --dist-files 4 --verify none ;;
    moe) convert moe "$moe" --to hf --verify none ;;
    threads-1) convert threads-1 "$source" --to hf --verify none --threads 1 ;;
    verify) once verify "$lens" verify "$source" "$hf" --progress none ;;
    check) once check "$lens" check "$source" --deep --progress none ;;
    inspect) once inspect "$lens" inspect "$source" ;;
    esac
}
# A rented disk is fast after a rest and slower after work: each round begins elsewhere in the list, and what is
# compared with each other stands apart in it.
round() { # I
    for what in $(echo cp none cp-reread to-megatron cat check cp-sync reshard cp-moe from-dist reread cp-read to-dist cp-moe-sync moe \
        cat-both verify threads-1 inspect | awk -v i="$1" '{ for (k = 0; k < NF; k++) print $((k + i * 7) % NF + 1) }'); do
        one "$what"
    done
}

# ---- the table ----

median() { sort -n "$1" | awk -v column="$2" '{ v[NR] = $column } END { print v[int((NR + 1) / 2)] }'; }
peak() { awk '$4 > m { m = $4 } END { print m }' "$1"; }
row() { # NAME TITLE [AGAINST [AGAINST]]
    [ -s "$times/$1" ] || return 0
    against=
    for base in ${3:-} ${4:-}; do
        against="$against $(awk -v a="$(median "$times/$1" 1)" -v b="$(median "$times/$base" 1)" 'BEGIN { printf "%.2f", a / b }') x $base"
    done
    awk -v t="$2" -v m="$(median "$times/$1" 1)" -v l="$(sort -n "$times/$1" | head -1 | cut -d' ' -f1)" \
        -v h="$(sort -n "$times/$1" | tail -1 | cut -d' ' -f1)" -v p="$(peak "$times/$1")" -v a="$against" \
        'BEGIN { printf "%-34s %9.3f %9.3f %9.3f %9.1f  %s\n", t, m, l, h, p / 1e6, a }'
}
table() {
    echo
    echo "$cache caches, $runs runs"
    printf '%-34s %9s %9s %9s %9s  %s\n' what median fastest slowest "peak MB" " against"
    row cp "cp -r"
    row cp-sync "cp -r, sync"
    row cp-read "cp -r, sync, read the copy"
    row cp-reread "the same, the copy read from disk"
    row cat "read Megatron"
    row cat-both "read Megatron and HF"
    row none "Megatron -> HF, verify none" cp cp-sync
    row threads-1 "the same with one worker" cp cp-sync
    row reread "Megatron -> HF, verify reread" cp-read cp-reread
    row to-megatron "HF -> Megatron TP2 PP2" cp cp-sync
    row reshard "TP4 PP2 -> TP2 PP4" cp cp-sync
    row from-dist "torch_dist -> HF" cp cp-sync
    row to-dist "HF -> torch_dist" cp cp-sync
    row cp-moe "cp -r of the MoE"
    row cp-moe-sync "the same, sync"
    row moe "MoE TP2 EP2 -> HF" cp-moe cp-moe-sync
    row verify "verify Megatron HF" cat-both
    row check "check --deep" cat
    row torch "torch_convert.py" none
    row inspect "inspect"
}

have_torch=0
"$python" -c 'import torch' 2>/dev/null && have_torch=1
echo "checkpoint: $bytes bytes, Llama TP2 PP2 bf16; MoE: $(bytes_of "$moe") bytes; $(nproc) processors, $(uname -sr)"
echo "folder: $(df --output=fstype "$folder" | tail -1), $(awk '/MemTotal/ { printf "%.1f GB", $2 * 1024 / 1e9 }' /proc/meminfo) of memory"
for cache in warm cold; do
    [ "$caches" = both ] || [ "$caches" = $cache ] || continue
    if [ $cache = cold ] && ! (may_drop) 2>/dev/null; then
        echo "caches can't be dropped here: no cold runs"
        continue
    fi
    times=$folder/times-$cache
    rm -rf "$times" && mkdir "$times"
    [ $cache = warm ] && warm_up
    i=0
    while [ $i -lt "$runs" ]; do
        round $i
        i=$((i + 1))
    done
    if [ $have_torch -eq 1 ] && [ $cache = warm ]; then
        for i in 1 2 3; do
            once torch "$python" tests/bench/torch_convert.py "$source" "$folder/out" || have_torch=0
        done
        "$lens" verify "$folder/out" "$hf" --progress none >/dev/null && same="the torch script and shardlens wrote equal weights" ||
            same="THE TORCH SCRIPT AND SHARDLENS WROTE DIFFERENT WEIGHTS"
    fi
    table
    [ $cache = warm ] && [ -n "${same:-}" ] && echo "$same"
done
rm -rf "$folder/out"
[ $have_torch -eq 1 ] || echo "no torch for $python: the script was not timed (BENCH_PYTHON names another Python)"
