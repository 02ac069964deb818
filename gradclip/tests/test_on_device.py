"""AutoClip on the device against AutoClip on the host; on the CPU, and on a GPU where there is one."""

import copy
import math
import pickle
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from gradclip import AutoClip, AutoClipOnDevice, Chain
from gradclip.device_history import HostHistory
from gradclip.percentile import StreamingPercentile, interpolate
from strategies import make, named_parameters, random_gradients

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"))]


def on(device: str) -> list:
    return [(name, torch.nn.Parameter(p.detach().float().to(device))) for name, p in named_parameters()]


def set_on(parameters: list, gradients: list) -> None:
    for (_, parameter), gradient in zip(parameters, gradients, strict=True):
        parameter.grad = torch.tensor(gradient, dtype=torch.float32, device=parameter.device)


STREAMS = {
    "constant": lambda random, size: np.full(size, 0.1),
    "lognormal": lambda random, size: random.lognormal(0, 1, size),
    "growing": lambda random, size: np.geomspace(1e-6, 1e6, size),
    "shrinking": lambda random, size: np.geomspace(1e6, 1e-6, size),
    "ties, zeros, NaN": lambda random, size: random.choice([1 / 3, 2 / 3, 1, 5, 0, math.nan, math.inf], size),
}
PERCENTILES = (0, 1, 10, 50, 90, 100)


def expected_thresholds(norms: np.ndarray, window: int | None) -> Iterator[np.ndarray]:
    """What `np.percentile` gives at each step, for all of PERCENTILES: NaN and zeros aren't recorded."""
    arrived: list[float] = []
    ordered = np.empty(0)
    for norm in norms.tolist():
        if 0 < norm < math.inf:
            arrived.append(norm)
            ordered = np.insert(ordered, ordered.searchsorted(norm), norm)
            if window is not None and len(arrived) > window:
                ordered = np.delete(ordered, ordered.searchsorted(arrived[-window - 1]))
        if not math.isfinite(norm):
            yield np.full(len(PERCENTILES), math.nan)
        elif not arrived:
            yield np.full(len(PERCENTILES), math.inf)
        else:
            yield interpolated(ordered)


def interpolated(ordered: np.ndarray) -> np.ndarray:
    """As np.percentile(ordered, PERCENTILES), which takes a fifth of a millisecond at each step."""
    position = (len(ordered) - 1) * (np.array(PERCENTILES) / 100)
    index = np.floor(position).astype(int)
    fraction = position - index
    low, high = ordered[index], ordered[np.minimum(index + 1, len(ordered) - 1)]
    return np.where(fraction >= 0.5, high - (high - low) * (1 - fraction), low + (high - low) * fraction)


@pytest.mark.parametrize("size", [1, 2, 7, 100, 4321])
def test_the_reference_is_numpys(size):
    values = np.sort(np.random.default_rng(size).lognormal(0, 1, size))
    assert interpolated(values).tolist() == np.percentile(values, PERCENTILES).tolist()


@pytest.mark.parametrize("window", [None, 1000])
@pytest.mark.parametrize("kind", STREAMS)
def test_the_next_percentile_is_between_what_is_known(kind, window):
    """At every step to 5,000, for every p, to the last bit."""
    norms, history = STREAMS[kind](np.random.default_rng(0), 5000), StreamingPercentile(window)
    for norm, expected in zip(norms.tolist(), expected_thresholds(norms, window), strict=True):
        if not 0 < norm < math.inf:
            continue
        for p, threshold in zip(PERCENTILES, expected, strict=True):
            below, middle, above, fraction = history.around_next(p)
            low, high = (min(max(norm, start), end) for start, end in ((below, middle), (middle, above)))
            assert (low if fraction == 0 else interpolate(low, high, fraction)) == threshold
        history.add(norm)


