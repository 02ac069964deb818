import pytest
import torch
from sklearn.cluster import KMeans

from separation.model.clustering import SAMPLE, kmeans, squared_distances


def clouds(batch: int, points: int, size: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    centres = torch.rand(batch, 3, size, generator=generator)
    labels = torch.randint(3, (batch, points), generator=generator)
    noise = 0.2 * torch.randn(batch, points, size, generator=generator)
    return centres[torch.arange(batch).unsqueeze(1), labels] + noise


def inertia(points: torch.Tensor, centroids: torch.Tensor) -> torch.Tensor:
    return squared_distances(points, centroids).amin(1).sum(1)


def test_inertia_equals_scikit_learns():
    points = clouds(4, 400, 5)
    ours = inertia(points, kmeans(points, torch.ones(4, 400), 3, restarts=10, iterations=100, seed=0))
    for item, value in zip(points, ours, strict=True):
        assert value.item() == pytest.approx(KMeans(3, n_init=10, random_state=0).fit(item.numpy()).inertia_, rel=1e-2)


def test_starts_on_a_sample_find_the_clusters_of_all_points():
    points, weight = clouds(3, 5 * SAMPLE, 20), torch.ones(3, 5 * SAMPLE)
    weight[1, 300:] = 0  # fewer points than a sample holds
    weight[2, ::2] = 0
    args = {"num_clusters": 3, "restarts": 4, "iterations": 100, "seed": 0}
    together = kmeans(points, weight, **args)
    for i in range(3):
        kept = weight[i] > 0
        alone = kmeans(points[i : i + 1, kept], weight[i : i + 1, kept], **args)
        torch.testing.assert_close(alone[0], together[i], atol=1e-5, rtol=0)
        reference = KMeans(3, n_init=4, random_state=0).fit(points[i, kept].numpy())
        ours = inertia(points[i : i + 1, kept], together[i : i + 1]).item()
        assert ours == pytest.approx(reference.inertia_, rel=1e-3)


def test_points_without_weight_move_nothing():
    points, weight = clouds(1, 300, 4), torch.ones(1, 300)
    weight[:, 200:] = 0
    moved = points.clone()
    moved[:, 200:] += 100
    args = {"num_clusters": 3, "restarts": 2, "iterations": 50, "seed": 0}
    assert torch.equal(kmeans(points, weight, **args), kmeans(moved, weight, **args))


def test_an_item_does_not_depend_on_its_neighbours():
    points = clouds(3, 200, 4)
    together = kmeans(points, torch.ones(3, 200), 2, 3, 50, 0)
    for i in range(3):
        alone = kmeans(points[i : i + 1], torch.ones(1, 200), 2, 3, 50, 0)
        torch.testing.assert_close(alone[0], together[i], atol=1e-5, rtol=0)


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_identical_points_and_silence_stay_finite(weight):
    centroids = kmeans(torch.ones(1, 50, 3), torch.full((1, 50), weight), 2, 2, 10, 0)
    assert torch.isfinite(centroids).all()
