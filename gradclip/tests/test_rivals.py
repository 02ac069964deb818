"""Each strategy against its paper's equations, written out in float64, over 1,000 random steps."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from strategies import SHAPES, gradients_of, make, named_parameters, random_gradients, set_gradients

Gradient = list[np.ndarray]

STEPS = 1000
NAMES = list(SHAPES)


def norm_of(*arrays: np.ndarray) -> float:
    return math.sqrt(sum(float((array**2).sum()) for array in arrays))


def clip(gradient: Gradient, threshold: float) -> Gradient:
    factor = min(1.0, threshold / norm_of(*gradient))
    return [factor * array for array in gradient]


def autoclip_reference(p: float, window: int | None, groups: list[list[int]]) -> Callable[[Gradient], Gradient]:
    histories: list[list[float]] = [[] for _ in groups]

    def step(gradient: Gradient) -> Gradient:
        out = list(gradient)
        for members, history in zip(groups, histories, strict=True):
            history.append(norm_of(*(gradient[i] for i in members)))
            threshold = np.percentile(history[-window:] if window else history, p)
            for i, clipped in zip(members, clip([gradient[i] for i in members], threshold), strict=True):
                out[i] = clipped
        return out

    return step


def zclip_reference() -> Callable[[Gradient], Gradient]:
    first, moments = [], []

    def step(gradient: Gradient) -> Gradient:
        norm = norm_of(*gradient)
        if len(first) < 25:
            first.append(norm)
            moments[:] = [np.mean(first), np.var(first)]
            return gradient
        mean, variance = moments
        z = (norm - mean) / math.sqrt(variance)
        threshold = mean + 2.5**2 * math.sqrt(variance) / z if z > 2.5 else norm
        mean = 0.97 * mean + 0.03 * min(norm, threshold)
        moments[:] = [mean, 0.97 * variance + 0.03 * (min(norm, threshold) - mean) ** 2]
        return clip(gradient, threshold)

    return step


def adagc_reference() -> Callable[[Gradient], Gradient]:
    gamma, steps = [math.inf] * len(NAMES), [0]

    def step(gradient: Gradient) -> Gradient:
        steps[0] += 1
        if steps[0] <= 100:
            clipped = clip(gradient, 1.0)
            gamma[:] = [min(old, norm_of(array)) for old, array in zip(gamma, clipped, strict=True)]
            return clipped
        clipped = [clip([array], 1.05 * old)[0] for array, old in zip(gradient, gamma, strict=True)]
        gamma[:] = [0.98 * old + 0.02 * norm_of(array) for old, array in zip(gamma, clipped, strict=True)]
        return clipped

    return step


def adagn_reference() -> Callable[[Gradient], Gradient]:
    mean, square, steps = [0.0] * len(NAMES), [0.0] * len(NAMES), [0]

    def step(gradient: Gradient) -> Gradient:
        steps[0] += 1
        out = []
        for i, array in enumerate(gradient):
            norm = norm_of(array)
            mean[i] = 0.7 * mean[i] + 0.3 * norm
            square[i] = 0.9 * square[i] + 0.1 * norm**2
            target = mean[i] / (1 - 0.7 ** steps[0]) / (math.sqrt(square[i] / (1 - 0.9 ** steps[0])) + 1e-8)
            out.append(array / norm * target)
        return out

    return step


def adaclip_reference() -> Callable[[Gradient], Gradient]:
    means, steps = [0.0] * len(NAMES), [0]

    def step(gradient: Gradient) -> Gradient:
        steps[0] += 1
        out = []
        for i, array in enumerate(gradient):
            largest = np.abs(array).max()
            means[i] = 0.999 * means[i] + 0.001 * largest
            limit = means[i] / (1 - 0.999 ** steps[0])
            out.append(np.where(np.abs(array) > limit, array / largest * limit, array))
        return out

    return step


def spam_reference(theta: float) -> Callable[[Gradient], Gradient]:
    moments = [np.zeros(shape) for shape in SHAPES.values()]

    def step(gradient: Gradient) -> Gradient:
        out = []
        for i, array in enumerate(gradient):
            spike = (moments[i] > 0) & (array**2 > theta * moments[i])
            out.append(np.where(spike, np.sign(array) * np.sqrt(theta * moments[i]), array))
            moments[i] = 0.999 * moments[i] + 0.001 * out[-1] ** 2
        return out

    return step


def agc_reference() -> Callable[[Gradient], Gradient]:
    weights = [parameter.detach().numpy() for _, parameter in named_parameters()]

    def step(gradient: Gradient) -> Gradient:
        out = []
        for name, array, weight in zip(NAMES, gradient, weights, strict=True):
            array = array.copy()
            if name == "encoder.weight":
                for unit in range(len(array)):
                    limit = 0.01 * max(norm_of(weight[unit]), 1e-3)
                    array[unit] *= min(1.0, limit / norm_of(array[unit]))
            elif name == "encoder.bias":
                array *= min(1.0, 0.01 * max(norm_of(weight), 1e-3) / norm_of(array))
            out.append(array)
        return out

    return step


def error_feedback_reference() -> Callable[[Gradient], Gradient]:
    errors = [np.zeros(shape) for shape in SHAPES.values()]

    def step(gradient: Gradient) -> Gradient:
        back = clip(errors, 1.5) if norm_of(*errors) > 0 else errors
        out = [a + b for a, b in zip(clip(gradient, 0.5), back, strict=True)]
        errors[:] = [e + g - v for e, g, v in zip(errors, gradient, out, strict=True)]
        return out

    return step


def aggc_reference(
    groups: list[list[int]], high: tuple[float, float], low: tuple[float, float], transition: tuple[int, int]
) -> Callable[[Gradient], Gradient]:
    means: dict[int, float] = {}
    steps = -1

    def step(gradient: Gradient) -> Gradient:
        nonlocal steps
        steps += 1
        upper, lower = (np.interp(steps, transition, values) for values in (high, low))
        out = list(gradient)
        for number, members in enumerate(groups):
            norm = norm_of(*(gradient[i] for i in members))
            means[number] = 0.95 * means[number] + 0.05 * norm if number in means else norm
            bounded = np.clip(norm, lower * means[number], upper * means[number])
            for i in members:
                out[i] = gradient[i] / norm * bounded
        return out

    return step


def spectral_reference(p: float | None, threshold: float = 0.0) -> Callable[[Gradient], Gradient]:
    histories: list[list[float]] = [[] for _ in NAMES]

    def step(gradient: Gradient) -> Gradient:
        out = []
        for array, history in zip(gradient, histories, strict=True):
            left, values, right = np.linalg.svd(array.reshape(len(array), -1), full_matrices=False)
            history.append(values[0])
            tau = threshold if p is None else np.percentile(history, p)
            out.append(((left * np.minimum(values, tau)) @ right).reshape(array.shape))
        return out

    return step


REFERENCES = {
    "fixed": ({}, lambda: lambda gradient: clip(gradient, 1.0)),
    "value": ({}, lambda: lambda gradient: [np.clip(array, -0.5, 0.5) for array in gradient]),
    "autoclip": ({"p": 10}, lambda: autoclip_reference(10, None, [[0, 1, 2, 3]])),
    "autoclip window": ({"p": 80, "window": 30}, lambda: autoclip_reference(80, 30, [[0, 1, 2, 3]])),
    "autoclip tensor": ({"groups": "tensor"}, lambda: autoclip_reference(10, None, [[0], [1], [2], [3]])),
    "autoclip module": ({"groups": "module"}, lambda: autoclip_reference(10, None, [[0, 1], [2, 3]])),
    "autoclip names": (
        {"groups": {"biases": ["*.bias"], "rest": ["*"]}, "window": 50},
        lambda: autoclip_reference(10, 50, [[1, 3], [0, 2]]),
    ),
    "autoclip_on_device": ({"window": 40}, lambda: autoclip_reference(10, 40, [[0, 1, 2, 3]])),
    "zclip": ({}, zclip_reference),
    "adagc": ({}, adagc_reference),
    "adagn": ({}, adagn_reference),
    "adaclip": ({}, adaclip_reference),
    "aggc": ({"low": 0.0, "transition": None}, lambda: aggc_reference([[0, 1], [2, 3]], (0.6, 0.6), (0, 0), (0, 1))),
    "aggc names": (
        {
            "high": 1.5,
            "low": 0.5,
            "high_late": 1.1,
            "low_late": 0.8,
            "transition": [200, 500],
            "groups": {"biases": ["*.bias"], "rest": ["*"]},
        },
        lambda: aggc_reference([[1, 3], [0, 2]], (1.5, 1.1), (0.5, 0.8), (200, 500)),
    ),
    "spectral": ({}, lambda: spectral_reference(10)),
    "spectral median": ({"p": 50}, lambda: spectral_reference(50)),
    "spectral threshold": ({"threshold": 0.7}, lambda: spectral_reference(None, 0.7)),
    "spam": ({}, lambda: spam_reference(5000)),
    "spam small": ({"theta": 20}, lambda: spam_reference(20)),
    "agc": ({}, agc_reference),
    "error_feedback": ({}, error_feedback_reference),
    "block_normalized": ({}, lambda: lambda gradient: [array / norm_of(array) for array in gradient]),
}


@pytest.mark.parametrize("case", REFERENCES)
def test_equals_its_papers_equations(case):
    settings, make_reference = REFERENCES[case]
    clipper, reference = make(case.split()[0], **settings), make_reference()
    parameters, changed = named_parameters(), 0
    for gradients in random_gradients(STEPS):
        set_gradients(parameters, gradients)
        clipper.clip_(parameters)
        for got, want, before in zip(gradients_of(parameters), reference(gradients), gradients, strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-12)
            changed += not np.array_equal(got, before)
    assert changed > 10  # a reference that never clips shows nothing


def test_zclip_equals_the_published_package_without_its_constant_clip():
    zclip = pytest.importorskip("zclip")
    steps = random_gradients(STEPS)
    model = torch.nn.Module()
    for position, (_, parameter) in enumerate(named_parameters()):
        model.register_parameter(str(position), parameter)
    package = zclip.ZClip(max_grad_norm=None, eps=0.0)
    clipper, parameters = make("zclip"), named_parameters()
    clipped = 0
    for gradients in steps:
        set_gradients(parameters, gradients)
        set_gradients(list(model.named_parameters()), gradients)
        clipped += clipper.clip_(parameters).clipped
        package.step(model)
        for got, want in zip(gradients_of(parameters), model.parameters(), strict=True):
            # The package divides by the norm plus 1e-6.
            np.testing.assert_allclose(got, want.grad.numpy(), rtol=1e-5)
    assert clipped > 10
