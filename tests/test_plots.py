import numpy as np
import pandas as pd
import pytest

from separation.errors import InputError
from separation.runs.run_folder import RunFolder, short_names
from separation.studies.dynamics import dynamics_figure
from separation.studies.figures import _differing_parts
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


def write_steps(folder, losses, thresholds=(np.inf, np.inf)):
    folder.mkdir()
    rows = [f"{step},{loss},{step * loss**2},{t}" for step, loss, t in zip((1, 2), losses, thresholds, strict=True)]
    header = "step,train/loss,train/grad_norm,train/clip_threshold"
    (folder / "steps.csv").write_text("\n".join([header, *rows]) + "\n")
    return RunFolder(folder)


def test_seeds_share_a_line_and_a_band(tmp_path):
    runs = [
        write_steps(tmp_path / f"clip.p={p},seed={seed}", losses)
        for p, seed, losses in ((100, 0, (1, 1)), (20, 0, (1, 2)), (20, 1, (3, 4)))
    ]
    figure = training_figure(runs)
    losses = figure.axes[0]
    assert [line.get_label() for line in losses.lines] == ["clip.p=20 (2 seeds)", "clip.p=100"]
    assert losses.lines[0].get_ydata() == [2.5]  # the mean of 1.5 and 3.5
    [band] = losses.collections
    assert band.get_datalim(losses.transData).intervaly.tolist() == [1.5, 3.5]
    assert len({line.get_color() for line in losses.lines}) == 2


def test_losses_below_zero_are_drawn(tmp_path):
    axis = training_figure([write_steps(tmp_path / "run", (2, -8))]).axes[0]
    assert axis.get_yscale() == "linear" and axis.lines[0].get_ydata() == [-3]
    assert training_figure([write_steps(tmp_path / "other", (2, 8))]).axes[0].get_yscale() == "log"


def test_a_name_that_was_cut_shares_its_last_override():
    end = "data.root=" + 161 * "x"  # 182 bytes with clip.p=100
    cut = f"clip.p=100,{end}"[:180] + "-0123abcd"
    assert short_names([f"clip.p=1,{end}", f"clip.p=10,{end}", cut]) == ["clip.p=1", "clip.p=10", "clip.p=100"]
    assert short_names(["seed=1-0123abcd", "seed=2-0123abcd"]) == ["seed=1", "seed=2"]


def test_conditions_are_named_by_what_differs():
    titles = ["lr 1, steps 6", "lr 1, steps 9", "lr 2, steps 6"]
    assert _differing_parts(titles) == ["lr 1, steps 6", "steps 9", "lr 2"]


@pytest.mark.parametrize(("thresholds", "title"), [([5.0, 5.0, 5.0], "AutoClip"), ([1e3, 1e3, 1e3], "no clipping")])
def test_dynamics_of_a_single_run(thresholds, title):
    columns = {"step": [20, 40, 60], "step_size": [1, 2, 3], "loss": [3, 2, 1], "threshold": thresholds}
    run = pd.DataFrame(columns | {"grad_norm": [0, 1, 2], "smoothness": [0, 1, 2]})  # decimal logarithms
    sizes, _, cloud, empty, *_ = dynamics_figure([run]).axes
    assert [line.get_label() for line in sizes.lines] == [title] and cloud.get_title() == f"{title}: r = 1.00"
    assert not empty.axison
