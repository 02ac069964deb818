"""Signals that are longer than memory: blocks of samples, resampled, without offset, read in ranges."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path

import numpy as np
import soxr
import torch
from torch import Tensor

from separation.data.decoding import read_blocks, read_header


@dataclass(frozen=True)
class Recording:
    """A recording that is read in blocks."""

    rate: int
    """In Hz."""
    channels: int
    blocks: Callable[[], Iterator[np.ndarray]]
    """Gives float32 blocks of shape (time, channel), from the beginning each time it is called."""


def open_recording(path: Path) -> Recording:
    """A file's recording.

    Raises:
        InputError: the file is missing or isn't audio; what else may be wrong is raised by the blocks.
    """
    return Recording(*read_header(path), partial(read_blocks, path))


class Rows:
    """A stream of blocks that is read in ranges of rows, none of which begins before the one before it.

    Args:
        blocks: tensors that are equal in all axes but the first.
    """

    def __init__(self, blocks: Iterator[Tensor]) -> None:
        self._blocks = blocks
        self._held: list[Tensor] = []
        self._first = self._end = 0

    def take(self, start: int, end: int) -> Tensor:
        """The rows from `start` to before `end`, fewer where the stream ends; those before `start` are forgotten."""
        while (self._end < end or not self._held) and (block := next(self._blocks, None)) is not None:
            self._held.append(block)
            self._end += len(block)
        rows = torch.cat(self._held)[start - self._first :]
        self._held, self._first = [rows], start
        return rows[: end - start]


def resample_blocks(blocks: Iterator[np.ndarray], rate: int, target_rate: int) -> Iterator[np.ndarray]:
    """Blocks of shape (time, channel) at another rate in Hz: together, bit for bit what `audio.resample` makes of the
    whole."""
    stream = None
    for block in blocks:
        if rate == target_rate:
            yield block
            continue
        stream = stream or soxr.ResampleStream(rate, target_rate, block.shape[1])
        yield stream.resample_chunk(block)
    if stream is not None:
        yield stream.resample_chunk(block[:0], last=True)


def equal_blocks(blocks: Iterator[Tensor], size: int) -> Iterator[Tensor]:
    """The same rows in blocks of `size`, but for the last."""
    rows = Rows(blocks)
    for start in count(0, size):
        block = rows.take(start, start + size)
        if not len(block):
            return
        yield block


def subtract_offsets(blocks: Iterator[Tensor], offsets: Tensor, size: int) -> Iterator[Tensor]:
    """Subtracts what each channel is off zero.

    Args:
        blocks: of shape (time, channel) and `size` samples, but for the last.
        offsets: of each block, shape (block, channel); from one block's middle to the next they are interpolated.
    """
    time = (torch.arange(size).unsqueeze(1) + 0.5) / size - 0.5  # from a block's middle, in blocks
    befores, afters = torch.cat([offsets[:1], offsets[:-1]]), torch.cat([offsets[1:], offsets[-1:]])
    for block, before, offset, after in zip(blocks, befores, offsets, afters, strict=True):
        slope = (before - offset) * (-time).clamp(min=0) + (after - offset) * time.clamp(min=0)
        yield block - (offset + slope)[: len(block)]
