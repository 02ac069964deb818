"""Every file under conf/ composes, and what it names can be built."""

from pathlib import Path

import pytest
import torch
import yaml
from conftest import ROOT
from omegaconf import OmegaConf

from gradclip import AutoClip, FixedClip, NoClip
from separation.app.assembly import build
from separation.app.settings import CONF, compose_config
from separation.errors import InputError
from separation.model.features import Mixture, features
from separation.model.networks import num_parameters
from separation.runs.untrusted_files import check_targets

EMPTY = (CONF / "scheduler/none.yaml",)
APART = ("experiment", "logger")
"""Experiments build nothing themselves; loggers need packages, and are built in test_trackers.py."""
CHOICES = [path for path in sorted(CONF.glob("*/*.yaml")) if path.parent.name not in APART and path not in EMPTY]
EXTRA = {
    **{path.stem: ["data.root=x"] for path in CHOICES if path.parent.name == "data" and path.stem != "demo"},
    "csv": ["data.root=x", "data.train=x", "data.valid=x", "data.test=x"],
    "value": ["clip.max_value=1"],
    "error_feedback": ["clip.max_norm=1", "clip.max_error_norm=2"],
    "skip_above": ["clip.max_norm=1"],
    "sgd": ["optimizer.lr=1"],
    "step": ["scheduler.step_size=1"],
}


@pytest.mark.parametrize("path", CHOICES, ids=lambda path: f"{path.parent.name}={path.stem}")
def test_every_choice_builds(path: Path):
    group = path.parent.name
    key = "separator@model.separator" if group == "separator" else group
    config = compose_config("config", [f"{key}={path.stem}", *EXTRA.get(path.stem, [])])
    if group == "separator":
        build(config, "model.separator")
    elif group == "model":
        network, stft, mixtures = build(config, "model.network"), build(config, "stft"), torch.randn(1, 2, 500)
        outputs = network(Mixture(mixtures.sum(1), stft))
        assert build(config, "model.loss")(outputs, features(mixtures, stft)).isfinite()
        assert build(config, "model.separator").masks(outputs, Mixture(mixtures.sum(1), stft)).shape[-1] == 2
    else:
        parameter = torch.nn.Parameter(torch.zeros(1))
        arguments = {
            "optimizer": {"params": [parameter]},
            "scheduler": {"optimizer": torch.optim.SGD([parameter], lr=1.0)},
        }
        assert build(config, group, **arguments.get(group, {})) is not None


def test_the_defaults_are_the_papers_clipping_on_the_demo_corpus():
    config = compose_config("config", [])
    assert config.data._target_ == "separation.data.corpora.demo.DemoCorpus"
    assert config.model.loss._target_ == "separation.model.losses.MaskInferenceLoss"
    clipper = build(config, "clip")
    assert type(clipper) is AutoClip and clipper.p == 10


@pytest.mark.parametrize(
    ("name", "layers", "size", "millions"), [("paper", 4, 600, 29.8), ("paper_small", 2, 300, 3.35)]
)
def test_experiments_are_the_papers_networks_and_training(name, layers, size, millions):
    for model in ("mask_inference", "whitened_kmeans", "deep_clustering", "chimera", "waveform"):
        config = compose_config("config", [f"experiment={name}", f"model={model}"])
        assert (config.model.num_layers, config.model.hidden_size, config.optimizer.lr) == (layers, size, 1e-3)
        assert (config.trainer.batch_size, config.trainer.excerpt_frames, config.trainer.max_epochs) == (25, 400, 100)
    network = build(compose_config("config", [f"experiment={name}"]), "model.network")
    assert num_parameters(network) / 1e6 == pytest.approx(millions, abs=0.05)


def test_clipping_choices():
    assert type(build(compose_config("config", ["clip=none"]), "clip")) is NoClip
    clipper = build(compose_config("config", ["clip=fixed", "clip.max_norm=0.25"]), "clip")
    assert type(clipper) is FixedClip and clipper.max_norm == 0.25


def test_a_chains_members_are_choices_of_the_same_group():
    config = compose_config("config", ["clip=chain", "clip@clip.clippers.second=zclip", "clip.clippers.first.k=4"])
    members = build(config, "clip").clippers
    assert [type(member).__name__ for member in members.values()] == ["SkipSpikes", "ZClip"]
    assert members["first"].k == 4
    config.clip.clippers.first._target_ = "os.system"
    with pytest.raises(InputError, match="clip.clippers.first._target_=os.system: expected a choice of gradclip."):
        check_targets(config)


def test_bad_values_are_sentences_that_name_the_key():
    with pytest.raises(InputError, match=r"^clip\.p: expected a percentile in \[0, 100\], got 101$"):
        build(compose_config("config", ["clip.p=101"]), "clip")
    with pytest.raises(InputError, match="^trainer.batch_size=0: expected a whole number from 1 to 65536$"):
        build(compose_config("config", ["trainer.batch_size=0"]), "trainer")
    with pytest.raises(InputError, match="clip: .*unexpected keyword argument 'q'"):
        build(compose_config("config", ["+clip.q=1"]), "clip")
    with pytest.raises(InputError, match="clip=3: expected settings with a _target_"):
        build(OmegaConf.create({"clip": 3}), "clip")


@pytest.mark.parametrize(
    "target", ["os.system", "separation_evil.run", "separation.runs.provenance.subprocess.run", "separation.nothing"]
)
def test_settings_cannot_name_foreign_code(target):
    with pytest.raises(InputError, match=f"model.loss._target_={target}: expected a choice of separation.model.losses"):
        compose_config("config", [f"++model.loss._target_={target}"])


def test_settings_build_one_thing_of_their_own_kind():
    writer = {"_target_": "separation.training.recorder.MetricsLog", "path": "x", "columns": ["a"], "tensorboard": "t"}
    with pytest.raises(InputError, match="model.separator._target_=separation.training.recorder.Metri"):
        check_targets(OmegaConf.create({"model": {"separator": writer}}))
    hidden = {
        "_target_": "separation.model.networks.mask_inference",
        "activation": [{"_target_": "joblib.load", "filename": "x"}],
    }
    with pytest.raises(InputError, match="model.network: keys with underscores at both ends"):
        check_targets(OmegaConf.create({"model": {"network": hidden}}))


def test_what_the_programs_write_by_default_is_not_for_git():
    ignored = (ROOT / ".gitignore").read_text().split()
    written = [
        yaml.safe_load((ROOT / f"conf/{name}.yaml").read_text())["output"] for name in ("check_data", "separate")
    ]
    written += [str(compose_config("config", []).run_dir).partition("/")[0], "outputs"]  # outputs/ORACLE: evaluate.py
    assert written == ["check", "separated", "runs", "outputs"]
    assert {f"/{folder}/" for folder in written} <= set(ignored)
