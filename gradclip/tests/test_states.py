"""What a clipper saves, and what it shows of itself."""

import copy
import math
import pickle
import warnings

import pytest
import torch
import torch.distributed.checkpoint as dcp

from gradclip import AutoClip, AutoClipOnDevice, Chain, FixedClip, SpectralClip, ZClip
from strategies import STRATEGIES, clip, make, named_parameters, random_gradients, set_gradients


def trained(name: str, steps: int = 40, **settings: object):
    clipper, parameters = make(name, **settings), named_parameters()
    for gradients in random_gradients(steps):
        set_gradients(parameters, gradients)
        clip(clipper, parameters)
    return clipper


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_distributed_checkpoint_loads_into_a_fresh_clipper(name, tmp_path):
    clipper, fresh = trained(name), make(name)
    assert list(clipper.state_dict()) == list(fresh.state_dict())
    dcp.save({"clip": clipper}, checkpoint_id=tmp_path, no_dist=True)
    dcp.load({"clip": fresh}, checkpoint_id=tmp_path, no_dist=True)
    assert str(fresh.state_dict()) == str(clipper.state_dict())
    assert fresh.finite_steps == 40


FIRST_VERSION = {
    "zclip": {"warmup": 25, "first": torch.tensor([1.0, 2.0], dtype=torch.float64), "mean": 0.0, "variance": 0.0},
    "adagn": {"moments": {"encoder.weight": [1.0, 2.0, 3]}},
    "adaclip": {"means": {"encoder.weight": [1.0, 2]}},
    "adagc": {"steps": 7, "gamma": {"encoder.weight": [0.5]}},
    "autoclip": {
        "p": 25.0,
        "window": None,
        "groups": None,
        "history": {"all": torch.tensor([3.0, 1.0], dtype=torch.float64)},
    },
    "fixed": {"max_norm": 3.0},
    "skip_spikes": {"window": 128, "norms": torch.tensor([1.0], dtype=torch.float64)},
    "spam": {"second_moment": "own", "moments": {"mask.bias": torch.ones(2, dtype=torch.float64)}},
}
"""States as gradclip 0.1 saved them, and ..."""
SECOND_VERSION = {
    "zclip": {"warmup": 25, "first": (1.0, 2.0), "mean": 0.0, "variance": 0.0},
    "adagn": {"moments": (("encoder.weight", (1.0, 2.0, 3.0)),)},
    "adaclip": {"means": (("encoder.weight", (1.0, 2.0)),)},
    "adagc": {"steps": 7, "gamma": (("encoder.weight", (0.5,)),)},
    "autoclip": {
        "window": None,
        "groups": None,
        "history": (("all", torch.tensor([3.0, 1.0], dtype=torch.float64)),),
    },
    "fixed": {},
    "skip_spikes": {"window": 128, "norms": (1.0,)},
    "spam": {"second_moment": "own", "moments": (("mask.bias", torch.ones(2, dtype=torch.float64)),)},
}
"""... as they are saved now."""


@pytest.mark.parametrize("name", FIRST_VERSION)
def test_states_of_the_first_version_load(name):
    clipper = make(name)
    old = {"strategy": type(clipper).__name__, "version": 1, "nonfinite_steps": 4, **FIRST_VERSION[name]}
    clipper.load_state_dict(old)
    common = {"strategy": type(clipper).__name__, "version": 2, "nonfinite_steps": 4}
    expected = {**common, "finite_steps": 0, "clipped_steps": 0, **SECOND_VERSION[name]}
    assert str(clipper.state_dict()) == str(expected)


def test_groups_of_the_first_version_load():
    groups = {"biases": ["*.bias"], "rest": ["*"]}
    clipper = AutoClip(groups=groups)
    state = {**clipper.state_dict(), "version": 1, "groups": {"biases": ("*.bias",), "rest": ("*",)}}
    clipper.load_state_dict(state)
    assert clipper.groups == groups
    with pytest.raises(ValueError, match="groups: the state was saved with "):
        AutoClip(groups={"biases": ["*.bias"], "others": ["*"]}).load_state_dict(state)


@pytest.mark.parametrize(
    ("saved", "made"),
    [
        (AutoClip(p=10), AutoClip(p=50)),
        (FixedClip(1.0), FixedClip(2.0)),
        (ZClip(tau=2.5), ZClip(tau=3.0)),
        (AutoClip(warmup=0), AutoClip(warmup=9)),
    ],
)
def test_settings_are_the_constructors(saved, made):
    before = repr(made)
    made.load_state_dict(saved.state_dict())
    assert repr(made) == before


def test_more_clipped_steps_than_steps_are_refused():
    clipper = trained("autoclip")
    with pytest.raises(ValueError, match="clipped_steps: expected at most finite_steps=40, got 41"):
        clipper.load_state_dict({**clipper.state_dict(), "clipped_steps": 41})


