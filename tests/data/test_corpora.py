"""Every public corpus's format, from its files to scores."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import trees
from conftest import CPU, TINY, voice
from scipy.signal import resample_poly

from separation.app.assembly import build, build_parts, load_model
from separation.app.evaluate import score_run
from separation.app.settings import compose_config
from separation.data.audio_stream import Recording
from separation.data.check.findings import fast_check, findings
from separation.data.check.measure import inspect
from separation.errors import InputError
from separation.evaluation.long_recordings import RecordingSeparator
from separation.runs.run_folder import RunFolder
from separation.training.interruption import Interruption
from separation.training.processes import Processes


def read_table(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("name", trees.FORMATS)
def test_every_format_is_checked_trained_on_scored_and_separated(name, tmp_path):
    overrides = [*trees.FORMATS[name](tmp_path / "corpus"), *TINY, "trainer.max_steps=2", "trainer.progress=false"]
    path = tmp_path / "run"
    config = compose_config(
        "config", [*overrides, f"data.store={tmp_path}/store", "evaluation.progress=false", f"run_dir={path}"]
    )
    parts = build_parts(config, CPU, Processes())
    fast_check(parts.data)
    found = findings(inspect(parts.data.corpus, parts.data.train.store, parts.data.lists, parts.data.tests))
    wrong = [finding.sentence for finding in found if finding.is_wrong]
    assert [sentence for sentence in wrong if "not the published" not in sentence] == []
    with RunFolder.create(path, config, resume=False) as folder:
        assert build(config, "trainer").fit(parts, folder, Interruption())
        summary = score_run(folder, config, parts.data, build(config, "evaluation"), path, "test")
    assert np.isfinite(summary["si_sdr"]) and summary["num_mixtures"] == 2
    assert summary["oracle"]["ideal_ratio"] > summary["input_si_sdr"] + 3
    assert len(list((path / "audio").rglob("mixture.wav"))) >= 2
    rms = build(config, "mixing").mixture_rms
    separator = RecordingSeparator(
        load_model(folder, config), 2, 8000, rms, 1.0, 0.1, pause_seconds=0.5, pause_level=25
    )
    recording = Recording(16_000, 1, lambda: iter([voice(150, 1.5, 16_000, 0)[:, None]]))
    sources = list(separator.separate(recording, separator.survey(recording)))
    assert np.concatenate(sources, axis=1).shape == (2, 24_000, 1)


MIXTURES = {"wsj0_2mix": "mix", "wham": "mix_both", "libri2mix": "mix_clean", "minilibrimix": "mix_clean"}
"""Folder of each ready-made corpus's mixtures."""


@pytest.mark.parametrize("name", MIXTURES)
def test_mixtures_of_a_tree_are_those_on_the_disk(name, tmp_path):
    data = trees.make_data(trees.FORMATS[name](tmp_path), tmp_path, "mixing.rms=null")
    noisy = name == "wham"
    assert (len(data.train), len(data.valid), len(data.tests[0])) == (6, 2, 2)
    for mixtures in (data.valid, *data.tests):
        for index in range(len(mixtures)):
            mixture, batch = mixtures.draw(index), mixtures.whole([index])
            [first] = tmp_path.rglob(mixture.utterances[0].name)
            file = first.parents[1] / MIXTURES[name] / first.name
            expected, _ = soundfile.read(file, dtype="float32")
            assert (batch.noise is not None) == noisy
            np.testing.assert_allclose(batch.mixture[0], expected, atol=2e-5 if noisy else 2**-15)
            for number, source in enumerate(batch.sources[0], start=1):
                reference, _ = soundfile.read(file.parents[1] / f"s{number}" / file.name, dtype="float32")
                np.testing.assert_allclose(source, reference, atol=1e-5)
    assert data.valid.draw(0).utterances[0].speaker in ("0aa", "0bb", "0cc", "200", "201", "202")


def test_what_was_said_of_the_mixtures_must_agree(tmp_path):
    overrides = trees.wsj0_mix(tmp_path)
    with pytest.raises(InputError, match="data.mode=min: must equal mixing.mode=max; give it for both"):
        trees.make_data(overrides, tmp_path, "mixing.mode=max", "data.mode=min")
    with pytest.raises(InputError, match="data.num_sources=3: must equal mixing.num_sources=2"):
        trees.make_data(overrides, tmp_path, "data.num_sources=3")
    with pytest.raises(InputError, match=r"data.dynamic=true: these sources were padded \(mixing.mode=max\)"):
        trees.make_data(overrides, tmp_path, "mixing.mode=max", "data.dynamic=true")


