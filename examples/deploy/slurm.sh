#!/usr/bin/env bash
# Tags an archive on several machines of a Slurm cluster:
#
#   sbatch examples/deploy/slurm.sh /scratch/videos /scratch/tags.parquet
#
# The machines share the folders of the videos, of the result and of vtag's environment. Give the same command again
# when the time was too short: the job continues. Slurm starts a preempted job again by itself (--requeue).
#SBATCH --job-name=vtag
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=1
#SBATCH --exclusive
#SBATCH --time=24:00:00
#SBATCH --requeue
# vtag commits what is finished and ends within 9 seconds of SIGTERM.
#SBATCH --signal=TERM@60
set -euo pipefail

if [ $# -ne 2 ]; then
    echo "usage: sbatch slurm.sh VIDEOS OUT" >&2
    exit 2
fi
if [ -n "${VTAG_ENVIRONMENT:-}" ]; then
    # The virtual environment in which vtag is installed.
    export PATH="$VTAG_ENVIRONMENT/bin:$PATH"
fi

head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
# Decoders that wait for the models are idle. Ray would end them after a second.
export RAY_idle_worker_killing_time_threshold_ms=3600000
# One task on each machine: they start Ray together, the first one runs vtag, and all end with it.
srun ray symmetric-run --address "$head:6379" --min-nodes "$SLURM_JOB_NUM_NODES" -- \
    vtag run "$1" --out "$2" --address auto
