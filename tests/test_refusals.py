"""Settings and corpora that are refused for a reason, or taken: in a sentence, before work is done."""

import codecs
from collections import Counter

import pytest
import trees
from conftest import ROOT, TINY, call_program
from hydra.errors import HydraException

from separation.app.assembly import build_data
from separation.app.settings import check_model_keys, compose_config
from separation.data.corpora.file_corpus import speakers_named
from separation.errors import InputError


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("clip.p=150", "clip.p: expected a percentile|clip.p"),
        ("optimizer._target_=torch.optim.Adamm", "Adamm"),
        ("clip._target_=gradclip.autoclip.AutoClap", "AutoClap"),
        ("stft.window_length=300", "stft"),
        ("model.hidden_size=0", "hidden_size"),
        ("optimizer.lr=-1", "learning rate"),
    ],
)
def test_what_cannot_be_right_fails_before_a_store_is_built(tmp_path, speech_folder, override, message):
    result = call_program(
        "train.py",
        *("data=folder", f"data.root={speech_folder}", f"data.store={tmp_path}/store", f"run_dir={tmp_path}/run"),
        *TINY,
        override,
        cwd=tmp_path,
    )
    assert result.returncode in (1, 2)
    [line] = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert any(part in line for part in message.split("|")), line
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("optimizer.learning_rate=1e-3", "did you mean optimizer.lr? optimizer has lr,"),
        ("trainer.max_step=5", "did you mean trainer.max_steps?"),
        ("sede=5", "did you mean seed?"),
        (
            "clip.max_norm=5",
            "clip has p, window, groups, warmup, on_nonfinite; it is one of clip=error_feedback, fixed,",
        ),
    ],
)
def test_an_unknown_key_says_what_may_be_meant(tmp_path, override, words):
    result = call_program("train.py", override, cwd=tmp_path)
    assert result.returncode == 2
    assert f"error: {override.partition('=')[0]}: there is no such setting" in result.stderr and words in result.stderr


def test_a_path_that_a_space_has_cut_in_two(tmp_path):
    result = call_program("train.py", "data=folder", "data.root=my", "folder", cwd=tmp_path)
    assert result.returncode == 2
    assert "error: folder: is no setting, which has the form key=value; put quotes around" in result.stderr


@pytest.mark.parametrize("name", ["fsdd", "mini_librispeech", "librispeech", "vctk", "minilibrimix", "libri2mix"])
def test_a_corpus_without_a_folder_names_its_download(name):
    fetched = "mini_librispeech" if name == "librispeech" else name
    with pytest.raises(HydraException, match=rf"data.root=FOLDER; python scripts/download.py {fetched} root=FOLDER"):
        build_data(compose_config("config", [f"data={name}"]))
    with pytest.raises(HydraException, match="data.root=FOLDER$"):
        build_data(compose_config("config", ["data=folder"]))


@pytest.mark.parametrize(("rate", "window", "hop"), [(8000, 256, 64), (16_000, 512, 128), (44_100, 1412, 353)])
def test_the_window_keeps_its_duration(rate, window, hop):
    config = compose_config("config", [f"data.sample_rate={rate}"])
    assert (config.stft.window_length, config.stft.hop_length) == (window, hop)
    assert compose_config("config", [f"data.sample_rate={rate}", "stft.hop_length=32"]).stft.window_length == window


def test_names_of_digits_are_names(tmp_path):
    assert speakers_named("data.held_out", [103, "7"], ["103", "7", "9"]) == ["103", "7"]
    assert speakers_named("data.held_out", [7], ["007", "9"]) == ["007"]
    with pytest.raises(InputError, match="data.held_out: there is no speaker 8; there are 7, 9"):
        speakers_named("data.held_out", [8], ["7", "9"])
    for number in (103, 260, 4446):
        for i in range(4):
            trees.write(tmp_path / f"speech/{number}/{i}.wav", trees.speech(8000, f"{number} {i}"), 8000)
    overrides = ["data=folder", f"data.root={tmp_path}/speech", "data.held_out=[103,260]", "mixing.num_sources=2"]
    with pytest.raises(InputError, match="1 speaker"):  # one is left to train
        trees.make_data(overrides, tmp_path)
    trees.write(tmp_path / "speech/5/0.wav", trees.speech(8000, "5"), 8000)
    for i in range(4):
        trees.write(tmp_path / f"speech/6/{i}.wav", trees.speech(8000, f"6 {i}"), 8000)
    data = trees.make_data(overrides, tmp_path)
    assert [mixtures.split for mixtures in data.tests] == ["test", "test_unknown"]
    assert data.tests[1].speakers() == {"103", "260"}
    assert data.train.speakers() == {"5", "6", "4446"}  # 5 has one recording: it trains, and is in no other split
    assert data.valid.speakers() == data.tests[0].speakers() == {"6", "4446"}


