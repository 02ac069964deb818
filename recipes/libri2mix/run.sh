#!/usr/bin/env bash
# Libri2Mix, clean, 8 kHz, min: the folder's Libri2Mix/ if the corpus's generator wrote one there; otherwise LibriSpeech
# and the generator's tables of gains, of which the same mixtures are made without writing them.
# Needs: the network for stage 1 (CC BY 4.0), or the corpus. Disk: 8 GB, 6 GB more while it is unpacked, 7 GB for the
# samples; the generator's tree (8 kHz, min) takes 69 GB. Time: see README.md.
#   recipes/libri2mix/run.sh ~/data [--stage 1: download, 2: check, 3: train, 4: evaluate] [key=value ...]
# data.train=[train-360] trains on the larger set; data.noise=true, with noise, needs the generator's Libri2Mix/, and
# mixing.num_sources=3 its Libri3Mix/.
set -euo pipefail
source "$(dirname "$0")/../stages.sh"
begin "$@"
corpus=(data=libri2mix data.root="$root")
if [[ ! -d $root/Libri2Mix && ! -d $root/Libri3Mix ]]; then
    corpus+=(data.metadata="$root/Libri2Mix-metadata")
    train=train-clean-100
    [[ " $* " != *train-360* ]] || train+=,train-clean-360
    stage 1 python scripts/download.py libri2mix root="$root"
    stage 1 python scripts/download.py librispeech subset="[$train,dev-clean,test-clean]" root="$root"
fi
check_train_evaluate "${corpus[@]}"
