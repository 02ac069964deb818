"""Mixtures that a corpus lists, and those that are drawn of the same recordings."""

import json
import zlib

import numpy as np
import pytest
import soundfile
import torch
import trees

from separation.data.corpora.corpus import TEST, TRAIN, VALID
from separation.errors import InputError
from separation.evaluation.oracles import ORACLES
from separation.model.features import Stft, features


def test_noise_is_in_the_mixture_and_in_no_source(tmp_path):
    data = trees.make_data(trees.wham(tmp_path), tmp_path)
    batch = data.valid.whole([0, 1])
    assert batch.sources.shape[1] == 2
    torch.testing.assert_close(batch.mixture, batch.sources.sum(1) + batch.noise)
    feats = features(batch.sources, Stft(), batch.noise)
    torch.testing.assert_close(feats.mixture_stft, Stft()(batch.mixture), atol=1e-7, rtol=1e-4)
    ratio, wiener, binary = (ORACLES[name](feats) for name in ("ideal_ratio", "wiener_like", "ideal_binary"))
    noise = Stft()(batch.noise).abs()
    torch.testing.assert_close(ratio.sum(-1), 1 - noise / (feats.source_magnitudes.sum(-1) + noise))
    power = feats.source_magnitudes.square().sum(-1)
    torch.testing.assert_close(wiener.sum(-1), power / (power + noise.square()), atol=1e-5, rtol=1e-4)
    assert torch.equal(binary.sum(-1) > 0, feats.source_magnitudes.amax(-1) >= noise)


def test_the_length_of_noise_does_not_count(tmp_path):
    for seconds, split in ((3.0, "train"), (0.3, "valid"), (1.0, "test")):
        rows = []
        for number in range(4):
            row = {"mixture_ID": f"{split}{number}", "noise_path": f"{split}/n{number}.wav"}
            trees.write(tmp_path / row["noise_path"], trees.speech(8000, 90 + number, seconds), 8000)
            for i in (1, 2):
                row[f"source_{i}_path"] = f"{split}/{number}_{i}.wav"
                trees.write(
                    tmp_path / row[f"source_{i}_path"], trees.speech(8000, 10 * number + i, 0.7 + 0.1 * i), 8000
                )
            rows.append(row)
        trees.write_table(tmp_path / f"{split}.csv", rows)
    splits = [f"data.{split}={tmp_path}/{split}.csv" for split in ("train", "valid", "test")]
    overrides = ["data=csv", f"data.root={tmp_path}", *splits, "data.noise=true"]
    for mode, length in (("min", 6400), ("max", 7200)):
        data = trees.make_data(overrides, tmp_path, f"mixing.mode={mode}")
        for mixtures in (data.train, data.valid, data.tests[0]):
            assert mixtures.whole([0]).num_samples.tolist() == [length]
        noise = data.valid.whole([0]).noise[0]
        assert noise[:2400].any() and not noise[2400:].any()


def test_listed_mixtures_are_brought_to_the_level_of_drawn_ones_as_a_whole(tmp_path):
    overrides = trees.wham(tmp_path)
    own, level = (trees.make_data(overrides, tmp_path, f"mixing.rms={rms}").valid for rms in ("null", "0.05"))
    for index in range(2):
        before, after = own.draw(index), level.draw(index)
        ratios = np.array(after.gains) / np.array(before.gains)
        np.testing.assert_allclose(ratios, ratios[0])
        energy = sum((g * u.rms) ** 2 for g, u in zip(after.gains, after.utterances, strict=True))
        assert energy == pytest.approx(2 * 0.05**2)


def test_excerpts_of_a_listed_mixture_begin_together(tmp_path):
    data = trees.make_data(trees.wsj0_mix(tmp_path), tmp_path, "mixing.rms=null")
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
    data = trees.make_data(overrides, tmp_path, "data.num_train=2", "data.num_valid=1")
    assert (len(data.train), len(data.valid)) == (2, 1)
    names = [name for epoch in range(3) for name in data.train.excerpts(range(2), 100, epoch).names]
    assert len(set(names)) == 6


def test_lists_drawn_as_wsj0_2mix(tmp_path):
    overrides = trees.librispeech(tmp_path)
    data = trees.make_data(overrides, tmp_path)
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
    data = trees.make_data(trees.wham(tmp_path), tmp_path, "data.noise=false", "data.dynamic=true", "data.num_train=50")
    mixtures = [data.train.draw(index) for index in range(50)]
    assert all(a.speaker != b.speaker for a, b in (mixture.utterances for mixture in mixtures))
    assert len({mixture.utterances for mixture in mixtures}) > 20
    assert len(data.valid) == 2 and data.valid.draw(0).name.startswith("0")
    with pytest.raises(InputError, match="data.dynamic=true: drawn mixtures have no noise"):
        trees.make_data(trees.wham(tmp_path), tmp_path, "data.dynamic=true")
    with pytest.raises(InputError, match="data.num_train=null: the mixtures of the train split are drawn"):
        trees.make_data(trees.wham(tmp_path), tmp_path, "data.noise=false", "data.dynamic=true")


def test_music_is_cut_and_silent_pieces_are_left_out(tmp_path):
    overrides = trees.musdb18hq(tmp_path)
    path = tmp_path / "test/C - Three/vocals.wav"
    samples, rate = soundfile.read(path)
    samples[: len(samples) // 3] = 0
    soundfile.write(path, samples, rate)
    test = trees.make_data(overrides, tmp_path).tests[0]
    assert [test.draw(i).name for i in range(len(test))] == ["C - Three#1", "C - Three#2"]
    batch = trees.make_data(overrides, tmp_path, "mixing.rms=null").tests[0].whole([0])
    assert batch.num_samples.tolist() == [6400]
    vocals = np.mean(samples, axis=1)[len(samples) // 3 : 2 * len(samples) // 3]
    assert float(batch.sources[0, 0].std()) == pytest.approx(vocals.std(), rel=0.02)
    four = trees.make_data(overrides, tmp_path, "mixing.num_sources=4").tests[0]
    assert [u.name.rpartition("/")[2] for u in four.draw(0).utterances] == ["vocals", "drums", "bass", "other"]


def test_a_stem_may_be_silent_where_others_play(tmp_path):
    overrides = trees.musdb18hq(tmp_path)
    for stem in ("drums", "bass", "other"):
        path = tmp_path / f"train/A - One/{stem}.wav"
        samples, rate = soundfile.read(path)
        samples[:, :] = 0 if stem == "drums" else samples
        samples[: len(samples) // 3] = 0
        soundfile.write(path, samples, rate)
    vocals, _ = soundfile.read(tmp_path / "train/A - One/vocals.wav")
    vocals[: len(vocals) // 3] = 0
    soundfile.write(tmp_path / "train/A - One/vocals.wav", vocals, 44_100)
    train = trees.make_data(overrides, tmp_path).train
    batch = train.excerpts(range(6), 1000)
    assert batch.names.count("A - One#0") == 1 and batch.sources.isfinite().all()
    assert not batch.sources[batch.names.index("A - One#0"), 0, :900].any()
    with pytest.raises(InputError, match="A - One.*drums.wav: is silent"):
        trees.make_data(overrides, tmp_path, "mixing.num_sources=4")
