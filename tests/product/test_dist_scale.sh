#!/bin/sh
# A distributed checkpoint of 60000 chunks over 512 sparse files is opened from its .metadata alone, in bounded time and
# memory: tests/bench/dist_scale.py makes it. Its data are holes, so a look into any item would be a finding.
set -eu
lens=${SHARDLENS:-build/shardlens}
command -v python3 >/dev/null 2>&1 || { echo "no python3"; exit 77; }
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
PYTHONDONTWRITEBYTECODE=1 python3 tests/bench/dist_scale.py "$tmp/big" 30000 512

# seconds of processor time, KB of address space; sanitizers take far more of both
if grep -q __asan_init "$lens" || grep -q __tsan_init "$lens"; then
    limit='ulimit -t 200'
else
    limit='ulimit -t 10 && ulimit -v 800000'
fi
sh -c "$limit && exec \"\$0\" inspect \"\$1\" --json" "$lens" "$tmp/big" >"$tmp/json"
python3 - "$tmp/json" <<'END'
import json, sys
seen = json.load(open(sys.argv[1]))
layers = (30000 - 3) // (2 * 256 + 7)
keys = 3 + layers * (2 * 256 + 7)
assert seen["storage"] == f"{keys} arrays in {2 * keys} chunks; 512 files of 512 writers", seen["storage"]
assert seen["config"]["num_layers"] == layers and seen["moe"]["num_experts"] == 256 and seen["family"] == "qwen3-moe", seen["config"]
assert not [p for p in seen["problems"] if p["severity"] == "error"], seen["problems"]
END
