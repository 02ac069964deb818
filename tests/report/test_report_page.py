"""What a report says and holds; tests/report/test_report_in_browser.py sees it as a browser does."""

import base64
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import soundfile
from report_runs import RATE, make_report_run, write_audio, write_csv

from separation.errors import InputError
from separation.report import page
from separation.report.curves import charts, extremes, histogram
from separation.report.page import write_report
from separation.report.runs import Variant, read_runs, variants
from separation.report.tables import headline, never_clipped, settings, speakers
from separation.runs.run_folder import short_names


class Parsed(HTMLParser):
    """A page's elements, and its tables' cells by caption."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def attributes(self, tag: str, name: str) -> list[str]:
        return [attributes.get(name) or "" for each, attributes in self.tags if each == tag and name in attributes]


def written(paths: list[Path], output: Path) -> tuple[str, Parsed]:
    write_report(paths, output)
    text = output.read_text(encoding="utf-8")
    return text, Parsed(text)


def test_the_tables_have_the_summaries_numbers(tmp_path):
    make_report_run(tmp_path / "runs/low", "clip.p=10")
    make_report_run(tmp_path / "runs/high", "clip.p=25", gain=2.0)
    make_report_run(tmp_path / "runs/half", "clip.p=50", steps=120, scored=False)
    runs = read_runs([tmp_path / "runs"])
    assert [run.name for run in runs] == ["high", "low", "half"]  # the best first
    table = headline(runs)
    assert table.groups == [("test (known speakers)", 2), ("best validation", 2), ("training", 2)]
    assert table.rows[0] == ["5.58", "5.68", "6.25", "-2.5", "96%", "200 steps, 60 s"]  # 8 of 200 norms are up to 10
    assert table.rows[1][:3] == ["3.58", "3.68", "4.25"]
    assert table.rows[2] == ["", "", "4.25", "-2.5", "93%", "120 of 200 steps, 60 s, unfinished"]
    assert settings(runs) == ("Settings that differ", ["clip.p"], {0: ["25"], 1: ["10"], 2: ["50"]}, ())
    of_test = speakers(runs, "test")
    assert of_test.header == ["mixtures", "high", "low"]
    # By hand: a is in the first two mixtures (8, 3), b in the first and the last (6, -1), c in the last two (5, 0.5).
    assert of_test.rows == {"b": ["2", "4.50", "2.50"], "c": ["2", "4.75", "2.75"], "a": ["2", "7.50", "5.50"]}
    _, parsed = written([tmp_path / "runs"], tmp_path / "report.html")
    assert "5.58" in parsed.text and "120 of 200 steps" in parsed.text


def test_a_mixture_counts_for_its_speakers_only_where_all_of_it_is_scored(tmp_path):
    folder = make_report_run(tmp_path / "run")
    folder.scores.write_text(folder.scores.read_text().replace("worst_c,1,c,0.6,0.5", "worst_c,1,c,nan,nan"))
    [run] = read_runs([folder.path])
    assert run.mixture_scores("test").to_dict() == {"best_a": 7.0, "median_b": 4.0}
    assert speakers([run], "test").rows == {"c": ["1", "5.00"], "a": ["2", "5.50"], "b": ["1", "6.00"]}


def test_no_spike_is_lost_to_the_screens_width():
    values = np.sin(np.arange(20_000) / 1000)
    values[[7, 12_345]] = 100, -50
    values[300:400] = np.nan
    values[19_990] = np.inf
    kept = extremes(values, 600)
    assert len(kept) <= 3 * 300 + 2 and (np.diff(kept) > 0).all()
    assert {0, 7, 12_345, 19_990, 19_999} <= set(kept) and np.isnan(values[kept]).any()
    finite = values[kept][np.isfinite(values[kept])]
    assert (finite.max(), finite.min()) == (100, -50)
    np.testing.assert_array_equal(extremes(values[:600], 600), np.arange(600))


def test_curves_are_the_logged_ones_and_losses_below_zero_have_a_linear_axis(tmp_path):
    [run] = read_runs([make_report_run(tmp_path / "run").path])
    drawn = {chart["title"].partition(" (")[0]: chart for chart in charts([run], variants([run]))}
    assert list(drawn) == [
        *("Training loss", "Validation loss", "Validation SI-SDR", "Gradient norm"),
        "SI-SDR improvement of the mixtures, test",
    ]
    loss, norm = drawn["Training loss"], drawn["Gradient norm"]
    assert not loss["log"] and norm["log"]
    each, mean = loss["traces"]
    assert (each["x"][149], each["y"][149]) == (150, 50.0)
    # Mean of steps 101 to 150: -(101 + ... + 149) / 500 + 50 / 50.
    assert mean["y"][149] == pytest.approx(-sum(range(101, 150)) / 500 + 1, rel=1e-3)
    assert [trace["kind"] for trace in norm["traces"]] == ["faint", "line", "dotted"]
    assert set(norm["traces"][2]["y"]) == {10.0}
    assert drawn["Validation SI-SDR"]["ends"] == "Up to step 200, where it is 4.25."


def make_seed(path: Path, loss: float, clip: str = "10", steps: int = 200) -> None:
    seed = path.name.rpartition("=")[2]
    folder = make_report_run(path, f"clip.p={clip}", f"seed={seed}", audio=False)
    header = ("step", "train/loss", "train/grad_norm", "train/clip_threshold", "train/clip_coefficient")
    write_csv(folder.steps, header, [(step, loss, 2e-4 * loss, 1.0, 1.0) for step in range(1, steps + 1)])


def test_seeds_of_one_strategy_share_a_mean_and_three_a_band(tmp_path):
    for seed, (loss, steps) in enumerate([(1.0, 200), (2.0, 200), (6.0, 150)]):
        make_seed(tmp_path / f"p=10,seed={seed}", loss, steps=steps)
    make_seed(tmp_path / "p=25,seed=0", loss=5.0, clip="25")
    runs = read_runs([tmp_path])
    groups = variants(runs)
    assert [(group.name, len(group.numbers)) for group in groups] == [("p=10 (3 seeds)", 3), ("p=25,seed=0", 1)]
    loss = charts(runs, groups)[0]
    assert loss["title"] == "Training loss (mean of 50 steps; faint: each seed)"
    kinds = [(trace["variant"], trace["kind"]) for trace in loss["traces"]]
    assert kinds == [(0, "band"), (0, "seed"), (0, "seed"), (0, "seed"), (0, "line"), (1, "line")]
    band, *_, mean, other = loss["traces"]
    # Over the steps that all have; from the least up, and back along the greatest.
    assert band["x"] == [*range(1, 151), *range(150, 0, -1)] and band["y"] == [1.0] * 150 + [6.0] * 150
    assert (mean["name"], mean["x"][-1], set(mean["y"])) == ("mean of p=10 (3 seeds)", 150, {3.0})
    assert (other["x"][-1], set(other["y"])) == (200, {5.0})
    [both, _] = histogram(runs, groups, "test")["traces"]
    assert sum(both["y"]) == pytest.approx(1, abs=1e-3)


def test_two_seeds_have_no_band_and_other_settings_no_mean(tmp_path):
    make_seed(tmp_path / "a,seed=0", loss=1.0)
    make_seed(tmp_path / "a,seed=1", loss=3.0)
    make_seed(tmp_path / "b,seed=0", loss=1.0)
    make_seed(tmp_path / "b,seed=1", loss=1.0, clip="25")
    runs = read_runs([tmp_path])
    groups = variants(runs)
    assert [group.name for group in groups] == ["a (2 seeds)", "b,seed=0", "b,seed=1"]
    [*seeds, mean] = [trace for trace in charts(runs, groups)[0]["traces"] if trace["variant"] == 0]
    assert [trace["kind"] for trace in seeds] == ["seed", "seed"] and set(mean["y"]) == {2.0}


def test_a_single_validation_is_a_sentence(tmp_path):
    folder = make_report_run(tmp_path / "run", audio=False)
    write_csv(folder.epochs, ("epoch", "step", "valid/loss", "valid/si_sdr", "seconds"), [(1, 200, 0.5, 2.25, 9.0)])
    _, parsed = written([folder.path], tmp_path / "report.html")
    assert "Validation SI-SDR. At step 200 alone: 2.25." in parsed.text
    charted = [attributes["aria-label"] for _, attributes in parsed.tags if attributes.get("class") == "chart"]
    assert [label.partition(" (")[0] for label in charted] == [
        *("Training loss", "Gradient norm", "SI-SDR improvement of the mixtures, test. ")
    ]


def test_a_threshold_that_no_norm_came_to_is_named(tmp_path):
    for seed in range(2):
        make_seed(tmp_path / f"clip=fixed,seed={seed}", loss=1.0 + seed)
    unclipped = make_report_run(tmp_path / "clip=none", audio=False)
    unclipped.steps.write_text(unclipped.steps.read_text().replace(",10.0,", ",inf,"))
    make_report_run(tmp_path / "clip=autoclip", audio=False)
    runs = read_runs([tmp_path])
    said = "clip=fixed (2 seeds) never clipped: gradient norms were 0.0002 to 0.0004."
    assert never_clipped(runs, variants(runs)) == [said]
    [run] = read_runs([tmp_path / "clip=fixed,seed=0"])
    assert never_clipped([run], [Variant(run.name, [0])]) == [
        "clip=autoclip never clipped: gradient norms were 0.0002 to 0.0002."
    ]


def test_si_sdr_that_is_the_improvement_stands_once(tmp_path):
    folder = make_report_run(tmp_path / "run", audio=False)
    assert headline(read_runs([folder.path])).groups[0] == ("test (known speakers)", 2)
    folder.summary.write_text(folder.summary.read_text().replace("3.68333", "3.59333"))
    table = headline(read_runs([folder.path]))
    assert table.groups[0] == ("test (known speakers)", 1) and table.rows[0][0] == "3.58"


def test_the_histogram_counts_mixtures(tmp_path):
    [run] = read_runs([make_report_run(tmp_path / "run").path])
    [trace] = histogram([run], variants([run]), "test")["traces"]
    # Improvements -0.25, 4 and 7 in three bins from -0.25 to 7 by Rice's rule, 2.42 dB each.
    assert trace["x"] == pytest.approx([-0.25, 0.958, 3.375, 5.792, 7], abs=1e-3)
    assert trace["y"] == pytest.approx([0, 1 / 3, 1 / 3, 1 / 3, 0], abs=1e-3)


def test_the_page_loads_nothing_and_is_small(tmp_path):
    text, parsed = written([make_report_run(tmp_path / "run").path], tmp_path / "report.html")
    assert len(text.encode()) < 10_000_000
    links = [value for tag in ("a", "link") for value in parsed.attributes(tag, "href")]
    sources = [value for tag in {tag for tag, _ in parsed.tags} for value in parsed.attributes(tag, "src")]
    assert links and all(value.startswith(("#", "data:")) for value in links)
    assert len(sources) == 2 * 3 * 5 and all(value.startswith("data:") for value in sources)
    assert "url(" not in text and "@import" not in text
    assert parsed.attributes("meta", "content")[1].startswith("default-src 'none'")


def test_the_audio_is_the_runs_at_one_level_a_mixture(tmp_path):
    folder = make_report_run(tmp_path / "run")
    _, parsed = written([folder.path], tmp_path / "report.html")
    [first, *_] = parsed.attributes("audio", "src")
    samples, rate = soundfile.read(io.BytesIO(base64.b64decode(first.partition(",")[2])))
    original, _ = soundfile.read(folder.audio / "best_a/mixture.wav")
    assert rate == RATE and np.abs(samples).max() == pytest.approx(0.9, abs=1e-3)
    np.testing.assert_allclose(samples, original * 0.9 / np.abs(original).max(), atol=1e-4)
    assert [text for text in ("best_a", "median_b", "worst_c") if text in parsed.text]
    assert "7.00 dB, rank 1 of 3" in parsed.text and "-0.25 dB, rank 3 of 3" in parsed.text
    assert "SI-SDR 8.10 dB, improvement 8.00 dB" in parsed.text


def test_runs_with_the_same_mixture_stand_side_by_side(tmp_path):
    for name in ("one", "two"):
        make_report_run(tmp_path / "runs" / name)
    write_audio(tmp_path / "runs/two/audio/other", number=9, seconds=1.0)
    _, parsed = written([tmp_path / "runs"], tmp_path / "report.html")
    assert len(parsed.attributes("audio", "src")) == 3 * (3 + 2 * 2) + 5
    labels = parsed.attributes("button", "aria-label")
    assert labels[:4] == ["Play mixture", "Play reference 1", "Play reference 2", "Play voice 1 of one"]
    assert "Play estimate 1 of two" in labels  # nobody says that it is a voice


def test_many_runs_and_their_mixtures_are_folded(tmp_path):
    for number in range(4):
        folder = make_report_run(tmp_path / f"runs/{number}", audio=False)
        for name, own in (("best_a", 0), ("median_b", 1 + number)):
            write_audio(folder.audio / name, own, seconds=0.5)
    text, parsed = written([tmp_path / "runs"], tmp_path / "report.html")
    assert parsed.text.count("2 more runs") == 2  # of the shared mixture, and those with mixtures of their own
    assert text.count("<details") == text.count("</details>")
    opened = [attributes["class"] for tag, attributes in parsed.tags if tag == "details" and "open" in attributes]
    assert opened == ["of-run", *["example"] * 4]  # the first run, and in each run the first mixture


def test_audio_is_shortened_and_left_out_before_the_page_grows_too_large(tmp_path, monkeypatch):
    folder = make_report_run(tmp_path / "run", audio=False)
    for number, name in enumerate(("best_a", "median_b", "worst_c")):
        write_audio(folder.audio / name, number, seconds=30.0)
    text, parsed = written([folder.path], tmp_path / "report.html")
    assert len(parsed.attributes("audio", "src")) == 15 and "of 10.0 s, the beginning of 30.0 s" in parsed.text
    without_audio = len(re.sub(r'"data:[^"]*"', "", text).encode())
    monkeypatch.setattr(page, "LARGEST_PAGE", without_audio + 600_000)
    text, parsed = written([folder.path], tmp_path / "report.html")
    assert len(text.encode()) < page.LARGEST_PAGE
    assert len(parsed.attributes("audio", "src")) == 5 and "of 3.0 s" in parsed.text
    assert "2 more mixtures have no room" in parsed.text


HOSTILE = "<script>alert(1)<"


def test_names_are_text_wherever_they_stand(tmp_path):
    folder = make_report_run(tmp_path / HOSTILE / "script><img src=x onerror=alert(1)>")
    other = make_report_run(tmp_path / HOSTILE / "${1}{{ 1 }}", "clip.p='<b>&amp;'", gain=1.0)
    folder.scores.write_text(folder.scores.read_text().replace(",a,", ",</script><script>alert(2)</script>,"))
    (folder.audio / "best_a").rename(folder.audio / "<svg onload=alert(3)>")
    text, parsed = written([tmp_path], tmp_path / "report.html")
    assert [attributes for tag, attributes in parsed.tags if tag == "script"] == [
        {"type": "application/json", "id": "data"},
        {"type": "application/gzip", "id": "plotly"},
        {},
    ]
    assert not any("onerror" in attributes or "onload" in attributes for _, attributes in parsed.tags)
    data = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    names = [trace["name"] for trace in json.loads(data[1])["charts"][0]["traces"]]
    assert names == [other.path.name, folder.path.name] * 2  # each step, and the mean
    assert "</script><script>alert(2)</script>" in parsed.text and "<b>&amp;" in parsed.text


def damage(folder, name, text):
    (folder.path / name).write_text(text)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("steps.csv", "step,train/loss\n1,2\n", "steps.csv is left out: it has no column train/clip_threshold"),
        ("steps.csv", "step\n1\n2\nx\n", "steps.csv is left out: row 3 is damaged"),
        ("steps.csv", "", "steps.csv is left out: holds no rows"),
        ("epochs.csv", "step,valid/loss\n2,1\n1,1\n", "epochs.csv is left out: its steps don't rise"),
        ("scores.csv", "split,mixture\ntest,a\n", "scores.csv is left out: damaged"),
        ("scores.csv", "\0\xff", "scores.csv is left out"),
        ("config.yaml", "a: [", "config.yaml is left out"),
        ("config.yaml", "a: 1", "config.yaml is left out"),
        ("summary.json", "{", "its summary.json is damaged"),
        ("summary.json", '{"splits": {}}', "summary.json is left out"),
        ("audio/best_a/mixture.wav", "RIFF", "audio of best_a is left out"),
        ("audio/best_a/estimate_1.wav", "RIFF", "audio of best_a is left out"),
    ],
)
def test_what_is_damaged_is_a_sentence_on_the_page(tmp_path, name, text, said):
    damage(make_report_run(tmp_path / "run"), name, text)
    _, parsed = written([tmp_path / "run"], tmp_path / "report.html")
    assert said in " ".join(parsed.text.split())


def test_a_run_that_has_only_begun_has_a_report(tmp_path):
    folder = make_report_run(tmp_path / "run", scored=False, audio=False)
    for path in (folder.steps, folder.epochs):
        path.unlink()
    _, parsed = written([folder.path], tmp_path / "report.html")
    assert "unfinished" in parsed.text and not parsed.attributes("audio", "src")


def test_a_last_row_that_is_being_written_does_not_count(tmp_path):
    folder = make_report_run(tmp_path / "run", scored=False)
    with open(folder.steps, "a") as file:
        file.write("201,0,0.5")
    assert read_runs([folder.path])[0].steps["step"][-1] == 200


def test_scores_of_other_mixtures_do_not_compare(tmp_path):
    make_report_run(tmp_path / "runs/one")
    other = make_report_run(tmp_path / "runs/two")
    damage(other, "summary.json", other.summary.read_text().replace('"input_si_sdr": 0.1', '"input_si_sdr": 0.2'))
    _, parsed = written([tmp_path / "runs"], tmp_path / "report.html")
    assert "The runs' test mixtures aren't the same, so their scores don't compare." in parsed.text


def test_audio_that_a_strangers_run_links_to_is_not_taken(tmp_path):
    folder = make_report_run(tmp_path / "run")
    secret = tmp_path / "secret.wav"
    (folder.audio / "best_a/estimate_1.wav").rename(secret)
    (folder.audio / "best_a/estimate_1.wav").symlink_to(secret)
    _, parsed = written([folder.path], tmp_path / "report.html")
    assert len(parsed.attributes("audio", "src")) == 2 * 5


def test_without_runs_there_is_a_sentence_and_no_file(tmp_path):
    with pytest.raises(InputError, match="holds no runs"):
        write_report([tmp_path], tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


def test_names_are_what_differs():
    shared = "data=demo,trainer.max_steps=300"
    assert short_names([f"clip=a,{shared}", f"clip=b,{shared}"]) == ["clip=a", "clip=b"]
    # With a checksum, since a path was shortened.
    assert short_names([f"clip=a,{shared}-12ab34cd", f"clip=b,{shared}-00000000"]) == ["clip=a", "clip=b"]
    assert short_names([f"clip=a,{shared}", f"clip=b,{shared}-00000000"]) == ["clip=a", "clip=b"]
    # Lists are one override.
    assert short_names(["clip=a,x=[1,2]", "clip=a,x=[1,3]"]) == ["x=[1,2]", "x=[1,3]"]
    # Cut at 180 bytes: what is left of the last override is no value of its own.
    long = "k=" + "0" * (180 - len("clip=aaa,k=,trainer.num_scored=1"))
    cut = f"clip=aaa,{long},trainer.num_scored=1"
    assert short_names([f"{cut}-12ab34cd", f"clip=a,{long},trainer.num_scored=10"]) == ["clip=aaa", "clip=a"]
    first, other = f"clip=aaa,{long},trainer.num_scored=1", f"clip=a,{long}00,trainer.num_scored"
    assert short_names([f"{first}-12ab34cd", f"{other}-00000000"]) == [f"clip=aaa,{long}", f"clip=a,{long}00"]
    # Cut behind an equals sign, but a negative value is none.
    shorter = "k=" + "0" * (180 - len("clip=a,k=,trainer.max_steps="))
    cut, whole = f"clip=a,{shorter},trainer.max_steps=", f"clip=b,{shorter},trainer.max_steps=9"
    assert short_names([f"{cut}-12ab34cd", whole]) == ["clip=a", "clip=b"]
    assert short_names(["x=-12345678", "x=-2"]) == ["x=-12345678", "x=-2"]
    # Where only the checksum tells them apart, or nothing is left, names stay whole.
    assert short_names(["x=1-12ab34cd", "x=1-00000000"]) == ["x=1-12ab34cd", "x=1-00000000"]
    assert short_names(["runs-20260101", "runs-20260102"]) == ["runs-20260101", "runs-20260102"]
    assert short_names([shared]) == [shared]


def relative_luminance(color: str) -> float:
    """WCAG 2.2."""
    channels = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def contrast(first: str, second: str) -> float:
    low, high = sorted(map(relative_luminance, (first, second)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("dark", [False, True])
def test_colors_stand_out_from_the_page(dark):
    css = (Path(page.__file__).parent / "page.css").read_text()
    found = dict(re.findall(r"(--[\w-]+): (#\w{6});", css.split("@media")[1 if dark else 0]))
    assert len([name for name in found if name.startswith("--run-")]) == page.NUM_COLORS
    for name in ("--text", "--faint", "--accent"):  # WCAG's AA for text, and below for lines
        assert contrast(found[name], found["--page"]) >= 4.5, name
    for number in range(page.NUM_COLORS):
        least = 3 if dark or number < 3 else 2  # Okabe and Ito's later colours are light
        assert contrast(found[f"--run-{number}"], found["--page"]) >= least, number


def test_thirty_six_variants_look_different():
    looks = page.looks(36)
    assert len({tuple(look.values()) for look in looks}) == 36
