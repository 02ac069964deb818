#!/usr/bin/env bash
# What ten minutes of one core buy on the demo's voices: the paper's mask inference beside Conv-TasNet, each with as many
# steps as take that long by benchmarks/bench_train.py (2 cores of a Xeon, AVX-512: 56 and 135 ms).
# Needs: nothing but this repository's environment. Time: 20 minutes, or 10 for each where each has a core.
#   recipes/demo/networks.sh [key=value ...]
# The same command again goes on with runs that were stopped, and shows the scores of finished ones.
set -euo pipefail
source "$(dirname "$0")/../sweeps.sh"
begin_sweeps runs/networks seed=0 trainer.batch_size=8 trainer.excerpt_frames=100 data=demo "$@"
cell='${hydra:runtime.choices.model}_seed${seed}'
sweep "$cell" clip=autoclip model=conv_tasnet trainer.max_steps=4200
sweep "$cell" clip=autoclip model=mask_inference trainer.max_steps=9500
finish table
