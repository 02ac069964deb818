#!/usr/bin/env bash
# Table 1 of the paper: AutoClip's percentile p in {0, 1, 10, 25, 50, 90, 100} x five models x three seeds, 105 runs.
# Needs: nothing with the default corpus (demo); any other by data=, for example
#   recipes/paper/table1.sh data=fsdd data.root=/data/fsdd trainer.max_steps=600
#   recipes/paper/table1.sh data=fsdd data.root=/data/fsdd experiment=paper run_dir=runs/table1_paper hydra/launcher=submitit_slurm
#   recipes/paper/table1.sh data=... data.root=... experiment=paper_small trainer=gpu hydra/launcher=together # docs/gpu.md
# One run a core (joblib), or a job a run on a Slurm cluster. The same command again goes on where it was stopped, and
# repeats no finished run; a larger trainer.max_steps prolongs them all. Relative paths start at the project's folder.
# Disk: 25 MB a run of the small network. Time: benchmarks/estimate.py says it for any size (runs=21 a model).
set -euo pipefail
source "$(dirname "$0")/../sweeps.sh"
begin_sweeps runs/table1 "$@"
clip=autoclip
[[ " $* " != *" trainer=gpu "* ]] || clip=autoclip_on_device # a captured step clips there
sweep '${hydra:runtime.choices.model}_p${clip.p}_seed${seed}' \
    model=mask_inference,waveform,deep_clustering,whitened_kmeans,chimera clip=$clip clip.p=0,1,10,25,50,90,100
finish table1
