#!/usr/bin/env bash
# Real speech: the Free Spoken Digit Dataset, separated with AutoClip at the paper's percentile.
# Needs: the dataset (github.com/Jakobovski/free-spoken-digit-dataset, CC BY-SA 4.0), 20 MB; its folder is the first
# argument. Disk: 0.1 GB. Time: see README.md.
# Further overrides are passed on: recipes/fsdd/run.sh ~/fsdd model=whitened_kmeans seed=1
set -euo pipefail
if [[ $# -eq 0 || $1 == *=* ]]; then
    echo "usage: $0 FSDD_FOLDER [key=value ...]" >&2
    exit 2
fi
root=$(realpath -- "$1")
shift
cd "$(dirname "$0")/../.."
exec python train.py data=fsdd data.root="$root" model=mask_inference clip=autoclip clip.p=10 "$@"
