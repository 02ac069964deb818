"""Whether the five models still give the numbers they gave: `python scripts/same_numbers.py FSDD_FOLDER [--record]`.

Trains each model for 20 steps on FSDD and scores it on 20 mixtures, on one thread, and compares every cell of steps.csv
and scores.csv with the files in tests/numbers, but for times. Those were made at commit d7e344b with --record, on a CPU
with AVX-512 (see tests/numbers/machine.txt); another kind of CPU rounds differently, so record the files there first:
--checkout FOLDER runs the train.py of another checkout.
"""

import argparse
import csv
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
NUMBERS = ROOT / "tests" / "numbers"
MODELS = ("mask_inference", "waveform", "deep_clustering", "whitened_kmeans", "chimera")
FILES = ("steps.csv", "scores.csv")
TIMES = ("train/seconds",)


def train(model: str, fsdd: Path, checkout: Path, folder: Path) -> Path:
    """Runs one model's command and returns its run folder."""
    run = folder / model
    settings = [f"model={model}", "data=fsdd", f"data.root={fsdd}", f"data.store={folder}/store", f"run_dir={run}"]
    settings += ["trainer.max_steps=20", "data.num_test=20", "threads=1", "device=cpu", "trainer.progress=false"]
    environment = {**os.environ, "PYTHONPATH": f"{checkout}:{checkout}/gradclip/src", "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, checkout / "train.py", *settings], cwd=folder, env=environment, check=True)
    return run


def read(path: Path) -> list[dict[str, str]]:
    """A table's rows without times."""
    with open(path, newline="", encoding="utf-8") as file:
        return [{key: value for key, value in row.items() if key not in TIMES} for row in csv.DictReader(file)]


def first_difference(expected: list[dict[str, str]], actual: list[dict[str, str]]) -> str:
    """Where two tables first differ; empty where they don't."""
    for number, (before, now) in enumerate(zip(expected, actual, strict=False), start=1):
        for key in {**before, **now}:
            if before.get(key) != now.get(key):
                return f"row {number}, {key}: {now.get(key)} instead of {before.get(key)}"
    return "" if len(expected) == len(actual) else f"{len(actual)} rows instead of {len(expected)}"


def main() -> None:
    """Records or compares, and ends with status 1 where a number differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("fsdd", type=Path, help="the folder that holds FSDD's recordings/")
    parser.add_argument("--record", action="store_true", help="write tests/numbers instead of comparing with it")
    parser.add_argument("--checkout", type=Path, default=ROOT, help="the checkout whose train.py runs")
    given = parser.parse_args()
    differences = 0
    with tempfile.TemporaryDirectory() as temporary:
        for model in MODELS:
            run = train(model, given.fsdd.resolve(), given.checkout.resolve(), Path(temporary))
            for name in FILES:
                target = NUMBERS / model / name
                if given.record:
                    target.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy(run / name, target)
                    continue
                difference = first_difference(read(target), read(run / name))
                differences += bool(difference)
                print(f"{model}, {name}: {difference or 'the same'}")
    if differences:
        sys.exit(f"{differences} of {len(MODELS) * len(FILES)} tables differ")


if __name__ == "__main__":
    main()
