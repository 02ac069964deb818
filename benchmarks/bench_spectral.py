"""Ways to clip singular values: `python benchmarks/bench_spectral.py [shapes=[[1200,600]]] [repetitions=5]
[output=FILE.json]`.

Each on random float32 matrices with a flat, a decaying (1 to 1e-4) and a spiked spectrum (five outer products on a flat
one), bounded at 0.5 and 0.05 of the largest singular value: the median time, and the largest relative error (Frobenius)
against a float64 SVD.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from benchmark import alternating, settings, write_results
from torch import Tensor

from gradclip import SpectralClip
from separation.app.command import entry_point
from separation.runs.summaries import table

SPECTRA = ("flat", "decaying", "spiked")
BOUNDS = (0.5, 0.05)


def svd(matrix: Tensor, tau: float) -> Tensor:
    """By the definition."""
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    return (left * values.clamp(max=tau)) @ right


def spectral_clip(matrix: Tensor, tau: float) -> Tensor:
    """gradclip's: a Gram matrix's eigenvectors, in float64."""
    parameter = torch.nn.Parameter(matrix, requires_grad=False)
    parameter.grad = matrix.clone()
    SpectralClip(threshold=tau).clip_([("weight", parameter)])
    return parameter.grad


def gram_float32(matrix: Tensor, tau: float) -> Tensor:
    """The same in float32."""
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    squares, vectors = torch.linalg.eigh(wide @ wide.T)
    values = squares.clamp(min=0).sqrt()
    above = values > tau
    vectors = vectors[:, above]
    clipped = wide - (vectors * (1 - tau / values[above])) @ (vectors.T @ wide)
    return clipped if wide is matrix else clipped.T


def randomized(matrix: Tensor, tau: float) -> Tensor:
    """The 16 largest singular values only, by a randomised SVD."""
    left, values, right = torch.svd_lowrank(matrix, q=16)
    return matrix - (left * (values - tau).clamp(min=0)) @ right.T


def newton_schulz(matrix: Tensor, tau: float) -> Tensor:
    """By products alone: min(s, tau) = (s + tau - |s - tau|) / 2, with the matrix sign for the absolute value."""
    wide = (matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T) / tau
    sign = matrix_sign(wide)
    rest = sign - wide
    clipped = tau * (sign + wide - rest @ (matrix_sign(rest).T @ sign)) / 2
    return clipped if matrix.shape[0] <= matrix.shape[1] else clipped.T


def matrix_sign(matrix: Tensor) -> Tensor:
    """All singular values set to 1, by 20 quintic steps."""
    sign = matrix / torch.linalg.vector_norm(matrix)
    for _ in range(20):
        square = sign @ sign.T
        sign = 1.875 * sign + (-1.25 * square + 0.375 * square @ square) @ sign
    return sign


WAYS: dict[str, Callable[[Tensor, float], Tensor]] = {
    "svd": svd,
    "spectral_clip": spectral_clip,
    "gram_float32": gram_float32,
    "randomized": randomized,
    "newton_schulz": newton_schulz,
}


def random_matrix(shape: list[int], spectrum: str) -> Tensor:
    """A gradient of this shape, as a matrix of its first dimension by all others."""
    matrix = torch.randn(shape).flatten(1).double()
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    if spectrum == "decaying":
        matrix = (left * torch.logspace(0, -4, len(values), dtype=torch.float64)) @ right
    if spectrum == "spiked":
        matrix += (left[:, :5] * values[0] * torch.tensor([30.0, 20.0, 10.0, 8.0, 5.0])) @ right[:5]
    return matrix.float()


def measure(shape: list[int], repetitions: int) -> dict[str, dict[str, float]]:
    """Each way's milliseconds and largest error."""
    results = {name: {"milliseconds": 0.0, "error": 0.0} for name in WAYS}
    cases = [(random_matrix(shape, spectrum), bound) for spectrum in SPECTRA for bound in BOUNDS]
    for matrix, bound in cases:
        tau = bound * float(torch.linalg.matrix_norm(matrix.double(), 2))
        exact = svd(matrix.double(), tau)
        for name, way in WAYS.items():
            error = torch.linalg.vector_norm(way(matrix, tau) - exact) / torch.linalg.vector_norm(exact)
            results[name]["error"] = max(results[name]["error"], float(error))
        functions = [partial(way, matrix, tau) for way in WAYS.values()]
        times = alternating(functions, repetitions, f"{shape}")
        for row, time in zip(results.values(), times, strict=True):
            row["milliseconds"] += 1e3 * time / len(cases)
    return results


def results_text(results: dict[str, Any]) -> str:
    """The results as a table."""
    rows = [
        [name, shape, f"{row['milliseconds']:.0f}", f"{row['error']:.0e}"]
        for shape, ways in results.items()
        for name, row in ways.items()
    ]
    return table(["way", "shape", "ms", "largest error"], rows)


@torch.no_grad()
def main() -> None:
    """Measures and prints; writes JSON where an output is named."""
    program, _ = settings(__doc__, "bench_spectral")
    torch.set_num_threads(program.threads)
    torch.manual_seed(0)
    results = {" x ".join(map(str, shape)): measure(list(shape), program.repetitions) for shape in program.shapes}
    print(results_text(results))
    write_results(program.output, results)


if __name__ == "__main__":
    entry_point(main)
