#!/usr/bin/env python
"""A minute of two new voices: a model on them before and after fine-tuning, and as many steps from scratch beside it.

Needs: a run folder of `make demo`. Time: five minutes on two CPU cores. The same command again goes on.
  python recipes/demo/finetune.py RUN_DIR [key=value ...]
As in recipes/demo/finetune.py runs/demo/clip=autoclip,... threads=1; the other settings are train.py's.
"""

import sys
from pathlib import Path
from statistics import mean, stdev

import separation
from separation.app.command import entry_point
from separation.runs.provenance import write_json
from separation.runs.run_folder import RunFolder
from separation.runs.summaries import decibels, load_summary, table

OUTPUT = Path("runs/demo_finetuned")
SEEDS = (0, 1, 2)
STEPS = (100, 300)
VOICES = ["data=demo", "data.first_voice=8", "data.voices=2", "data.unknown_voices=0"]
"""The first two after the demo's own eight."""
TRAINING = ["data.sentences=12", "trainer.batch_size=8", "trainer.excerpt_frames=100", "trainer.resume=true"]
"""24 sentences of some 2.6 s, in the demo's batches."""
TEST = ["data.sentences=160"]
"""The test sentences of the demo's size, 40 a voice: none of them is among the first 16, which the training has."""


def score(run: Path, output: Path, settings: list[str]) -> float:
    """SI-SDR improvement in dB of 100 mixtures of the new voices."""
    stores = [text for text in settings if text.startswith("data.store=")]
    return separation.evaluate(run, [*VOICES, *TEST, *stores, f"output={output}"])["si_sdr_improvement"]


def finetune() -> None:
    """Trains, prints a table, and writes finetune_demo.json."""
    if len(sys.argv) < 2:
        raise separation.InputError(
            "RUN_DIR: has no value; usage: python recipes/demo/finetune.py RUN_DIR [key=value ...]"
        )
    base, settings = Path(sys.argv[1]).absolute(), sys.argv[2:]
    scores = {"before": [score(base, OUTPUT / "before", settings)]}
    for seed in SEEDS:
        for name, start in {"fine-tuned": base, "from scratch": "null"}.items():
            run = OUTPUT / f"{name.replace(' ', '_')}_{seed}"
            own = [f"init_from={start}", f"seed={seed}", f"run_dir={run}"]
            for steps in STEPS:
                separation.train([*VOICES, *TRAINING, *own, f"trainer.max_steps={steps}", *settings])
                found = score(run, run / f"new_voices_{steps}", settings)
                scores.setdefault(f"{name}, {steps} steps", []).append(found)
    rows = [
        [name, decibels(mean(each)), decibels(stdev(each) if len(each) > 1 else None)] for name, each in scores.items()
    ]
    print(table(["SI-SDR improvement [dB]", "mean", "deviation"], rows))
    model = (load_summary(RunFolder(base)) or {}).get("provenance")
    write_json(OUTPUT / "finetune_demo.json", {"si_sdr_improvement": scores, "model": model})


if __name__ == "__main__":
    entry_point(finetune)
