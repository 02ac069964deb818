"""conf/clip has a choice for every strategy of gradclip, with the class's defaults."""

import inspect

import pytest
from hydra.utils import get_class
from omegaconf import DictConfig

import gradclip
from separation.app.assembly import build
from separation.app.settings import CONF, compose_config

CHOICES = sorted(path.stem for path in (CONF / "clip").glob("*.yaml"))
VARIANTS = {
    "autoclip_on_device": {"window": 100_000, "capturable": True},  # as CUDA graphs need it
    "autoclip_per_module": {"groups": "module"},
    "autoclip_per_tensor": {"groups": "tensor"},
    "autoclip_windowed": {"window": 100},
}
"""Choices that differ from their class's defaults, and how."""


def settings(choice: str) -> DictConfig:
    return compose_config("config", [f"clip={choice}"]).clip


def test_every_strategy_is_a_choice():
    exported = {getattr(gradclip, name) for name in gradclip.__all__}
    strategies = {cls for cls in exported if issubclass(cls, gradclip.Clipper) and not inspect.isabstract(cls)}
    assert {get_class(settings(choice)._target_) for choice in CHOICES} == strategies


@pytest.mark.parametrize("choice", CHOICES)
def test_a_choice_has_its_classs_arguments_and_defaults(choice):
    config = settings(choice)
    arguments = inspect.signature(get_class(config._target_)).parameters
    assert set(config) == {"_target_", *arguments}
    for name, argument in arguments.items():
        if argument.default is not inspect.Parameter.empty:
            default = list(argument.default) if isinstance(argument.default, tuple) else argument.default
            assert config[name] == VARIANTS.get(choice, {}).get(name, default)


def test_mappings_and_lists_reach_the_clipper():
    config = compose_config("config", ["clip.groups={biases: ['*.bias'], rest: ['*']}"])
    assert build(config, "clip").groups == {"biases": ["*.bias"], "rest": ["*"]}
    config = compose_config("config", ["clip=agc", "clip.exclude=['encoder.*']", "clip.transposed=['mask.weight']"])
    clipper = build(config, "clip")
    assert (clipper.exclude, clipper.transposed) == (["encoder.*"], ["mask.weight"])
