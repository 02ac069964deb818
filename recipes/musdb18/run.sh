#!/usr/bin/env bash
# MUSDB18-HQ: vocals and accompaniment, mono, at 8 kHz; every stem: mixing.num_sources=4.
# Needs: the network for stage 1 (zenodo.org, for research only), or the corpus. Disk: 30 GB, 23 GB more while it is
# unpacked, 1.2 GB for the samples at 8 kHz. Time: see README.md.
#   recipes/musdb18/run.sh ~/data [--stage 1: download, 2: check, 3: train, 4: evaluate] [key=value ...]
# Masks come in any order, as for speakers. The .stem.mp4 files of MUSDB18: python train.py data=musdb18.
set -euo pipefail
source "$(dirname "$0")/../stages.sh"
begin "$@"
stage 1 python scripts/download.py musdb18hq root="$root"
check_train_evaluate data=musdb18hq data.root="$root/musdb18hq"
