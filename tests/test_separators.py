import numpy as np
import pytest
import torch

from separation.compat import nussl
from separation.errors import InputError
from separation.evaluation.oracles import ORACLES
from separation.model.features import Mixture, Stft, features
from separation.model.networks import mask_inference
from separation.model.separators import KMeansSeparator, MaskSeparator, apply_masks, separate
from separation.model.si_sdr import si_sdr

STFT = Stft()


def sources(batch: int = 1, length: int = 4000) -> torch.Tensor:
    """Two voices: chirps of different pitch with different rhythm."""
    time = torch.arange(length) / 8000
    one = torch.sin(2 * torch.pi * (300 * time + 200 * time**2)) * (torch.sin(20 * time) > 0)
    two = torch.sin(2 * torch.pi * (1500 * time - 900 * time**2)) * (torch.sin(33 * time + 1) > -0.5)
    noise = 0.01 * torch.randn(batch, 2, length, generator=torch.Generator().manual_seed(0))
    return 0.05 * torch.stack([one, two]) + noise


def oracle_scores(name: str, references: torch.Tensor) -> torch.Tensor:
    feats = features(references, STFT)
    lengths = torch.full((len(references),), references.shape[-1])
    estimates = apply_masks(ORACLES[name](feats), feats.mixture_stft, STFT, lengths)
    return si_sdr(estimates, references)


def nussl_scores(name: str, references: torch.Tensor, **settings: str) -> np.ndarray:
    """SI-SDR of nussl's own benchmark separator, with binary or ratio masks."""
    package = nussl()
    params = package.STFTParams(256, 64, "sqrt_hann")

    def signal(samples: torch.Tensor):
        return package.AudioSignal(audio_data_array=samples.double().numpy(), sample_rate=8000, stft_params=params)

    signals = [signal(source) for source in references[0]]
    separator = getattr(package.separation.benchmark, name)(signal(references[0].sum(0)), signals, **settings)
    estimates = np.stack([estimate.audio_data[0] for estimate in separator()])
    return si_sdr(torch.from_numpy(estimates), references[0]).numpy()


@pytest.mark.parametrize(
    ("ours", "theirs", "settings"),
    [("ideal_binary", "IdealBinaryMask", {}), ("ideal_ratio", "IdealRatioMask", {"approach": "msa"})],
)
def test_oracles_equal_nussls_benchmarks(ours, theirs, settings):
    references = sources()
    expected = nussl_scores(theirs, references, **settings)
    np.testing.assert_allclose(oracle_scores(ours, references)[0].numpy(), expected, atol=0.1)


def test_oracles_are_ordered_as_in_the_field():
    scores = {name: oracle_scores(name, sources(3)).mean().item() for name in ORACLES}
    assert scores["phase_sensitive"] > scores["ideal_binary"] > 10
    assert scores["phase_sensitive"] > scores["ideal_ratio"] > 10


def test_a_separated_mixture_does_not_depend_on_its_batch():
    mixtures = sources(2).sum(1)
    lengths = torch.tensor([4000, 2900])
    mixtures[1, 2900:] = 0
    torch.manual_seed(0)
    network = mask_inference(256, 8, 1, 0.0, num_sources=2, activation="sigmoid").eval()
    together = separate(network, MaskSeparator(), STFT, mixtures, lengths)
    alone = separate(network, MaskSeparator(), STFT, mixtures[1:, :2900], lengths[1:])
    assert together.shape == (2, 2, 4000) and not together[1, :, 2900:].any()
    torch.testing.assert_close(together[1, :, :2900], alone[0], atol=1e-6, rtol=0)


def test_kmeans_separates_embeddings_that_point_at_the_dominant_source():
    feats = features(sources(2), STFT)
    directions = torch.nn.functional.normalize(torch.rand(2, 6, generator=torch.Generator().manual_seed(1)), dim=-1)
    separator = KMeansSeparator(num_sources=2, threshold=40.0, restarts=2, iterations=20, seed=0)
    masks = separator.masks({"embedding": feats.dominant_source @ directions}, feats.mixture)
    for mask, expected in zip(masks, feats.dominant_source, strict=True):
        assert torch.equal(mask, expected) or torch.equal(mask, expected.flip(-1))


def test_soft_masks_are_probabilities_that_agree_with_the_binary_ones():
    feats = features(sources(2), STFT)
    generator = torch.Generator().manual_seed(1)
    directions = torch.nn.functional.normalize(torch.rand(2, 6, generator=generator), dim=-1)
    embedding = feats.dominant_source @ directions
    embedding = embedding + 0.1 * torch.randn(embedding.shape, generator=generator)
    settings = {"num_sources": 2, "threshold": 40.0, "restarts": 2, "iterations": 20, "seed": 0}
    soft = KMeansSeparator(**settings, soft=True).masks({"embedding": embedding}, feats.mixture)
    binary = KMeansSeparator(**settings).masks({"embedding": embedding}, feats.mixture)
    torch.testing.assert_close(soft.sum(-1), torch.ones_like(soft[..., 0]))
    assert torch.equal((soft > 0.5).float(), binary) and ((soft > 0.01) & (soft < 0.99)).any()


def test_a_head_that_the_network_lacks_is_named():
    mixture = Mixture(magnitude=torch.ones(1, 17, 129))
    with pytest.raises(InputError, match="separator=kmeans: needs a network with the output embedding; this one has m"):
        KMeansSeparator(2, 40.0, 2, 5, 0).masks(
            {"mask": torch.ones(1, 17, 129, 2)}, Mixture(magnitude=torch.ones(1, 17, 129))
        )
    with pytest.raises(
        InputError, match="separator=masks: needs a network with the output mask; this one has embedding"
    ):
        MaskSeparator().masks({"embedding": torch.ones(1, 17, 129, 2)}, mixture)


def test_silence_gives_silence():
    silence = torch.zeros(1, 2, 1000)
    for name in ORACLES:
        assert oracle_scores(name, silence).isnan().all()
    feats = features(silence, STFT)
    masks = KMeansSeparator(2, 40.0, 2, 5, 0).masks({"embedding": torch.ones(1, 17, 129, 4)}, feats.mixture)
    assert torch.isfinite(masks).all()
