"""`clip_per_sample_` against loops over single samples."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from gradclip import AutoClip, FixedClip, NoClip, NonFiniteGradientError
from strategies import SHAPES, STRATEGIES, make

BATCH = 9


def batch(seed: int = 0, dtype: torch.dtype = torch.float64) -> dict[str, torch.Tensor]:
    """Gradients whose samples differ in scale."""
    random = np.random.default_rng(seed)
    scales = random.lognormal(0, 1, BATCH)
    return {
        name: torch.tensor(random.standard_normal((BATCH, *shape)) * scales.reshape(-1, *[1] * len(shape)), dtype=dtype)
        for name, shape in SHAPES.items()
    }


def norms_of(tree: dict[str, torch.Tensor]) -> np.ndarray:
    """Each sample's norm, in float64."""
    rows = [tensor.double().numpy().reshape(BATCH, -1) for tensor in tree.values()]
    return np.linalg.norm(np.concatenate(rows, axis=1), axis=1)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_each_sample_is_scaled_by_a_factor_of_its_own(dtype):
    """Half-precision gradients are rounded once."""
    tree, before = batch(dtype=dtype), batch(dtype=dtype)
    norms = norms_of(before)
    limit = float(np.median(norms)) * 1.01
    result = FixedClip(limit).clip_per_sample_(tree)
    factors = np.minimum(1, limit / norms)
    np.testing.assert_allclose(result.norms, norms, rtol=1e-6)
    np.testing.assert_allclose(result.factors, factors, rtol=1e-6)
    assert result.threshold == limit and 0 < sum(factors < 1) < BATCH
    for name, tensor in tree.items():
        factor = result.factors.view(-1, *[1] * (tensor.ndim - 1))
        wide = before[name].to(torch.promote_types(dtype, torch.float32))
        assert torch.equal(tensor, (wide * factor.to(wide.dtype)).to(dtype))
        assert torch.equal(tensor[factors == 1], before[name][factors == 1])


