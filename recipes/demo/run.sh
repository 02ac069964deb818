#!/usr/bin/env bash
# Two voices made by espeak-ng, separated with AutoClip and without clipping: from nothing to a table of scores.
# Needs: nothing but this repository's environment. Disk: 0.1 GB. Time: see README.md.
#   recipes/demo/run.sh [--stage 2: check, 3: train and evaluate] [key=value ...]
# As in recipes/demo/run.sh --stage 2 run_dir=runs/more data.voices=24 trainer.max_steps=10000; it begins with stage 3
# otherwise. The same command again goes on with runs that were stopped, and shows the scores of finished ones.
set -euo pipefail
source "$(dirname "$0")/../stages.sh"
begin . --stage 3 "$@"
run_dir=${run_dir:-runs/demo}
stage 2 python scripts/check_data.py data=demo "${data_overrides[@]}" output="$run_dir/check"
echo "16 voices speak, two networks learn to separate them (with AutoClip, without clipping), both are scored: 5 minutes"
# Sentences have no long pauses, so that short excerpts and many of them do better than the default's long ones.
stage 3 python train.py --multirun hydra/launcher=joblib threads=1 clip=autoclip,none \
    data=demo model=mask_inference trainer.max_steps=3000 trainer.batch_size=8 trainer.excerpt_frames=100 \
    trainer.resume=true \
    run_dir="$run_dir" "${overrides[@]}"
