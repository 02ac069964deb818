"""`clip_grads_`: gradients that lie in no parameter's `.grad`."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from gradclip import AGC, AdaGC, AutoClip, FixedClip
from strategies import STRATEGIES, clip, make, named_parameters, random_gradients, set_gradients

STEPS = random_gradients(30)


@pytest.mark.parametrize("name", sorted(set(STRATEGIES) - {"agc"}))
def test_equals_clip_(name):
    """To the last bit, with the names as keys; and so does the memory."""
    parameters = named_parameters()
    settings = {"window": 50} if name == "autoclip_on_device" else {}
    one, two = make(name, **settings), make(name, **settings)
    for gradients in STEPS:
        set_gradients(parameters, gradients)
        tree = {name: parameter.grad.clone() for name, parameter in parameters}
        one.observe_loss(float(tree["encoder.weight"].sum()))
        assert one.clip_grads_(tree) == clip(two, parameters)
        assert all(torch.equal(tree[name], parameter.grad) for name, parameter in parameters)
    assert str(one.state_dict()) == str(two.state_dict())


def test_torch_func_grad():
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)).double()
    x = torch.randn(5, 3, dtype=torch.float64)

    def loss(parameters: dict) -> torch.Tensor:
        return torch.func.functional_call(model, parameters, (x,)).square().mean()

    for parameters in (
        {name: value.detach() for name, value in model.named_parameters()},
        dict(model.named_parameters()),
    ):
        gradients = torch.func.grad(loss)(parameters)
        before = {name: gradient.detach().numpy().copy() for name, gradient in gradients.items()}
        norm = np.linalg.norm(np.concatenate([gradient.ravel() for gradient in before.values()]))
        result = FixedClip(norm / 3).clip_grads_(gradients)
        assert result.grad_norm == pytest.approx(norm, rel=1e-14) and result.coefficient == pytest.approx(1 / 3)
        for name, gradient in gradients.items():
            np.testing.assert_allclose(gradient.detach().numpy(), before[name] / 3, rtol=1e-14)


def test_torch_autograd_grad():
    """A tuple, in which unused parameters have None."""
    model, unused = nn.Linear(3, 1), nn.Parameter(torch.ones(1))
    loss = model(torch.ones(1, 3)).sum()
    gradients = torch.autograd.grad(loss, [unused, *model.parameters()], allow_unused=True)
    result = FixedClip(1.0).clip_grads_(gradients)
    assert result.grad_norm == pytest.approx(2.0) and gradients[0] is None
    assert gradients[1].flatten().tolist() == pytest.approx([0.5] * 3) and gradients[2].item() == pytest.approx(0.5)


def test_nested_trees_and_their_names():
    tree = {"encoder": [torch.tensor([3.0]), {"bias": torch.tensor([4.0])}], "head": (torch.tensor(12.0), None)}
    clipper = AutoClip(p=100, groups="tensor")
    assert clipper.clip_grads_(tree).grad_norm == 13.0
    assert {name: list(norms) for name, norms in clipper.histories.items()} == {
        "encoder.0": [3.0],
        "encoder.1.bias": [4.0],
        "head.0": [12.0],
    }
    assert FixedClip(1.0).clip_grads_(tensor := torch.tensor([0.0, 5.0])).grad_norm == 5.0
    assert tensor.tolist() == [0.0, 1.0]


def test_sparse_and_complex_tensors_change_in_place():
    sparse = torch.sparse_coo_tensor([[1, 1]], [1.0, 2.0], (3,))  # not coalesced
    conjugate = torch.tensor([0.0 + 4.0j]).conj()
    assert FixedClip(1.0).clip_grads_([sparse, conjugate]).grad_norm == 5.0
    torch.testing.assert_close(sparse.to_dense(), torch.tensor([0.0, 0.6, 0.0]))
    torch.testing.assert_close(conjugate.resolve_conj(), torch.tensor([0.0 - 0.8j]))


def test_a_gradient_that_is_not_finite():
    tree = [torch.tensor([math.nan]), torch.tensor([1.0])]
    clipper = AutoClip()
    assert not clipper.clip_grads_(tree).should_step and clipper.nonfinite_steps == 1
    assert tree[1].tolist() == [1.0]
    AutoClip(on_nonfinite="zero").clip_grads_(tree)
    assert [tensor.item() for tensor in tree] == [0.0, 0.0]


REFUSALS = [
    (AutoClip, {}, ValueError, "gradients: expected tensors, or lists or dictionaries of them, got {}"),
    (AutoClip, [None], ValueError, "gradients: expected tensors, or lists or dictionaries of them"),
    (AutoClip, nn.Linear(1, 1), TypeError, "got Linear; gradients in .grad are clipped by clip_"),
    (AutoClip, {"a": {"b": [1.0]}}, TypeError, "gradients: expected tensors, .*, got float"),
    (AutoClip, {"a": torch.ones(2, dtype=torch.int64)}, TypeError, "gradients: 'a' holds torch.int64"),
    (AutoClip, {"a": torch.ones(1).expand(3)}, ValueError, "gradients: 'a' is an expanded tensor, .*; clone"),
    (lambda: AGC(exclude=[]), {"a": torch.ones(3)}, ValueError, "gradients: AGC compares them with their parameters"),
]


@pytest.mark.parametrize(("make_clipper", "tree", "error", "message"), REFUSALS)
def test_refuses_what_it_cannot_clip(make_clipper, tree, error, message):
    clipper = make_clipper()
    before = str(clipper.state_dict())
    with pytest.raises(error, match=message):
        clipper.clip_grads_(tree)
    assert str(clipper.state_dict()) == before


@pytest.mark.parametrize("view", [lambda b: b, lambda b: b.T, lambda b: b.reshape(2, 2)], ids=["same", "T", "reshape"])
@pytest.mark.parametrize("batched", [False, True])
def test_gradients_in_the_same_memory_are_refused(view, batched):
    """Those of a and b in a + b are one tensor to autograd: its norm counted once, and the views' factor twice."""
    parameters = {"a": torch.ones(2, 2), "b": torch.ones(2, 2)}
    gradient = torch.func.grad(lambda each, x: ((each["a"] + view(each["b"])) * x).sum())
    x = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    if batched:
        gradients = torch.func.vmap(gradient, in_dims=(None, 0))(parameters, x.expand(3, 2, 2))
    else:
        gradients = gradient(parameters, x)
    clipper = FixedClip(1.0)
    clip_ = clipper.clip_per_sample_ if batched else clipper.clip_grads_
    with pytest.raises(ValueError, match=r"gradients: 'b' and 'a' lie in the same memory, .*; clone\(\) one of them"):
        clip_(gradients)
    own = {name: value.clone() for name, value in gradients.items()}
    clip_(own)
    norm = math.sqrt(sum(float(value.reshape(-1, 4)[0].square().sum()) for value in own.values()))
    assert norm == pytest.approx(1.0)


def test_parts_of_one_tensor_are_clipped():
    flat = torch.tensor([3.0, 0.0, 4.0, 0.0])
    assert FixedClip(1.0).clip_grads_([flat[:2], flat[2:]]).grad_norm == 5.0
    torch.testing.assert_close(flat, torch.tensor([0.6, 0.0, 0.8, 0.0]))


def test_an_attached_clipper_refuses():
    clipper = AdaGC()
    model = nn.Linear(1, 1)
    attachment = clipper.attach(torch.optim.SGD(model.named_parameters(), lr=1.0))
    for method in (clipper.clip_grads_, clipper.clip_per_sample_):
        with pytest.raises(ValueError, match=f"{method.__name__}: the clipper is attached to an optimizer"):
            method([torch.ones(1, 1)])
    attachment.remove()
    assert clipper.clip_grads_([torch.ones(1)]).grad_norm == 1.0