def test_what_a_clipper_shows_of_itself():
    clipper = trained("autoclip", p=25)
    expected = "<AutoClip(p=25.0, window=None, groups=None, warmup=0, on_nonfinite='skip'), 320 bytes>"
    assert repr(clipper) == expected
    assert repr(Chain([FixedClip(2.0)])).startswith("<Chain(clippers={'0': <FixedClip(max_norm=2.0, on_nonfinite=")
    assert len(clipper.history) == 40 and AutoClip(groups="tensor").histories == {}
    grouped = trained("autoclip_per_tensor")
    with pytest.raises(ValueError, match="history: with groups there is one for each; see histories"):
        _ = grouped.history
    assert {name: len(history) for name, history in grouped.histories.items()} == {
        name: 40 for name, _ in named_parameters()
    }


@pytest.mark.parametrize("name", ["autoclip", "autoclip_on_device", "value", "fixed", "chain"])
def test_the_clipped_fraction_is_counted(name):
    clipper, parameters, clipped = make(name), named_parameters(), 0
    for step, gradients in enumerate(random_gradients(30)):
        set_gradients(parameters, gradients)
        if step == 7:
            parameters[0][1].grad[0, 0] = math.nan
        clipped += clipper.clip_(parameters).clipped
    assert (clipper.finite_steps, clipper.nonfinite_steps) == (29, 1)
    assert 0 < clipped < 30 and clipper.clipped_fraction == clipped / 29


def test_a_zeroed_gradient_counts_as_not_finite_alone():
    clipper, parameters = FixedClip(on_nonfinite="zero"), named_parameters()
    set_gradients(parameters, random_gradients(1)[0])
    parameters[0][1].grad[0, 0] = math.inf
    clipper.clip_(parameters)
    assert (clipper.finite_steps, clipper.nonfinite_steps, clipper.clipped_fraction) == (0, 1, 0.0)


def test_results_unpack_and_become_a_dictionary():
    weight = torch.nn.Parameter(torch.zeros(2))
    weight.grad = torch.tensor([3.0, 4.0])
    result = FixedClip(2.5).clip_(weight)
    norm, threshold, coefficient, should_step = result
    assert (norm, threshold, coefficient, should_step) == (5.0, 2.5, 0.5, True)
    assert result.as_dict("train/") == {
        "train/grad_norm": 5.0,
        "train/clip_threshold": 2.5,
        "train/clip_coefficient": 0.5,
        "train/clipped": True,
    }
    weight.grad = torch.tensor([3.0, 4.0])
    on_device = make("autoclip_on_device").clip_(weight).as_dict()
    assert all(isinstance(value, torch.Tensor) for value in on_device.values())
    assert {name: value.item() for name, value in on_device.items()} == {
        "grad_norm": 5.0,
        "clip_threshold": 5.0,
        "clip_coefficient": 1.0,
        "clipped": False,
    }


def test_warm_up_records_and_does_not_clip():
    weight, clipper = torch.nn.Parameter(torch.zeros(1)), AutoClip(p=0, warmup=3)
    thresholds = []
    for norm in (4.0, 2.0, 0.0, 8.0, 8.0):  # a zero isn't recorded
        weight.grad = torch.tensor([norm])
        thresholds.append(clipper.clip_(weight).threshold)
    assert thresholds == [math.inf, math.inf, math.inf, math.inf, 2.0]
    with pytest.raises(ValueError, match="warmup: expected a number below window=3, or it never ends; got 3"):
        AutoClip(window=3, warmup=3)


def test_a_percentile_below_one_is_remarked_on():
    for kind in (AutoClip, AutoClipOnDevice, SpectralClip):
        with pytest.warns(UserWarning, match=r"p=0.1 is a percentile in .*, so below the first; the tenth is p=10"):
            kind(p=0.1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        AutoClip(p=0)
        AutoClip(p=1)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda clipper: pickle.loads(pickle.dumps(clipper))])
def test_a_copy_is_a_clipper_of_its_own(duplicate):
    clipper, parameters = AutoClip(), named_parameters()
    optimizer = torch.optim.SGD(parameters, lr=0.1)  # it holds the attachment
    clipper.attach(optimizer)
    copied = duplicate(clipper)
    assert copied.attachment is None and clipper.attachment is not None
    set_gradients(parameters, random_gradients(1)[0])
    copied.clip_(parameters)
    assert len(copied.history) == 1 and len(clipper.history) == 0


@pytest.mark.parametrize(
    "clipper", [AutoClip(groups="param_group"), make("block_normalized", groups="param_group"), make("spam")]
)
def test_a_copy_takes_no_optimizer_along(clipper):
    weight = torch.nn.Parameter(torch.zeros(100_000))
    clipper.attach(torch.optim.SGD([("w", weight)], lr=0.1))
    assert len(pickle.dumps(clipper)) < 10_000
    if isinstance(clipper, AutoClip):
        weight.grad = torch.ones_like(weight)
        with pytest.raises(ValueError, match=r"groups: 'param_group' needs an optimizer; call clipper.attach"):
            copy.deepcopy(clipper).clip_([weight])
