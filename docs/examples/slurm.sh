#!/bin/sh
# slurm.sh SRC DST OPTIONS...: one conversion over a Slurm array, then what finishes it:
#
#     job=$(sbatch --parsable --array=1-16 slurm.sh SRC DST --to hf)
#     sbatch --dependency=afterok:"$job" slurm.sh SRC DST --to hf
#
# The options must be the same both times. A task that was requeued or ran out of time is given
# again as it was: parts that are done are left alone, one that was begun is gone on with.
#SBATCH --job-name=shardlens
#SBATCH --cpus-per-task=8
#SBATCH --mem=1G
#SBATCH --requeue
#SBATCH --signal=B:TERM@60
set -eu
[ "$#" -ge 2 ] || { echo "usage: slurm.sh SRC DST OPTIONS..." >&2; exit 2; }
if [ -n "${SLURM_ARRAY_TASK_ID:-}" ]; then
    set -- "$@" --part "$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT"
else
    set -- "$@" --finish
fi
# exec: the signal that Slurm sends reaches shardlens itself, which stops in order
exec shardlens convert "$@" --threads "${SLURM_CPUS_PER_TASK:-8}" --progress plain
