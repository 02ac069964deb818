import pytest
import torch

from separation.errors import InputError
from separation.model.features import Mixture
from separation.model.networks import deep_clustering, mask_inference, num_parameters
from separation.training.devices import pick_device

SIZES = {"window_length": 256, "hidden_size": 8, "num_layers": 2, "dropout": 0.0, "activation": "sigmoid"}


def networks():
    torch.manual_seed(0)
    return mask_inference(**SIZES, num_sources=3).eval(), deep_clustering(**SIZES, embedding_size=5).eval()


def test_outputs_have_one_value_or_embedding_a_bin():
    masks, embeddings = networks()
    magnitude = torch.rand(2, 30, 129)
    output = masks(Mixture(magnitude=magnitude))
    assert list(output) == ["mask"] and output["mask"].shape == (2, 30, 129, 3)
    assert output["mask"].min() >= 0 and output["mask"].max() <= 1
    output = embeddings(Mixture(magnitude=magnitude))
    assert list(output) == ["embedding"] and output["embedding"].shape == (2, 30, 129, 5)
    torch.testing.assert_close(output["embedding"].norm(dim=-1), torch.ones(2, 30, 129))


def test_a_mixtures_output_does_not_depend_on_the_padding_of_its_batch():
    network = networks()[0]
    magnitude = torch.rand(3, 40, 129)
    frames = torch.tensor([25, 40, 31])
    for item, length in enumerate(frames.tolist()):
        magnitude[item, length:] = 0
    together = network(Mixture(magnitude=magnitude, num_frames=frames))["mask"]
    for item, length in enumerate(frames.tolist()):
        alone = network(Mixture(magnitude=magnitude[item : item + 1, :length]))["mask"][0]
        torch.testing.assert_close(together[item, :length], alone, atol=1e-5, rtol=0)


def test_the_papers_network_has_its_size():
    # Input weights, recurrent weights and two biases of each direction's four gates, a batch norm of one feature, and
    # a linear head.
    lstm = 2 * 4 * 600 * ((129 + 600 + 2) + 3 * (1200 + 600 + 2))
    network = mask_inference(256, 600, 4, 0.3, num_sources=2, activation="sigmoid")
    assert num_parameters(network) == lstm + 2 + 1200 * 258 + 258


@pytest.mark.parametrize(("key", "value"), [("hidden_size", 0), ("num_layers", 1.5), ("dropout", 1.0)])
def test_bad_sizes_are_named(key, value):
    with pytest.raises(InputError, match=f"model.{key}={value}: expected"):
        mask_inference(**{**SIZES, key: value}, num_sources=2)


def test_devices():
    assert pick_device("cpu") == torch.device("cpu")
    assert pick_device("auto").type in ("cpu", "cuda")
    with pytest.raises(InputError, match="device=quantum: expected auto, cpu, cuda or cuda:N"):
        pick_device("quantum")
