"""Training over a long corpus takes no more memory than over a short one."""

import os
import subprocess
import sys

import pytest

CODE = """
import resource, sys
from dataclasses import dataclass
import numpy as np
from conftest import CPU, TINY
from separation.app import assembly
from separation.app.command import Path
from separation.app.settings import compose_config
from separation.data.corpora.corpus import Corpus, Recording
from separation.data.sample_store import open_store
from separation.training.interruption import Interruption
from separation.training.processes import Processes
from separation.runs.run_folder import RunFolder

@dataclass(frozen=True, kw_only=True)
class Noise(Corpus):
    minutes: int
    name = "noise"
    def fingerprint(self):
        return {"minutes": self.minutes}
    def recordings(self, done=()):
        minute = np.random.default_rng(0).standard_normal(60 * 8000, dtype=np.float32) / 8
        for number in range(self.minutes):
            for split in ("train", "valid", "test"):
                if split == "train" or number < 4:
                    yield Recording(f"{split}{number}", f"speaker{number % 4}", split, np.roll(minute, number))

folder, minutes = sys.argv[1], int(sys.argv[2])
corpus = Noise(minutes=minutes, num_train=4000, num_valid=4, num_test=2, store=folder)
build = assembly.build
assembly.build = lambda config, key, **rest: corpus if key == "data" else build(config, key, **rest)
steps = ["trainer.max_steps=150", "trainer.batch_size=8", "trainer.excerpt_frames=400", "trainer.progress=false"]
config = compose_config("config", [*TINY, *steps, f"run_dir={folder}/run{minutes}", f"data.store={folder}"])
parts = assembly.build_parts(config, CPU, Processes())
with RunFolder.create(Path(config.run_dir), config, False) as run:
    build(config, "trainer").fit(parts, run, Interruption())
print(2 * parts.data.train.store.num_samples, 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def peak(folder, minutes: int) -> tuple[int, int]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", CODE, str(folder), str(minutes)]
    result = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert result.returncode == 0, result.stderr
    size, memory = map(int, result.stdout.split())
    return size, memory


@pytest.mark.slow
def test_twenty_hours_take_as_much_memory_as_twenty_minutes(tmp_path):
    _, short = peak(tmp_path, 20)
    size, long = peak(tmp_path, 20 * 60)
    assert size > 1.1e9
    assert long - short < 100e6
    (next(tmp_path.glob("noise-*/samples.i16"))).unlink()
