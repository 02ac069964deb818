"""Damaged and hostile inputs of every kind that comes from outside: each ends in success or in a sentence.

`--inputs` says how many are made in all. Whatever they are, no code runs and nothing is written outside.
"""

import io
import math
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from conftest import TINY
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from separation.app.assembly import build, build_parts
from separation.app.command import USER_ERRORS, sentence
from separation.app.settings import compose_config, run_config
from separation.data import audio
from separation.errors import InputError
from separation.runs import checkpoint
from separation.runs.run_folder import RunFolder
from separation.runs.summaries import find_runs, load_summary, runs_table, score_table
from separation.runs.untrusted_files import ALLOWED_TARGETS
from separation.studies.compare import Comparison
from separation.studies.run_figures import read_columns, training_figure
from separation.studies.run_scores import RunScores
from separation.training.counters import Progress
from separation.training.processes import Processes
from separation.training.resume import capture, restore
from separation.training.step import train_step

CPU = torch.device("cpu")
KINDS = 7
watched: list[Path] = []
broken: list[str] = []


def audit(event: str, arguments: tuple[Any, ...]) -> None:
    """Python tells it of every file opened and every program started."""
    if not watched:
        return
    if event in ("os.system", "subprocess.Popen", "os.exec", "os.posix_spawn", "os.fork"):
        broken.append(f"{event} {arguments[0]!r}")
    elif event == "open" and isinstance(arguments[0], str) and str(arguments[1] or "").strip("rbt"):
        path = Path(arguments[0]).absolute()
        if not any(path.is_relative_to(folder) for folder in watched):
            broken.append(f"wrote {path}")


sys.addaudithook(audit)


@contextmanager
def harmless(*folders: Path) -> Iterator[None]:
    """Inside, no program starts and no file outside the folders is written; only sentences are raised."""
    watched.extend([*folders, Path("/dev")])
    try:
        yield
    except USER_ERRORS as error:
        if not 0 < len(sentence(error)) < 3000:
            broken.append(f"the sentence has {len(sentence(error))} characters")
    finally:
        watched.clear()
    assert not broken, broken


@pytest.fixture
def fuzz(request) -> Callable[..., None]:
    """Calls a function with so many inputs."""
    count = -(-request.config.getoption("--inputs") // KINDS)

    def run(function: Callable[..., None], **inputs: st.SearchStrategy[Any]) -> None:
        phases = [Phase.explicit, Phase.generate, Phase.shrink]
        checks = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large]
        decorate = settings(
            max_examples=count,
            deadline=None,
            derandomize=True,
            database=None,
            phases=phases,
            suppress_health_check=checks,
        )
        decorate(given(**inputs)(function))()

    return run


def damaged(whole: bytes) -> st.SearchStrategy[bytes]:
    """A file with bytes replaced, removed or added; or cut short."""
    edit = st.tuples(st.integers(0, len(whole)), st.integers(0, 8), st.binary(max_size=8))

    def apply(edits: list[tuple[int, int, bytes]]) -> bytes:
        content = whole
        for where, removed, added in edits:
            content = content[:where] + added + content[where + removed :]
        return content

    cut = st.integers(0, len(whole)).map(lambda end: whole[:end])
    return st.one_of(st.lists(edit, min_size=1, max_size=6).map(apply), cut)


NASTY = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=12),
    st.sampled_from(
        ["", "..", "../x", "/etc/passwd", "~", "${oc.env:HOME}", "${seed}", "nan", "-inf", "1e999", "[1", "{a:1}", "[]"]
    ),
    st.lists(st.integers(), max_size=3),
    st.dictionaries(st.text(max_size=5), st.integers(), max_size=2),
    st.just({"_target_": "os.system", "command": "touch evil"}),
)
PARTS = ("mixing", "stft", "model.loss", "model.separator", "clip", "trainer", "evaluation", "data")


def leaves(node: Any, prefix: str = "") -> Iterator[str]:
    """The dotted names of all settings."""
    for key, value in node.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def test_overrides(fuzz, tmp_path):
    base = compose_config("config", ["data=folder", "data.root=nowhere"])
    keys = st.sampled_from(sorted(leaves(OmegaConf.to_container(base, resolve=False))))

    def check(pairs: list[tuple[str, Any]]) -> None:
        with harmless(tmp_path):
            config = compose_config(
                "config", ["data=folder", "data.root=nowhere", *(f"{key}={value}" for key, value in pairs)]
            )
            for part in PARTS:
                build(config, part)

    fuzz(check, pairs=st.lists(st.tuples(keys, NASTY), min_size=1, max_size=3))


