#!/usr/bin/env bash
# The Free Spoken Digit Dataset: real speech in little, separated with AutoClip at the paper's percentile.
# Needs: the network for stage 1 (github.com/Jakobovski/free-spoken-digit-dataset, CC BY-SA 4.0), or the dataset, 20 MB.
# Disk: 0.1 GB. Time: see README.md.
#   recipes/fsdd/run.sh ~/fsdd [--stage 1: download, 2: check, 3: train, 4: evaluate] [key=value ...]
set -euo pipefail
source "$(dirname "$0")/../stages.sh"
begin "$@"
[[ -d $root/recordings ]] || stage 1 python scripts/download.py fsdd root="$root"
check_train_evaluate data=fsdd data.root="$root"
