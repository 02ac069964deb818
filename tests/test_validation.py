"""The validation's SI-SDR beside its loss."""

import csv
import math
import shutil
from statistics import fmean

import pytest
import trees
from conftest import CPU, TINY, call_program

from separation.app.assembly import build, build_data, build_parts, load_model
from separation.app.settings import compose_config, run_config
from separation.evaluation.evaluator import EvaluationSettings, Evaluator, ModelEstimator
from separation.runs import checkpoint
from separation.runs.run_folder import RunFolder
from separation.runs.summaries import load_summary, score_table
from separation.training.interruption import Interruption
from separation.training.processes import Processes


@pytest.mark.parametrize("model", ["mask_inference", "waveform"])
def test_it_is_what_the_evaluation_says_of_the_same_mixtures(make_run, model):
    folder = RunFolder(make_run(f"model={model}", "data.num_valid=5", "trainer.num_scored=5"))
    config = run_config(folder, [])
    trained = load_model(folder, config)
    checkpoint.load_network(folder.last, trained.network, CPU)
    estimator = ModelEstimator(trained.network.eval(), trained.separator, trained.stft, CPU)
    settings = EvaluationSettings("torch", False, False, 2, 0, False)
    rows = Evaluator(estimator, trained.stft, settings).evaluate(build_data(config).valid)
    with open(folder.epochs, newline="") as file:
        *_, last = csv.DictReader(file)
    assert len(rows) == 10
    assert float(last["valid/si_sdr"]) == pytest.approx(fmean(row["si_sdr"] for row in rows), abs=1e-4)


def test_none_is_taken_where_none_is_asked_for(make_run):
    with open(RunFolder(make_run("trainer.num_scored=0")).epochs, newline="") as file:
        assert all(math.isnan(float(row["valid/si_sdr"])) for row in csv.DictReader(file))


def test_speakers_are_known_only_where_the_network_heard_them(make_run, speech_folder, tmp_path):
    made = make_run()
    summary = load_summary(RunFolder(made))
    assert score_table(summary["splits"]).split()[-4:] == ["mixtures", "2", "speakers", "known"]
    shutil.copytree(speech_folder / "anna", tmp_path / "others/anna")  # of another corpus nobody knows whose they are
    shutil.copytree(speech_folder / "bert", tmp_path / "others/bert")
    result = call_program("evaluate.py", made, f"data.root={tmp_path}/others", "output=out", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split()[-2:] == ["mixtures", "2"] and "known" not in result.stdout


def test_the_validation_leaves_out_what_cannot_be_measured(tmp_path, caplog):
    overrides = trees.tables(tmp_path)
    voice = trees.speech(8000, "twice", 1.0)
    for number in (1, 2):
        trees.write(tmp_path / f"valid/0_{number}.wav", number * voice / 2, 8000)
    config = compose_config("config", [*overrides, f"data.store={tmp_path}/store", f"run_dir={tmp_path}/run", *TINY])
    config.data.num_valid = 4
    parts = build_parts(config, CPU, Processes())
    (tmp_path / "run/checkpoints").mkdir(parents=True)
    build(config, "trainer").fit(parts, RunFolder(tmp_path / "run"), Interruption())
    assert "valid: no SI-SDR of 1 of 4 mixtures: valid 0: sources 1 and 2 are one signal" in caplog.text
    with open(tmp_path / "run/epochs.csv", newline="") as file:
        *_, last = csv.DictReader(file)
    assert abs(float(last["valid/si_sdr"])) < 10  # the mixture of one voice has 100 dB