def test_equals_clipping_one_sample_after_another():
    """Gradients of torch.func, beside a loop that backpropagates sample by sample."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)).double()
    x = torch.randn(BATCH, 3, dtype=torch.float64) * torch.arange(1, BATCH + 1).view(-1, 1)

    def loss(parameters: dict, row: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(model, parameters, (row,)).square().sum()

    parameters = {name: value.detach() for name, value in model.named_parameters()}
    tree = torch.func.vmap(torch.func.grad(loss), (None, 0))(parameters, x)
    result = FixedClip(1.0).clip_per_sample_(tree)
    one_by_one = FixedClip(1.0)
    for sample, row in enumerate(x):
        model.zero_grad()
        model(row).square().sum().backward()
        single = one_by_one.clip_(model.parameters())
        assert result.norms[sample] == pytest.approx(single.grad_norm)
        assert result.factors[sample] == pytest.approx(single.coefficient)
        for name, parameter in model.named_parameters():
            torch.testing.assert_close(tree[name][sample], parameter.grad)
    assert 0 < int((result.factors < 1).sum()) < BATCH


@pytest.mark.parametrize("window", [None, 13])
def test_autoclips_threshold_is_the_percentile_of_all_samples_so_far(window):
    """Those of this batch included, so the order within it makes no difference."""
    clipper, seen = AutoClip(p=30, window=window), np.empty(0)
    for seed in range(5):
        norms = norms_of(tree := batch(seed))
        seen = np.concatenate([seen, norms])[-window if window else None :]
        result = clipper.clip_per_sample_(tree)
        assert result.threshold == pytest.approx(np.percentile(seen, 30), rel=1e-13)
        np.testing.assert_allclose(norms_of(tree), np.minimum(norms, np.percentile(seen, 30)), rtol=1e-12)
    np.testing.assert_allclose(clipper.history, seen, rtol=1e-13)
    assert 0.5 < clipper.clipped_fraction < 0.9 and clipper.finite_steps == 5 * BATCH


def test_no_clipping_measures():
    tree, before = batch(), batch()
    result = NoClip().clip_per_sample_(tree)
    assert result.threshold == math.inf and result.factors.tolist() == [1.0] * BATCH
    np.testing.assert_allclose(result.norms, norms_of(before), rtol=1e-13)
    assert all(torch.equal(tree[name], before[name]) for name in tree)


def test_samples_that_are_not_finite_or_zero():
    tree, before = batch(), batch()
    tree["mask.bias"][2] = math.nan
    tree["encoder.weight"][5, 0, 0] = math.inf
    for tensor in tree.values():
        tensor[7] = 0
    clipper = AutoClip(p=50)
    result = clipper.clip_per_sample_(tree)
    finite = [0, 1, 3, 4, 6, 8]
    norms = norms_of(before)[finite]
    assert result.threshold == pytest.approx(np.percentile(norms, 50), rel=1e-13)
    assert result.factors[[2, 5, 7]].tolist() == [0.0, 0.0, 1.0]
    assert all(tensor[[2, 5, 7]].abs().sum() == 0 for tensor in tree.values())
    for name, tensor in tree.items():
        assert torch.equal(
            tensor[finite], before[name][finite] * result.factors[finite].view(-1, *[1] * (tensor.ndim - 1))
        )
    assert clipper.nonfinite_steps == 2 and clipper.finite_steps == 7 and len(clipper.history) == 6
    assert clipper.clipped_fraction == pytest.approx(3 / 7)
    with pytest.raises(NonFiniteGradientError, match=r"the gradient holds NaN or infinity in samples \[1\]"):
        AutoClip(on_nonfinite="raise").clip_per_sample_([torch.tensor([1.0, math.nan])])


def test_norms_beyond_the_squares_of_float32():
    tree = [torch.tensor([[3e37, 4e37], [3e-30, 4e-30], [0.3, 0.4]])]
    result = FixedClip(1e-9).clip_per_sample_(tree)
    np.testing.assert_allclose(result.norms, [5e37, 5e-30, 0.5], rtol=1e-6)
    np.testing.assert_allclose(tree[0].norm(dim=1, dtype=torch.float64), [1e-9, 5e-30, 1e-9], rtol=1e-5)


def test_an_empty_batch():
    """As Poisson sampling gives them."""
    assert FixedClip(1.0).clip_per_sample_([torch.empty(0, 3)]).norms.shape == (0,)
    assert AutoClip().clip_per_sample_([torch.empty(0, 3)]).threshold == math.inf


@pytest.mark.parametrize("name", sorted(set(STRATEGIES) - {"fixed", "none", "autoclip", "autoclip_windowed"}))
def test_other_strategies_refuse(name):
    tree, before = batch(), batch()
    clipper = make(name)
    state = str(clipper.state_dict())
    message = f"clip_per_sample_: {type(clipper).__name__} has no threshold for single samples; use FixedClip"
    with pytest.raises(ValueError, match=message):
        clipper.clip_per_sample_(tree)
    assert all(torch.equal(tree[name], before[name]) for name in tree) and str(clipper.state_dict()) == state


REFUSALS = [
    ({"a": torch.ones(2, 3), "b": torch.ones(3)}, "expected a batch .*, got 'a' of shape (2, 3) and 'b' of shape (3,)"),
    ([torch.tensor(1.0)], "expected a batch as first dimension of all"),
    ([torch.ones(2, dtype=torch.complex64)], "gradients: expected dense, real ones on one process, but '0' isn't"),
    ([torch.ones(2, 2).to_sparse()], "gradients: expected dense, real ones on one process, but '0' isn't"),
    ([torch.ones(2, 1).expand(2, 3)], "gradients: '0' is an expanded tensor"),
]


@pytest.mark.parametrize(("tree", "message"), REFUSALS)
def test_refuses_tensors_without_samples(tree, message):
    with pytest.raises(ValueError, match=message.replace("(", r"\(").replace(")", r"\)")):
        FixedClip().clip_per_sample_(tree)