def test_other_gains_are_another_run(tmp_path):
    overrides = trees.libri2mix_tables(tmp_path)
    before = trees.make_data(overrides, tmp_path).digest()
    assert trees.make_data(overrides, tmp_path).digest() == before
    edit_table(tmp_path / "tables/libri2mix_train-clean-100.csv", lambda rows: rows[0].update(source_1_gain="0.5"))
    assert trees.make_data(overrides, tmp_path).digest() != before


def generate_librimix(root: Path, row: dict[str, str], rate: int, mode: str) -> np.ndarray:
    """A clean mixture as LibriMix's generator makes it: gains, polyphase resampling, lengths, sum, 16 bits."""
    signals = []
    for number in (1, 2):
        samples, file_rate = soundfile.read(root / "LibriSpeech" / row[f"source_{number}_path"], dtype="float32")
        signals.append(resample_poly(samples * float(row[f"source_{number}_gain"]), rate, file_rate))
    if mode == "min":
        length = min(map(len, signals))
        signals = [signal[:length] for signal in signals]
    else:
        length = max(map(len, signals))
        signals = [np.pad(signal, (0, length - len(signal))) for signal in signals]
    return np.round(sum(signals) * 32767).astype(int)


@pytest.mark.parametrize(("rate", "mode"), [(8000, "min"), (8000, "max"), (16_000, "min")])
def test_libri2mix_of_gains_is_the_generators_to_one_step_of_16_bits(tmp_path, rate, mode):
    overrides = trees.libri2mix_tables(tmp_path)
    data = trees.make_data(overrides, tmp_path, "mixing.rms=null", f"mixing.mode={mode}", f"data.sample_rate={rate}")
    for mixtures, subset in ((data.valid, "dev-clean"), (data.tests[0], "test-clean")):
        rows = read_table(tmp_path / f"tables/libri2mix_{subset}.csv")
        assert len(mixtures) == len(rows) == 6
        for index, row in enumerate(rows):
            expected = generate_librimix(tmp_path, row, rate, mode)
            batch = mixtures.whole([index])
            assert batch.names == (row["mixture_ID"],) and int(batch.num_samples) == len(expected)
            ours = np.round(batch.mixture[0].numpy() * 32767).astype(int)
            assert np.abs(ours - expected).max() <= 1
            assert np.abs(expected).max() > 3000


def test_three_speakers_and_16_khz(tmp_path):
    data = trees.make_data(trees.wsj0_mix(tmp_path / "three", num_sources=3), tmp_path)
    assert data.valid.whole([0, 1]).sources.shape[1] == 3
    data = trees.make_data(trees.wham(tmp_path / "wide", rate=16_000, mode="max"), tmp_path)
    assert data.valid.whole([0]).sources.shape == (1, 2, 12_800)


def test_trees_that_are_incomplete_are_named(tmp_path):
    overrides = trees.wsj0_mix(tmp_path)
    folder = tmp_path / "2speakers/wav8k/min"
    name = next((folder / "tr/s2").iterdir()).name
    (folder / "tr/s2" / name).unlink()
    with pytest.raises(InputError, match=f"tr: a part of it is missing: there is no .*tr/s2/{name}; generate it again"):
        trees.make_data(overrides, tmp_path)
    shutil.rmtree(folder / "tr/s2")
    with pytest.raises(InputError, match="tr/s2: no such folder"):
        trees.make_data(overrides, tmp_path)
    with pytest.raises(InputError, match="wav16k/min: no such folder .*data.sample_rate=16000.*there are wav8k/min"):
        trees.make_data(overrides, tmp_path, "data.sample_rate=16000")
    with pytest.raises(InputError, match="wav8k/max: no such folder"):
        trees.make_data(overrides, tmp_path, "mixing.mode=max")
    with pytest.raises(InputError, match="data.root=.*nowhere: no such folder"):
        trees.make_data(overrides, tmp_path, f"data.root={tmp_path}/nowhere")


