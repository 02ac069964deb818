#!/usr/bin/env bash
# Two voices made by espeak-ng, separated with AutoClip and without clipping: from nothing to a table of scores.
# Needs: nothing but this repository's environment. Disk: 0.1 GB. Time: see README.md.
# Further overrides are passed on: recipes/demo/run.sh data.voices=24 trainer.max_steps=10000
set -euo pipefail
cd "$(dirname "$0")/../.."
# Sentences have no long pauses, so that short excerpts and many of them do better than the default's long ones.
exec python train.py --multirun hydra/launcher=joblib threads=1 clip=autoclip,none \
    data=demo model=mask_inference trainer.max_steps=3000 trainer.batch_size=8 trainer.excerpt_frames=100 \
    trainer.progress=false evaluation.progress=false "$@"
