import numpy as np
import pytest

from separation.errors import InputError
from separation.runs.run_folder import RunFolder
from separation.studies.run_figures import read_columns, spectrogram_figure, training_figure


def test_training_figure_shows_what_the_run_logged(make_run):
    folder = RunFolder(make_run())
    losses, norms = training_figure([folder]).axes
    steps = read_columns(folder.steps)
    loss = losses.lines[0]
    # Three steps make one running mean.
    np.testing.assert_allclose(loss.get_ydata(), [steps["train/loss"].mean()])
    np.testing.assert_allclose(norms.lines[1].get_ydata(), steps["train/clip_threshold"])
    assert losses.get_xlabel() == "step" and "training loss" in losses.get_ylabel()


def test_spectrogram_figure_has_a_panel_for_every_file(make_run):
    [folder] = (make_run() / "audio/test").glob("best_*")
    figure = spectrogram_figure(folder)
    titles = [axis.get_title() for axis in figure.axes if axis.get_title()]
    assert titles == ["mixture", "estimate 1", "reference 1", "estimate 2", "reference 2"]
    image = figure.axes[0].images[0]
    assert image.get_array().max() == pytest.approx(0)
    assert image.get_extent()[3] == 4.0


def test_what_cannot_be_drawn_is_named(tmp_path):
    with pytest.raises(InputError, match=r"holds no mixture\.wav"):
        spectrogram_figure(tmp_path)
    with pytest.raises(InputError, match=r"steps\.csv: can't be read"):
        training_figure([RunFolder(tmp_path)])
    (tmp_path / "steps.csv").write_text("step,train/loss\n")
    with pytest.raises(InputError, match="holds no rows"):
        training_figure([RunFolder(tmp_path)])
