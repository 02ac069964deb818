#!/usr/bin/env bash
# The scale experiment of the paper's introduction: mask inference, where the magnitudes that enter the loss are 128 times
# as large (an STFT without normalisation; the network's input stays as it is), or the loss 8192 times smaller or larger;
# which strategies keep their score, and what does a threshold that suits one scale do at another?
# All factors are powers of two, and Adam's eps is next to nothing: what doesn't depend on the scale then takes the same
# steps to the last bit, where rounding alone would move a score by half a decibel, and Adam's eps of 1e-8 would stop
# training with small losses whatever clips them.
# Needs: nothing with the default corpus (demo); any other by data=, for example
#   recipes/clipping/scale.sh data=fsdd data.root=/data/fsdd trainer.max_steps=600
# The same command again goes on where it was stopped, and repeats no finished run; clip.max_norm=... takes other
# thresholds. Relative paths start at the project's folder. Disk: 25 MB a run of the small network. Time:
# benchmarks/estimate.py says it (runs=84).
set -euo pipefail
source "$(dirname "$0")/../sweeps.sh"
begin_sweeps runs/clipping_scale "$@"
name='scale${loss_scale}_magnitudes${magnitude_scale}_seed${seed}'
for scales in "loss_scale=1.220703125e-4,1.0,8192.0" "magnitude_scale=128.0"; do
    settings=(model=mask_inference +optimizer.eps=1e-30 "$scales")
    sweep '${hydra:runtime.choices.clip}_'"$name" "${settings[@]}" clip=none,autoclip,zclip,adagc
    sweep 'fixed${clip.max_norm}_'"$name" "${settings[@]}" clip=fixed clip.max_norm="${max_norm:-1e-5,1e-4,1e-3}"
done
finish scales
