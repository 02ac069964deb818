"""Imports nussl and museval on today's NumPy, SciPy and torch; nothing else.

Each function applies the repairs that its package needs, in one place and with the reason beside it, imports the
package without its warnings, and returns it. `tests/test_compat.py` fails when a repair is no longer needed.
"""

import functools
import importlib
import inspect
import io
import logging
import os
import pickle
import shutil
import sys
import types
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
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
        raise RuntimeError("musdb needs ffmpeg, for WAV files too: install it, or read MUSDB18-HQ with data=musdb18hq")


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
    the old behaviour; this project opens such a file where the user asks for it (scripts/import_nussl.py)."""
    import torch

    loader = functools.partial(torch.load, weights_only=False)
    nussl.core.migration.torch = types.SimpleNamespace(load=loader)


EARLIER_DEFAULTS = {"rms": {"pad_mode": "reflect"}}
"""What librosa's functions did before 0.10; now the first and last frames have zeros in them."""


class _Librosa:
    """librosa as nussl's modules see it: its functions take by position what since 0.10 are keywords only."""

    def __init__(self, module: types.ModuleType) -> None:
        self._module = module

    def __getattr__(self, name: str) -> Any:  # librosa, too, imports its parts when they are first asked for
        value = getattr(self._module, name)
        if isinstance(value, types.ModuleType):
            return _Librosa(value)
        return _by_position(value, EARLIER_DEFAULTS.get(name)) if inspect.isfunction(value) else value


def _by_position(function: Callable[..., Any], defaults: dict[str, Any] | None = None) -> Callable[..., Any]:
    """The function with keyword-only parameters that may be given by position too, and with other defaults."""
    names = list(inspect.signature(function).parameters)

    @functools.wraps(function)
    def call(*values: Any, **keywords: Any) -> Any:
        return function(**(defaults or {}) | dict(zip(names, values, strict=False)) | keywords)

    return call


def _let_nussl_call_librosa() -> None:
    """nussl gives librosa's functions the first arguments by position: to resample, for the RMS of frames, mel filters
    and spectrograms."""
    for name, module in list(sys.modules.items()):
        if name.startswith("nussl.") and isinstance(getattr(module, "librosa", None), types.ModuleType):
            module.librosa = _Librosa(module.librosa)  # type: ignore[attr-defined]


@functools.cache
def _restore_librosa_display() -> None:
    """nussl draws waveforms by a function that librosa 0.10 renamed, scales axes by one that 0.11 gave two more
    arguments, and imports librosa anew where it draws mel spectrograms."""
    import librosa.display

    def waveplot(samples: Any, x_axis: str = "time", **keywords: Any) -> Any:
        return librosa.display.waveshow(samples, axis=x_axis, **keywords)

    librosa.display.waveplot = waveplot  # type: ignore[attr-defined]
    librosa.display.__scale_axes.__defaults__ = (16, 480)  # tempi, as in specshow
    librosa.feature.melspectrogram = _by_position(librosa.feature.melspectrogram)


def _let_nussl_draw(nussl: Any) -> None:
    """Restores what nussl draws with when it first draws: librosa.display imports matplotlib."""

    def restoring(draw: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(draw)
        def call(*values: Any, **keywords: Any) -> Any:
            _restore_librosa_display()
            return draw(*values, **keywords)

        return call

    for name in ("visualize_spectrogram", "visualize_waveform", "visualize_sources_as_masks"):
        setattr(nussl.core.utils, name, restoring(getattr(nussl.core.utils, name)))


def _let_nussl_overlap_and_add(nussl: Any) -> None:
    """nussl's OverlapAdd asks for a window called "hanning", a name that SciPy no longer knows."""
    get_window = nussl.AudioSignal.get_window
    nussl.AudioSignal.get_window = staticmethod(
        lambda window_type, length: get_window("hann" if window_type == "hanning" else window_type, length)
    )


class _ObjectArray:
    """What nussl's Cache asks of a zarr 2 array of Python objects: a pickle of each, in a folder."""

    def __init__(self, location: str, mode: str, **_: Any) -> None:
        self.folder = Path(location)
        self.info = f"pickles in {location}"
        if mode == "w":
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir(parents=True)

    @property
    def nchunks_initialized(self) -> int:
        """How many items there are, by zarr's name."""
        return len(list(self.folder.iterdir()))

    def __setitem__(self, index: int, value: object) -> None:
        (self.folder / str(int(index))).write_bytes(pickle.dumps(value))

    def __getitem__(self, index: int) -> object:
        path = self.folder / str(int(index))
        return pickle.loads(path.read_bytes()) if path.is_file() else None  # None: the Cache says what is missing


def _let_nussl_cache_items(nussl: Any) -> None:
    """zarr 3 has no arrays of Python objects, which nussl's Cache keeps its items in."""
    nussl.datasets.transforms.zarr = types.SimpleNamespace(open=_ObjectArray, ThreadSynchronizer=lambda: None)


def _restore_numpy_mat() -> None:
    """nussl's Duet makes matrices by a name that NumPy 2 no longer has."""
    import numpy

    if not hasattr(numpy, "mat"):
        numpy.mat = numpy.asmatrix  # type: ignore[attr-defined]


def _let_nussl_report_scores() -> None:
    """nussl's report cards take means of tables whose columns of text pandas left out before version 2."""
    module = sys.modules["nussl.evaluation.report_card"]  # nussl.evaluation calls a function so, too
    for name in ("_get_mean_and_std", "_get_medians"):
        setattr(module, name, _of_numbers(getattr(module, name)))


def _of_numbers(summarize: Callable[..., Any]) -> Callable[..., Any]:
    """The function of a table, given the columns that hold numbers."""
    return lambda table, decs=2: summarize(table.select_dtypes("number"), decs=decs)


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
    _restore_numpy_mat()
    with _quietly():
        _import_sox()
        package = importlib.import_module("nussl")
        importlib.import_module("nussl.core.migration")
    _let_nussl_load_its_own_files(package)
    _let_nussl_call_librosa()
    _let_nussl_draw(package)
    _let_nussl_overlap_and_add(package)
    _let_nussl_cache_items(package)
    _let_nussl_report_scores()
    return package
