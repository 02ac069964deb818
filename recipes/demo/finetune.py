#!/usr/bin/env python
"""A minute of two new voices: a model on them before and after fine-tuning, and as many steps from scratch beside it.

Needs: a run folder of `make demo`. Time: five minutes on two CPU cores. The same command again goes on.
  python recipes/demo/finetune.py RUN_DIR [key=value ...]
As in recipes/demo/finetune.py runs/demo/clip=autoclip,... trainer.max_steps=1000; other settings are train.py's.
"""

import sys
from pathlib import Path
from statistics import mean, stdev

import separation
from separation.app.command import entry_point
from separation.runs.provenance import write_json
from separation.runs.summaries import decibels, table

OUTPUT = Path("runs/demo_finetuned")
SEEDS = (0, 1, 2)
VOICES = ["data=demo", "data.first_voice=8", "data.voices=2", "data.unknown_voices=0"]
"""The first two after the demo's own eight."""
TRAINING = ["data.sentences=12", "trainer.max_steps=300", "trainer.batch_size=8", "trainer.excerpt_frames=100"]
"""24 sentences of some 2.6 s, in the demo's batches."""
TEST = ["data.sentences=160"]
"""The test sentences of the demo's size, 40 a voice: none of them is among the first 16, which the training has."""


def score(run: Path, store: list[str]) -> float:
    """SI-SDR improvement in dB of 100 mixtures of the new voices."""
    settings = [
        *VOICES,
        *TEST,
        *store,
        f"output={run / 'new_voices' if run.is_relative_to(OUTPUT) else OUTPUT / 'before'}",
    ]
    return separation.evaluate(run, settings)["si_sdr_improvement"]


def finetune() -> None:
    """Trains, prints a table, and writes finetune_demo.json."""
    if len(sys.argv) < 2:
        raise separation.InputError(f"expected the run folder of the demo; {(__doc__ or '').splitlines()[-2].strip()}")
    base, settings = Path(sys.argv[1]).absolute(), sys.argv[2:]
    store = [text for text in settings if text.startswith("data.store=")]
    scores = {"before": [score(base, store)], "fine-tuned": [], "from scratch": []}
    for seed in SEEDS:
        for name, start in {"fine-tuned": base, "from scratch": "null"}.items():
            path = OUTPUT / f"{name.replace(' ', '_')}_{seed}"
            own = [f"init_from={start}", f"seed={seed}", f"run_dir={path}", "trainer.resume=true"]
            run = separation.train([*VOICES, *TRAINING, *own, *settings])
            scores[name].append(score(run.path, store))
    rows = [
        [name, *map(decibels, (mean(each), stdev(each) if len(each) > 1 else None))] for name, each in scores.items()
    ]
    print(table(["SI-SDR improvement [dB]", "mean", "deviation"], rows))
    write_json(OUTPUT / "finetune_demo.json", {"si_sdr_improvement": scores})


if __name__ == "__main__":
    entry_point(finetune)