def test_values_in_a_runs_settings(fuzz, make_run, tmp_path):
    run = Path(shutil.copytree(make_run(), tmp_path / "run"))
    config = OmegaConf.to_container(OmegaConf.load(run / "config.yaml"))
    keys = st.sampled_from([key for key in sorted(leaves(config)) if not key.startswith("model.network.")])

    def check(pairs: list[tuple[str, Any]]) -> None:
        changed = OmegaConf.create(config)
        with harmless(tmp_path):
            for key, value in pairs:
                OmegaConf.update(changed, key, value)
            (run / "config.yaml").write_text(OmegaConf.to_yaml(changed))
            loaded = run_config(RunFolder.open(run), [])
            for part in ALLOWED_TARGETS:
                if part != "optimizer":
                    build(loaded, part)

    fuzz(check, pairs=st.lists(st.tuples(keys, NASTY), min_size=1, max_size=3))


def test_bytes_of_a_runs_settings(fuzz, make_run, tmp_path):
    run = Path(shutil.copytree(make_run(), tmp_path / "run"))
    whole = (run / "config.yaml").read_bytes()

    def check(content: bytes) -> None:
        (run / "config.yaml").write_bytes(content)
        with harmless(tmp_path):
            loaded = run_config(RunFolder.open(run), [])
            for part in ("mixing", "stft", "model.loss", "model.separator", "clip"):
                build(loaded, part)

    fuzz(check, content=damaged(whole))


def test_bytes_of_tables_and_summaries(fuzz, make_run, tmp_path):
    run = Path(shutil.copytree(make_run(), tmp_path / "run"))
    names = ["steps.csv", "epochs.csv", "scores.csv", "summary.json"]
    whole = {name: (run / name).read_bytes() for name in names}

    def check(data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(names))
        (run / name).write_bytes(data.draw(damaged(whole[name])))
        folder = RunFolder(run)
        try:
            with harmless(tmp_path):
                if name == "summary.json":
                    runs_table(find_runs(tmp_path), tmp_path)
                    Comparison((run, make_run())).report()
                    RunScores([tmp_path]).report()
                    score_table((load_summary(folder) or {"splits": {}})["splits"])
                elif name == "scores.csv":
                    Comparison((run, make_run())).report()
                elif name == "steps.csv":
                    training_figure([folder])
                else:
                    read_columns(folder.epochs)
        finally:
            sys.modules["matplotlib.pyplot"].close("all")
            (run / name).write_bytes(whole[name])

    fuzz(check, data=st.data())


def test_bytes_of_audio_files(fuzz, tmp_path):
    files = []
    for kind, subtype in (
        ("WAV", "PCM_16"),
        ("WAV", "FLOAT"),
        ("FLAC", "PCM_16"),
        ("OGG", "VORBIS"),
        ("AIFF", "PCM_24"),
    ):
        buffer = io.BytesIO()
        soundfile.write(buffer, np.sin(np.arange(1200)), 8000, format=kind, subtype=subtype)
        files.append(buffer.getvalue())

    def check(data: st.DataObject) -> None:
        path = tmp_path / "a.wav"
        path.write_bytes(data.draw(damaged(data.draw(st.sampled_from(files)))))
        with harmless(tmp_path):
            samples = audio.read_mono(path, 8000)
            assert samples.ndim == 1 and np.isfinite(samples).all()

    fuzz(check, data=st.data())


def test_bytes_of_checkpoints(fuzz, make_run, tmp_path):
    run = make_run()
    config = run_config(RunFolder.open(run), [])
    network = build(config, "model.network")
    whole = (run / "checkpoints/best.pt").read_bytes()

    def check(content: bytes) -> None:
        (tmp_path / "best.pt").write_bytes(content)
        with harmless(tmp_path):
            checkpoint.load_network(tmp_path / "best.pt", network, CPU)

    fuzz(check, content=damaged(whole))


HARMLESS = {
    ("progress", "best_loss"): lambda value: type(value) is float and value > -math.inf,
    ("progress", "seconds"): lambda value: type(value) is float and 0 <= value < math.inf,
    ("progress", "loss_sum"): lambda value: type(value) is float and math.isfinite(value),
    ("progress", "step"): lambda value: type(value) is int and 2 <= value < 2**53,
    **{
        ("progress", name): lambda value: type(value) is int and 0 <= value <= 2
        for name in ("validated", "counted", "clipped", "skipped")
    },
    ("clipper", "nonfinite_steps"): lambda value: type(value) is int and value >= 0,
    ("clipper", "finite_steps"): lambda value: type(value) is int and value >= 1,
    ("clipper", "clipped_steps"): lambda value: type(value) is int and 0 <= value <= 2,
    ("clipper", "history"): lambda value: value in ({}, ()),
}
"""What other values may stand in a state: any that a run could have come to; ..."""
EXAMPLES = {**dict.fromkeys(("best_loss", "seconds", "loss_sum"), 1.5), "step": 3, "clipped": 2}
EXAMPLES |= {"finite_steps": 3, "clipped_steps": 2, "history": ()}
"""... and examples of them, where 1 is none."""


