import csv
import json
import math
import shutil
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
import soundfile
from conftest import call_program

from separation.app.assembly import build, build_data
from separation.app.settings import compose_config
from separation.data.check.findings import duplicate_findings, fast_check, findings, noise_findings, speaker_findings
from separation.data.check.measure import Inspection, Measured, inspect, is_clipped, noise_floor
from separation.data.check.report import report, summary
from separation.data.corpora.corpus import TEST, TEST_UNKNOWN, TRAIN, VALID
from separation.data.corpora.wsj0_2mix import Wsj0MixCorpus
from separation.data.sample_store import open_store
from separation.data.utterances import Utterance
from separation.errors import InputError

RATE = 8000
COUNTS = {"tr": 3, "cv": 1, "tt": 2}
SPEAKERS = {"tr": "ab", "cv": "ab", "tt": "xy"}
AMPLITUDES = (0.2, 0.1)


def tone(amplitude: float, frequency: float, seconds: float) -> np.ndarray:
    """With steps of 16 bits, so that a sum of such is exact; whole periods."""
    wave = amplitude * np.sin(2 * np.pi * frequency * np.arange(round(seconds * RATE)) / RATE)
    return np.round(wave * 2**15) / 2**15


def write(path: Path, samples: np.ndarray, rate: int = RATE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate, subtype="PCM_16")


def scale(path: Path, decibels: float) -> None:
    write(path, soundfile.read(path)[0] * 10 ** (decibels / 20))


def folder(root: Path, part: str) -> Path:
    return root / "2speakers/wav8k/min" / part


def make_tree(root: Path, counts: dict[str, int] = COUNTS) -> list[str]:
    """WSJ0-2mix in little: tones of 0.2 and 0.1 that last 1, 2, ... times 0.25 s, no two alike."""
    for number, (split, speakers) in enumerate(SPEAKERS.items()):
        for n in range(counts[split]):
            name = f"0{speakers[0]}ac{n:04}_1.5_0{speakers[1]}bc{n:04}_-1.5.wav"
            seconds = 0.25 * (n + 1)
            sources = [tone(a, 400 + 8 * (200 * number + 2 * n + i), seconds) for i, a in enumerate(AMPLITUDES)]
            for part, samples in {"s1": sources[0], "s2": sources[1], "mix": sum(sources)}.items():
                write(folder(root, split) / part / name, samples)
    return ["data=wsj0_2mix", f"data.root={root}", f"data.store={root}/store"]


