"""Every public corpus's format, from its files to scores."""

import csv
import json
import shutil
import zlib
from pathlib import Path

import numpy as np
import pytest
import soundfile
import trees
from conftest import CPU, TINY, voice
from scipy.signal import resample_poly

from separation import cli
from separation.assembly import build, build_data, build_parts, load_model
from separation.data.corpus import TEST, TRAIN, VALID
from separation.data.mixtures import Data
from separation.errors import InputError
from separation.interruption import Interruption
from separation.processes import Processes
from separation.recordings import RecordingSeparator
from separation.run_folder import RunFolder
from separation.scoring import score_run


def make_data(overrides: list[str], tmp_path: Path, *more: str) -> Data:
    return build_data(cli.compose_config("config", [*overrides, f"data.store={tmp_path}/store", *more]))


def read_table(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("name", trees.FORMATS)
def test_every_format_is_trained_on_scored_and_separated(name, tmp_path):
    overrides = [*trees.FORMATS[name](tmp_path / "corpus"), *TINY, "trainer.max_steps=2", "trainer.progress=false"]
    path = tmp_path / "run"
    config = cli.compose_config(
        "config", [*overrides, f"data.store={tmp_path}/store", "evaluation.progress=false", f"run_dir={path}"]
    )
    parts = build_parts(config, CPU, Processes())
    with RunFolder.create(path, config, resume=False) as folder:
        assert build(config, "trainer").fit(parts, folder, Interruption())
        summary = score_run(folder, config, parts.data, build(config, "evaluation"), path, "test")
    assert np.isfinite(summary["si_sdr"]) and summary["num_mixtures"] == 2
    assert summary["oracle"]["ideal_ratio"] > summary["input_si_sdr"] + 3
    assert len(list((path / "audio").rglob("mixture.wav"))) >= 2
    separator = RecordingSeparator(load_model(folder, config), 8000, build(config, "mixing").mixture_rms, 8000, 800)
    assert separator(voice(150, 1.5, 16_000, 0)[:, None], 16_000).shape == (2, 24_000, 1)


@pytest.mark.parametrize("name", ["wsj0_2mix", "wham", "libri2mix", "minilibrimix"])
def test_mixtures_of_a_tree_are_those_on_the_disk(name, tmp_path):
    data = make_data(trees.FORMATS[name](tmp_path), tmp_path, "mixing.rms=null")
    noisy = name == "wham"
    assert (len(data.train), len(data.valid), len(data.tests[0])) == (6, 2, 2)
    for mixtures in (data.valid, *data.tests):
        for index in range(len(mixtures)):
            mixture, batch = mixtures.draw(index), mixtures.whole([index])
            [file] = [path for path in tmp_path.rglob(f"{mixture.name}.wav") if path.parent.name.startswith("mix")][:1]
            file = (
                file.parents[1] / ("mix" if name == "wsj0_2mix" else "mix_both" if noisy else "mix_clean") / file.name
            )
            expected, _ = soundfile.read(file, dtype="float32")
            assert (batch.noise is not None) == noisy
            np.testing.assert_allclose(batch.mixture[0], expected, atol=2e-5 if noisy else 2**-15)
            for number, source in enumerate(batch.sources[0], start=1):
                reference, _ = soundfile.read(file.parents[1] / f"s{number}" / file.name, dtype="float32")
                np.testing.assert_allclose(source, reference, atol=1e-5)
    assert data.valid.draw(0).utterances[0].speaker in ("0aa", "0bb", "0cc", "200", "201", "202")


def test_listed_mixtures_are_brought_to_the_level_of_drawn_ones_as_a_whole(tmp_path):
    overrides = trees.wham(tmp_path)
    own, level = (make_data(overrides, tmp_path, f"mixing.rms={rms}").valid for rms in ("null", "0.05"))
    for index in range(2):
        before, after = own.draw(index), level.draw(index)
        ratios = np.array(after.gains) / np.array(before.gains)
        np.testing.assert_allclose(ratios, ratios[0])
        energy = sum((g * u.rms) ** 2 for g, u in zip(after.gains, after.utterances, strict=True))
        assert energy == pytest.approx(2 * 0.05**2)


def test_excerpts_of_a_listed_mixture_begin_together(tmp_path):
    data = make_data(trees.wsj0_mix(tmp_path), tmp_path, "mixing.rms=null")
    starts = set()
    for epoch in range(4):
        batch = data.train.excerpts(range(6), 2000, epoch)
        assert len(set(batch.names)) == 6  # each once an epoch
        for name, row in zip(batch.names, batch.sources.numpy(), strict=True):
            sources = [
                soundfile.read(tmp_path / f"2speakers/wav8k/min/tr/s{i}/{name}.wav", dtype="float32")[0] for i in (1, 2)
            ]
            [start] = [o for o in range(len(sources[0]) - 1999) if np.array_equal(sources[0][o : o + 2000], row[0])]
            np.testing.assert_array_equal(sources[1][start : start + 2000], row[1])
            starts.add(start)
    assert len(starts) > 15
    orders = [data.train.excerpts(range(6), 100, epoch).names for epoch in range(3)]
    assert len(set(orders)) > 1
    parts = [name for i in range(0, 6, 2) for name in data.train.excerpts(range(i, i + 2), 100, 1).names]
    assert tuple(parts) == orders[1]


def test_part_of_a_list_is_gone_through_epoch_by_epoch(tmp_path):
    overrides = trees.wsj0_mix(tmp_path)
    data = make_data(overrides, tmp_path, "data.num_train=2", "data.num_valid=1")
    assert (len(data.train), len(data.valid)) == (2, 1)
    names = [name for epoch in range(3) for name in data.train.excerpts(range(2), 100, epoch).names]
    assert len(set(names)) == 6


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
    data = make_data(overrides, tmp_path, "mixing.rms=null", f"mixing.mode={mode}", f"data.sample_rate={rate}")
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


def test_lists_drawn_as_wsj0_2mix(tmp_path):
    overrides = trees.librispeech(tmp_path)
    data = make_data(overrides, tmp_path)
    assert (len(data.train), len(data.valid), len(data.tests[0])) == (20_000, 5_000, 3_000)
    speakers = {}
    for split, mixtures in ((TRAIN, data.train), (VALID, data.valid), (TEST, data.tests[0])):
        drawn = [mixtures.draw(index) for index in range(0, len(mixtures), 4)]
        assert all(a.speaker != b.speaker for a, b in (mixture.utterances for mixture in drawn))
        # snr1 is half of what the louder lies above the other.
        snr1 = [10 * np.log10(g[0] * u[0].rms / (g[1] * u[1].rms)) for _, u, g, _ in drawn]
        assert min(snr1) >= 0 and max(snr1) <= 2.5
        counts, _ = np.histogram(snr1, bins=5, range=(0, 2.5))
        assert np.all(np.abs(counts / len(snr1) - 0.2) < 0.04)
        speakers[split] = {utterance.speaker for mixture in drawn for utterance in mixture.utterances}
    assert speakers[TRAIN] == speakers[VALID] == {"100", "101", "102"} and speakers[TEST] == {"300", "301", "302"}
    # The same on every machine: utterances and levels (in mdB) of the first mixtures.
    first = [data.valid.draw(index) for index in range(100)]
    said = [[*(u.name for u in m.utterances), round(2e4 * np.log10(m.gains[0] * m.utterances[0].rms))] for m in first]
    assert zlib.crc32(json.dumps(said).encode()) == 3383721628


def test_dynamic_mixing_draws_from_a_lists_speakers(tmp_path):
    data = make_data(trees.wham(tmp_path), tmp_path, "data.noise=false", "data.dynamic=true", "data.num_train=50")
    mixtures = [data.train.draw(index) for index in range(50)]
    assert all(a.speaker != b.speaker for a, b in (mixture.utterances for mixture in mixtures))
    assert len({mixture.utterances for mixture in mixtures}) > 20
    assert len(data.valid) == 2 and data.valid.draw(0).name.startswith("0")
    with pytest.raises(InputError, match="data.dynamic=true: drawn mixtures have no noise"):
        make_data(trees.wham(tmp_path), tmp_path, "data.dynamic=true")
    with pytest.raises(InputError, match="data.num_train=null: the mixtures of the train split are drawn"):
        make_data(trees.wham(tmp_path), tmp_path, "data.noise=false", "data.dynamic=true")


def test_three_speakers_and_16_khz(tmp_path):
    data = make_data(trees.wsj0_mix(tmp_path / "three", num_sources=3), tmp_path)
    assert data.valid.whole([0, 1]).sources.shape[1] == 3
    data = make_data(trees.wham(tmp_path / "wide", rate=16_000, mode="max"), tmp_path)
    assert data.valid.whole([0]).sources.shape == (1, 2, 12_800)


def test_music_is_cut_and_silent_pieces_are_left_out(tmp_path):
    overrides = trees.musdb18hq(tmp_path)
    path = tmp_path / "test/C - Three/vocals.wav"
    samples, rate = soundfile.read(path)
    samples[: len(samples) // 3] = 0
    soundfile.write(path, samples, rate)
    test = make_data(overrides, tmp_path).tests[0]
    assert [test.draw(i).name for i in range(len(test))] == ["C - Three#1", "C - Three#2"]
    batch = make_data(overrides, tmp_path, "mixing.rms=null").tests[0].whole([0])
    assert batch.num_samples.tolist() == [6400]
    vocals = np.mean(samples, axis=1)[len(samples) // 3 : 2 * len(samples) // 3]
    assert float(batch.sources[0, 0].std()) == pytest.approx(vocals.std(), rel=0.02)
    four = make_data(overrides, tmp_path, "mixing.num_sources=4").tests[0]
    assert [u.name.rpartition("/")[2] for u in four.draw(0).utterances] == ["vocals", "drums", "bass", "other"]


def test_trees_that_are_incomplete_are_named(tmp_path):
    overrides = trees.wsj0_mix(tmp_path)
    folder = tmp_path / "2speakers/wav8k/min"
    name = next((folder / "tr/s2").iterdir()).name
    (folder / "tr/s2" / name).unlink()
    with pytest.raises(InputError, match=f"tr: a part of it is missing: there is no .*tr/s2/{name}; generate it again"):
        make_data(overrides, tmp_path)
    shutil.rmtree(folder / "tr/s2")
    with pytest.raises(InputError, match="tr/s2: no such folder"):
        make_data(overrides, tmp_path)
    with pytest.raises(InputError, match="wav16k/min: no such folder .*data.sample_rate=16000.*there are wav8k/min"):
        make_data(overrides, tmp_path, "data.sample_rate=16000")
    with pytest.raises(InputError, match="wav8k/max: no such folder"):
        make_data(overrides, tmp_path, "mixing.mode=max")
    with pytest.raises(InputError, match="data.root=.*nowhere: no such folder"):
        make_data(overrides, tmp_path, f"data.root={tmp_path}/nowhere")


def test_sources_that_differ_in_length_or_rate_are_named(tmp_path):
    overrides = trees.wsj0_mix(tmp_path)
    path = next((tmp_path / "2speakers/wav8k/min/tt/s1").iterdir())
    samples, _ = soundfile.read(path)
    soundfile.write(path, samples[:-100], 8000)
    with pytest.raises(InputError, match=rf"tt/mix/{path.name}: its sources differ in length \(6300, 6400 samples\)"):
        make_data(overrides, tmp_path)
    soundfile.write(path, samples, 16_000)
    with pytest.raises(InputError, match=rf"{path.name}: says its rate is 16000 Hz; this corpus has 8000 Hz"):
        make_data(overrides, tmp_path)


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
            make_data(overrides, tmp_path)

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
    for name in ("../../x", "a/b", ".hidden", r"c:\x"):
        fails("mixture_ID=.*: expected another plain name", lambda rows, name=name: rows[0].update(mixture_ID=name))
    fails("mixture_ID=.*: expected another plain name", lambda rows: rows[1].update(mixture_ID=rows[0]["mixture_ID"]))
    table.write_text("mixture_ID,source_1_path,source_2_path\n")
    with pytest.raises(InputError, match="lists no mixtures"):
        make_data(overrides, tmp_path)
    table.unlink()
    with pytest.raises(InputError, match="test-clean.csv: can't be read as a table"):
        make_data(overrides, tmp_path)


def test_corrupt_files_are_named_together_or_skipped(tmp_path, caplog):
    overrides = trees.libri2mix_tables(tmp_path)
    rows = [row for name in ("dev", "test") for row in read_table(tmp_path / f"tables/libri2mix_{name}-clean.csv")[:2]]
    bad = [f"LibriSpeech/{row['source_1_path']}" for row in rows[:3]]
    for name in bad:
        (tmp_path / name).write_bytes(b"not audio")
    with pytest.raises(InputError, match="3 of 21 files can't be used.*" + ".*".join(Path(name).name for name in bad)):
        make_data(overrides, tmp_path)
    data = make_data(overrides, tmp_path, "data.on_error=skip")
    assert "data.on_error=skip: 3 of 21 left out" in caplog.text
    lost = {Path(name).stem for name in bad}
    names = [mixtures.draw(i).name for mixtures in (data.valid, data.tests[0]) for i in range(len(mixtures))]
    assert names and not any(utterance in name for name in names for utterance in lost)
    assert len(data.train) == 6 and len(data.valid) + len(data.tests[0]) < 12


def test_vctk_keeps_to_one_microphone(tmp_path):
    overrides = trees.vctk(tmp_path)
    names = {u.name for u in make_data(overrides, tmp_path).train.store.utterances}
    assert len(names) == 20 and all("_mic1.flac" in name for name in names)
    second = make_data(overrides, tmp_path, "data.microphone=mic2", "data.held_out=[p225,s5]").train.store.utterances
    assert {u.speaker for u in second} == {"p225", "p226", "p227", "s5"}
    assert {u.speaker for u in second if u.split == "test_unknown"} == {"p225", "s5"}