@pytest.mark.parametrize("window", [None, 200])
@pytest.mark.parametrize("kind", STREAMS)
@pytest.mark.parametrize("device", DEVICES)
def test_the_devices_threshold_is_numpys(device, kind, window):
    """At every step to 1,000, with the percentiles in turn, to the last bit; and what it counts."""
    norms, history = STREAMS[kind](np.random.default_rng(1), 1000), HostHistory(0, window)
    clipped = 0
    for step, (norm, expected) in enumerate(zip(norms.tolist(), expected_thresholds(norms, window), strict=True)):
        history.set_p(PERCENTILES[step % len(PERCENTILES)])
        there = torch.tensor(norm, dtype=torch.float64, device=device)
        threshold = float(history.observe(there, there < 1e150))
        np.testing.assert_equal(threshold, expected[step % len(PERCENTILES)])
        clipped += norm > threshold
    recorded = norms[np.isfinite(norms) & (norms > 0)]
    assert np.array_equal(history.values().numpy(), recorded[-(window or 1000) :])
    finite = int(np.isfinite(norms).sum())
    assert history.counts == [1000 - finite, finite, clipped]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    ("capturable", "window"), [(False, None), (False, 1), (False, 7), (True, 1), (True, 7), (True, 1000)]
)
@pytest.mark.parametrize("p", [0, 10, 33.3, 50, 99.9, 100])
def test_equals_the_host_mode(device, window, capturable, p):
    host, there = AutoClip(p=p, window=window), AutoClipOnDevice(p=p, window=window, capturable=capturable)
    one, two = on("cpu"), on(device)
    for gradients in random_gradients(150):
        set_on(one, gradients)
        set_on(two, gradients)
        first, second = host.clip_(one), there.clip_(two)
        for field in ("grad_norm", "threshold", "coefficient"):
            assert getattr(first, field) == pytest.approx(getattr(second, field), rel=2e-6)
        for (_, a), (_, b) in zip(one, two, strict=True):
            torch.testing.assert_close(a.grad, b.grad.cpu(), rtol=1e-5, atol=1e-7)


MODES = [{"capturable": False}, {"capturable": True}]


@pytest.mark.parametrize("mode", MODES)
def test_repeated_norms_and_a_changed_p(mode):
    host, there = AutoClip(p=50, window=20), AutoClipOnDevice(p=50, window=20, **mode)
    parameter, random = torch.nn.Parameter(torch.zeros(1)), np.random.default_rng(0)
    for step in range(200):
        host.p = there.p = float(random.uniform(0, 100))
        parameter.grad = torch.tensor([float(random.integers(1, 4))])
        grad = parameter.grad.clone()
        first = host.clip_([parameter])
        parameter.grad = grad
        assert there.clip_([parameter]).threshold == pytest.approx(first.threshold, rel=1e-12), step


@pytest.mark.parametrize("mode", MODES)
def test_zero_and_non_finite_norms_leave_a_full_history_as_it_is(mode):
    host, there = AutoClip(p=99, window=3), AutoClipOnDevice(p=99, window=3, **mode)
    one, two = torch.nn.Parameter(torch.zeros(1)), torch.nn.Parameter(torch.zeros(1))
    for value in (0.0, math.nan, 1.0, 2.0, 3.0, 0.0, math.nan, 1.0, 1.0, math.inf, 0.0, 5.0, 1.0):
        one.grad, two.grad = torch.tensor([value]), torch.tensor([value])
        results = host.clip_([one]), there.clip_([two])
        np.testing.assert_allclose(results[0].threshold, results[1].threshold, rtol=1e-12)
        assert results[0].should_step == results[1].should_step
        assert (there.nonfinite_steps, there.finite_steps) == (host.nonfinite_steps, host.finite_steps)
        assert there.clipped_fraction == host.clipped_fraction
        assert there.history == host.history


def test_float64_norms_count_as_infinite_where_autoclips_do():
    clipper, parameter = AutoClipOnDevice(), torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    parameter.grad = torch.tensor([1e151], dtype=torch.float64)
    result = clipper.clip_([parameter])
    assert not result.should_step and math.isnan(result.threshold) and parameter.grad.item() == 1e151
    assert clipper.nonfinite_steps == 1 and not clipper.history