def test_states(fuzz, speech_folder, tmp_path):
    common = ["data=folder", f"data.root={speech_folder}", f"data.store={tmp_path}/cache", *TINY]
    parts = build_parts(compose_config("config", common), CPU, Processes())
    path = tmp_path / "last.pt"
    batch = parts.data.train.excerpts(range(2), 4000)
    progress = Progress()

    def step() -> None:
        loss, clip = train_step(parts, batch)
        progress.count(float(loss), clip, list(batch.names))

    step()
    step()
    checkpoint.save(path, capture(parts, progress))
    state = checkpoint.load(path, CPU)
    assert restore(parts, path) == progress
    step()  # so that what is restored would be seen
    later = tmp_path / "later.pt"
    checkpoint.save(later, capture(parts, progress))
    before = flat(capture(parts, progress))
    counts = Counter[str]()
    odd = [torch.zeros(3), torch.zeros(0, 2), torch.tensor(math.nan), torch.arange(4), torch.ones(2, 2) > 0]
    values = st.recursive(
        st.one_of(st.none(), st.integers(-(2**40), 2**40), st.floats(), st.text(max_size=4), st.sampled_from(odd)),
        lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=4), inner, max_size=3)),
        max_leaves=5,
    )

    def nodes(node: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
        for key in list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list | tuple) else []:
            yield (*way, key)
            yield from nodes(node[key], (*way, key))

    def replaced(node: Any, way: tuple[Any, ...], value: Any) -> Any:
        if not way:
            return value
        if isinstance(node, list | tuple):
            return type(node)(replaced(item, way[1:], value) if i == way[0] else item for i, item in enumerate(node))
        return type(node)(
            (key, replaced(item, way[1:], value) if key == way[0] else item) for key, item in node.items()
        )

    def check(way: tuple[Any, ...], value: Any) -> None:
        changed = replaced({key: state[key] for key in state if key != "format"}, way, value)
        if flat(changed) == flat({key: state[key] for key in changed}):
            return
        checkpoint.save(path, changed)
        accepted = False
        with harmless(tmp_path):
            restore(parts, path)
            accepted = True
        counts["accepted" if accepted else "refused"] += 1
        changed_nothing = flat(capture(parts, progress)) == before
        if accepted or not changed_nothing:
            restore(parts, later)
        assert not accepted or (way in HARMLESS and HARMLESS[way](value)), f"{way} = {value!r} was accepted"
        assert accepted or changed_nothing, f"{way} = {value!r} changed something"

    for way in HARMLESS:
        check(way, EXAMPLES.get(way[1], 1))
    assert counts == {"accepted": len(HARMLESS)}
    ways = [way for way in nodes(state) if way != ("format",)]
    for way in ways:
        for value in (None, -1, math.nan, "x", [], torch.zeros(3), torch.tensor(math.nan)):
            check(way, value)
    check(("optimizer", "state", 0, "exp_avg_sq"), -1 - state["optimizer"]["state"][0]["exp_avg_sq"])
    check(("optimizer", "state", 0, "step"), torch.tensor(4.0))
    for name, value in {"best_loss": -math.inf, "counted": 3, "faults": ["a"], "faulty_steps": 1}.items():
        check(("progress", name), value)
    check(("random", 0, 0), torch.zeros_like(state["random"][0][0]))
    fuzz(check, way=st.sampled_from(ways), value=values)
    assert counts["refused"] > 6 * len(ways), counts


def flat(node: Any) -> Any:
    """A state as plain values, so that two can be compared."""
    if isinstance(node, torch.Tensor):
        return (str(node.dtype), node.tolist())
    if isinstance(node, dict):
        return {key: flat(value) for key, value in node.items()}
    return [flat(value) for value in node] if isinstance(node, list | tuple) else node


def test_the_guard_sees_what_it_should(tmp_path):
    with harmless(tmp_path / "inside"):
        (tmp_path / "outside").write_text("x")
        broken_now = list(broken)
        broken.clear()
    assert broken_now == [f"wrote {tmp_path}/outside"]
    with pytest.raises(ValueError, match="^deep inside"), harmless():
        raise ValueError("deep inside")
    with harmless():
        raise InputError("a sentence")
