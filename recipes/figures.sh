#!/usr/bin/env bash
# Draws the figures of notebooks/figures from the tables of notebooks/results:
#   recipes/figures.sh
# and with a run of `make demo` those of the demo, and the documentation's audio:
#   recipes/figures.sh RUN_DIR [AUDIO_FOLDER]
set -euo pipefail
cd "$(dirname "$0")/.."
results=notebooks/results figures=notebooks/figures

if (($#)); then
    example=${2:-$(echo "$1"/audio/test/median_*)}
    python scripts/plot_run.py "$(dirname "$1")" $figures/demo_training.png
    python scripts/plot_run.py "$example" $figures/demo_spectrograms.svg
    python scripts/docs_audio.py "$example"
    exit
fi
python -m separation.studies gains $results/real_speech_validation.csv --output $figures/real_speech_gain.png
python -m separation.studies table1 $results/table1_fsdd.csv --output $figures/table1_fsdd.png
python -m separation.studies conditions $results/conditions_fsdd.csv --output $figures/conditions_fsdd.png
python -m separation.studies strategies $results/clipping_fsdd.csv --output $figures/clipping_fsdd.png
python -m separation.studies scales $results/clipping_scale_fsdd.csv --output $figures/clipping_scale_fsdd.png
for run in mi wkm mi_sgd; do
    for suffix in png gif; do
        python -m separation.studies dynamics $results/dynamics_$run/p100 $results/dynamics_$run/p10 \
            --output $figures/dynamics_$run.$suffix
    done
done
