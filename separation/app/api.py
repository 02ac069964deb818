"""What `import separation` offers: train, evaluate and separate from Python, as the three programs do.

Bad input raises InputError, with the sentence that a program would print. Nothing of the caller's is changed for good:
the working directory, logging, and the handlers of signals are as before.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from separation.app.command import as_hydra_error, sentence
from separation.app.evaluate import evaluate_run
from separation.app.literal_paths import literal
from separation.app.model import Model
from separation.app.resuming import is_setting
from separation.app.settings import compose_config
from separation.app.train import Run, start_or_resume
from separation.errors import InputError


def train(overrides: Sequence[str] = ()) -> Run:
    """Trains a separator and scores it, as `python train.py` does.

    Args:
        overrides: settings as on the command line, such as `["data=fsdd", "data.root=FSDD", "clip.p=25"]`; or
            `["resume=RUN_DIR"]`.

    Returns:
        The run folder's path, and the scores of `summary.json`.

    Raises:
        InputError: a setting or the data can't be used, or training diverges.
        Interrupted: a signal came (Ctrl-C, a notebook's stop button); the checkpoint is written.
    """
    with _input_errors():
        return start_or_resume(_literal(overrides))


def evaluate(run: str | Path | None, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Scores a trained run, as `python evaluate.py` does; without `output=`, its own scores are replaced.

    Args:
        run: its folder; None: with `oracle=` among the overrides.
        overrides: such as `["bss_eval=true", "output=scores"]`.

    Returns:
        The scores of `summary.json`: of the split `test`, and of every one under `splits`.

    Raises:
        InputError: the run or a setting can't be used.
    """
    with _input_errors():
        return evaluate_run([*_run(run), *_literal(overrides)])[1]


def load(run: str | Path, overrides: Sequence[str] = ()) -> Model:
    """A trained run's model, its best checkpoint.

    Args:
        run: its folder.
        overrides: keys of conf/separate.yaml, such as `["device=cpu", "segment_seconds=20"]`.

    Raises:
        InputError: the run or a setting can't be used.
    """
    with _input_errors():
        return Model.of(compose_config("separate", [*_run(run), *_literal(overrides)]))


def _run(run: str | Path | None) -> list[str]:
    return [] if run is None else [literal(f"run={run}")]


def _literal(overrides: Sequence[str]) -> list[str]:
    if isinstance(overrides, str) or not all(isinstance(text, str) and is_setting(text) for text in overrides):
        raise InputError(f'overrides={overrides!r}: expected a list of settings, as in ["clip.p=25", "seed=1"]')
    return list(map(literal, overrides))


@contextmanager
def _input_errors() -> Iterator[None]:
    """Errors of settings and files become InputError."""
    try:
        yield
    except InputError:
        raise
    except (HydraException, OmegaConfBaseException, OSError, ValueError) as error:
        cause = as_hydra_error(error)
        if isinstance(cause, HydraException | OmegaConfBaseException | OSError):
            raise InputError(sentence(cause)) from error
        raise
