#!/usr/bin/env bash
# What ten minutes of one core buy on the demo's voices: mask inference of the paper beside Conv-TasNet and dual-path RNN,
# each with as many steps as take that long by benchmarks/bench_train.py (2 cores of a Xeon, AVX-512).
# Needs: nothing but this repository's environment. Time: 15 minutes on 2 cores, one run a core.
#   recipes/demo/networks.sh [key=value ...]
# The same command again goes on with runs that were stopped, and shows the scores of finished ones.
set -euo pipefail
source "$(dirname "$0")/../sweeps.sh"
begin_sweeps runs/networks seed=0 trainer.batch_size=8 trainer.excerpt_frames=100 data=demo "$@"
cell='${hydra:runtime.choices.model}_seed${seed}'
sweep "$cell" clip=autoclip model=conv_tasnet,dprnn trainer.max_steps=4200
sweep "$cell" clip=autoclip model=mask_inference trainer.max_steps=9500
finish table
