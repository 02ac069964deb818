#!/usr/bin/env bash
# VCTK 0.92: 100 speakers to train on and test with new utterances (test), ten more for testing only (test_unknown).
# Needs: the network for stage 1 (University of Edinburgh, CC BY 4.0), or the corpus. Disk: 12 GB, 11 GB more while it is
# unpacked, 3 GB for the samples at 8 kHz. Time: see README.md.
#   recipes/vctk/run.sh ~/data [--stage 1: download, 2: check, 3: train, 4: evaluate] [key=value ...]
set -euo pipefail
source "$(dirname "$0")/../stages.sh"
begin "$@"
stage 1 python scripts/download.py vctk root="$root"
check_train_evaluate data=vctk data.root="$root"
