"""TF-GridNet (Wang et al., 2023): the sources' complex spectra from the mixture's.

    mixture's spectrum, at an RMS of 1    (batch, 2, frame, frequency)
      3x3 convolution, gLN                (batch, embedding_size, frame, frequency)
      num_blocks times, each part added to what came in:
        full band: a BLSTM along the frequencies of each frame
        sub-band: a BLSTM along the frames of each frequency
        attention: frames to frames, over all frequencies
      3x3 transposed convolution          (batch, source 2, frame, frequency)
    waveforms                             (batch, source, time)

The BLSTMs read kernel_size neighbours at once, every stride of them. Blocks and padding are those of ESPnet's
TFGridNetV2, which scales the waveform instead of the spectrum.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm, pad, scaled_dot_product_attention

from separation.errors import InputError, check_count
from separation.model.features import Mixture
from separation.model.layers import GlobalLayerNorm, blstm, inside, valid_mean

EPS = 1e-5


class TfGridNet(nn.Module):
    """The network; the paper's letters in brackets.

    Args:
        num_sources: complex spectra.
        window_length: of the STFT, in samples.
        embedding_size: channels of a time-frequency bin [D].
        hidden_size: LSTM units in each direction [H].
        num_blocks: [B].
        kernel_size: neighbours that a BLSTM reads at once [I].
        stride: bins from one of its steps to the next [J].
        num_heads: of the attention, a divisor of `embedding_size` [L].
        key_size: channels of a head's queries and keys [E].
    """

    def __init__(
        self,
        num_sources: int,
        window_length: int,
        embedding_size: int,
        hidden_size: int,
        num_blocks: int,
        kernel_size: int,
        stride: int,
        num_heads: int,
        key_size: int,
    ) -> None:
        super().__init__()
        check_count("model.embedding_size", embedding_size, maximum=1024)
        check_count("model.hidden_size", hidden_size, maximum=8192)
        check_count("model.num_blocks", num_blocks, maximum=64)
        check_count("model.kernel_size", kernel_size, maximum=window_length // 2)
        check_count("model.stride", stride, maximum=kernel_size)
        check_count("model.num_heads", num_heads, maximum=embedding_size)
        check_count("model.key_size", key_size, maximum=1024)
        if embedding_size % num_heads:
            raise InputError(f"model.num_heads={num_heads}: expected a divisor of embedding_size, {embedding_size}")
        frequencies = window_length // 2 + 1
        self.conv = nn.Conv2d(2, embedding_size, 3, padding=1)
        self.norm = GlobalLayerNorm(embedding_size, EPS)
        self.blocks = nn.ModuleList(
            Block(embedding_size, hidden_size, kernel_size, stride, num_heads, key_size, frequencies)
            for _ in range(num_blocks)
        )
        self.deconv = nn.ConvTranspose2d(embedding_size, 2 * num_sources, 3, padding=1)

    def forward(self, mixture: Mixture) -> dict[str, Tensor]:
        """Returns `waveform` of shape (batch, source, time)."""
        parts = torch.view_as_real(mixture.spectrum).permute(0, 3, 1, 2)
        valid = inside(mixture.num_frames, parts[..., 0])
        across = None if valid is None else valid[:, None, :, None]
        parts = parts if across is None else parts * across
        rms = valid_mean(parts.square(), across).sqrt().clamp(min=torch.finfo(parts.dtype).tiny)  # silence has 0
        values = self.norm(self.conv(parts / rms), across).permute(0, 2, 3, 1)
        for block in self.blocks:
            values = block(values, valid, mixture.num_frames)
        parts = rms.unsqueeze(1) * self.deconv(values.permute(0, 3, 1, 2)).float().unflatten(1, (-1, 2))
        spectra = torch.complex(parts[:, :, 0], parts[:, :, 1])
        batch, total = mixture.waveform.shape
        lengths = [total] * batch if mixture.num_samples is None else mixture.num_samples.tolist()
        return {"waveform": mixture.stft.inverse_each(spectra, lengths, total)}


class Block(nn.Module):
    """Full band, sub-band, attention. Args: see `TfGridNet`."""

    def __init__(
        self,
        size: int,
        hidden_size: int,
        kernel_size: int,
        stride: int,
        num_heads: int,
        key_size: int,
        frequencies: int,
    ) -> None:
        super().__init__()
        self.kernel_size, self.stride = kernel_size, stride
        self.full_band = Recurrent(size, hidden_size, kernel_size, stride)
        self.sub_band = Recurrent(size, hidden_size, kernel_size, stride)
        self.query = Projection(size, num_heads, key_size, frequencies)
        self.key = Projection(size, num_heads, key_size, frequencies)
        self.value = Projection(size, num_heads, size // num_heads, frequencies)
        self.output = Projection(size, 1, size, frequencies)

    def forward(self, values: Tensor, valid: Tensor | None, lengths: Tensor | None) -> Tensor:
        """Shape (batch, frame, frequency, channel); zeros where `valid`, of shape (batch, frame), is."""
        overlap = self.kernel_size - self.stride
        frames, frequencies = values.shape[1:3]
        steps = [self._num_steps(frames), self._num_steps(frequencies)]
        ends = [(count - 1) * self.stride + self.kernel_size - overlap for count in steps]
        padded = pad(values, (0, 0, overlap, ends[1] - frequencies, overlap, ends[0] - frames))
        grid = self.full_band(padded)
        counts = None if lengths is None else torch.tensor([self._num_steps(length) for length in lengths.tolist()])
        grid = self.sub_band(grid.transpose(1, 2), counts).transpose(1, 2)
        grid = grid[:, overlap : overlap + frames, overlap : overlap + frequencies]
        grid = grid + self._attend(grid, valid)
        return grid if valid is None else grid * valid[:, :, None, None]

    def _num_steps(self, length: int) -> int:
        """Steps of a BLSTM along so many bins, with zeros as wide as two steps' overlap on either side."""
        return math.ceil((length + self.kernel_size - 2 * self.stride) / self.stride) + 1

    def _attend(self, values: Tensor, valid: Tensor | None) -> Tensor:
        """Every frame's mean of all frames, weighted by how alike they are."""
        query, key, value = self.query(values), self.key(values), self.value(values)
        heard = None if valid is None else valid[:, None, None, :] > 0
        mean = scaled_dot_product_attention(query.flatten(3), key.flatten(3), value.flatten(3), heard)
        mean = mean.unflatten(3, value.shape[3:]).permute(0, 2, 4, 1, 3).flatten(3)
        return self.output(mean)[:, 0].transpose(2, 3)


