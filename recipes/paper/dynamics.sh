#!/usr/bin/env bash
# Figure 1 of the paper: the 2 x 300 network, 4,000 iterations with L_MI, with AutoClip (p = 10) and without clipping
# (p = 100), recording step size and local smoothness every 20.
# Needs: nothing with the default corpus (demo), any other by data=, for example
#   recipes/paper/dynamics.sh data=fsdd data.root=/data/fsdd
# For L_WKM: model=whitened_kmeans run_dir=runs/dynamics_wkm. Time: a quarter of an hour, a run a core.
# Relative paths start at the project's folder.
set -euo pipefail
overrides=("$@")
[[ " $* " == *" run_dir="* ]] || overrides+=(run_dir=runs/dynamics)
cd "$(dirname "$0")/../.."
root=$(printf '%s\n' "${overrides[@]}" | sed -n 's/^run_dir=//p' | tail -n 1)
python train.py --multirun hydra/launcher=joblib threads=1 \
    hydra.sweep.subdir='p${clip.p}' trainer.resume=true trainer.dynamics_steps=20 \
    model.hidden_size=300 model.num_layers=2 optimizer.lr=1e-3 trainer.max_steps=4000 trainer.batch_size=8 \
    trainer.excerpt_frames=100 clip=autoclip clip.p=100,10 "${overrides[@]}"
for output in dynamics.png dynamics.gif; do
    python -m separation.studies dynamics "$root/p100" "$root/p10" --output "$root/$output"
done
