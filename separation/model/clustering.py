"""k-means for batches of embeddings, in torch, deterministic."""

import torch
from torch import Tensor

from separation.model.assignment import argmax_of_few

SAMPLE = 1024
"""Points of an item on which the starts of k-means compete; an item that has more is then finished on all of them."""

TOLERANCE = 1e-4
"""Lloyd's algorithm stops once the centroids move less, squared, than this share of the points' mean variance:
scikit-learn's default."""


def kmeans(points: Tensor, weight: Tensor, num_clusters: int, restarts: int, iterations: int, seed: int) -> Tensor:
    """Centroids of weighted k-means, the best of several k-means++ starts, for each item of a batch.

    An item's result depends on neither its neighbours nor global random state: the same random numbers, drawn from
    `seed`, start every item.

    Args:
        points: shape (batch, point, dimension).
        weight: >= 0, shape (batch, point); points of weight 0 move no centroid.
        restarts: k-means++ starts, each on at most `SAMPLE` points evenly spread over the item's; the best goes on with
            all of them.
        iterations: at most so many steps of Lloyd's algorithm, on the sample and on all points.

    Returns:
        Shape (batch, cluster, dimension), of the start with the least inertia (weighted sum of squared distances).
    """
    generator = torch.Generator().manual_seed(seed)
    sample, sample_weight = _sample(points, weight)
    best = points.new_zeros(len(points), num_clusters, points.shape[-1])
    least = points.new_full((len(points),), torch.inf)
    for _ in range(restarts):
        fractions = torch.rand(num_clusters, generator=generator).tolist()
        start = _plus_plus(sample, sample_weight, fractions)
        centroids = _lloyd(sample, sample_weight, start, iterations)
        inertia = (sample_weight * squared_distances(sample, centroids).amin(1)).sum(1)
        better = inertia < least
        best[better], least[better] = centroids[better], inertia[better]
    return _lloyd(points, weight, best, iterations) if points.shape[1] > SAMPLE else best


def _sample(points: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """At most `SAMPLE` of each item's points, evenly spread over those that have weight; fewer come with weight 0."""
    if points.shape[1] <= SAMPLE:
        return points, weight
    ranks = (weight > 0).cumsum(1)
    count = ranks[:, -1:]
    wanted = torch.arange(SAMPLE, device=points.device).expand(len(points), -1)
    wanted = torch.where(count > SAMPLE, wanted * count // SAMPLE, wanted)
    index = torch.searchsorted(ranks, wanted + 1).clamp(max=points.shape[1] - 1)
    chosen = points.gather(1, index.unsqueeze(-1).expand(-1, -1, points.shape[-1]))
    return chosen, torch.where(wanted < count, weight.gather(1, index), 0)


def squared_distances(points: Tensor, centroids: Tensor) -> Tensor:
    """Shape (batch, cluster, point)."""
    return (points.square().sum(-1).unsqueeze(1) - 2 * _closeness(points, centroids)).clamp(min=0)


def nearest(points: Tensor, centroids: Tensor) -> Tensor:
    """The nearest centroid of each point, shape (batch, point)."""
    return argmax_of_few(_closeness(points, centroids), 1)


def _closeness(points: Tensor, centroids: Tensor) -> Tensor:
    """<c, p> - ||c||^2 / 2: the larger, the nearer; shape (batch, cluster, point), along which torch is fastest."""
    return centroids @ points.transpose(1, 2) - centroids.square().sum(-1, keepdim=True) / 2


def _plus_plus(points: Tensor, weight: Tensor, fractions: list[float]) -> Tensor:
    """k-means++: each next centroid is a point drawn with probability proportional to weight * squared distance."""
    mass = weight
    centroids = points[:, :0]
    for fraction in fractions:
        # Where every point lies on a centroid (or has no weight) any choice is as good: take one by weight.
        mass = torch.where(mass.sum(1, keepdim=True) > 0, mass, weight)
        total = mass.double().cumsum(1)
        chosen = torch.searchsorted(total, fraction * total[:, -1:], right=True).clamp(max=points.shape[1] - 1)
        new = points.gather(1, chosen.unsqueeze(-1).expand(-1, -1, points.shape[-1]))
        centroids = torch.cat([centroids, new], 1)
        mass = weight * squared_distances(points, centroids).amin(1)
    return centroids


def _lloyd(points: Tensor, weight: Tensor, centroids: Tensor, iterations: int) -> Tensor:
    """Centroids after Lloyd's algorithm, each item's until they rest."""
    clusters = torch.arange(centroids.shape[1], device=points.device)[:, None]
    tolerance = TOLERANCE * _variance(points, weight)
    moving = torch.ones(len(points), dtype=torch.bool, device=points.device)
    for _ in range(iterations):
        member = (nearest(points, centroids).unsqueeze(1) == clusters) * weight.unsqueeze(1)
        mass = member.sum(-1, keepdim=True)
        means = member @ points / mass.clamp(min=torch.finfo(points.dtype).tiny)
        means = torch.where((mass > 0) & moving[:, None, None], means, centroids)
        moving &= (means - centroids).square().sum((1, 2)) > tolerance
        centroids = means
        if not moving.any():
            break
    return centroids


def _variance(points: Tensor, weight: Tensor) -> Tensor:
    """Weighted variance of each item's points, mean over dimensions, shape (batch,)."""
    share = (weight / weight.sum(1, keepdim=True).clamp(min=torch.finfo(weight.dtype).tiny)).unsqueeze(1)
    mean, square = share @ points, share @ points.square()
    return (square - mean.square()).clamp(min=0).mean((1, 2))
