import math

import numpy as np
import pytest
import torch

from gradclip import AutoClip, FixedClip, NoClip
from strategies import make, named_parameters, random_gradients, set_gradients


def with_grads(*grads: torch.Tensor) -> list[tuple[str, torch.nn.Parameter]]:
    parameters = [torch.nn.Parameter(torch.zeros(grad.shape, dtype=grad.dtype, device=grad.device)) for grad in grads]
    for parameter, grad in zip(parameters, grads, strict=True):
        parameter.grad = grad
    return [(f"p{position}", parameter) for position, parameter in enumerate(parameters)]


@pytest.mark.parametrize(
    "dtypes",
    [
        (torch.float16, torch.float64),
        (torch.bfloat16, torch.float32),
        (torch.float16, torch.complex64),
        (torch.float32, torch.complex128),
    ],
)
def test_mixed_data_types(dtypes):
    parameters = with_grads(torch.tensor([3.0], dtype=dtypes[0]), torch.tensor([4.0], dtype=dtypes[1]))
    result = FixedClip(2.5).clip_(parameters)
    assert (result.grad_norm, result.coefficient) == (5.0, 0.5)
    assert [parameter.grad.item() for _, parameter in parameters] == [1.5, 2.0]
    parameters[1][1].grad.fill_(4.0)
    parameters[0][1].grad.fill_(3.0)
    assert make("autoclip_on_device").clip_(parameters).grad_norm == 5.0


def test_the_order_of_mixed_tensors_is_kept():
    grads = [torch.full((2,), float(i + 1), dtype=(torch.float32, torch.float64)[i % 2]) for i in range(5)]
    parameters = with_grads(*grads)
    make("block_normalized").clip_(parameters)
    for _, parameter in parameters:
        torch.testing.assert_close(parameter.grad.double().norm().item(), 1.0)


def test_a_complex_gradients_parts_count_as_entries():
    parameters = with_grads(torch.tensor([3 + 4j]))
    assert FixedClip(1.0).clip_(parameters).grad_norm == 5.0
    torch.testing.assert_close(parameters[0][1].grad, torch.tensor([0.6 + 0.8j]))


@pytest.mark.parametrize("scale", [1e20, 1e-25, 1e37, 1e-44])
def test_norms_beyond_float32s_squares(scale):
    values = torch.tensor([3 * scale, 4 * scale])
    expected = math.hypot(*values.tolist())
    parameters = with_grads(values.clone())
    result = NoClip().clip_(parameters)
    assert result.should_step and result.grad_norm == pytest.approx(expected, rel=1e-12)
    result = FixedClip(expected / 2).clip_(parameters)
    assert result.coefficient == 0.5 and torch.equal(parameters[0][1].grad, values / 2)


@pytest.mark.parametrize("power", range(-40, 41))
def test_float32_decisions_do_not_depend_on_the_losses_scale(power):
    plain, scaled = AutoClip(p=25), AutoClip(p=25)
    one, two = named_parameters(torch.float32), named_parameters(torch.float32)
    for gradients in random_gradients(30):
        set_gradients(one, gradients)
        set_gradients(two, gradients, 2.0**power)
        first, second = plain.clip_(one), scaled.clip_(two)
        assert first.coefficient == second.coefficient and first.threshold * 2.0**power == second.threshold
        assert all(torch.equal(a.grad * 2.0**power, b.grad) for (_, a), (_, b) in zip(one, two, strict=True))


@pytest.mark.parametrize("scale", [1e3, 1e19, 1e30])
def test_large_gradients_come_down_to_their_bound(scale):
    """Where float32 holds neither the squares nor a difference that small beside them."""
    gradient = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    parameters = with_grads(gradient * scale)
    make("agc", exclude=[], eps=1e-4).clip_(parameters)  # the weights are 0
    expected = gradient / gradient.norm(dim=1, keepdim=True) * 1e-6
    torch.testing.assert_close(parameters[0][1].grad, expected, rtol=1e-5, atol=0)
    parameters = with_grads(gradient * scale)
    make("spectral", threshold=1e-6).clip_(parameters)
    assert torch.linalg.svdvals(parameters[0][1].grad.double()).tolist() == pytest.approx([1e-6] * 4, rel=1e-4)
    clipper, parameters = make("error_feedback", max_norm=0.5, max_error_norm=1.5), with_grads(torch.zeros(2))
    for expected in (0.5, 2.0):  # C1, then C1 + C2
        parameters[0][1].grad = torch.tensor([scale, 0.0])
        clipper.clip_(parameters)
        assert parameters[0][1].grad.tolist() == pytest.approx([expected, 0.0])


