#!/usr/bin/env bash
# Two voices made by espeak-ng, separated with AutoClip and without clipping: from nothing to a table of scores.
# Needs: nothing but this repository's environment. Disk: 0.1 GB. Time: see README.md.
# Further overrides are passed on: recipes/demo/run.sh data.voices=24 trainer.max_steps=10000
set -euo pipefail
cd "$(dirname "$0")/../.."
exec python train.py --multirun hydra/launcher=joblib threads=1 clip=autoclip,none \
    data=demo model=mask_inference trainer.max_steps=2000 trainer.progress=false evaluation.progress=false "$@"
