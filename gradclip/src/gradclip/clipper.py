"""What every clipping strategy has in common: one call per optimizer step, one result, one state."""

import inspect
import math
import weakref
from abc import ABC, abstractmethod
from collections.abc import Collection
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from gradclip.attachment import Attachment, Exclude, Optimizers
from gradclip.checks import check_choice
from gradclip.gradients import Gradients, Parameters, as_list
from gradclip.ownership import Ownership
from gradclip.per_sample import PerSampleResult, Samples
from gradclip.plain_gradients import PlainGradients, Tree
from gradclip.result import ClipResult, NonFiniteGradientError
from gradclip.state import VERSION, State, copied, num_bytes

ON_NONFINITE = ("skip", "raise", "zero")
LARGEST_NORM = 1e150
"""Norms from here on count as infinite: the strategies square them, in float64."""


class Clipper(ABC):
    """A clipping strategy.

    Call `clip_` once per optimizer step: after accumulation, after the all-reduce of several processes and after
    unscaling, before `optimizer.step()`. Or `attach` it to the optimizer, which then clips in every step.

    A gradient that holds NaN or infinity never enters a memory: afterwards the strategy acts as if that step hadn't
    happened. A zero gradient passes and isn't recorded either.

    A clipper belongs to the parameters that it meets first, and keeps them alive: its memory is of their gradients.
    Another network needs a clipper of its own.

    Args:
        on_nonfinite: what to do with a gradient that holds NaN or infinity. "skip": leave it as it is and say
            `should_step=False`; "raise": raise NonFiniteGradientError; "zero": set the whole gradient to zero.

    Attributes:
        finite_steps: how many finite gradients it has seen.
        nonfinite_steps: how many gradients held NaN or infinity.
    """

    needs_max: bool = False
    """Whether the strategy reads the largest magnitudes too."""
    per_tensor: bool = False
    """Whether it reads the norms of single tensors."""
    on_device: bool = False
    """Whether it leaves its results on the device."""

    def __init__(self, on_nonfinite: str = "skip") -> None:
        self.on_nonfinite = check_choice("on_nonfinite", on_nonfinite, ON_NONFINITE)
        self.nonfinite_steps = 0
        self.finite_steps = 0
        self._clipped_steps: int | Tensor = 0  # a tensor where a device may still be counting
        self._attachment: weakref.ref[Attachment] | None = None
        self._owner = Ownership()
        self._loss: Tensor | None = None  # of the step that comes
        self._restored: set[str] = set()  # names of a restored memory, until they have met the gradients'

    @torch.no_grad()
    def clip_(self, parameters: Parameters) -> ClipResult:
        """Clips the gradients of `parameters` in place.

        Args:
            parameters: a tensor, tensors, or (name, tensor) pairs as `model.named_parameters()` gives them.

        Raises:
            ValueError: there are no parameters, or none of them has a gradient, or the strategy needs names; or the
                clipper is attached to an optimizer, or has met other parameters before.
            TypeError: `parameters` holds something else than tensors or (name, tensor) pairs.
            NonFiniteGradientError: the gradient holds NaN or infinity, and `on_nonfinite` is "raise".
        """
        self._require_detached("clip_")
        grads = Gradients(parameters, None, self.needs_max, self.per_tensor)
        result = self.apply(grads)
        grads.flush()
        return result

    def clip_grad_norm_(
        self,
        parameters: Parameters,
        max_norm: float = math.inf,
        norm_type: float = 2.0,
        error_if_nonfinite: bool = False,
        foreach: bool | None = None,
    ) -> Tensor:
        """As `clip_`, in place of `torch.nn.utils.clip_grad_norm_` in trainers that call such a function.

        A step that is to be left out finds no gradients, since such a trainer doesn't ask: torch's optimizers then
        leave the parameters and their state as they are. (With `on_nonfinite="zero"` they would find zeros, and move by
        momentum and weight decay.)

        Args:
            parameters: as for `clip_`.
            max_norm: ignored; the clipper has a threshold of its own.
            norm_type: 2.
            error_if_nonfinite: raise, as `on_nonfinite="raise"` does.
            foreach: ignored.

        Returns:
            The norm before clipping, a 0-d tensor on the gradients' device; zero where there are no gradients.

        Raises:
            ValueError: `norm_type` isn't 2, or as `clip_`.
            TypeError, NonFiniteGradientError: as `clip_`.
        """
        if norm_type != 2:
            raise ValueError(f"norm_type: expected 2, got {norm_type!r}; {type(self).__name__} bounds the L2 norm")
        items = [parameters] if isinstance(parameters, Tensor) else as_list(parameters)
        tensors = [item[-1] if isinstance(item, tuple) else item for item in items]
        if tensors and all(isinstance(tensor, Tensor) and tensor.grad is None for tensor in tensors):
            return torch.tensor(0.0)
        result = self.clip_(items)
        if error_if_nonfinite and not math.isfinite(result.grad_norm):
            raise NonFiniteGradientError(f"the gradient's norm is {result.grad_norm}")
        grad = next(tensor.grad for tensor in tensors if tensor.grad is not None)
        if not result.should_step:
            for tensor in tensors:
                tensor.grad = None
        dtype = torch.promote_types(grad.dtype.to_real(), torch.float32)
        return torch.as_tensor(result.raw.grad_norm, dtype=dtype, device=grad.device)

    @torch.no_grad()
    def clip_grads_(self, gradients: Tree) -> ClipResult:
        """Clips gradients in place that lie in no parameter's `.grad`, such as those of `torch.func.grad`.

        Args:
            gradients: a tensor, or a list, tuple or dictionary of them, nested as you like; None stands for no
                gradient. Strategies that work tensor by tensor know them by their places, such as "encoder.weight".

        Raises:
            ValueError: as `clip_`; or a tensor is expanded and can't be written to, two lie in the same memory, or the
                strategy compares gradients with parameters (`AGC`).
            TypeError: `gradients` holds something else than tensors of floating-point numbers.
            NonFiniteGradientError: as `clip_`.
        """
        self._require_detached("clip_grads_")
        grads = PlainGradients(gradients, self.needs_max, self.per_tensor)
        result = self.apply(grads)
        grads.flush()
        return result

    @torch.no_grad()
    def clip_per_sample_(self, gradients: Tree) -> PerSampleResult:
        """Clips each sample's gradient by itself, in place: g_i <- g_i * min(1, threshold / ||g_i||).

        That is what private training needs of a clipper; noise and accounting are another library's, such as Opacus.
        The bound on a sample's influence is the threshold, so it has to be `FixedClip`'s: AutoClip's, the percentile of
        all samples' norms so far, those of this batch included, depends on the data and isn't private itself. Rounding
        to the gradients' type may put a sample above it, in bfloat16 by up to 0.4%.

        A sample whose gradient holds NaN or infinity is set to zero, or raises where `on_nonfinite` is "raise". Samples
        count as steps in `clipped_fraction`, and AutoClip remembers 8 bytes a sample: give it a `window`.

        Args:
            gradients: as for `clip_grads_`, with the batch as first dimension of each, as
                `torch.func.vmap(torch.func.grad(...))` returns them; dense and real.

        Raises:
            ValueError: the strategy isn't `FixedClip`, `NoClip`, or AutoClip without groups; the tensors differ in
                their first dimension; or one can't be clipped in place.
            TypeError, NonFiniteGradientError: as `clip_grads_`.
        """
        self._require_detached("clip_per_sample_")
        samples = Samples(gradients)
        nonfinite = (~samples.finite).nonzero().flatten().tolist()
        if nonfinite and self.on_nonfinite == "raise":
            raise NonFiniteGradientError(f"the gradient holds NaN or infinity in samples {nonfinite}")
        result = samples.scale_to_(self._samples_threshold(samples.norms[samples.finite].tolist()))
        self.nonfinite_steps += len(nonfinite)
        self.finite_steps += len(samples.norms) - len(nonfinite)
        self._clipped_steps += int((result.factors < 1).sum()) - len(nonfinite)
        return result

    def _samples_threshold(self, norms: list[float]) -> float:
        """The threshold of samples with these norms (finite, perhaps zero), which it records."""
        raise ValueError(
            f"clip_per_sample_: {type(self).__name__} has no threshold for single samples; use FixedClip, or AutoClip"
            " without groups"
        )

    def apply(self, grads: Gradients) -> ClipResult:
        """As `clip_`, on gradients that were collected before; a common factor is left to `grads.flush()`."""
        self._owner.check(grads.all_parameters)
        grads.loss, self._loss = self._loss, None
        result = self._apply(grads)
        self._owner.meet(grads.all_parameters)
        return result

    def observe_loss(self, loss: Tensor | float) -> None:
        """Hands over the loss whose gradient the next step takes, for strategies that decide by it (`SkipStep`).

        Call it once a step, with the loss as it is before GradScaler; under gradient accumulation, with the mean over
        the micro-batches. A tensor stays on its device, and nobody waits for it. A loss counts for one step; the last
        one that was handed over does.

        Raises:
            TypeError, ValueError: it isn't one number.
        """
        if isinstance(loss, bool) or not isinstance(loss, Tensor | Real):
            raise TypeError(f"loss: expected a number or a tensor, got {type(loss).__name__}")
        value = loss.detach() if isinstance(loss, Tensor) else torch.tensor(float(loss), dtype=torch.float64)
        if value.numel() != 1 or value.is_complex():
            raise ValueError(f"loss: expected one real number, got shape {tuple(value.shape)} of {value.dtype}")
        self._loss = value

    def _apply(self, grads: Gradients) -> ClipResult:
        if grads.norm < LARGEST_NORM:
            result = self._clip(grads)
            self.finite_steps += 1
            self._clipped_steps += result.raw.coefficient < 1
            return result
        self.nonfinite_steps += 1
        if self.on_nonfinite == "raise":
            raise NonFiniteGradientError(f"the gradient holds NaN or infinity in {', '.join(grads.nonfinite())}")
        if self.on_nonfinite == "zero":
            norm = grads.norm
            torch._foreach_zero_(grads.entries())
            return ClipResult(norm, math.nan, 0.0)
        return ClipResult(grads.norm, math.nan, should_step=False)

    @abstractmethod
    def _clip(self, grads: Gradients) -> ClipResult:
        """Changes finite gradients in place and updates the strategy's memory."""

    def _require_detached(self, method: str) -> None:
        if self.attachment is not None:
            raise ValueError(
                f"{method}: the clipper is attached to an optimizer, whose step clips; don't call {method}, or remove()"
                " the attachment"
            )

    def attached_to(self, *optimizers: torch.optim.Optimizer) -> None:  # noqa: B027 (most strategies do nothing)
        """Called with the optimizers when the strategy is attached; for those that read their state or groups."""

    def attach(
        self,
        optimizer: Optimizers,
        parameters: Parameters | None = None,
        exclude: Exclude = (),
        fold: bool = True,
    ) -> Attachment:
        """Clips in each `optimizer.step()` from now on; see `gradclip.attachment`.

        Args:
            optimizer: its parameters are clipped; several, which step in turn: by one norm over all, once a turn.
            parameters: `model.named_parameters()`, for strategies that need names.
            exclude: what isn't measured and clipped: patterns of names such as "embedding.*", or optimizers.
            fold: let a fused optimizer multiply, which saves a pass over the gradients.
        """
        if self.attachment is not None:
            raise ValueError(
                "attach: the clipper is attached already; remove() that attachment, attach([first, second]) to clip"
                " several optimizers' parameters by one norm, or make a clipper for each"
            )
        attachment = Attachment(self, optimizer, parameters, exclude, fold)
        self._attachment = weakref.ref(attachment)
        return attachment

    @property
    def attachment(self) -> Attachment | None:
        """Where it clips in an optimizer's step; None where it isn't attached."""
        attachment = None if self._attachment is None else self._attachment()
        return attachment if attachment is not None and attachment.is_active else None

    @property
    def clipped_fraction(self) -> float:
        """The share of the steps with finite gradients in which the gradient was made smaller.

        Clipped gradients have a bias under noise (A. Koloskova et al., "Revisiting Gradient Clipping", ICML 2023), so
        this number says how much of a training has one. Reading it waits for a device that counts.
        """
        return int(self._clipped_steps) / self.finite_steps if self.finite_steps else 0.0

    def state_dict(self) -> dict[str, Any]:
        """Tuples, tensors in them, and plain values, under keys that stay the same.

        It loads with `torch.load(weights_only=True)` and into a fresh clipper by `torch.distributed.checkpoint`.
        """
        return {
            "strategy": type(self).__name__,
            "version": VERSION,
            "nonfinite_steps": self.nonfinite_steps,
            "finite_steps": self.finite_steps,
            "clipped_steps": int(self._clipped_steps),
            **{name: copied(value) for name, value in self._state().items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what `state_dict` returned; where it raises, nothing has changed.

        Raises:
            ValueError: the state is another strategy's, another version's, or doesn't fit; the message names the field.

        All settings are the constructor's, so a clipper made with another `p` goes on with that one; those that shape
        the memory (`window`, `groups`) have to be the same. A loaded clipper may meet other parameters than before.
        """
        fields = State(state, type(self).__name__)
        nonfinite_steps = fields.count("nonfinite_steps")
        finite_steps = fields.count("finite_steps", since_version_2=True)
        clipped_steps = fields.count("clipped_steps", since_version_2=True)
        if clipped_steps > finite_steps:
            raise ValueError(f"clipped_steps: expected at most finite_steps={finite_steps}, got {clipped_steps}")
        try:
            self._restore(fields)
        except TypeError as error:
            raise ValueError(str(error)) from error
        self.nonfinite_steps, self.finite_steps, self._clipped_steps = nonfinite_steps, finite_steps, clipped_steps
        self._owner = Ownership()

    def _check_restored(self, names: Collection[str]) -> None:
        """Raises ValueError where a restored memory, kept by name, has none of these names."""
        if self._restored and self._restored.isdisjoint(names):
            raise ValueError(
                f"parameters: none of them has a name of the restored state, such as {min(self._restored)!r};"
                f" they are called {', '.join(list(names)[:3])}, ..."
            )
        self._restored = set()

    def __repr__(self) -> str:
        """The arguments, and how much the clipper remembers."""
        names = [name for name in inspect.signature(type(self)).parameters if hasattr(self, name)]
        settings = ", ".join(f"{name}={getattr(self, name)!r}" for name in names)
        return f"<{type(self).__name__}({settings}), {num_bytes(self._state()):,} bytes>"

    def __getstate__(self) -> dict[str, Any]:
        """A pickled or deeply copied clipper isn't attached."""
        return {**self.__dict__, "_attachment": None}

    def _state(self) -> dict[str, Any]:
        """The strategy's own fields of the state: plain values, and tuples of them and of tensors (`pairs`)."""
        return {}

    def _restore(self, state: State) -> None:  # noqa: B027 (most strategies do nothing)
        """Restores them, once all have been read: where reading one raises, nothing has changed."""


def factor_to_threshold(norm: float, threshold: float) -> float:
    """What brings a norm down to the threshold: min(1, threshold / norm), and 1 for a norm of zero."""
    return threshold / norm if threshold < norm else 1.0


class NormClipper(Clipper):
    """Bounds the norm of the whole gradient by a threshold, g <- g * min(1, threshold / ||g||), without epsilon.

    A gradient below the threshold is not touched, so it stays bit-identical.
    """

    def _clip(self, grads: Gradients) -> ClipResult:
        norm = grads.norm
        threshold = self._threshold(norm)
        factor = factor_to_threshold(norm, threshold)
        grads.scale_(factor)
        return ClipResult(norm, threshold, factor)

    @abstractmethod
    def _threshold(self, grad_norm: float) -> float:
        """The threshold of this step; records `grad_norm` (finite, perhaps zero) where the strategy has a memory."""


class TensorClipper(Clipper):
    """Works tensor by tensor: needs parameters with names, which are the keys of its memory."""

    per_tensor = True

    def _clip(self, grads: Gradients) -> ClipResult:
        grads.require_names(type(self).__name__)
        self._check_restored(grads.all_names)
        return self._clip_tensors(grads)

    @abstractmethod
    def _clip_tensors(self, grads: Gradients) -> ClipResult:
        """As `_clip`, with names."""
