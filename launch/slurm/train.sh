#!/usr/bin/env bash
#SBATCH --job-name=farsighted
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=TERM@180
# One task a GPU, each of which sees all GPUs of its node; jax learns of the other tasks from the environment. Submit
# from the repository root, after `source launch/environment.sh plot` made .venv on the shared file system:
#
#   sbatch --nodes 4 --ntasks-per-node 8 --gpus-per-node 8 --cpus-per-task 12 --time 24:00:00 \
#     launch/slurm/train.sh train --config configs/lam_pretrain.py:base --workdir /shared/run
#
# Three minutes before its time is over the job saves, ends with status 143 and is put into the queue again, where
# the same line resumes. A job that is preempted does the same, if the cluster grants it time.
set -euo pipefail

[ "$#" -gt 0 ] || { echo "error: which command, e.g. train --config FILE --workdir FOLDER" >&2; exit 2; }
cd "${SLURM_SUBMIT_DIR:?submit this with sbatch}"

status=0
srun --kill-on-bad-exit=0 .venv/bin/farsighted "$@" || status=$?
if [ "$status" = 143 ]; then
  echo "stopped by a signal after saving; in the queue again" >&2
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
