"""Imports nussl and museval on today's NumPy, SciPy and torch; nothing else.

Each function applies the repairs that its package needs, in one place and with the reason beside it, imports the
package without its warnings, and returns it. `tests/test_compat.py` fails when a repair is no longer needed.
"""

import functools
import importlib
import io
import logging
import os
import shutil
import sys
import types
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn


@contextmanager
def _quietly() -> Iterator[None]:
    """The packages' own deprecation warnings concern their authors; ours and our users' stay on."""
    previous = logging.root.manager.disable
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(previous)


class _MissingFfmpeg(types.ModuleType):
    """Stands in for stempeg, which raises at import where ffmpeg is missing, and with it musdb and museval."""

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):  # what the import system itself asks of a module
            raise AttributeError(name)
        raise RuntimeError("MUSDB18's .stem.mp4 files need ffmpeg: install it, or use MUSDB18-HQ's WAV files")


def _replace_stempeg() -> None:
    if not (shutil.which("ffmpeg") and shutil.which("ffprobe")):
        sys.modules.setdefault("stempeg", _MissingFfmpeg("stempeg"))


def _let_museval_score_every_estimate(museval: Any) -> None:
    """An estimate without any error makes museval ask a Python float (infinity) for its shape; and NumPy 2 has no
    `numpy.linalg.linalg`, by which museval names the error that linearly dependent references raise."""
    import numpy

    if not hasattr(numpy.linalg, "linalg"):
        numpy.linalg.linalg = numpy.linalg  # type: ignore[attr-defined]

    decibels = museval.metrics._safe_db
    museval.metrics._safe_db = lambda numerator, denominator: numpy.float64(decibels(numerator, denominator))


def _restore_scipy_windows() -> None:
    """nussl reads the names of windows that SciPy moved to `scipy.signal.windows` in 1.13."""
    import scipy.signal

    for name in ("hamming", "hann", "blackman"):
        if not hasattr(scipy.signal, name):
            setattr(scipy.signal, name, getattr(scipy.signal.windows, name))


def _import_sox() -> None:
    """pysox starts a shell to look for SoX while it is imported, and the shell complains where there is none."""
    if shutil.which("sox"):
        return
    popen = os.popen
    os.popen = lambda *_: io.StringIO()  # type: ignore[assignment]
    try:
        importlib.import_module("sox")
    finally:
        os.popen = popen


def _let_nussl_load_its_own_files(nussl: Any) -> None:
    """A nussl model file holds nussl objects, which torch.load refuses by default since 2.6. Only nussl's loader gets
    the old behaviour; this project never opens such a file itself."""
    import torch

    loader = functools.partial(torch.load, weights_only=False)
    nussl.core.migration.torch = types.SimpleNamespace(load=loader)


@functools.cache
def museval() -> Any:
    """The museval package; MUSDB18's stems need ffmpeg, everything else works without."""
    _replace_stempeg()
    with _quietly():
        package = importlib.import_module("museval")
    _let_museval_score_every_estimate(package)
    return package


@functools.cache
def nussl() -> Any:
    """The nussl package, version 1.1.9."""
    museval()
    _restore_scipy_windows()
    with _quietly():
        _import_sox()
        package = importlib.import_module("nussl")
        importlib.import_module("nussl.core.migration")
    _let_nussl_load_its_own_files(package)
    return package
