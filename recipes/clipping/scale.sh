#!/usr/bin/env bash
# The scale experiment of the paper's introduction: mask inference, where the magnitudes that enter the loss are 128 times
# as large (an STFT without normalisation; the network's input stays as it is), or the loss 1e-4 or 1e4 times; which
# strategies keep their score, and what does a threshold that suits one scale do at another?
# Needs: nothing with the default corpus (demo); any other by data=, for example
#   recipes/clipping/scale.sh data=fsdd data.root=/data/fsdd trainer.max_steps=600
# The same command again goes on where it was stopped, and repeats no finished run. Relative paths start at the
# project's folder. Disk: 25 MB a run of the small network. Time: scripts/estimate.py says it (runs=84).
set -euo pipefail
source "$(dirname "$0")/../sweeps.sh"
begin_sweeps runs/clipping_scale "$@"
name='scale${trainer.loss_scale}_magnitudes${trainer.magnitude_scale}_seed${seed}'
for scales in "trainer.loss_scale=1e-4,1.0,1e4" "trainer.magnitude_scale=128.0"; do
    sweep '${hydra:runtime.choices.clip}_'"$name" model=mask_inference "$scales" clip=none,autoclip,zclip,adagc
    sweep 'fixed${clip.max_norm}_'"$name" model=mask_inference "$scales" clip=fixed clip.max_norm=1e-5,1e-4,1e-3
done
finish compare_scales.py
