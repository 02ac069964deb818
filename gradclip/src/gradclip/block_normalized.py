"""Block-normalised gradients."""

import math

import torch

from gradclip.clipper import TensorClipper
from gradclip.gradients import Gradients
from gradclip.groups import Grouping, Groups, GroupsSetting
from gradclip.result import ClipResult


class BlockNormalized(TensorClipper):
    """Sets the norm of each block of parameters to 1: g_l <- g_l / ||g_l||. Blocks of zeros stay zero.

    Args:
        groups: the blocks: "tensor", "module", "param_group" or a mapping of names to patterns (see `AutoClip`).
        on_nonfinite: see `Clipper`.

    Reference: A. W. Yu, L. Huang, Q. Lin, R. Salakhutdinov, J. Carbonell, "Block-Normalized Gradient Method: An
    Empirical Study for Training Deep Neural Network", 2017.
    State: none. Cost: one pass that reads the gradients and one that writes them; needs names.

    Raises:
        TypeError, ValueError: `groups` is not as described.
    """

    def __init__(self, groups: Groups = "tensor", on_nonfinite: str = "skip") -> None:
        super().__init__(on_nonfinite)
        self._grouping = Grouping(groups)

    @property
    def groups(self) -> GroupsSetting:
        """As the argument."""
        return self._grouping.setting

    def attached_to(self, *optimizers: torch.optim.Optimizer) -> None:
        self._grouping.optimizers = optimizers

    def _clip_tensors(self, grads: Gradients) -> ClipResult:
        norm = grads.norm
        factors = [1.0] * len(grads.names)
        blocks = self._grouping.members(grads, "BlockNormalized").values()
        for members in blocks:
            block_norm = math.hypot(*(grads.norms[index] for index in members))
            for index in members:
                factors[index] = 1 / block_norm if block_norm > 0 else 1.0
        grads.scale_each_(factors)
        return ClipResult(norm, math.sqrt(len(blocks)), grads.coefficient())
