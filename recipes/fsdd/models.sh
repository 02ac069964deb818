#!/usr/bin/env bash
# The paper's five models on the Free Spoken Digit Dataset, each with AutoClip and without clipping: ten runs, one a core.
# Needs: the dataset (see run.sh); its folder is the first argument. Disk: 0.5 GB. Time: about 8 minutes a run.
# Further overrides are passed on: recipes/fsdd/models.sh ~/fsdd seed=1 hydra.launcher.n_jobs=8
set -euo pipefail
if [[ $# -eq 0 || $1 == *=* ]]; then
    echo "usage: $0 FSDD_FOLDER [key=value ...]" >&2
    exit 2
fi
root=$(realpath -- "$1")
shift
cd "$(dirname "$0")/../.."
common=(--multirun hydra/launcher=joblib threads=1 trainer.progress=false evaluation.progress=false
    data=fsdd data.root="$root" clip=autoclip,none)
python train.py "${common[@]}" run_dir=runs/fsdd_masks model=mask_inference,waveform "$@"
# The embedding losses cost twice as much a bin, and gain less from long excerpts: smaller batches, more steps.
python train.py "${common[@]}" run_dir=runs/fsdd_embeddings model=deep_clustering,whitened_kmeans,chimera \
    trainer.batch_size=8 trainer.excerpt_frames=100 "$@"
