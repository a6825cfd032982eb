#!/bin/sh
# bench.sh: how long a conversion takes, beside a plain copy and a plain torch script.
#
# Makes a Megatron checkpoint (Llama, TP=2 PP=2, BENCH_SIZE = 2GB) and, RUNS (5) times in turn,
# copies it, copies and syncs it, converts it with --verify none and --verify reread, from
# Hugging Face back to Megatron, from TP4 PP2 to TP2 PP4, compares the two, and runs
# tests/bench/torch_convert.py where a Python with torch is found (BENCH_PYTHON, else that of make interop, else python3).
# Prints medians, peak memory and ratios. Times are for files in the page cache, if memory
# holds them; nothing is asserted: a number is a fact about one machine.
set -eu
lens=${SHARDLENS:-build/shardlens}
measure=${MEASURE:-build/tests/bench/measure}
folder=${BENCH_DIR:-$(dirname "$lens")/bench}
runs=${RUNS:-5}
size=${BENCH_SIZE:-2GB}
python=${BENCH_PYTHON:-python3}
[ -z "${BENCH_PYTHON:-}" ] && [ -x build/interop-venv/bin/python ] && python=build/interop-venv/bin/python

mkdir -p "$folder"
source=$folder/megatron
rm -rf "$folder/times" "$folder/out"
mkdir "$folder/times"
if [ ! -e "$source/made-$size" ]; then
    rm -rf "$source"
    "$lens" demo "$source" --family llama --tp 2 --pp 2 --size "$size" >/dev/null
    : >"$source/made-$size"
fi
if [ ! -e "$folder/hf/config.json" ] || [ "$source/made-$size" -nt "$folder/hf/config.json" ]; then
    rm -rf "$folder/hf" "$folder/tp4pp2"
    "$lens" convert "$source" "$folder/hf" --to hf --progress none >/dev/null 2>&1
    "$lens" convert "$source" "$folder/tp4pp2" --to megatron --tp 4 --pp 2 --progress none >/dev/null 2>&1
fi
bytes=$(du -sb "$source" | cut -f1)
free=$(df -B1 --output=avail "$folder" | tail -1)
if [ "$free" -lt "$bytes" ]; then
    echo "bench: $folder has $free bytes free, a run needs $bytes" >&2
    exit 1
fi

# once NAME COMMAND...: one timed run; its output is removed before and after, the disk is quiet
once() {
    name=$1
    shift
    rm -rf "$folder/out"
    sync -f "$folder"
    "$measure" "$folder/times/$name" "$@" >"$folder/log" 2>&1 || {
        echo "bench: $name failed:" >&2
        tail -5 "$folder/log" >&2
        rm -f "$folder/times/$name"
        return 1
    }
}

"$lens" inspect "$source" >/dev/null
cat "$source"/*/*/*.pt "$folder"/hf/*.safetensors "$folder"/tp4pp2/*/*/*.pt >/dev/null 2>&1 || true    # into the page cache
have_torch=0
"$python" -c 'import torch' 2>/dev/null && have_torch=1
i=0
while [ $i -lt "$runs" ]; do
    once cp cp -r "$source" "$folder/out"
    once cp-sync sh -c "cp -r '$source' '$folder/out' && sync -f '$folder/out'"
    once none "$lens" convert "$source" "$folder/out" --to hf --verify none --progress none
    once reread "$lens" convert "$source" "$folder/out" --to hf --verify reread --progress none
    once to-megatron "$lens" convert "$folder/hf" "$folder/out" --to megatron --tp 2 --pp 2 --verify none --progress none
    once reshard "$lens" convert "$folder/tp4pp2" "$folder/out" --to megatron --tp 2 --pp 4 --verify none --progress none
    once verify "$lens" verify "$source" "$folder/hf" --progress none
    if [ $have_torch -eq 1 ]; then
        once torch "$python" tests/bench/torch_convert.py "$source" "$folder/out" || have_torch=0
    fi
    i=$((i + 1))
done
i=0
while [ $i -lt 11 ]; do
    once inspect "$lens" inspect "$source"
    i=$((i + 1))
done

# are the two conversions the same? (the script's files are there after the last run)
if [ $have_torch -eq 1 ]; then
    once torch-last "$python" tests/bench/torch_convert.py "$source" "$folder/out" && {
        rm -f "$folder/times/torch-last"
        rm -rf "$folder/out2"
        "$lens" convert "$source" "$folder/out2" --to hf --verify none --progress none >/dev/null
        if "$lens" verify "$folder/out" "$folder/out2" --progress none >/dev/null; then
            same="the torch script and shardlens wrote equal weights"
        else
            same="THE TORCH SCRIPT AND SHARDLENS WROTE DIFFERENT WEIGHTS"
        fi
        rm -rf "$folder/out2"
    }
fi
rm -rf "$folder/out"

median() { sort -n "$1" | awk -v column="$2" '{ v[NR] = $column } END { print v[int((NR + 1) / 2)] }'; }
peak() { awk '$4 > m { m = $4 } END { print m }' "$1"; }
base=$(median "$folder/times/cp" 1)
base_sync=$(median "$folder/times/cp-sync" 1)
echo
echo "checkpoint: $bytes bytes, Llama TP=2 PP=2 bf16; $runs runs, medians; $(nproc) processors, $(uname -sr)"
echo "folder: $(df --output=fstype "$folder" | tail -1), $(awk '/MemTotal/ { printf "%.1f GB", $2 * 1024 / 1e9 }' /proc/meminfo) of memory"
echo
printf '%-30s %9s %9s %9s %8s %9s %10s\n' what seconds fastest slowest GB/s "peak MB" "x cp (+sync)"
row() { # NAME TITLE
    [ -s "$folder/times/$1" ] || return 0
    m=$(median "$folder/times/$1" 1)
    low=$(sort -n "$folder/times/$1" | head -1 | cut -d' ' -f1)
    high=$(sort -n "$folder/times/$1" | tail -1 | cut -d' ' -f1)
    awk -v t="$2" -v m="$m" -v l="$low" -v h="$high" -v b="$bytes" -v p="$(peak "$folder/times/$1")" \
        -v c="$base" -v s="$base_sync" -v n="$1" 'BEGIN {
        printf "%-30s %9.3f %9.3f %9.3f", t, m, l, h
        if (n == "inspect") printf " %8s %9.1f\n", "", p / 1e6
        else printf " %8.2f %9.1f %5.2f (%.2f)\n", b / m / 1e9, p / 1e6, m / c, m / s }'
}
row cp "cp -r"
row cp-sync "cp -r, then sync"
row none "convert --verify none"
row reread "convert --verify reread"
row to-megatron "HF -> Megatron TP2 PP2"
row reshard "TP4 PP2 -> TP2 PP4"
row verify "verify Megatron against HF"
row torch "torch_convert.py"
row inspect "inspect"
if [ $have_torch -eq 1 ] && [ -s "$folder/times/torch" ]; then
    awk -v a="$(median "$folder/times/torch" 1)" -v b="$(median "$folder/times/none" 1)" \
        'BEGIN { printf "\nthe torch script takes %.1f times as long as convert --verify none\n", a / b }'
    echo "${same:-}"
else
    echo
    echo "no torch for $python: the script was not timed (BENCH_PYTHON names another Python)"
fi
