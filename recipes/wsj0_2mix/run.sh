#!/usr/bin/env bash
# WSJ0-2mix, 8 kHz, min: the paper's corpus.
# Needs: the folder that holds 2speakers/, made from the Wall Street Journal's recordings, which the LDC sells; stage 1
# says how. Disk: 5 GB for the samples. Time: see README.md.
#   recipes/wsj0_2mix/run.sh ~/wsj0-2mix [--stage 1: obtain, 2: check, 3: train, 4: evaluate] [key=value ...]
# The paper's training: experiment=paper.
set -euo pipefail
source "$(dirname "$0")/../stages.sh"
begin "$@"
[[ -d $root/2speakers ]] || stage 1 python scripts/download.py wsj0_2mix root="$root"
check_train_evaluate data=wsj0_2mix data.root="$root"