def test_p_100_leaves_gradients_bit_identical():
    clipper, parameters = AutoClip(p=100), named_parameters(torch.float32)
    for gradients in random_gradients(200):
        set_gradients(parameters, gradients)
        before = [parameter.grad.clone() for _, parameter in parameters]
        assert not clipper.clip_(parameters).clipped
        assert all(torch.equal(old, p.grad) for old, (_, p) in zip(before, parameters, strict=True))


def sparse(rows: list[int], values: list[list[float]], dense: bool = False) -> torch.Tensor:
    tensor = torch.sparse_coo_tensor(torch.tensor([rows]), torch.tensor(values), (4, 2), check_invariants=True)
    return tensor.to_dense() if dense else tensor


def test_sparse_gradients_stand_for_what_they_sum_to():
    weight = torch.nn.Parameter(torch.zeros(4, 2))
    weight.grad = sparse([1, 1, 3], [[1.0, 0.0], [2.0, 0.0], [0.0, 4.0]])  # row 1 twice: [3, 0]
    result = FixedClip(2.5).clip_([("embedding", weight)])
    assert (result.grad_norm, result.coefficient) == (5.0, 0.5)
    assert weight.grad.is_sparse
    assert torch.equal(weight.grad.to_dense(), sparse([1, 3], [[1.5, 0.0], [0.0, 2.0]], dense=True))


def test_a_sparse_gradient_may_hold_nothing():
    empty = torch.sparse_coo_tensor(
        torch.zeros(1, 0, dtype=torch.long), torch.zeros(0, 2), (4, 2), check_invariants=True
    )
    for name in ("none", "value", "adaclip", "autoclip_on_device"):
        parameters = with_grads(empty.clone(), torch.tensor([3.0, 4.0]))
        assert make(name).clip_(parameters).grad_norm == 5.0


def test_gradients_may_come_go_and_change_their_kind_between_steps():
    kinds = {
        "none": lambda dtype: None,
        "dense": lambda dtype: torch.full((4, 2), 3.0, dtype=dtype),
        "sparse": lambda dtype: sparse([1, 1, 3], [[1.0, 0.0], [2.0, 0.0], [0.0, 4.0]]).to(dtype),
        "expanded": lambda dtype: torch.ones(1, dtype=dtype).expand(4, 2),
        "transposed": lambda dtype: torch.arange(8.0).to(dtype).view(2, 4).t(),
    }
    dtypes = [torch.float32] * 4 + [torch.float16, torch.complex64, torch.float64]
    parameters = [torch.nn.Parameter(torch.zeros(4, 2, dtype=dtype)) for dtype in dtypes]
    random, clipper = np.random.default_rng(0), FixedClip(1.0)

    def norm() -> float:
        grads = [parameter.grad.to_dense().abs().double() for parameter in parameters if parameter.grad is not None]
        return math.sqrt(sum(float(grad.square().sum()) for grad in grads))

    for _ in range(100):
        for parameter in parameters:
            parameter.grad = kinds[random.choice(list(kinds))](parameter.dtype)
        expected = norm()
        assert clipper.clip_(parameters).grad_norm == pytest.approx(expected, rel=1e-6)
        assert norm() == pytest.approx(1, rel=1e-3)  # in half precision


@pytest.mark.parametrize("name", ["spam", "agc", "error_feedback", "spectral"])
def test_what_works_entry_by_entry_refuses_sparse_and_complex_gradients(name):
    for grad, what in ((sparse([1], [[1.0, 2.0]]), "sparse"), (torch.tensor([1j, 2.0]), "complex")):
        with pytest.raises(ValueError, match=f"needs dense, real gradients on one process, but p0's is {what}"):
            make(name).clip_(with_grads(grad))


def test_a_layout_that_cannot_be_scaled_is_named():
    parameter = torch.nn.Parameter(torch.eye(3).to_sparse_csr())
    parameter.grad = torch.eye(3).to_sparse_csr()
    with pytest.raises(ValueError, match="the gradient of w has the layout torch.sparse_csr; expected dense or COO"):
        NoClip().clip_([("w", parameter)])


