#!/usr/bin/env bash
# Your own recordings: a folder with one sub-folder of audio files for each speaker, two speakers at least.
# Needs: the recordings. Disk: 58 MB an hour of speech at 8 kHz. Time: see README.md.
#   recipes/folder/run.sh ~/recordings [--stage 2: check, 3: train, 4: evaluate] [key=value ...]
# Speakers that aren't trained on, to see how strangers fare: 'data.held_out=[anna,bert]'.
set -euo pipefail
source "$(dirname "$0")/../stages.sh"
begin "$@"
check_train_evaluate data=folder data.root="$root"