@pytest.mark.parametrize("mode", MODES)
def test_the_state_is_exact_at_any_time(mode):
    clipper, parameters, norms = AutoClipOnDevice(window=5, **mode), on("cpu"), []
    for gradients in random_gradients(8):
        set_on(parameters, gradients)
        norms.append(clipper.clip_(parameters).grad_norm)
        for copied in (clipper, copy.deepcopy(clipper), pickle.loads(pickle.dumps(clipper))):
            assert dict(copied.state_dict()["history"])["all"].tolist() == norms[-5:]  # in their order of arrival
    loaded = AutoClipOnDevice(window=5, capturable=not mode["capturable"])
    loaded.load_state_dict(clipper.state_dict())
    assert list(loaded.history) == norms[-5:] and loaded.finite_steps == 8


def test_a_loaded_history_lies_where_a_captured_step_looks_for_it():
    clipper = AutoClipOnDevice(window=3, capturable=True)
    places = [value.data_ptr() for value in vars(clipper._history).values()]
    other = AutoClipOnDevice(window=3)
    other._history.load(torch.tensor([4.0, 2.0, 3.0, 1.0]))
    clipper.load_state_dict(other.state_dict())
    clipper.p = 50
    assert places == [value.data_ptr() for value in vars(clipper._history).values()]
    assert list(clipper.history) == [2, 3, 1]


def test_a_state_of_version_1_says_capacity():
    state = {"strategy": "AutoClipOnDevice", "version": 1, "nonfinite_steps": 2, "p": 10.0, "capacity": 3}
    state["history"] = torch.tensor([4.0, 2.0], dtype=torch.float64)
    clipper = AutoClipOnDevice(window=3)
    clipper.load_state_dict(state)
    assert list(clipper.history) == [4, 2] and clipper.nonfinite_steps == 2
    with pytest.raises(ValueError, match="capacity: the state was saved with 3, this clipper has None"):
        AutoClipOnDevice().load_state_dict(state)


@pytest.mark.parametrize(("strategy", "flag"), [("autoclip_on_device", "capturable"), ("skip_step", "average_loss")])
def test_a_flag_is_true_or_false(strategy, flag):
    for value in ("false", 1, None):
        with pytest.raises(TypeError, match=f"{flag}: expected true or false, got {value!r}"):
            make(strategy, window=10, **{flag: value})


def test_what_it_cannot_do_is_refused():
    with pytest.raises(ValueError, match="on_nonfinite: expected one of skip, zero, got 'raise'"):
        AutoClipOnDevice(on_nonfinite="raise")
    with pytest.raises(ValueError, match="window: expected a whole number >= 1, got 0"):
        AutoClipOnDevice(window=0)
    with pytest.raises(ValueError, match="window: expected the size of a captured step's history, such as 100000, got"):
        AutoClipOnDevice(capturable=True)
    with pytest.raises(ValueError, match="AutoClipOnDevice can't be a member; use AutoClip"):
        Chain([make("skip_spikes"), AutoClipOnDevice()])


class Operations(TorchDispatchMode):
    """Counts the operations that run."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += 1
        return function(*args, **(kwargs or {}))


def test_a_step_takes_few_operations():
    """Each is a kernel to be launched: on a GPU, some microseconds of the host's time, however small."""
    counts = {}
    for name, clipper in {
        "host": AutoClipOnDevice(),
        "window": AutoClipOnDevice(window=20),
        "capturable": AutoClipOnDevice(window=20, capturable=True),
    }.items():
        parameters = on("cpu")
        for gradients in random_gradients(40):
            set_on(parameters, gradients)
            with Operations() as operations:
                clipper.clip_(parameters)
        counts[name] = operations.count
    assert counts["host"] == counts["window"] <= 22 and counts["capturable"] <= 80, counts


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_whole_step_in_a_cuda_graph():
    captured, eager = on("cuda"), on("cuda")
    steps = random_gradients(60)
    optimizers = [
        torch.optim.Adam([p for _, p in parameters], fused=True, capturable=True) for parameters in (captured, eager)
    ]
    clippers = [AutoClipOnDevice(p=25, window=40, capturable=True), AutoClipOnDevice(p=25, window=40)]
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
@pytest.mark.parametrize("mode", MODES)
def test_nothing_waits_for_the_gpu(mode):
    """But for the norm of the step before, which an event waits for that this mode doesn't see."""
    clipper, parameters = AutoClipOnDevice(window=100, **mode), on("cuda")
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
