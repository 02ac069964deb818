import numpy as np
import pytest
import torch
from test_store import MemoryCorpus

from separation.data.corpora.corpus import Recording
from separation.data.drawn_mixtures import DrawnMixtures
from separation.data.mixtures import Mixing
from separation.data.sample_store import open_store
from separation.errors import InputError


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    random = np.random.default_rng(0)
    items = tuple(
        Recording(f"{speaker}{i}", speaker, "train", random.standard_normal(800 + 100 * i).astype(np.float32) / 10)
        for speaker in "abcd"
        for i in range(5)
    )
    folder = tmp_path_factory.mktemp("store")
    return open_store(MemoryCorpus(num_train=1, num_valid=1, num_test=1, store=str(folder), items=items))


def drawn(store, seed: int = 0, **mixing) -> DrawnMixtures:
    return DrawnMixtures(store, "train", Mixing(**mixing), 500, seed)


def test_speakers_differ_and_levels_are_uniform_in_0_to_5_db(store):
    mixtures = [drawn(store).draw(index) for index in range(500)]
    assert all(a.speaker != b.speaker for (a, b) in (mixture.utterances for mixture in mixtures))
    levels = [20 * np.log10(g1 * u1.rms / (g2 * u2.rms)) for _, (u1, u2), (g1, g2), _ in mixtures]
    assert min(levels) >= 0 and max(levels) <= 5
    assert np.mean(levels) == pytest.approx(2.5, abs=0.2)
    # The gains are symmetric about the utterances' common level.
    assert all(g1 * u1.rms * g2 * u2.rms == pytest.approx(0.05**2) for _, (u1, u2), (g1, g2), _ in mixtures)


def test_a_mixture_depends_on_seed_epoch_and_index_alone(store):
    mixtures = drawn(store)
    whole = mixtures.excerpts(range(8), 300, epoch=2)
    parts = torch.cat([mixtures.excerpts(range(i, i + 2), 300, epoch=2).sources for i in (0, 2, 4, 6)])
    assert torch.equal(whole.sources, parts)
    assert torch.equal(whole.sources, drawn(store).excerpts(range(8), 300, epoch=2).sources)
    for other in (drawn(store, seed=1).excerpts(range(8), 300, epoch=2), mixtures.excerpts(range(8), 300, epoch=3)):
        assert not torch.equal(whole.sources, other.sources)


def test_excerpts_are_slices_at_their_gain(store):
    mixtures = drawn(store)
    batch = mixtures.excerpts(range(20), 900)
    for row, index in zip(batch.sources, range(20), strict=True):
        _, utterances, gains, _ = mixtures.draw(index)
        for source, utterance, gain in zip(row.numpy(), utterances, gains, strict=True):
            samples = store.read(utterance, 0, utterance.num_samples) * np.float32(gain)
            if utterance.num_samples <= 900:
                np.testing.assert_array_equal(source[: utterance.num_samples], samples)
                assert not source[utterance.num_samples :].any()
            else:
                offsets = [
                    o for o in range(utterance.num_samples - 899) if np.array_equal(samples[o : o + 900], source)
                ]
                assert len(offsets) == 1


def test_offsets_cover_the_whole_utterance(store):
    mixtures = drawn(store)
    positions = np.concatenate([mixtures.draw(index).positions for index in range(500)])
    assert 0 <= positions.min() < 0.01 and 0.99 < positions.max() < 1


def test_whole_mixtures_are_cut_to_the_shortest_and_padded_in_the_batch(store):
    mixtures = drawn(store)
    batch = mixtures.whole([3, 4, 5])
    expected = [min(u.num_samples for u in mixtures.draw(i).utterances) for i in (3, 4, 5)]
    assert batch.num_samples.tolist() == expected == [mixtures.length(i) for i in (3, 4, 5)]
    assert batch.sources.shape == (3, 2, max(expected))
    for row, length in zip(batch.sources, expected, strict=True):
        assert not row[:, length:].any() and row[:, length - 1].all()


def test_three_sources_are_spread_evenly(store):
    _, utterances, gains, _ = drawn(store, num_sources=3).draw(0)
    first, second, third = (20 * np.log10(g * u.rms / 0.05) for u, g in zip(utterances, gains, strict=True))
    assert second == pytest.approx(0, abs=1e-6) and first == pytest.approx(-third)
    assert len({utterance.speaker for utterance in utterances}) == 3


def test_what_cannot_be_mixed_is_named(store):
    with pytest.raises(InputError, match="the valid split has 0 speaker"):
        DrawnMixtures(store, "valid", Mixing(), 10)
    with pytest.raises(InputError, match="has 4 speaker.*mixtures of 5"):
        drawn(store, num_sources=5)
    with pytest.raises(InputError, match="seed=-1"):
        drawn(store, seed=-1)
    for key, value in {"num_sources": 1, "level_range": -1.0, "rms": 0.0}.items():
        with pytest.raises(InputError, match=f"mixing.{key}={value}"):
            Mixing(**{key: value})