def test_sources_that_differ_in_length_or_rate_are_named(tmp_path):
    overrides = trees.wsj0_mix(tmp_path)
    path = next((tmp_path / "2speakers/wav8k/min/tt/s1").iterdir())
    samples, _ = soundfile.read(path)
    soundfile.write(path, samples[:-100], 8000)
    with pytest.raises(InputError, match=rf"tt/mix/{path.name} \(6300, 6400 samples\): its sources differ in length"):
        trees.make_data(overrides, tmp_path)
    soundfile.write(path, samples, 16_000)
    with pytest.raises(InputError, match=rf"{path.name}: says its rate is 16000 Hz; this corpus has 8000 Hz"):
        trees.make_data(overrides, tmp_path)


def edit_table(path: Path, change) -> None:
    rows = read_table(path)
    change(rows)
    trees.write_table(path, rows)


def test_tables_that_cannot_be_used_are_named(tmp_path):
    overrides = trees.libri2mix_tables(tmp_path)
    table = tmp_path / "tables/libri2mix_test-clean.csv"
    text = table.read_text()

    def fails(match: str, change) -> None:
        table.write_text(text)
        edit_table(table, change)
        with pytest.raises(InputError, match=match):
            trees.make_data(overrides, tmp_path)

    for gain in ("-0.5", "nan", "0", "x", "1e9"):
        fails(
            f"test-clean.csv, line 3: source_2_gain={gain}: expected a number",
            lambda rows, gain=gain: rows[1].update(source_2_gain=gain),
        )
    fails(
        "test-clean.csv: has no column source_2_path; it has mixture_ID",
        lambda rows: [row.pop("source_2_path") for row in rows],
    )
    fails("line 2: source_1_path: expected a value", lambda rows: rows[0].update(source_1_path=""))
    gone = "/data/of/another/machine/1.flac"
    fails(
        f"1 of the .* files that the tables name aren't there: {gone}; give",
        lambda rows: rows[0].update(source_1_path=gone),
    )
    for name in ("../../x", "a/b", ".hidden", r"c:\x", "a" * 201, "漢" * 67):
        fails("mixture_ID=.*: expected another plain name", lambda rows, name=name: rows[0].update(mixture_ID=name))
    fails("mixture_ID=.*: expected another plain name", lambda rows: rows[1].update(mixture_ID=rows[0]["mixture_ID"]))
    for name in ("a" * 200, "漢" * 66):  # 198 bytes
        table.write_text(text)
        edit_table(table, lambda rows, name=name: rows[0].update(mixture_ID=name))
        assert trees.make_data(overrides, tmp_path).lists["test"][0].name == name
    table.write_text("mixture_ID,source_1_path,source_2_path\n")
    with pytest.raises(InputError, match="lists no mixtures"):
        trees.make_data(overrides, tmp_path)
    table.unlink()
    with pytest.raises(InputError, match="test-clean.csv: can't be read as a table"):
        trees.make_data(overrides, tmp_path)


def test_corrupt_files_are_named_together_or_skipped(tmp_path, caplog):
    overrides = trees.libri2mix_tables(tmp_path)
    rows = [row for name in ("dev", "test") for row in read_table(tmp_path / f"tables/libri2mix_{name}-clean.csv")[:2]]
    bad = [f"LibriSpeech/{row['source_1_path']}" for row in rows[:3]]
    for name in bad:
        (tmp_path / name).write_bytes(b"not audio")
    named = ".*".join(Path(name).name for name in bad)
    with pytest.raises(InputError, match=f"{named}.*data.on_error=skip goes on without these 3 of 21 files"):
        trees.make_data(overrides, tmp_path)
    data = trees.make_data(overrides, tmp_path, "data.on_error=skip")
    assert "data.on_error=skip: 3 of 21 left out" in caplog.text
    lost = {Path(name).stem for name in bad}
    names = [mixtures.draw(i).name for mixtures in (data.valid, data.tests[0]) for i in range(len(mixtures))]
    assert names and not any(utterance in name for name in names for utterance in lost)
    assert len(data.train) == 6 and len(data.valid) + len(data.tests[0]) < 12


def test_vctk_keeps_to_one_microphone(tmp_path):
    overrides = trees.vctk(tmp_path)
    names = {u.name for u in trees.make_data(overrides, tmp_path).train.store.utterances}
    assert len(names) == 20 and all("_mic1.flac" in name for name in names)
    second = trees.make_data(
        overrides, tmp_path, "data.microphone=mic2", "data.held_out=[p225,s5]"
    ).train.store.utterances
    assert {u.speaker for u in second} == {"p225", "p226", "p227", "s5"}
    assert {u.speaker for u in second if u.split == "test_unknown"} == {"p225", "s5"}