def test_expanded_gradients_are_made_writable():
    parameter = torch.nn.Parameter(torch.zeros(3, 4))
    parameter.grad = torch.ones(1).expand(3, 4)
    assert FixedClip(1.0).clip_([parameter]).grad_norm == pytest.approx(math.sqrt(12))
    torch.testing.assert_close(parameter.grad, torch.full((3, 4), 12**-0.5))


def test_empty_gradients_and_shared_ones_count_once():
    parameter = torch.nn.Parameter(torch.zeros(2))
    parameter.grad = torch.tensor([3.0, 4.0])
    assert NoClip().clip_([parameter, parameter]).grad_norm == 5.0
    assert make("value").clip_([*with_grads(torch.zeros(0)), ("p1", parameter)]).grad_norm == 5.0


def test_two_parameters_with_one_tensor_as_gradient():
    first, second = torch.nn.Parameter(torch.zeros(2)), torch.nn.Parameter(torch.zeros(2))
    for max_norm in (100.0, 1.0):
        first.grad = second.grad = torch.tensor([3.0, 4.0])
        result = FixedClip(max_norm).clip_([first, second, second, first])
        assert result.grad_norm == pytest.approx(math.sqrt(50))
        for parameter in (first, second):
            torch.testing.assert_close(parameter.grad, torch.tensor([3.0, 4.0]) * result.coefficient)


def test_names():
    parameters = named_parameters()
    set_gradients(parameters, random_gradients(1)[0])
    tensors = [parameter for _, parameter in parameters]
    for name in ("adagc", "adagn", "adaclip", "spam", "agc", "error_feedback", "block_normalized", "aggc", "spectral"):
        with pytest.raises(ValueError, match=r"parameters: .* needs names; pass model.named_parameters\(\)"):
            make(name).clip_(tensors)
    with pytest.raises(ValueError, match="AutoClip with groups works tensor by tensor and needs names"):
        AutoClip(groups="tensor").clip_(tensors)
    twice = [("a", tensors[0]), ("a", tensors[1])]
    assert NoClip().clip_(twice).grad_norm > 0
    with pytest.raises(ValueError, match="'a' is the name of two of them; AdaGC keeps its memory by name"):
        make("adagc").clip_(twice)


def test_groups():
    parameters = named_parameters()
    set_gradients(parameters, random_gradients(1)[0])
    with pytest.raises(ValueError, match=r"groups\['x'\]: no parameter is called 'decoder.\*'; there"):
        AutoClip(groups={"x": ["decoder.*"], "rest": ["*"]}).clip_(parameters)
    with pytest.raises(ValueError, match="mask.weight is in none of encoder; add a last group with the pattern"):
        AutoClip(groups={"encoder": ["encoder.*"]}).clip_(parameters)
    with pytest.raises(ValueError, match="groups: expected one of tensor, module, param_group, got 'layer'"):
        AutoClip(groups="layer")
    with pytest.raises(TypeError, match=r"groups\['a'\]: expected a list of names or patterns"):
        AutoClip(groups={"a": "encoder.*"})


@pytest.mark.parametrize(
    "name", ["none", "fixed", "autoclip", "zclip", "adagc", "adagn", "aggc", "skip_spikes", "skip_above", "chain"]
)
def test_the_host_reads_once_a_step(name, monkeypatch):
    reads = []
    for method in ("tolist", "item", "__float__", "__bool__", "__int__"):
        original = getattr(torch.Tensor, method)
        monkeypatch.setattr(torch.Tensor, method, lambda self, original=original: reads.append(self) or original(self))
    clipper, parameters = make(name), named_parameters(torch.float32)
    for count, gradients in enumerate(random_gradients(130), start=1):
        set_gradients(parameters, gradients)
        clipper.clip_(parameters)
        assert len(reads) == count


def test_wrappers_names_are_left_out():
    parameters = named_parameters()
    set_gradients(parameters, random_gradients(1)[0])
    for prefix in ("module._orig_mod.", "_orig_mod.module.", "module.", "_orig_mod."):
        clipper = make("adagc")
        clipper.clip_([(f"{prefix}{name}", parameter) for name, parameter in parameters])
        assert set(dict(clipper.state_dict()["gamma"])) == {name for name, _ in parameters}


