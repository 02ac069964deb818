#!/usr/bin/env bash
# The paper's experiment as far as one GPU gets in some minutes: mask inference and waveforms, p = 1, 10 and 100, three
# seeds: 18 runs of the 2 x 300 network (experiment=paper_small) that train as one (hydra/launcher=together).
# First benchmarks/together.py, in a quarter of the time, says what a joint step takes; as many as fit in half of it are
# trained, and the rest is for validation and scores. Everything is written as it comes: DIR/together.json, DIR/runs.
# Needs: LibriSpeech or Mini LibriSpeech (scripts/download.py). Without a GPU it runs, too, to see that it does.
#   recipes/paper/begin_gpu.sh MINUTES DIR data=mini_librispeech data.root=/data [key=value ...]
set -euo pipefail
(($# >= 2)) && [[ $1 =~ ^[1-9][0-9]*$ ]] || { sed -n '/^#   /s/^#   /usage: /p' "$0" >&2; exit 2; }
seconds=$((60 * $1)) dir=$(realpath -m "$2")
overrides=("${@:3}")
cd "$(dirname "$0")/../.."
mkdir -p "$dir"
common=(experiment=paper_small)
if python -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then
    common+=(trainer=gpu clip=autoclip_on_device)
fi
single=() # settings that a benchmark on noise has no use for
for override in "${overrides[@]}"; do
    [[ $override == data* || $override == report=* ]] || single+=("$override")
done
timeout $((seconds / 4)) python benchmarks/together.py experiment=paper_small counts=[18,1,8,4,35] \
    output="$dir/together.json" "${single[@]}" || echo "stopped after a quarter of the time; what was measured is written"
[[ -f $dir/together.json ]] || { echo "$1 minutes: too few to measure a step of 18 runs in a quarter of them" >&2; exit 1; }
steps=$(python - "$dir/together.json" $((seconds / 2)) <<'PYTHON'
import json, sys

rows = json.load(open(sys.argv[1]))
row = next(row for name, row in rows.items() if name.startswith("18 runs"))
print(max(1, int(int(sys.argv[2]) / min(row["stacked"], row["one after another"]))))
PYTHON
)
echo "18 runs of $steps steps"
exec python train.py --multirun hydra/launcher=together "hydra.sweep.subdir=\${hydra:runtime.choices.model}_p\${clip.p}_seed\${seed}" \
    "${common[@]}" model=mask_inference,waveform clip.p=1,10,100 seed=0,1,2 run_dir="$dir/runs" \
    trainer.resume=true trainer.max_steps="$steps" "${overrides[@]}"