def files(root: Path, part: str) -> list[Path]:
    return sorted(folder(root, part).glob("*.wav"))


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Its overrides; as many mixtures as there are count as published."""
    counts = {TRAIN: COUNTS["tr"], VALID: COUNTS["cv"], TEST: COUNTS["tt"]}
    monkeypatch.setattr(Wsj0MixCorpus, "published", counts)
    return make_tree(tmp_path)


def inspected(overrides: list[str]) -> Inspection:
    corpus = build(compose_config("config", overrides), "data")
    store = open_store(corpus)
    return inspect(corpus, store, corpus.mixture_lists({utterance.name for utterance in store.utterances}))


def wrong(inspection: Inspection) -> list[str]:
    return [finding.sentence for finding in findings(inspection) if finding.is_wrong]


def remarks(inspection: Inspection, word: str) -> list[str]:
    return [found.sentence for found in findings(inspection) if not found.is_wrong and word in found.sentence]


def test_a_right_corpus_is_counted_and_measured(tree):
    inspection = inspected(tree)
    assert wrong(inspection) == []
    numbers = summary(inspection)
    assert numbers["formats"] == [{"sample_rate": RATE, "channels": 1, "files": 12}]
    assert numbers["shared_speakers"] == {"train and valid": 2, "train and test": 0, "valid and test": 0}
    assert numbers["duplicates"] == {"across_splits": 0, "within_a_split": 0}
    train = numbers["splits"]["train"]
    assert (train["recordings"], train["speakers"], train["mixtures"], train["published_mixtures"]) == (6, 2, 3, 3)
    assert train["hours"] == pytest.approx(2 * (0.25 + 0.5 + 0.75) / 3600)
    assert (train["checked_mixtures"], train["wrong_mixtures"], train["largest_error_db"]) == (3, 0, -120)
    assert (train["clipped"], train["nearly_silent"], train["damaged"]) == (0, 0, 0)
    spread = {quantity: found["train"] for quantity, found in numbers["distributions"].items() if "train" in found}
    assert [spread["length_s"][name] for name in ("smallest", "median", "largest")] == [0.25, 0.5, 0.75]
    for name, amplitude in (("smallest", 0.1), ("largest", 0.2)):
        assert spread["level_db"][name] == pytest.approx(20 * math.log10(amplitude / math.sqrt(2)), abs=0.01)
    assert spread["level_difference_db"]["median"] == pytest.approx(20 * math.log10(2), abs=0.01)
    assert "train           6         2   0.00         3          3" in report(numbers)


def test_a_mixture_that_is_not_the_sum_is_found_and_its_error_is_right(tree, tmp_path):
    changed = files(tmp_path, "tr/mix")[1]
    scale(changed, 1.0)
    inspection = inspected(tree)
    [sentence] = wrong(inspection)
    # The difference is (g - 1) of the true sum, the file is g of it: 1 - 1 / g = -19.27 dB.
    assert sentence.startswith("train: mixtures that aren't the sum of their sources: 1 of 3 checked: ")
    assert f"{changed} (off by -19.3 dB);" in sentence
    numbers = summary(inspection)["splits"]["train"]
    assert numbers["largest_error_db"] == pytest.approx(20 * math.log10(1 - 10 ** (-1 / 20)), abs=0.02)


def test_half_a_percent_and_rounding_are_no_error(tree, tmp_path):
    scale(files(tmp_path, "tr/mix")[0], 20 * math.log10(1.005))
    for part in ("mix", "s1", "s2"):
        for path in files(tmp_path, f"tt/{part}"):
            scale(path, -46)  # to an RMS of 26 steps, of which 1% is less than the rounding of each
    assert wrong(inspected(tree)) == []


def test_mixtures_that_cannot_be_compared_come_first(tree, tmp_path):
    corpus = build(compose_config("config", tree), "data")
    store = open_store(corpus)
    paths = files(tmp_path, "tr/mix")
    scale(paths[0], 1.0)
    write(paths[1], tone(0.2, 400, 0.5)[:-7])
    lists = corpus.mixture_lists(())
    paths[2].unlink()  # after it was listed
    [sentence] = wrong(inspect(corpus, store, lists))
    assert "3 of 3 checked" in sentence and f"{paths[1]} (3993 samples, its sources 4000)" in sentence
    assert f"{paths[2]}: can't be read" in sentence
    assert sentence.index(str(paths[0])) > max(sentence.index(str(path)) for path in paths[1:])


def test_pieces_of_one_file_are_checked_once(tree):
    corpus = build(compose_config("config", tree), "data")
    [row, *_] = corpus.mixture_lists(())[TRAIN]
    pieces = [row._replace(name=str(n), span=(0.1 * n, 0.1 * n + 0.1)) for n in range(2)]
    assert len(inspect(corpus, open_store(corpus), {TRAIN: pieces}).sums[TRAIN]) == 1


def test_other_counts_than_the_published_are_wrong(tree, monkeypatch):
    monkeypatch.setattr(Wsj0MixCorpus, "published", {TRAIN: 20_000, VALID: 1})
    [sentence] = wrong(inspected(tree))
    assert sentence.startswith("train: lists 3 mixtures, not the published 20,000; generate")


def test_several_rates_and_channels_are_remarked(tmp_path):
    for pitch, (person, rate) in enumerate({"anna": 8000, "bert": 8000, "carl": 16_000}.items()):
        for number in range(3):
            write(tmp_path / f"speech/{person}/{number}.wav", tone(0.2, 400 + 10 * pitch + number, 1), rate)
    write(tmp_path / "speech/carl/0.wav", np.stack([tone(0.2, 500, 1)] * 2, axis=1), 16_000)
    inspection = inspected(["data=folder", f"data.root={tmp_path}/speech", f"data.store={tmp_path}/store"])
    assert inspection.formats == {(8000, 1): 6, (16_000, 1): 2, (16_000, 2): 1}
    [rates], [channels] = remarks(inspection, "rates"), remarks(inspection, "channels")
    assert "(8000 Hz: 6, 16000 Hz: 3), and are brought to 8000 Hz" in rates
    assert channels.startswith("files with several channels, whose mean is taken: 1;")


def test_clipping_is_a_run_at_full_scale():
    def clipped(*samples: float) -> bool:
        return is_clipped(np.array([0, 0.5, *samples, -0.5, 0], dtype=np.float32))

    assert clipped(1, 1, 1) and clipped(-1, -1, -1) and clipped(0.9995, 0.9995, 0.9995)
    assert not clipped(1, 1, 0.9, 1)  # two at once
    assert not clipped(0.9, 0.9, 0.9)  # below full scale
    assert not clipped(1, 0.9995, 0.9995, 0.9995)  # below its peak


def test_clipped_and_silent_recordings_are_named(tree, tmp_path):
    loud, quiet = (files(tmp_path, f"tr/{part}")[0] for part in ("s1", "s2"))
    samples = [np.clip(tone(1.5, 400, 0.25), -1, 32767 / 32768), tone(5e-4, 408, 0.25)]
    for path, own in zip((loud, quiet, files(tmp_path, "tr/mix")[0]), (*samples, sum(samples)), strict=True):
        write(path, own)
    inspection = inspected(tree)
    [clipped], [silent] = remarks(inspection, "clipped"), remarks(inspection, "silent")
    assert clipped.startswith(f"clipped recordings: 1 (8.3%): tr/s1/{loud.name};")
    assert f"nearly silent recordings (below -60 dB of full scale): 1: tr/s2/{quiet.name};" in silent
    assert {summary(inspection)["splits"]["train"][key] for key in ("clipped", "nearly_silent")} == {1}


def test_what_is_in_two_splits_is_wrong(tree, tmp_path, monkeypatch):
    name = files(tmp_path, "tr/mix")[2].name
    for part in ("mix", "s1", "s2"):
        shutil.copy(folder(tmp_path, f"tr/{part}/{name}"), folder(tmp_path, f"tt/{part}/{name}"))
    monkeypatch.setattr(Wsj0MixCorpus, "published", {})
    monkeypatch.setattr(Wsj0MixCorpus, "unseen_test", False, raising=False)
    [sentence] = wrong(inspected(tree))
    assert sentence.startswith("the same recordings are in several splits: 2: ")
    assert f"tr/s1/{name} (train) = tt/s1/{name} (test)" in sentence
    monkeypatch.setattr(Wsj0MixCorpus, "unseen_test", True, raising=False)
    _, speakers = wrong(inspected(tree))
    assert speakers.startswith("train and test should have no speaker in common, and have 2: 0aa, 0bb;")


def utterance(name: str, speaker: str, split: str, crc32: int = 0, rms: float = 0.1) -> Utterance:
    return Utterance(name, speaker, split, 0, 100, 2**-15, rms, crc32)


def test_doubles_in_a_split_are_remarked_and_unknown_speakers_must_be_unknown(tree):
    rows = [utterance("a", "x", TRAIN, 1), utterance("b", "x", TRAIN, 1), utterance("c", "y", TEST_UNKNOWN, 1, rms=0.2)]
    [finding] = duplicate_findings(rows)
    assert not finding.is_wrong and "several names: 1: a (train) = b (train); remove" in finding.sentence
    corpus = build(compose_config("config", tree), "data")
    assert speaker_findings(corpus, rows) == []
    assert speaker_findings(corpus, [*rows, utterance("d", "", TRAIN), utterance("e", "", TEST_UNKNOWN)]) == []
    [shared] = speaker_findings(corpus, [*rows, utterance("d", "x", TEST_UNKNOWN)])
    assert shared.is_wrong and shared.sentence.startswith("train and test_unknown should have no speaker in common")


@pytest.mark.parametrize("noise_db", [-30, -45])
def test_the_noise_floor_of_bursts_in_noise_is_that_of_the_noise(noise_db):
    burst = 31 * 256
    is_on = np.arange(20 * burst) // burst % 2 == 0
    power, noise = 0.3**2 / 2, 0.3**2 / 2 * 10 ** (noise_db / 10)
    samples = tone(0.3, 500, len(is_on) / RATE) * is_on
    samples += math.sqrt(noise) * np.random.default_rng(0).standard_normal(len(samples))
    # Noise within 40 dB of the tone counts towards the level that it is compared with.
    level = power / 2 + noise if noise_db > -40 else power + noise
    expected = 10 * math.log10(noise / level)
    assert noise_floor(samples, RATE) == pytest.approx(expected, abs=1)
    assert noise_floor(np.concatenate([samples, np.zeros(RATE)]), RATE) == pytest.approx(expected, abs=1)


def test_noise_is_remarked_of_speech_only():
    def measured(*floors: float, speaker: str = "x") -> list[Measured]:
        return [Measured(utterance("a", speaker, TRAIN), False, False, floor, 0.0) for floor in floors]

    assert noise_findings(measured(-50, -30, -10)) == noise_findings(measured(-10, speaker="")) == []
    assert noise_findings(measured(math.nan)) == [] and math.isnan(noise_floor(np.ones(200), RATE))
    [finding] = noise_findings(measured(-50, -18, -10, math.nan))
    assert not finding.is_wrong and "at -18.0 dB of their speech" in finding.sentence and ".wv1" in finding.sentence


def test_a_changed_byte_of_the_store_is_found(tree):
    inspection = inspected(tree)
    store = inspection.store
    changed = store.utterances[3]
    samples = bytearray((store.folder / "samples.i16").read_bytes())
    samples[2 * changed.start + 20] ^= 1
    (store.folder / "samples.i16").write_bytes(samples)
    [sentence] = wrong(inspected(tree))
    assert sentence == f"{store.folder}: damaged recordings: 1: {changed.name}; remove it to build it again"


def test_before_training_some_mixtures_of_each_split_are_checked(tmp_path, caplog):
    caplog.set_level("INFO")
    data = build_data(compose_config("config", make_tree(tmp_path, {"tr": 22, "cv": 20, "tt": 1})))
    fast_check(data)
    assert "Data: 41 mixtures checked, each the sum of its sources" in caplog.text
    warnings = [record.message.partition(",")[0] for record in caplog.records if record.levelname == "WARNING"]
    assert warnings == [f"{split} mixtures" for split in ("train: lists 22", "valid: lists 20", "test: lists 1")]
    [changed] = files(tmp_path, "tt/mix")
    scale(changed, -1.0)
    with pytest.raises(
        InputError, match=r"^test: .* 1 of 1 checked: .*/0xac0000_.*check_data.py data=\.\.\. shows all"
    ):
        fast_check(data)


def test_drawn_mixtures_need_no_check(speech_folder, tmp_path, caplog):
    caplog.set_level("INFO")
    overrides = ["data=folder", f"data.root={speech_folder}", f"data.store={tmp_path}", "data.held_out=[carl,dora]"]
    fast_check(build_data(compose_config("config", overrides)))
    assert [record.levelname for record in caplog.records] == ["INFO"]  # of the store


def table_overrides(root: Path) -> list[str]:
    """The tree as somebody's own tables, whose mixtures nobody has published."""
    for split in SPEAKERS:
        with open(root / f"{split}.csv", "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["mixture_ID", "mixture_path", "source_1_path", "source_2_path"])
            for path in files(root, f"{split}/mix"):
                writer.writerow([path.stem, path, *(path.parent.parent / part / path.name for part in ("s1", "s2"))])
    tables = [f"data.{key}={root}/{split}.csv" for key, split in zip((TRAIN, VALID, TEST), SPEAKERS, strict=True)]
    return ["data=csv", f"data.root={root}", f"data.store={root}/store", *tables]


def test_the_program_writes_a_report_and_ends_with_what_it_found(tmp_path):
    make_tree(tmp_path)
    overrides = table_overrides(tmp_path)
    result = call_program("scripts/check_data.py", *overrides, "output=right", cwd=tmp_path)
    assert result.returncode == 0 and "Nothing is wrong." in result.stdout, result.stderr
    changed = files(tmp_path, "cv/mix")[0]
    scale(changed, 1.0)
    result = call_program("scripts/check_data.py", *overrides, "output=wrong", cwd=tmp_path)
    assert result.returncode == 1 and result.stderr == ""
    assert f"valid: mixtures that aren't the sum of their sources: 1 of 1 checked: {changed}" in result.stdout
    assert (tmp_path / "wrong/report.txt").read_text() in result.stdout
    numbers = json.loads((tmp_path / "wrong/report.json").read_text())
    assert numbers["splits"]["valid"]["wrong_mixtures"] == 1 and numbers["findings"][0]["is_wrong"]
    assert numbers["provenance"]["command"].startswith("python scripts/check_data.py data=csv")
    assert matplotlib.image.imread(tmp_path / "wrong/figure.png").std() > 0.05
