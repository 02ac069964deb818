#!/usr/bin/env bash
# The paper's five models on the Free Spoken Digit Dataset, each with AutoClip and without clipping: ten runs, one a core.
# Needs: the dataset (see run.sh); its folder is the first argument. Disk: 0.5 GB. Time: 8 to 12 minutes a run.
# Further overrides are passed on: recipes/fsdd/models.sh ~/fsdd seed=1 hydra.launcher.n_jobs=8
# The same command again goes on with runs that were stopped.
set -euo pipefail
source "$(dirname "$0")/../stages.sh"
begin "$@"
runs=${run_dir:-runs}
common=(--multirun hydra/launcher=joblib threads=1 trainer.resume=true
    data=fsdd data.root="$root" clip=autoclip,none)
python train.py "${common[@]}" run_dir="$runs"/fsdd_masks model=mask_inference,waveform "${overrides[@]}"
# An embedding costs three times as much a bin: fewer steps.
python train.py "${common[@]}" run_dir="$runs"/fsdd_embeddings model=whitened_kmeans,chimera trainer.max_steps=1600 "${overrides[@]}"
# Deep clustering is slow to begin, and wants many steps rather than long excerpts.
python train.py "${common[@]}" run_dir="$runs"/fsdd_deep_clustering model=deep_clustering \
    trainer.max_steps=3000 trainer.batch_size=8 trainer.excerpt_frames=100 "${overrides[@]}"