def test_a_group_may_be_without_gradients_in_a_step():
    clipper, parameters = AutoClip(groups={"e": ["encoder.*"], "m": ["mask.*"]}), named_parameters()
    for step, gradients in enumerate(random_gradients(6)):
        set_gradients(parameters, gradients)
        if step % 2:
            parameters[2][1].grad = parameters[3][1].grad = None
        clipper.clip_(parameters)
    assert {name: len(norms) for name, norms in clipper.histories.items()} == {"e": 6, "m": 3}


def test_a_model_is_no_list_of_parameters():
    for wrong in (torch.nn.Linear(1, 1), None, 3):
        with pytest.raises(TypeError, match=r"parameters: expected model.parameters\(\) or model.named_parameters"):
            NoClip().clip_(wrong)


def test_several_sparse_gradients_all_count():
    torch.manual_seed(0)
    for _ in range(20):
        modules = [
            torch.nn.Embedding(5, 3, sparse=True) if torch.rand(()) < 0.5 else torch.nn.Linear(3, 3) for _ in range(6)
        ]
        inputs = {torch.nn.Embedding: torch.tensor([0, 1, 1]), torch.nn.Linear: torch.ones(2, 3)}
        sum(module(inputs[type(module)]).sum() for module in modules).backward()
        parameters = [parameter for module in modules for parameter in module.parameters()]
        result = FixedClip(1e-3).clip_([*parameters, *parameters])
        after = [parameter.grad.to_dense() for parameter in parameters]
        assert math.sqrt(sum(float(grad.square().sum()) for grad in after)) == pytest.approx(1e-3, rel=1e-5)
        assert result.coefficient == pytest.approx(1e-3 / result.grad_norm)


def test_tiny_tensors_beside_large_ones_have_a_norm():
    clipper = AutoClip(groups="tensor", p=0)
    parameters = with_grads(torch.tensor([1.0]), torch.tensor([1e-24]))
    for scale in (1.0, 5.0):
        parameters[1][1].grad = torch.tensor([1e-24 * scale])
        clipper.clip_(parameters)
    assert parameters[1][1].grad.item() == pytest.approx(1e-24)
    for clipper in (make("block_normalized"), make("adagn", eps=0)):
        parameters = with_grads(torch.tensor([1.0]), torch.tensor([1e-39, 0.0]))
        clipper.clip_(parameters)
        torch.testing.assert_close(parameters[1][1].grad, torch.tensor([1.0, 0.0]), rtol=1e-3, atol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_small_factors_on_half_precision(dtype):
    for max_norm in (1e-2, 2e-3, 5e-4):
        parameters = with_grads(torch.full((4,), 1e4, dtype=dtype))
        FixedClip(max_norm).clip_(parameters)
        torch.testing.assert_close(
            parameters[0][1].grad, torch.full((4,), max_norm / 2, dtype=dtype), rtol=1e-2, atol=0
        )
    parameter = torch.nn.Parameter(torch.zeros(4, dtype=dtype))
    parameter.grad = torch.full((4,), 1e3, dtype=dtype)
    make("agc", exclude=[]).clip_([("a.w", parameter)])
    torch.testing.assert_close(parameter.grad, torch.full((4,), 5e-6, dtype=dtype), rtol=3e-2, atol=0)


def test_conjugate_views():
    parameters = with_grads(torch.tensor([3 + 4j]).conj())
    assert FixedClip(1.0).clip_(parameters).grad_norm == 5.0


@pytest.mark.parametrize("on_nonfinite", ["skip", "zero"])
def test_the_on_device_mode_reads_nothing_on_the_host(on_nonfinite):
    """On the meta device tensors have no values, and reading one raises."""
    clipper = make("autoclip_on_device", window=100, capturable=True, on_nonfinite=on_nonfinite)
    parameters = with_grads(torch.ones(3, device="meta"), torch.ones(2, dtype=torch.float16, device="meta"))
    for _ in range(3):
        assert all(value.is_meta for value in clipper.clip_(parameters).raw)
    with pytest.raises(NotImplementedError, match="Cannot copy out of meta tensor"):
        make("autoclip").clip_(parameters)
