#!/bin/bash
# Two nodes with eight GPUs each, one task a node: osftx starts the ranks.
#   sbatch slurm_task_a_node.sh +experiment=NAME [overrides]      from the folder that relative paths are meant from
#SBATCH --job-name=osftx
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --time=08:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:USR1@180

set -u
port=$((20000 + SLURM_JOB_ID % 10000))
first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
run=outputs/slurm_$SLURM_JOB_ID # the same after a requeue

srun --kill-on-bad-exit=0 python -m osftx "$@" distributed.nproc_per_node=8 \
    distributed.rdzv_endpoint="$first:$port" output_dir="$run" checkpointing.grace_s=120 &
step=$!

# Slurm sends USR1 to this script, 180 seconds before the time limit: the tasks get it, save and leave; the job goes
# back into the queue and goes on from the save.
requeue=no
trap 'requeue=yes; scancel --signal=USR1 "$SLURM_JOB_ID.0"' USR1
wait "$step"
code=$?
if [ "$requeue" = yes ]; then # the signal has ended the first wait
    wait "$step"
    code=$?
fi
if [ "$requeue" = yes ] && [ "$code" -ne 0 ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
