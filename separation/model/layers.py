"""What waveform networks are made of: a learned transform, and layers that see no padding.

Where a batch is padded, `lengths` are each mixture's number of frames, on the CPU, and `valid` is 1 within a mixture
and 0 behind it, broadcastable to the values; both are None where nothing is padded.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from separation.errors import InputError
from separation.model.features import Mixture

MASK_ACTIVATIONS = {"sigmoid": torch.sigmoid, "relu": torch.relu}
"""Of a mask a filter: sources overlap, so it needn't be a share."""


def check_even(key: str, value: int) -> None:
    """Raises InputError unless a number is even."""
    if value % 2:
        raise InputError(f"{key}={value}: expected an even number, since frames overlap by half")


def encode(encoder: nn.Conv1d, mixture: Mixture) -> tuple[Tensor, Tensor | None]:
    """A mixture as the encoder's filters see it, with a hop of zeros on either side and up to a whole hop on the right,
    so that every sample is seen twice.

    Returns:
        Shape (batch, filter, frame), and `lengths`.
    """
    hop, waveform, num_samples = encoder.stride[0], mixture.waveform, mixture.num_samples
    frames = encoder(pad(waveform, (hop, hop + -waveform.shape[-1] % hop)).unsqueeze(1))
    return frames, None if num_samples is None else -(-num_samples // hop) + 1


def decode(decoder: nn.ConvTranspose1d, frames: Tensor, num_samples: int) -> Tensor:
    """Back to waveforms: (batch, source, filter, frame) -> (batch, source, time)."""
    waveforms = decoder(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])[:, :, 0]
    return waveforms.narrow(-1, decoder.stride[0], num_samples)


def inside(lengths: Tensor | None, like: Tensor) -> Tensor | None:
    """`valid`, shape (batch, frame), for values whose last axis is the frames."""
    return None if lengths is None else (torch.arange(like.shape[-1]) < lengths.unsqueeze(1)).to(like)


def valid_mean(values: Tensor, valid: Tensor | None) -> Tensor:
    """Mean of each mixture's values, shape (batch, ...) -> (batch, 1, ...); those that aren't valid have to be 0."""
    axes = tuple(range(1, values.ndim))
    mean = values.mean(axes, keepdim=True)
    return mean if valid is None else mean / valid.mean(axes, keepdim=True)


class GlobalLayerNorm(nn.GroupNorm):
    """Normalises each mixture by the mean and variance of all its values (gLN; Luo & Mesgarani, 2019).

    Args:
        channels: each has a gain and an offset.
    """

    def __init__(self, channels: int, eps: float = 1e-8) -> None:
        super().__init__(1, channels, eps)

    def forward(self, values: Tensor, valid: Tensor | None = None) -> Tensor:
        """Shape (batch, channel, ...); zeros where `valid` is."""
        if valid is None:
            return super().forward(values)
        centred = (values - valid_mean(values * valid, valid)) * valid
        normed = centred * (valid_mean(centred.square(), valid) + self.eps).rsqrt()
        shape = (-1, *[1] * (values.ndim - 2))
        return (normed * self.weight.view(shape) + self.bias.view(shape)) * valid


def blstm(layer: nn.LSTM, sequences: Tensor, lengths: Tensor | None = None) -> Tensor:
    """The layer's outputs, (sequence, time, feature) -> (sequence, time, 2 hidden_size); zeros after a sequence's end.

    Args:
        lengths: of the mixtures whose sequences these are, equally many each, one mixture's after the other's.
    """
    sequences = sequences.to(next(layer.parameters()).dtype)  # an LSTM may stay in float32 beside bfloat16
    if lengths is None:
        return layer(sequences)[0]
    each = lengths.repeat_interleave(len(sequences) // len(lengths))
    packed = pack_padded_sequence(sequences, each, batch_first=True, enforce_sorted=False)
    return pad_packed_sequence(layer(packed)[0], batch_first=True, total_length=sequences.shape[1])[0]
