#!/usr/bin/env bash
# Where the paper's claim begins: AutoClip (p = 10) and no clipping, as Table 1 has them and with more steps, a larger
# learning rate, longer excerpts (with fsdd, of utterances twice as long, in the test mixtures too), and SGD with momentum
# instead of Adam; mask inference and waveforms, three seeds: 84 runs, some of them longer, in the time of 120.
# Needs: nothing with the default corpus (demo); any other by data=, for example
#   recipes/paper/conditions.sh data=fsdd data.root=/data/fsdd
# trainer.max_steps=... takes others than 600 steps; "more" is three times as many. The same command again goes on where
# it was stopped, and repeats no finished run. Relative paths start at the project's folder. Disk: 25 MB a run.
set -euo pipefail
source "$(dirname "$0")/../sweeps.sh"
begin_sweeps runs/conditions "$@"
[[ " $* " == *" trainer.max_steps="* ]] || overrides+=(trainer.max_steps=600)
for key in model clip optimizer optimizer.lr trainer.excerpt_frames; do
    if [[ " $* " == *" $key="* ]]; then
        echo "$key=: the conditions set it; see recipes/paper/conditions.sh" >&2
        exit 2
    fi
done
shared=("${overrides[@]}")

condition() { # NAME key=value...: what is other than in Table 1
    overrides=("${shared[@]}" "${@:2}")
    sweep "$1"'/${hydra:runtime.choices.model}_${hydra:runtime.choices.clip}_seed${seed}' clip=none,autoclip
}

both=(model=mask_inference,waveform)
longer=(trainer.excerpt_frames=800)
[[ $(last_override data) != fsdd ]] || longer+=(data.utterance_seconds=8)
condition table1 "${both[@]}"
condition larger_lr "${both[@]}" optimizer.lr=1e-2
for lr in 300 3000 30000; do # L_MI's gradients are some 1e-4 in norm, ...
    condition "sgd$lr" model=mask_inference optimizer=sgd optimizer.lr=$lr
done
for lr in 0.01 0.1 1; do # ... L_SNR's some 3
    condition "sgd$lr" model=waveform optimizer=sgd optimizer.lr=$lr
done
condition longer_excerpts "${both[@]}" "${longer[@]}"
condition more_steps "${both[@]}" trainer.max_steps=$((3 * $(last_override trainer.max_steps)))
finish conditions
