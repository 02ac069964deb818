"""The paper's networks, assembled from nussl's modules, and all that changes how nussl runs them.

    mixture magnitude           (batch, frame, frequency)
      log magnitude, in dB        nussl's AmplitudeToDB
      batch normalisation         one mean and one variance over all bins of the batch
      BLSTM layers              (batch, frame, 2 hidden_size)
      heads, linear each, one or both:
        mask: sigmoid           (batch, frame, frequency, source)
        embedding: sigmoid,     (batch, frame, frequency, embedding_size)
          then unit norm

    builder           heads            trained with
    mask_inference    mask             L_MI, or L_SNR (model=waveform)
    deep_clustering   embedding        L_DC, or L_WKM (model=whitened_kmeans)
    chimera           mask, embedding  L_MI+WKM

The paper has 4 layers of 600 units each way, the defaults of conf/model 2 of 128. Weights are nussl's, so a trained
network runs in nussl's separators. What is changed of how they run: padded batches are packed (`Network`), the LSTM may
stay in float32 beside bfloat16 (`computing_in`), captured graphs keep its weights in place (`keep_weights_in_place`),
and a batch in several parts is normalised as a whole (`separation.model.joint_batch_norm`).
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from separation import compat
from separation.errors import check_choice, check_count, check_number
from separation.model.features import Mixture

MASK_ACTIVATIONS = ("sigmoid", "softmax", "relu")
HEADS = ("mask", "embedding")
EMBEDDING_ACTIVATIONS = ("sigmoid", "tanh", "relu", "softmax")


class Network(nn.Module):
    """A nussl `SeparationModel`, which takes a magnitude spectrogram.

    Args:
        config: nussl's description of the network, as its `builders` return it.

    Attributes:
        separation_model: the nussl model.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        self.separation_model = compat.nussl().ml.SeparationModel(config)

    def forward(self, mixture: Mixture) -> dict[str, Tensor]:
        """Applies the network to a batch of mixtures, of which it reads the magnitude.

        Where the batch is padded, the BLSTM sees no padding, so that a mixture's output doesn't depend on its
        neighbours.

        Returns:
            `mask` of shape (batch, frame, frequency, source) and `embedding` of shape (batch, frame, frequency, D), as
            far as the network has such a head.
        """
        magnitude = mixture.magnitude
        with self._packed(mixture.num_frames, magnitude.shape[1]):
            outputs = self.separation_model(mix_magnitude=magnitude.unsqueeze(-1))
        return {name: outputs[name].squeeze(3) for name in HEADS if name in outputs}

    @property
    def blstm(self) -> nn.LSTM:
        """The layers between `encode` and `decode`."""
        layers: nn.LSTM = self.separation_model.layers["recurrent_stack"].rnn
        return layers

    def encode(self, mixture: Mixture) -> Tensor:
        """What the BLSTM reads of mixtures without padding, shape (batch, frame, frequency)."""
        layers = self.separation_model.layers
        encoded: Tensor = layers["normalization"](layers["log_spectrogram"](mixture.magnitude.unsqueeze(-1)))
        return encoded.squeeze(-1)

    def decode(self, hidden: Tensor) -> dict[str, Tensor]:
        """What the network returns where its BLSTM has returned this, shape (batch, frame, 2 hidden_size)."""
        layers = self.separation_model.layers
        return {name: layers[name](hidden).squeeze(3) for name in HEADS if name in layers}

    @contextmanager
    def _packed(self, num_frames: Tensor | None, total: int) -> Iterator[None]:
        """Hands padded batches to the LSTM as packed sequences; nussl's module knows nothing of them."""
        if num_frames is None or bool((num_frames == total).all()):
            yield
            return
        lengths = num_frames.cpu()

        def pack(_: nn.Module, inputs: tuple[Tensor]) -> tuple[Any]:
            return (pack_padded_sequence(inputs[0], lengths, batch_first=True, enforce_sorted=False),)

        def unpack(_: nn.Module, __: Any, output: tuple[Any, Any]) -> tuple[Tensor, Any]:
            return pad_packed_sequence(output[0], batch_first=True, total_length=total)[0], output[1]

        hooks = self.blstm.register_forward_pre_hook(pack), self.blstm.register_forward_hook(unpack)
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()


def _blstm(window_length: int, hidden_size: int, num_layers: int, dropout: float) -> dict[str, Any]:
    """What nussl's builders need for the part that all networks share."""
    check_count("model.hidden_size", hidden_size, maximum=8192)
    check_count("model.num_layers", num_layers, maximum=64)
    check_number("model.dropout", dropout, 0, 0.99)
    return {
        "num_features": window_length // 2 + 1,
        "hidden_size": hidden_size,
        "num_layers": num_layers,
        "bidirectional": True,
        # PyTorch warns of a dropout between layers where there is but one.
        "dropout": float(dropout) if num_layers > 1 else 0.0,
    }


