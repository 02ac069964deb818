"""Conv-TasNet (Luo & Mesgarani, 2019), non-causal: masks of a learned transform, by dilated convolutions.

    waveform                      (batch, time)
      encoder                     (batch, enc_num_feats, frame)
        gLN, 1x1 convolution      (batch, msk_num_feats, frame)
        msk_num_stacks times: msk_num_layers blocks, dilated by 1, 2, 4, ...
        sum of the blocks' skips, PReLU, 1x1 convolution, sigmoid or ReLU
      masks times encoder         (batch, source, enc_num_feats, frame)
      decoder                     (batch, source, time)

Weights have torchaudio's names, so that a trained one loads into `torchaudio.models.ConvTasNet` and back. (That class
normalises over padding, and torchaudio can't be imported beside a torch of another build.)
"""

from itertools import product

import torch
from torch import Tensor, nn

from separation.errors import InputError, check_choice, check_count
from separation.model.features import Mixture
from separation.model.layers import MASK_ACTIVATIONS, GlobalLayerNorm, check_even, decode, encode, inside


class ConvTasNet(nn.Module):
    """The network; the paper's letters in brackets.

    Args:
        num_sources: masks.
        enc_kernel_size: samples of the encoder's filters [L]; they overlap by half.
        enc_num_feats: filters [N].
        msk_kernel_size: frames of the blocks' convolutions [P], odd.
        msk_num_feats: channels between the blocks [B, Sc].
        msk_num_hidden_feats: channels inside of them [H].
        msk_num_layers: blocks in a stack [X].
        msk_num_stacks: stacks [R].
        activation: of the masks: "sigmoid", the paper's, or "relu".
    """

    def __init__(
        self,
        num_sources: int,
        enc_kernel_size: int,
        enc_num_feats: int,
        msk_kernel_size: int,
        msk_num_feats: int,
        msk_num_hidden_feats: int,
        msk_num_layers: int,
        msk_num_stacks: int,
        activation: str,
    ) -> None:
        super().__init__()
        check_count("model.enc_kernel_size", enc_kernel_size, minimum=2, maximum=65_536)
        check_even("model.enc_kernel_size", enc_kernel_size)
        check_count("model.enc_num_feats", enc_num_feats, maximum=8192)
        hop = enc_kernel_size // 2
        self.encoder = nn.Conv1d(1, enc_num_feats, enc_kernel_size, hop, bias=False)
        self.mask_generator = MaskGenerator(
            enc_num_feats,
            num_sources,
            msk_kernel_size,
            msk_num_feats,
            msk_num_hidden_feats,
            msk_num_layers,
            msk_num_stacks,
            activation,
        )
        self.decoder = nn.ConvTranspose1d(enc_num_feats, 1, enc_kernel_size, hop, bias=False)

    def forward(self, mixture: Mixture) -> dict[str, Tensor]:
        """Returns `waveform` of shape (batch, source, time)."""
        frames, lengths = encode(self.encoder, mixture)
        masked = self.mask_generator(frames, inside(lengths, frames)) * frames.unsqueeze(1)
        return {"waveform": decode(self.decoder, masked, mixture.waveform.shape[-1])}


class MaskGenerator(nn.Module):
    """From the encoder's frames to masks. Args: see `ConvTasNet`."""

    def __init__(
        self,
        input_dim: int,
        num_sources: int,
        kernel_size: int,
        num_feats: int,
        num_hidden: int,
        num_layers: int,
        num_stacks: int,
        activation: str,
    ) -> None:
        super().__init__()
        check_count("model.msk_kernel_size", kernel_size, maximum=1023)
        if kernel_size % 2 == 0:
            raise InputError(f"model.msk_kernel_size={kernel_size}: expected an odd number, to have a middle")
        check_count("model.msk_num_feats", num_feats, maximum=8192)
        check_count("model.msk_num_hidden_feats", num_hidden, maximum=8192)
        check_count("model.msk_num_layers", num_layers, maximum=16)
        check_count("model.msk_num_stacks", num_stacks, maximum=64)
        self.activation = MASK_ACTIVATIONS[check_choice("model.activation", activation, tuple(MASK_ACTIVATIONS))]
        self.num_sources = num_sources
        self.input_norm = GlobalLayerNorm(input_dim)
        self.input_conv = nn.Conv1d(input_dim, num_feats, 1)
        places = list(product(range(num_stacks), range(num_layers)))
        self.conv_layers = nn.ModuleList(
            ConvBlock(num_feats, num_hidden, kernel_size, 2**layer, is_last=(stack, layer) == places[-1])
            for stack, layer in places
        )
        self.output_prelu = nn.PReLU()
        self.output_conv = nn.Conv1d(num_feats, input_dim * num_sources, 1)

    def forward(self, frames: Tensor, valid: Tensor | None) -> Tensor:
        """(batch, filter, frame) -> (batch, source, filter, frame)."""
        valid = None if valid is None else valid.unsqueeze(1)
        values = self.input_conv(self.input_norm(frames, valid))
        skips = torch.zeros_like(values)
        for block in self.conv_layers:
            values, skip = block(values, valid)
            skips = skips + skip
        return self.activation(self.output_conv(self.output_prelu(skips))).unflatten(1, (self.num_sources, -1))


class ConvBlock(nn.Module):
    """A depthwise separable convolution; the last block's values are used by nobody, so it has skips only."""

    def __init__(self, channels: int, hidden: int, kernel_size: int, dilation: int, is_last: bool) -> None:
        super().__init__()
        reach = dilation * (kernel_size // 2)
        self.conv_layers = nn.ModuleList(
            [
                nn.Conv1d(channels, hidden, 1),
                nn.PReLU(),
                GlobalLayerNorm(hidden),
                nn.Conv1d(hidden, hidden, kernel_size, padding=reach, dilation=dilation, groups=hidden),
                nn.PReLU(),
                GlobalLayerNorm(hidden),
            ]
        )
        self.res_out = None if is_last else nn.Conv1d(hidden, channels, 1)
        self.skip_out = nn.Conv1d(hidden, channels, 1)

    def forward(self, values: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor]:
        """The values with what the block adds to them, and its skip; shape (batch, channel, frame) each."""
        expand, prelu, norm, depthwise, second_prelu, second_norm = self.conv_layers
        # The norms leave zeros behind a mixture's end, as the convolution has them there for one that is alone.
        hidden = norm(prelu(expand(values)), valid)
        hidden = second_norm(second_prelu(depthwise(hidden)), valid)
        return values if self.res_out is None else values + self.res_out(hidden), self.skip_out(hidden)
