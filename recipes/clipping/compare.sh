#!/usr/bin/env bash
# Fourteen clipping strategies on the same separators: mask inference and waveform (others by model=...), the same data
# order, steps, optimizer and three seeds. Strategies that need a threshold get a grid for each loss, from below all
# gradient norms to above most; the lowest validation loss chooses.
# Needs: nothing with the default corpus (demo); any other by data=, for example
#   recipes/clipping/compare.sh data=fsdd data.root=/data/fsdd trainer.max_steps=600
# One run a core (joblib), or a job a run on a Slurm cluster (hydra/launcher=submitit_slurm). The same command again
# goes on where it was stopped, and repeats no finished run; clip.max_norm=... takes other thresholds. Relative paths
# start at the project's folder. Disk: 25 MB a run of the small network. Time: benchmarks/estimate.py says it for any size
# (runs=54 a model).
set -euo pipefail
source "$(dirname "$0")/../sweeps.sh"
begin_sweeps runs/clipping "$@"
[[ " $* " == *" model="* ]] || overrides+=(model=mask_inference,waveform)
[[ " $* " == *" trainer.dynamics_steps="* ]] || overrides+=(trainer.dynamics_steps=30) # how far steps go

thresholds() { # of a model
    case $1 in
        mask_inference) echo 1e-5,1e-4,1e-3 ;;
        waveform) echo 1,3,10 ;;
        deep_clustering) echo 1e-3,3e-3,1e-2 ;;
        whitened_kmeans) echo 0.1,0.3,1 ;;
        chimera) echo 0.03,0.1,0.3 ;;
        *)
            echo "model=$1: no thresholds are known for it; give them by clip.max_norm=..." >&2
            return 2
            ;;
    esac
}

declare -A grids
models=$(last_override model)
for model in ${models//,/ }; do
    grids[$model]=${max_norm:-$(thresholds "$model")}
done
sweep '${hydra:runtime.choices.model}_${hydra:runtime.choices.clip}_seed${seed}' \
    clip=none,autoclip,autoclip_windowed,autoclip_per_tensor,autoclip_per_module,zclip,adagc,agc,adagn,spam,adaclip,block_normalized
for model in ${models//,/ }; do
    overrides+=(model="$model" clip.max_norm="${grids[$model]}")
    sweep '${hydra:runtime.choices.model}_fixed${clip.max_norm}_seed${seed}' clip=fixed
    sweep '${hydra:runtime.choices.model}_error_feedback${clip.max_norm}_seed${seed}' clip=error_feedback \
        'clip.max_error_norm=${clip.max_norm}'
done
finish strategies
