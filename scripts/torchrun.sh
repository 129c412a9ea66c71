#!/bin/bash
# One training over several machines without a scheduler; the same command on each of them:
#
#     NODES=2 GPUS=4 FIRST=host1 scripts/torchrun.sh recipe=ljspeech run.name=first
#
# FIRST is one of the machines, by a name or address that all can reach; PORT must be free there. On one machine
# `python train.py trainer=ddp trainer.devices=4 ...` needs none of this. run.name is needed: all processes must agree.
set -euo pipefail
: "${NODES:?how many machines}" "${GPUS:?processes on each}" "${FIRST:?the machine where they meet}"
bin=$(dirname "${PYTHON:-.venv/bin/python}")
# --max-restarts=0: torchrun would begin again with what is left; the same command resumes from the last checkpoint.
exec "$bin/torchrun" --nnodes="$NODES" --nproc-per-node="$GPUS" --max-restarts=0 \
    --rdzv-backend=c10d --rdzv-endpoint="$FIRST:${PORT:-29400}" --rdzv-id="${FIRST}" \
    train.py trainer=ddp trainer.num_nodes="$NODES" trainer.devices="$GPUS" "$@"
