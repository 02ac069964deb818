#!/usr/bin/env bash
# LibriSpeech: readers of train-clean-100, mixed by the protocol of WSJ0-2mix; the test speakers are those of test-clean.
# Needs: the network for stage 1 (openslr.org, CC BY 4.0), or the corpus. Disk: 7 GB, 6 GB more while it is unpacked,
# 6 GB for the samples at 8 kHz. Time: see README.md.
#   recipes/librispeech/run.sh ~/data [--stage 1: download, 2: check, 3: train, 4: evaluate] [key=value ...]
set -euo pipefail
source "$(dirname "$0")/../stages.sh"
begin "$@"
stage 1 python scripts/download.py librispeech root="$root"
check_train_evaluate data=librispeech data.root="$root"
