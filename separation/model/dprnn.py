"""Dual-path RNN (Luo, Chen & Yoshioka, 2020): masks of a learned transform, by BLSTMs within chunks and across them.

waveform                      (batch, time)
  encoder                     (batch, num_filters, frame)
    gLN, 1x1 convolution      (batch, bottleneck_size, frame)
    chunks that overlap by half     (batch, bottleneck_size, chunk_size, chunk)
    num_blocks times, along a chunk and then across the chunks:
      BLSTM, linear, gLN, added to what came in
    PReLU, 1x1 convolution    (batch source, bottleneck_size, chunk_size, chunk)
    overlap-add, gated tanh, 1x1 convolution, sigmoid or ReLU
  masks times encoder         (batch, source, num_filters, frame)
  decoder                     (batch, source, time)
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from separation.errors import check_choice, check_count
from separation.model.features import Mixture
from separation.model.layers import MASK_ACTIVATIONS, GlobalLayerNorm, blstm, check_even, decode, encode, inside


class DualPathRnn(nn.Module):
    """The network.

    Args:
        num_sources: masks.
        kernel_size: samples of the encoder's filters; they overlap by half.
        num_filters: of the encoder.
        bottleneck_size: channels between the layers.
        hidden_size: LSTM units in each direction.
        num_blocks: pairs of BLSTMs.
        chunk_size: frames, about the square root of twice a mixture's.
        activation: of the masks: "sigmoid" or "relu".
    """

    def __init__(
        self,
        num_sources: int,
        kernel_size: int,
        num_filters: int,
        bottleneck_size: int,
        hidden_size: int,
        num_blocks: int,
        chunk_size: int,
        activation: str,
    ) -> None:
        super().__init__()
        check_count("model.kernel_size", kernel_size, minimum=2, maximum=65_536)
        check_even("model.kernel_size", kernel_size)
        check_count("model.num_filters", num_filters, maximum=8192)
        check_count("model.bottleneck_size", bottleneck_size, maximum=8192)
        check_count("model.hidden_size", hidden_size, maximum=8192)
        check_count("model.num_blocks", num_blocks, maximum=64)
        check_count("model.chunk_size", chunk_size, minimum=2, maximum=65_536)
        check_even("model.chunk_size", chunk_size)
        self.activation = MASK_ACTIVATIONS[check_choice("model.activation", activation, tuple(MASK_ACTIVATIONS))]
        self.num_sources = num_sources
        self.chunk_size = chunk_size
        hop = kernel_size // 2
        self.encoder = nn.Conv1d(1, num_filters, kernel_size, hop, bias=False)
        self.norm = GlobalLayerNorm(num_filters)
        self.bottleneck = nn.Conv1d(num_filters, bottleneck_size, 1)
        self.within = nn.ModuleList(Path(bottleneck_size, hidden_size) for _ in range(num_blocks))
        self.across = nn.ModuleList(Path(bottleneck_size, hidden_size) for _ in range(num_blocks))
        self.prelu = nn.PReLU()
        self.split = nn.Conv2d(bottleneck_size, num_sources * bottleneck_size, 1)
        self.value = nn.Conv1d(bottleneck_size, bottleneck_size, 1)
        self.gate = nn.Conv1d(bottleneck_size, bottleneck_size, 1)
        self.mask = nn.Conv1d(bottleneck_size, num_filters, 1, bias=False)
        self.decoder = nn.ConvTranspose1d(num_filters, 1, kernel_size, hop, bias=False)

    def forward(self, mixture: Mixture) -> dict[str, Tensor]:
        """Returns `waveform` of shape (batch, source, time)."""
        frames, lengths = encode(self.encoder, mixture)
        masked = self._masks(frames, lengths) * frames.unsqueeze(1)
        return {"waveform": decode(self.decoder, masked, mixture.waveform.shape[-1])}

    def _masks(self, frames: Tensor, lengths: Tensor | None) -> Tensor:
        """(batch, filter, frame) -> (batch, source, filter, frame)."""
        valid = inside(lengths, frames)
        valid = None if valid is None else valid.unsqueeze(1)
        values = self.bottleneck(self.norm(frames, valid))
        chunks = segment(values if valid is None else values * valid, self.chunk_size)
        counts = None if lengths is None else num_chunks(lengths, self.chunk_size)
        valid = inside(counts, chunks)
        across = None if valid is None else valid[:, None, None, :]
        within = None if valid is None else valid[:, None, :, None]
        for along, beyond in zip(self.within, self.across, strict=True):
            chunks = along(chunks.transpose(2, 3), within).transpose(2, 3)
            chunks = beyond(chunks, across, counts)
        chunks = self.split(self.prelu(chunks))
        values = overlap_add(chunks.unflatten(1, (self.num_sources, -1)).flatten(0, 1), frames.shape[-1])
        values = torch.tanh(self.value(values)) * torch.sigmoid(self.gate(values))
        return self.activation(self.mask(values)).unflatten(0, (len(frames), -1))


class Path(nn.Module):
    """A BLSTM along one of the axes, whose result is added to what comes in."""

    def __init__(self, size: int, hidden_size: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(size, hidden_size, batch_first=True, bidirectional=True)
        self.linear = nn.Linear(2 * hidden_size, size)
        self.norm = GlobalLayerNorm(size)

    def forward(self, values: Tensor, valid: Tensor | None, lengths: Tensor | None = None) -> Tensor:
        """Shape (batch, channel, sequence, time)."""
        sequences = values.permute(0, 2, 3, 1).flatten(0, 1)
        outputs = self.linear(blstm(self.lstm, sequences, lengths)).unflatten(0, (len(values), -1))
        return values + self.norm(outputs.permute(0, 3, 1, 2), valid)


def num_chunks(num_frames: Tensor, chunk_size: int) -> Tensor:
    """How many chunks `segment` makes."""
    return (num_frames + chunk_size) // (chunk_size // 2) + 1


def segment(values: Tensor, chunk_size: int) -> Tensor:
    """Chunks that overlap by half, with a chunk of zeros on either side, so that every frame is in two of them:
    (batch, channel, frame) -> (batch, channel, chunk_size, chunk)."""
    return pad(values, (chunk_size, chunk_size)).unfold(-1, chunk_size, chunk_size // 2).transpose(2, 3)


def overlap_add(chunks: Tensor, num_frames: int) -> Tensor:
    """The sum of each frame's two chunks, back to (batch, channel, frame)."""
    chunk_size = chunks.shape[2]
    first, second = chunks.transpose(2, 3).tensor_split(2, dim=-1)
    return (pad(first, (0, 0, 0, 1)) + pad(second, (0, 0, 1, 0))).flatten(2).narrow(-1, chunk_size, num_frames)
