"""What a network returns: one of three outputs at least, and how to read them."""

from collections.abc import Mapping

from torch import Tensor

from separation.errors import InputError
from separation.model.features import Mixture

OUTPUTS = {
    "mask": "(batch, frame, frequency, source)",
    "embedding": "(batch, frame, frequency, D)",
    "waveform": "(batch, source, time)",
}
"""Their names and shapes."""


def check_outputs(outputs: object, mixture: Mixture) -> None:
    """Raises InputError unless a network has returned at least one of `OUTPUTS`, each in its shape.

    Args:
        outputs: what it returned.
        mixture: what it was given.
    """
    if not isinstance(outputs, Mapping) or not all(isinstance(value, Tensor) for value in outputs.values()):
        raise InputError(
            f"model.network: returns {type(outputs).__name__}; expected a dictionary of tensors, of"
            f" {', '.join(OUTPUTS)} at least one"
        )
    if not OUTPUTS.keys() & outputs.keys():
        found = ", ".join(outputs) or "nothing"
        raise InputError(f"model.network: returns {found}; expected at least one of {', '.join(OUTPUTS)}")
    for name in OUTPUTS.keys() & outputs.keys():
        _check_shape(name, outputs[name], mixture)


def output(outputs: object, name: str, mixture: Mixture, wanted_by: str) -> Tensor:
    """One of a network's outputs.

    Args:
        outputs: what the network returned.
        name: a key of `OUTPUTS`.
        mixture: what it was given.
        wanted_by: the setting that needs this output, for messages.

    Raises:
        InputError: it isn't there, or an output has another shape than it should.
    """
    check_outputs(outputs, mixture)
    assert isinstance(outputs, Mapping)
    if name not in outputs:
        raise InputError(f"{wanted_by}: needs a network with the output {name}; this one has {', '.join(outputs)}")
    found: Tensor = outputs[name]
    return found


def _check_shape(name: str, value: Tensor, mixture: Mixture) -> None:
    shape = tuple(value.shape)
    fits = (
        len(shape) == 3 and (shape[0], shape[2]) == tuple(mixture.waveform.shape)
        if name == "waveform"
        else len(shape) == 4 and shape[:3] == tuple(mixture.magnitude.shape)
    )
    if not fits:
        given = tuple((mixture.waveform if name == "waveform" else mixture.magnitude).shape)
        raise InputError(
            f"model.network: its {name} has shape {shape}; expected {OUTPUTS[name]} for a mixture of shape {given}"
        )