def mask_inference(
    window_length: int, hidden_size: int, num_layers: int, dropout: float, num_sources: int, activation: str
) -> Network:
    """A mask for each source, one activation a bin.

    Args:
        window_length: of the STFT, in samples.
        hidden_size: LSTM units in each direction.
        num_layers: bidirectional LSTM layers.
        dropout: between the layers.
        num_sources: masks.
        activation: of the masks; the paper's is "sigmoid".
    """
    check_choice("model.activation", activation, MASK_ACTIVATIONS)
    builders = compat.nussl().ml.networks.builders
    core = _blstm(window_length, hidden_size, num_layers, dropout)
    return Network(
        builders.build_recurrent_mask_inference(**core, num_sources=num_sources, mask_activation=[activation])
    )


def deep_clustering(
    window_length: int, hidden_size: int, num_layers: int, dropout: float, embedding_size: int, activation: str
) -> Network:
    """A unit-norm embedding for each time-frequency bin.

    Args:
        window_length, hidden_size, num_layers, dropout: as `mask_inference`.
        embedding_size: dimensions of the embedding; the paper's is 20.
        activation: before the normalisation; the paper's is "sigmoid".
    """
    check_count("model.embedding_size", embedding_size, minimum=2, maximum=1024)
    check_choice("model.activation", activation, EMBEDDING_ACTIVATIONS)
    builders = compat.nussl().ml.networks.builders
    core = _blstm(window_length, hidden_size, num_layers, dropout)
    return Network(
        builders.build_recurrent_dpcl(
            **core, embedding_size=embedding_size, embedding_activation=[activation, "unit_norm"]
        )
    )


def chimera(
    window_length: int,
    hidden_size: int,
    num_layers: int,
    dropout: float,
    embedding_size: int,
    embedding_activation: str,
    num_sources: int,
    mask_activation: str,
) -> Network:
    """An embedding and a mask for each source, from the same BLSTM layers (Luo et al., 2017; Wang et al., 2018).

    Args:
        window_length, hidden_size, num_layers, dropout: as `mask_inference`.
        embedding_size, embedding_activation: as `deep_clustering`.
        num_sources, mask_activation: as `mask_inference`.
    """
    check_count("model.embedding_size", embedding_size, minimum=2, maximum=1024)
    check_choice("model.embedding_activation", embedding_activation, EMBEDDING_ACTIVATIONS)
    check_choice("model.activation", mask_activation, MASK_ACTIVATIONS)
    return Network(
        compat.nussl().ml.networks.builders.build_recurrent_chimera(
            **_blstm(window_length, hidden_size, num_layers, dropout),
            embedding_size=embedding_size,
            embedding_activation=[embedding_activation, "unit_norm"],
            num_sources=num_sources,
            mask_activation=[mask_activation],
        )
    )


def num_parameters(network: nn.Module) -> int:
    """How many numbers the network learns."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)


@contextmanager
def computing_in(dtype: torch.dtype, network: nn.Module, device: torch.device) -> Iterator[None]:
    """Inside, the network computes in `dtype`; its parameters stay in float32, and so does an LSTM that has to."""
    if dtype == torch.float32:
        yield
        return
    with ExitStack() as stack:
        stack.enter_context(torch.autocast(device.type, dtype))
        if dtype == torch.bfloat16 and not has_bfloat16_lstm(device.type):
            for layer in _lstms(network):
                layer.forward = torch.autocast(device.type, enabled=False)(layer.forward)
                stack.callback(delattr, layer, "forward")
        yield


@cache
def has_bfloat16_lstm(device_type: str) -> bool:
    """Whether an LSTM can compute in bfloat16. cuDNN has none (torch would take unscaled float16); oneDNN's needs a CPU
    with AVX-512, which the smallest one tells."""
    if device_type != "cpu":
        return False
    try:
        with torch.random.fork_rng(devices=[]), torch.enable_grad(), torch.autocast("cpu", torch.bfloat16):
            nn.LSTM(1, 1)(torch.zeros(1, 1, 1))[0].sum().backward()
    except RuntimeError:
        return False
    return True


def keep_weights_in_place(network: nn.Module) -> None:
    """Lays each LSTM's weights side by side once. nussl does so in every forward pass, in new memory each time: a
    captured step would go on to train what the network no longer reads."""
    for layer in _lstms(network):
        layer.flatten_parameters()
        layer.flatten_parameters = lambda: None  # type: ignore[method-assign]


def _lstms(network: nn.Module) -> list[nn.RNNBase]:
    return [module for module in network.modules() if isinstance(module, nn.RNNBase)]
