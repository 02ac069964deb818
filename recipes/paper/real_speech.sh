#!/usr/bin/env bash
# Where AutoClip's gain begins on real sentences: with which losses, after how many steps, on known and unknown voices.
# Needs: Mini LibriSpeech (python scripts/download.py mini_librispeech root=FOLDER), or another corpus by data=:
#   recipes/paper/real_speech.sh data.root=/data [--part NAME ...] [key=value ...]
# Parts, in this order unless some are named; "readers" are the eight with most speech, or those of data.speakers=...:
#   known_mi        eight readers, mask inference, p = 10 and 100, five seeds, 6,000 steps
#   known_snr       the same of waveforms
#   known_p1        p = 1 of both
#   known_others    whitened k-means, deep clustering, chimera, p = 10 and 100, three seeds, 5,000 steps
#   rates           mask inference and waveforms at four learning rates, p = 10 and 100, three seeds, 5,000 steps
#   longer          mask inference, p = 10 and 100, three seeds, 20,000 steps
#   unknown         all readers, mask inference and waveforms, p = 10 and 100, three seeds, 10,000 steps
#   rivals          mask inference with fixed thresholds, windowed AutoClip, ZClip and AdaGN, three seeds, 5,000 steps
# One run a core (joblib), or a job a run on a Slurm cluster. The same command again goes on where it was stopped, and
# repeats no finished run. A run of the first part takes 18 minutes on one core; all parts some 40 hours.
set -euo pipefail
source "$(dirname "$0")/../sweeps.sh"
parts=() given=() readers=data.speakers=8 max_steps=
while (($#)); do
    case $1 in
        --part) parts+=("${2:?--part: give a name}"); shift ;;
        data.speakers=*) readers=$1 ;;
        trainer.max_steps=*) max_steps=${1#*=} ;;
        seed=* | model=* | clip=* | clip.* | optimizer.lr=*)
            echo "$1: the parts set it; see recipes/paper/real_speech.sh" >&2
            exit 2
            ;;
        *) given+=("$1") ;;
    esac
    shift
done
((${#parts[@]})) || parts=(known_mi known_snr known_p1 known_others rates longer unknown rivals)
[[ " ${given[*]} " == *" data="* ]] || given=(data=mini_librispeech "${given[@]}")
begin_sweeps runs/real_speech seed=0 "${given[@]}"
given=(data.test_share=0.1 data.num_train=2000 data.num_valid=200 data.num_test=300)
for override in "${overrides[@]}"; do
    [[ $override == seed=* ]] || given+=("$override")
done
cell='${hydra:runtime.choices.model}_p${clip.p}_seed${seed}'
rate=2e-3

part_of() { # FOLDER SEEDS STEPS SUBDIR key=value...: seeds are the outer loop, so that the two runs of a pair end together
    overrides=("${given[@]}" optimizer.lr="$rate" trainer.max_steps="${max_steps:-$3}")
    sweep "$1/$4" seed="$2" "${@:5}"
}

for part in "${parts[@]}"; do
    echo "part $part"
    case $part in
        known_mi) part_of known 0,1,2,3,4 6000 "$cell" "$readers" model=mask_inference clip=autoclip clip.p=10,100 ;;
        known_snr) part_of known 0,1,2,3,4 6000 "$cell" "$readers" model=waveform clip=autoclip clip.p=10,100 ;;
        known_p1) part_of known 0,1,2,3,4 6000 "$cell" "$readers" model=mask_inference,waveform clip=autoclip clip.p=1 ;;
        known_others)
            part_of others 0,1,2 5000 "$cell" "$readers" model=whitened_kmeans,deep_clustering,chimera clip=autoclip \
                clip.p=10,100
            ;;
        rates)
            for rate in 1e-3 5e-4 4e-3 2e-3; do
                part_of "rates/lr$rate" 0,1,2 5000 "$cell" "$readers" model=mask_inference,waveform clip=autoclip \
                    clip.p=10,100
            done
            rate=2e-3
            ;;
        longer) part_of longer 0,1,2 20000 "$cell" "$readers" model=mask_inference clip=autoclip clip.p=10,100 ;;
        unknown)
            part_of unknown 0,1,2 10000 "$cell" data.speakers=null model=mask_inference,waveform clip=autoclip \
                clip.p=10,100
            ;;
        rivals)
            part_of rivals 0,1,2 5000 'fixed${clip.max_norm}_seed${seed}' "$readers" model=mask_inference clip=fixed \
                clip.max_norm=2e-5,6e-5,2e-4
            part_of rivals 0,1,2 5000 '${hydra:runtime.choices.clip}_seed${seed}' "$readers" model=mask_inference \
                clip=autoclip_windowed,zclip,adagn
            ;;
        *)
            echo "--part $part: there is none; see recipes/paper/real_speech.sh" >&2
            exit 2
            ;;
    esac
done
exit "$status"
