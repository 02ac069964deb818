#!/usr/bin/env bash
# Every clipping strategy on the same separators: mask inference and waveform, the same data order, steps, optimizer and
# three seeds. Strategies that need a threshold get a grid, of which the lowest validation loss chooses.
# Needs: nothing with the default corpus (demo); any other by data=, for example
#   recipes/clipping/compare.sh data=fsdd data.root=/data/fsdd trainer.max_steps=600
# One run a core (joblib), or a job a run on a Slurm cluster (hydra/launcher=submitit_slurm). The same command again
# goes on where it was stopped, and repeats no finished run. Relative paths start at the project's folder.
# Disk: 25 MB a run of the small network. Time: scripts/estimate.py says it for any size (runs=66 a model).
set -euo pipefail
source "$(dirname "$0")/../sweeps.sh"
begin_sweeps runs/clipping "$@"
models=model=mask_inference,waveform
grid=clip.max_norm=1e-4,1e-3,1e-2,0.1,1,10
sweep '${hydra:runtime.choices.model}_${hydra:runtime.choices.clip}_seed${seed}' "$models" \
    clip=none,autoclip,autoclip_windowed,autoclip_per_tensor,autoclip_per_module,zclip,adagc,agc,spam,adaclip,block_normalized
sweep '${hydra:runtime.choices.model}_fixed${clip.max_norm}_seed${seed}' "$models" clip=fixed "$grid"
sweep '${hydra:runtime.choices.model}_error_feedback${clip.max_norm}_seed${seed}' "$models" clip=error_feedback "$grid" \
    'clip.max_error_norm=${clip.max_norm}'
finish compare_clipping.py