class Recurrent(nn.Module):
    """A BLSTM along one of the axes, whose result is added to what comes in. Args: see `TfGridNet`."""

    def __init__(self, size: int, hidden_size: int, kernel_size: int, stride: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(size, EPS)
        self.lstm = nn.LSTM(size * kernel_size, hidden_size, batch_first=True, bidirectional=True)
        self.deconv = nn.ConvTranspose1d(2 * hidden_size, size, kernel_size, stride)

    def forward(self, values: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Shape (batch, sequence, time, channel); `lengths` in steps."""
        sequences = self.norm(values).flatten(0, 1)
        steps = sequences.unfold(1, self.deconv.kernel_size[0], self.deconv.stride[0]).flatten(2)
        outputs = self.deconv(blstm(self.lstm, steps, lengths).transpose(1, 2)).transpose(1, 2)
        return values + outputs.unflatten(0, values.shape[:2])


class Projection(nn.Module):
    """Linear, a PReLU a head, and normalisation of each head's frames."""

    def __init__(self, size: int, num_heads: int, channels: int, frequencies: int) -> None:
        super().__init__()
        self.linear = nn.Linear(size, num_heads * channels)
        self.prelu = nn.PReLU(num_heads)
        self.gain = nn.Parameter(torch.ones(num_heads, 1, channels, frequencies))
        self.offset = nn.Parameter(torch.zeros(num_heads, 1, channels, frequencies))

    def forward(self, values: Tensor) -> Tensor:
        """(batch, frame, frequency, channel) -> (batch, head, frame, channel, frequency)."""
        heads, _, channels, frequencies = self.gain.shape
        projected = self.prelu(self.linear(values).unflatten(-1, (heads, channels)).permute(0, 3, 1, 4, 2))
        return layer_norm(projected, (channels, frequencies), eps=EPS) * self.gain + self.offset
