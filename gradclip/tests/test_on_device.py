"""AutoClip on the device against AutoClip on the host; on the CPU, and on a GPU where there is one."""

import math

import numpy as np
import pytest
import torch

from gradclip import AutoClip, AutoClipOnDevice, Chain
from strategies import make, named_parameters, random_gradients

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"))]


def on(device: str) -> list:
    return [(name, torch.nn.Parameter(p.detach().float().to(device))) for name, p in named_parameters()]


def set_on(parameters: list, gradients: list) -> None:
    for (_, parameter), gradient in zip(parameters, gradients, strict=True):
        parameter.grad = torch.tensor(gradient, dtype=torch.float32, device=parameter.device)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("capacity", [1, 2, 7, 64, 1000])
@pytest.mark.parametrize("p", [0, 10, 33.3, 50, 99.9, 100])
def test_equals_the_host_mode_with_that_window(device, capacity, p):
    host, there = AutoClip(p=p, window=capacity), AutoClipOnDevice(p=p, capacity=capacity)
    one, two = on("cpu"), on(device)
    for gradients in random_gradients(150):
        set_on(one, gradients)
        set_on(two, gradients)
        first, second = host.clip_(one), there.clip_(two)
        for field in ("grad_norm", "threshold", "coefficient"):
            assert getattr(first, field) == pytest.approx(getattr(second, field), rel=2e-6)
        for (_, a), (_, b) in zip(one, two, strict=True):
            torch.testing.assert_close(a.grad, b.grad.cpu(), rtol=1e-5, atol=1e-7)


def test_repeated_norms_and_a_changed_p():
    host, there = AutoClip(p=50, window=20), AutoClipOnDevice(p=50, capacity=20)
    parameter, random = torch.nn.Parameter(torch.zeros(1)), np.random.default_rng(0)
    for step in range(200):
        host.p = there.p = float(random.uniform(0, 100))
        parameter.grad = torch.tensor([float(random.integers(1, 4))])
        grad = parameter.grad.clone()
        first = host.clip_([parameter])
        parameter.grad = grad
        assert there.clip_([parameter]).threshold == pytest.approx(first.threshold, rel=1e-12), step


def test_zero_and_non_finite_norms_leave_a_full_history_as_it_is():
    host, there = AutoClip(p=99, window=3), AutoClipOnDevice(p=99, capacity=3)
    parameter = torch.nn.Parameter(torch.zeros(1))
    for value in (1.0, 2.0, 3.0, 0.0, math.nan, 1.0, 1.0, math.inf, 0.0, 5.0, 1.0):
        results = []
        for clipper in (host, there):
            parameter.grad = torch.tensor([value])
            results.append(clipper.clip_([parameter]))
        np.testing.assert_allclose(results[0].threshold, results[1].threshold, rtol=1e-12)
        assert results[0].should_step == results[1].should_step


def test_a_moved_model_takes_its_history_along():
    clipper, parameters, norms = AutoClipOnDevice(capacity=5), on("cpu"), []
    for gradients in random_gradients(8):
        set_on(parameters, gradients)
        norms.append(clipper.clip_(parameters).grad_norm)
    before = clipper.history
    assert before.tolist() == norms[-5:]  # in their order of arrival
    clipper._move_to(torch.device("cpu"))
    assert clipper.history == before


def test_what_it_cannot_do_is_refused():
    with pytest.raises(ValueError, match="on_nonfinite: expected one of skip, zero, got 'raise'"):
        AutoClipOnDevice(on_nonfinite="raise")
    with pytest.raises(ValueError, match="capacity: expected a whole number >= 1, got 0"):
        AutoClipOnDevice(capacity=0)
    with pytest.raises(ValueError, match="AutoClipOnDevice can't be a member; use AutoClip"):
        Chain([make("skip_spikes"), AutoClipOnDevice()])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_whole_step_in_a_cuda_graph():
    captured, eager = on("cuda"), on("cuda")
    steps = random_gradients(60)
    optimizers = [
        torch.optim.Adam([p for _, p in parameters], fused=True, capturable=True) for parameters in (captured, eager)
    ]
    clippers = [AutoClipOnDevice(p=25, capacity=40), AutoClipOnDevice(p=25, capacity=40)]
    for parameters, clipper, optimizer in zip((captured, eager), clippers, optimizers, strict=True):
        clipper.attach(optimizer)
        set_on(parameters, steps[0])
        optimizer.step()
    inputs = [torch.empty_like(p) for _, p in captured]
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for (_, parameter), value in zip(captured, inputs, strict=True):
            parameter.grad = value
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream):
            optimizers[0].step()
    for gradients in steps[1:]:
        for value, gradient in zip(inputs, gradients, strict=True):
            value.copy_(torch.tensor(gradient))
        graph.replay()
        set_on(eager, gradients)
        optimizers[1].step()
        for (_, a), (_, b) in zip(captured, eager, strict=True):
            torch.testing.assert_close(a, b)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_nothing_waits_for_the_gpu():
    clipper, parameters = AutoClipOnDevice(), on("cuda")
    optimizer = torch.optim.Adam([p for _, p in parameters], fused=True)
    clipper.attach(optimizer)
    steps = random_gradients(5)
    set_on(parameters, steps[0])
    optimizer.step()
    for gradients in steps[1:]:
        set_on(parameters, gradients)
        torch.cuda.set_sync_debug_mode("error")
        try:
            optimizer.step()
        finally:
            torch.cuda.set_sync_debug_mode("default")
