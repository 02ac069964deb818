#!/usr/bin/env bash
# Does clipping matter to the networks that people train today? Conv-TasNet and dual-path RNN (others by model=...) in
# CPU sizes, without clipping, with the fixed 5 of their papers, with AutoClip (p = 10) and with ZClip, three seeds.
# Needs: nothing with the default corpus (demo); any other by data=, for example
#   recipes/clipping/modern.sh data=fsdd data.root=/data/fsdd
#   recipes/clipping/modern.sh data=mini_librispeech data.root=/data data.speakers=8 run_dir=runs/modern_readers
# One run a core (joblib), or a job a run on a Slurm cluster. The same command again goes on where it was stopped, and
# repeats no finished run; clip.max_norm=... takes other fixed thresholds. A run of 4,000 steps takes some 15 minutes.
set -euo pipefail
source "$(dirname "$0")/../sweeps.sh"
begin_sweeps runs/modern "$@"
[[ " $* " == *" model="* ]] || overrides+=(model=conv_tasnet,dprnn)
[[ " $* " == *" trainer.max_steps="* ]] || overrides+=(trainer.max_steps=4000)
cell='${hydra:runtime.choices.model}_${hydra:runtime.choices.clip}'
sweep "${cell}_seed\${seed}" clip=none,autoclip,zclip
sweep "$cell"'${clip.max_norm}_seed${seed}' clip=fixed clip.max_norm="${max_norm:-5}"
finish strategies
