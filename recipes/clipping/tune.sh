#!/usr/bin/env bash
# What does a fixed threshold cost to find? Optuna looks for the one with the lowest validation loss, 20 runs one after
# the other; AutoClip (p = 10) and no clipping train once, beside it. The table says what each took and scored.
# Needs: pip install ".[optuna]"; the demo corpus, or any other by data=, for example
#   recipes/clipping/tune.sh data=fsdd data.root=/data/fsdd trainer.max_steps=600 hydra.sweeper.n_trials=12
# clip.max_norm='tag(log,interval(1e-3,10))' searches elsewhere; hydra.sweeper.n_jobs=4 hydra/launcher=joblib takes four
# thresholds at once. The same command again goes on where it was stopped, and repeats no finished run.
set -euo pipefail
source "$(dirname "$0")/../sweeps.sh"
tuner=() others=()
for override in "$@"; do
    case $override in
        hydra.sweeper.*) tuner+=("$override") ;;
        *) others+=("$override") ;;
    esac
done
[[ " ${others[*]} " == *" seed="* ]] || others+=(seed=0)
[[ " ${others[*]} " == *" hydra/launcher="* ]] || others+=(hydra/launcher=basic)
begin_sweeps runs/tuning "${others[@]}"
demo=(trainer.max_steps=3000 trainer.batch_size=8 trainer.excerpt_frames=100) # as recipes/demo/run.sh
sweep 'fixed${clip.max_norm}_seed${seed}' "${demo[@]}" clip=fixed \
    clip.max_norm="${max_norm:-tag(log,interval(1e-6,1))}" hydra/sweeper=optuna hydra.sweeper.n_trials=20 \
    hydra.sweeper.n_jobs=1 hydra.sweeper.sampler.seed=0 hydra.sweeper.sampler.n_startup_trials=5 "${tuner[@]}"
sweep '${hydra:runtime.choices.clip}_seed${seed}' "${demo[@]}" clip=autoclip,none
finish tuning
