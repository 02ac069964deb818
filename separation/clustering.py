"""k-means for batches of embeddings, in torch, deterministic."""

import torch
from torch import Tensor

from separation.assignment import argmax_of_few


def kmeans(points: Tensor, weight: Tensor, num_clusters: int, restarts: int, iterations: int, seed: int) -> Tensor:
    """Centroids of weighted k-means, the best of several k-means++ starts, for each item of a batch.

    An item's result depends on neither its neighbours nor global random state: the same random numbers, drawn from
    `seed`, start every item.

    Args:
        points: shape (batch, point, dimension).
        weight: >= 0, shape (batch, point); points of weight 0 move no centroid.
        restarts: k-means++ starts.
        iterations: at most so many steps of Lloyd's algorithm from each.

    Returns:
        Shape (batch, cluster, dimension), of the start with the least inertia (weighted sum of squared distances).
    """
    generator = torch.Generator().manual_seed(seed)
    best = points.new_zeros(len(points), num_clusters, points.shape[-1])
    least = points.new_full((len(points),), torch.inf)
    for _ in range(restarts):
        fractions = torch.rand(num_clusters, generator=generator).tolist()
        centroids = _lloyd(points, weight, _plus_plus(points, weight, fractions), iterations)
        inertia = (weight * squared_distances(points, centroids).amin(1)).sum(1)
        better = inertia < least
        best[better], least[better] = centroids[better], inertia[better]
    return best


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
    """Centroids after Lloyd's algorithm: until no point changes its cluster."""
    clusters = torch.arange(centroids.shape[1], device=points.device)[:, None]
    labels = None
    for _ in range(iterations):
        now = nearest(points, centroids)
        if labels is not None and torch.equal(now, labels):
            break
        labels = now
        member = (labels.unsqueeze(1) == clusters) * weight.unsqueeze(1)
        mass = member.sum(-1, keepdim=True)
        means = member @ points / mass.clamp(min=torch.finfo(points.dtype).tiny)
        centroids = torch.where(mass > 0, means, centroids)
    return centroids