def librispeech(tmp_path, rate: int = 8000, one: bool = True) -> list[str]:
    """As people keep it: at 8 kHz, in subsets of their own, one reader with a single utterance."""
    for subset, readers in {"train": (1, 2, 3), "test": (7, 8)}.items():
        for reader in readers:
            for number in range(1 if one and reader == 1 else 2 + 3 * reader):
                name = f"LibriSpeech/{subset}/{reader}/{reader}0/{reader}-{reader}0-{number:04}.flac"
                trees.write(tmp_path / name, trees.speech(rate, name), rate)
    return ["data=librispeech", f"data.root={tmp_path}", "data.train=[train]", "data.test=[test]"]


def test_librispeech_is_taken_as_it_lies(tmp_path):
    data = trees.make_data(librispeech(tmp_path), tmp_path)
    counts = Counter((utterance.speaker, utterance.split) for utterance in data.train.store.utterances)
    assert (counts["1", "train"], counts["1", "valid"]) == (1, 0)
    assert (counts["2", "train"], counts["2", "valid"]) == (7, 1)
    assert [(mixtures.split, mixtures.speakers()) for mixtures in data.tests] == [("test", {"7", "8"})]
    with pytest.raises(InputError, match="says its rate is 8000 Hz; this corpus has 16000 Hz"):
        trees.make_data([*librispeech(tmp_path), "data.sample_rate=12000"], tmp_path)


def test_known_readers_are_a_split_of_their_own(tmp_path):
    data = trees.make_data([*librispeech(tmp_path), "data.test_share=0.2"], tmp_path)
    assert [(m.split, m.speakers()) for m in data.tests] == [("test", {"2", "3"}), ("test_unknown", {"7", "8"})]
    counts = Counter((utterance.speaker, utterance.split) for utterance in data.train.store.utterances)
    assert [counts["3", split] for split in ("train", "valid", "test")] == [6, 2, 3]  # 11: shares are rounded up
    names = [{u.name for u in data.train.store.utterances if u.split == split} for split in ("train", "valid", "test")]
    assert not names[0] & names[1] and not names[1] & names[2]


@pytest.mark.parametrize(
    ("speakers", "expected"),
    [("[3,2]", {"2", "3"}), ("2", {"2", "3"}), ("3", {"1", "2", "3"}), ("['2',3]", {"2", "3"})],
)
def test_readers_can_be_chosen(tmp_path, speakers, expected):
    data = trees.make_data([*librispeech(tmp_path), f"data.speakers={speakers}"], tmp_path)
    assert data.train.speakers() == expected


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.speakers=[1,2]", "data.speakers: 1: fewer than 2 utterances"),
        ("data.speakers=[2,9]", "data.speakers: there is no speaker 9; there are 1, 2, 3"),
        ("data.speakers=4", r"data.speakers=4: data.train=\['train'\] has 3 speakers"),
        ("data.speakers=1", "data.speakers=1: expected a whole number from 2"),
        ("data.speakers=[2,2]", "names something twice"),
        ("data.train=[nosuch]", "holds no nosuch; python scripts/download.py librispeech subset=nosuch"),
        ("data.train=[train-clean-5]", "python scripts/download.py mini_librispeech subset=train-clean-5"),
    ],
)
def test_readers_that_are_not_there_are_named(tmp_path, override, message):
    with pytest.raises(InputError, match=message):
        trees.make_data([*librispeech(tmp_path), override], tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace(",", ";").encode(), "test.csv: its columns are separated by semicolons"),
        (lambda text: text.replace(",", "\t").encode(), "test.csv: its columns are separated by tabs"),
        (lambda text: text.replace(",", ", ").encode(), "test.csv: has spaces beside its commas"),
        (lambda text: text.replace(",test/", ", test/").encode(), "test.csv, line 2: ' test/0_1.wav': has spaces"),
        (lambda text: text.encode("utf-16"), "test.csv: isn't UTF-8"),
        (lambda text: text.replace("test 0", "tést 0").encode("latin-1"), "test.csv: isn't UTF-8"),
    ],
)
def test_tables_of_other_kinds_are_told(tmp_path, change, message):
    overrides = trees.tables(tmp_path)
    text = (tmp_path / "test.csv").read_text()
    (tmp_path / "test.csv").write_bytes(codecs.BOM_UTF8 + text.encode())
    assert len(trees.make_data(overrides, tmp_path).tests[0]) == 4
    (tmp_path / "test.csv").write_bytes(change(text))
    with pytest.raises(InputError, match=message):
        trees.make_data(overrides, tmp_path)


def test_a_setting_that_no_part_of_the_model_reads():
    for model in sorted(path.stem for path in (ROOT / "conf/model").glob("*.yaml")):
        check_model_keys(compose_config("config", [f"model={model}"]))
    config = compose_config("config", ["experiment=dprnn_paper", "model=mask_inference"])
    with pytest.raises(InputError, match="model.kernel_size: nothing in this model reads it"):
        check_model_keys(config)
    with pytest.raises(InputError, match="model.channels: nothing in this model reads it"):
        check_model_keys(compose_config("config", ["+model.channels=3"]))
