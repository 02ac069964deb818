"""Where a network computes, and in which number format."""

import os
import re
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

from separation.errors import InputError, check_choice
from separation.model.features import Mixture
from separation.model.networks import computing_in
from separation.model.outputs import check_outputs

PRECISIONS = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
GPU_ONLY = ("tf32", "fp16")


class Precision:
    """The number format in which the network computes; parameters, features and losses stay in float32.

    Args:
        name: fp32; bf16 (the LSTM stays in float32 on GPUs, and on CPUs without AVX-512); on GPUs also tf32 (float32,
            but factors have 10 bits of mantissa) or fp16, whose loss is scaled so that small gradients don't vanish.
        device: where.

    Raises:
        InputError: there is no such format here.

    Attributes:
        scaler: of the loss; does nothing but for fp16.
    """

    def __init__(self, name: str, device: torch.device) -> None:
        self.dtype = PRECISIONS[check_choice("trainer.precision", name, tuple(PRECISIONS))]
        if name in GPU_ONLY and device.type == "cpu":
            raise InputError(f"trainer.precision={name}: needs a GPU; take bf16 or fp32 on a CPU")
        self.name = name
        self.device = device
        self.apply()
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.dtype == torch.float16)

    def apply(self) -> None:
        """Sets what holds for the whole process."""
        allow_tf32(self.name == "tf32")

    def __call__(self, network: nn.Module, mixture: Mixture) -> dict[str, Tensor]:
        """The network's outputs in float32."""
        with self.inside(network):
            outputs = network(mixture)
        return self.checked(outputs, mixture)

    def inside(self, network: nn.Module) -> AbstractContextManager[None]:
        """Inside, the network computes in this format."""
        return computing_in(self.dtype, network, self.device)

    @staticmethod
    def checked(outputs: dict[str, Tensor], mixture: Mixture) -> dict[str, Tensor]:
        """A network's outputs, in float32 at least, if they are some."""
        check_outputs(outputs, mixture)
        return {name: output.to(torch.promote_types(output.dtype, torch.float32)) for name, output in outputs.items()}


def allow_tf32(allowed: bool) -> None:
    """Whether GPUs may round float32 factors to 10 bits of mantissa; torch's default is to let cuDNN's LSTM do so."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = allowed


def pick_device(name: str) -> torch.device:
    """The device of a `device` key: `auto` is a GPU where there is one.

    Raises:
        InputError: there is no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if not re.fullmatch(r"cpu|cuda(:\d+)?", str(name)):
        raise InputError(f"device={name}: expected auto, cpu, cuda or cuda:N")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
        if device.index is not None:
            torch.cuda.set_device(device)  # streams and graphs are the current device's
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"device={name}: can't be used here ({reason}); try device=auto or device=cpu") from error
    return device


def local_device(device: torch.device) -> torch.device:
    """The GPU of this process where a machine's processes have one each; `device` otherwise."""
    if device.type == "cuda" and device.index is None and "LOCAL_RANK" in os.environ:
        return torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    return device
