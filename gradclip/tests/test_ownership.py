"""A clipper belongs to the parameters that it meets first."""

import pytest
import torch

from gradclip import AutoClip, Chain, FixedClip
from gradclip.ownership import Ownership
from strategies import make, named_parameters, random_gradients, set_gradients

STEPS = random_gradients(3)


def test_a_second_network_is_refused():
    clipper, first, second = AutoClip(), named_parameters(), named_parameters()
    set_gradients(first, STEPS[0])
    set_gradients(second, STEPS[1])
    clipper.clip_(first)
    with pytest.raises(ValueError, match="the clipper has met only others, .* make a clipper for each network"):
        clipper.clip_(second)
    assert len(clipper.history) == 1
    del first
    with pytest.raises(ValueError, match="the clipper has met only others"):
        clipper.clip_(second)
    heir = AutoClip()
    heir.load_state_dict(clipper.state_dict())
    heir.clip_(second)
    assert len(heir.history) == 2


def test_a_chains_members_belong_to_one_network_too():
    member, first, second = AutoClip(), named_parameters(), named_parameters()
    for parameters in (first, second):
        set_gradients(parameters, STEPS[0])
    Chain([member]).clip_(first)
    for use in (Chain([FixedClip(), member]).clip_, member.clip_):
        with pytest.raises(ValueError, match="the clipper has met only others, .* make a clipper for each network"):
            use(second)
    assert len(member.history) == 1
    chain, optimizer = Chain([member]), torch.optim.SGD(first, lr=0.1)
    member.attach(optimizer)  # for as long as the optimizer lives
    with pytest.raises(ValueError, match=r"clippers\['0'\]: it is attached by itself too; remove\(\)"):
        chain.clip_(first)
    with pytest.raises(ValueError, match="clippers: one of them stands there twice"):
        Chain({"a": member, "b": FixedClip(), "c": member})


def test_parameters_may_come_and_go():
    clipper, parameters = AutoClip(), named_parameters()
    set_gradients(parameters, STEPS[0])
    for chosen in (parameters[:1], parameters, parameters[2:], parameters[1:3], reversed(parameters)):
        clipper.clip_(chosen)
    assert len(clipper.history) == 5
    frozen, clipper = parameters[0][1], AutoClip()
    gradient, frozen.grad = frozen.grad, None
    clipper.clip_(parameters)  # all are met, also the one without a gradient
    frozen.grad = gradient
    clipper.clip_(frozen)


def test_an_identity_is_not_used_again():
    ownership, first = Ownership(), torch.zeros(1)
    ownership.meet([first])
    place = id(first)
    del first
    for _ in range(100):
        second = torch.zeros(1)
        assert id(second) != place
        with pytest.raises(ValueError, match="met only others"):
            ownership.check([second])


@pytest.mark.parametrize("attached", [False, True])
def test_a_model_can_be_converted_afterwards(attached):
    """Also where torch exchanges the parameters' contents, as it does for DTensors and other subclasses."""
    model, clipper = torch.nn.Linear(2, 1), AutoClip(groups="tensor")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    if attached:
        clipper.attach(optimizer, model.named_parameters())
    torch.__future__.set_swap_module_params_on_conversion(True)
    try:
        for dtype in (torch.float32, torch.float64):
            model.to(dtype)
            model(torch.ones(1, 2, dtype=dtype)).sum().backward()
            optimizer.step() if attached else clipper.clip_(model.named_parameters())
            optimizer.zero_grad()
    finally:
        torch.__future__.set_swap_module_params_on_conversion(False)
    assert {name: len(norms) for name, norms in clipper.histories.items()} == {"weight": 2, "bias": 2}


def test_after_an_error_the_right_parameters_may_come():
    clipper, parameters = make("adagc"), named_parameters()
    set_gradients(parameters, STEPS[0])
    clipper.clip_(parameters)
    restored = make("adagc")
    restored.load_state_dict(clipper.state_dict())
    with pytest.raises(ValueError, match="none of them has a name of the restored state"):
        restored.clip_([(f"other.{name}", parameter) for name, parameter in parameters[:2]])
    another = named_parameters()
    set_gradients(another, STEPS[0])
    restored.clip_(another)
    assert restored.finite_steps == 2
