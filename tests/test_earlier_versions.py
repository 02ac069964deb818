"""Run folders of version 0.1, whose modules and settings had other names, are used as any other."""

import shutil

import pytest
import yaml
from conftest import ROOT, TINY, call_program
from omegaconf import OmegaConf

from separation.app.assembly import build
from separation.errors import InputError
from separation.runs.earlier_versions import use_todays_names
from separation.runs.untrusted_files import check_targets

OLD_TARGETS = {
    "clip": """
        adaclip.AdaClip adagc.AdaGC adagn.AdaGN agc.AGC autoclip.AutoClip autoclip_on_device.AutoClipOnDevice
        block_normalized.BlockNormalized chain.Chain error_feedback.ErrorFeedback fixed.FixedClip none.NoClip
        skip_spikes.SkipSpikes spam.SpikeClip value.ValueClip zclip.ZClip""",
    "data": """
        demo.DemoCorpus folder.FolderCorpus fsdd.FsddCorpus librimix.LibriMixCorpus librimix.MiniLibriMixCorpus
        librispeech.LibriSpeechCorpus musdb18.Musdb18Corpus musdb18.Musdb18HqCorpus tables.TableCorpus vctk.VctkCorpus
        wsj0_2mix.WhamCorpus wsj0_2mix.Wsj0MixCorpus""",
    "model.loss": "losses.ChimeraLoss losses.DeepClusteringLoss losses.MaskInferenceLoss losses.WaveformLoss"
    " losses.WhitenedKMeansLoss",
    "model.network": "models.chimera models.deep_clustering models.mask_inference",
    "model.separator": "separators.KMeansSeparator separators.MaskSeparator",
    "mixing": "data.mixtures.Mixing",
    "stft": "features.Stft",
    "trainer": "trainer.Trainer",
    "evaluation": "evaluation.EvaluationSettings",
}
"""Everything that version 0.1 could write behind `_target_`, less `separation.` (and `clip.` or `data.`)."""


def old_settings() -> dict:
    """The config.yaml of a run that commit d7e344b trained with the settings of `make_run`."""
    return yaml.safe_load((ROOT / "tests/earlier_versions/config_0.1.yaml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("key", OLD_TARGETS)
def test_every_old_name_has_one_today(key):
    package = f"{key}." if key in ("clip", "data") else ""
    for name in OLD_TARGETS[key].split():
        settings = OmegaConf.create(old_settings())
        OmegaConf.update(settings, key, {"_target_": f"separation.{package}{name}"})
        use_todays_names(settings)
        check_targets(settings)
        assert OmegaConf.select(settings, key)._target_.rpartition(".")[2] == name.rpartition(".")[2]


def test_arguments_of_the_clipper_on_the_device_are_renamed():
    settings = old_settings()
    settings["clip"] = {"_target_": "separation.clip.autoclip_on_device.AutoClipOnDevice", "p": 10, "capacity": 50}
    config = OmegaConf.create({**settings, "clip": settings["clip"] | {"on_nonfinite": "skip"}})
    use_todays_names(config)
    clipper = build(config, "clip")
    assert (clipper.window, clipper.capturable) == (50, True)


def test_members_of_a_chain_are_renamed_too():
    settings = old_settings()
    members = {"first": {"_target_": "separation.clip.zclip.ZClip"}, "second": settings["clip"]}
    settings["clip"] = {"_target_": "separation.clip.chain.Chain", "clippers": members}
    config = OmegaConf.create(settings)
    use_todays_names(config)
    check_targets(config)
    assert [type(member).__name__ for member in build(config, "clip").clippers.values()] == ["ZClip", "AutoClip"]


def test_an_unknown_old_name_says_where_it_may_come_from():
    config = OmegaConf.create(old_settings())
    config.clip._target_ = "separation.clip.gone.Thing"
    use_todays_names(config)
    with pytest.raises(InputError, match=r"clip._target_=gradclip.gone.Thing: expected .* another version than 0.1"):
        check_targets(config)
    config = OmegaConf.create(old_settings() | {"stft": {"_target_": "separation.gone.Thing"}})
    use_todays_names(config)
    with pytest.raises(InputError, match="stft._target_=separation.gone.Thing: expected .* another version than 0.1"):
        check_targets(config)


def test_todays_settings_stay_as_they_are(make_run):
    config = OmegaConf.load(make_run() / "config.yaml")
    before = OmegaConf.to_yaml(config)
    use_todays_names(config)
    assert OmegaConf.to_yaml(config) == before


def test_an_old_run_evaluates_separates_and_resumes(make_run, speech_folder, tmp_path):
    run = shutil.copytree(make_run(), tmp_path / "run")
    settings = old_settings()
    settings["data"]["root"], settings["run_dir"] = str(speech_folder), str(run)
    (run / "config.yaml").write_text(yaml.safe_dump(settings))
    result = call_program("evaluate.py", f"run={run}", "output=again", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "again/scores.csv").read_bytes() == (make_run() / "scores.csv").read_bytes()
    result = call_program("separate.py", f"run={run}", f"input={speech_folder}/anna/0.wav", cwd=tmp_path)
    assert result.returncode == 0 and len(list((tmp_path / "separated").iterdir())) == 2, result.stderr
    common = ["data=folder", f"data.root={speech_folder}", f"run_dir={run}", *TINY, "trainer.resume=true"]
    result = call_program("train.py", *common, "trainer.max_steps=5", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert len((run / "steps.csv").read_text().splitlines()) == 6
    result = call_program("train.py", *common, "trainer.max_steps=7", "loss_scale=2.0", cwd=tmp_path)
    assert result.returncode == 1 and "loss_scale=2.0 (it was 1.0): not as in the run" in result.stderr
