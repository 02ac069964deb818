#!/usr/bin/env bash
# WHAM!, 8 kHz, min: WSJ0-2mix in the noise of San Francisco (data.noise=false: without).
# Needs: the folder that holds wav8k/, made from WSJ0 and WHAM!'s noise; stage 1 says how. Disk: 7 GB for the samples.
# Time: see README.md.
#   recipes/wham/run.sh ~/wham [--stage 1: obtain, 2: check, 3: train, 4: evaluate] [key=value ...]
set -euo pipefail
source "$(dirname "$0")/../stages.sh"
begin "$@"
[[ -d $root/wav8k || -d $root/wav16k ]] || stage 1 python scripts/download.py wham root="$root"
check_train_evaluate data=wham data.root="$root"
