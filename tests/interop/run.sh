#!/bin/sh
# run.sh [SHARDLENS]: converts checkpoints that Megatron-core wrote and asks torch, safetensors and transformers
# whether the result is right. Ends in "N passed, N failed". Needs network once, for the Python environment:
#   SHARDLENS_VENV   where it is or will be made (build/interop-venv)
#   INTEROP_KEEP     a folder to keep the checkpoints and results in
set -eu
here=$(cd "$(dirname "$0")" && pwd)
lens=${1:-build/shardlens}
[ -x "$lens" ] || { echo "run.sh: $lens: no such program; build it first (make)" >&2; exit 2; }
lens=$(cd "$(dirname "$lens")" && pwd)/$(basename "$lens")
venv=${SHARDLENS_VENV:-build/interop-venv}

if ! "$venv/bin/python" -c 'import torch, megatron.core, transformers, safetensors' >/dev/null 2>&1; then
    echo "making $venv (torch, megatron-core, transformers; some minutes)"
    python3 -m venv "$venv"
    "$venv/bin/python" -m pip install --quiet torch==2.13.0 numpy safetensors transformers megatron-core
fi
export PYTHONDONTWRITEBYTECODE=1 TRANSFORMERS_VERBOSITY=error HF_HUB_OFFLINE=1
exec "$venv/bin/python" "$here/interop.py" "$lens"
