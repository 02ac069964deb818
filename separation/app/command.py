"""What the programs share: one-sentence errors, exit codes, jobs of a sweep."""

import functools
import logging
import math
import os
import re
import shlex
import sys
import tempfile
import threading
import traceback
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import NoReturn

from hydra.conf import HydraConf
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from separation.app.literal_paths import literal
from separation.app.resuming import sending
from separation.app.sweep_bar import SHOWN, Mark, leave_mark
from separation.errors import InputError
from separation.runs.atomic_files import FULL
from separation.runs.run_folder import LONGEST_NAME, RunFolder
from separation.training.interruption import Interrupted

ERRORS = "errors.txt"
STOPPED = ".stopped"
"""Marker that a signal has stopped a sweep; holds the signal's number."""
USER_ERRORS = (InputError, HydraException, OmegaConfBaseException, OSError, MemoryError)


def tell(text: str) -> None:
    """Prints to stderr, if it is still there: after a SIGHUP, the terminal is not."""
    with suppress(OSError):
        print(text, file=sys.stderr)


def sentence(error: BaseException) -> str:
    """What the user should read of an error."""
    if isinstance(error, MissingMandatoryValue):
        key = getattr(error, "full_key", None) or str(error).rpartition(" ")[2]
        return f"{key}: has no value; give it one, as in {key}=VALUE"
    if isinstance(error, OSError) and not isinstance(error, InputError) and error.filename:
        remedy = "make room there" if error.errno in FULL else "mend this one"
        return f"{error.filename}: {error.strerror}; give another path (run_dir, data.store, output) or {remedy}"
    if isinstance(error, MemoryError):
        return f"not enough memory ({error or 'of this process'}); take smaller settings or shorter recordings"
    text = str(error)
    if isinstance(error, HydraException):
        text = text.partition("Config search path")[0]
        if isinstance(error.__cause__, OmegaConfBaseException):
            text += f" ({str(error.__cause__).strip().splitlines()[0]})"
        if any(words in text for words in ("no viable alternative", "mismatched input", "Lexer")):
            text += """; put quotes around a value with special characters, as in 'data.root="my folder"'"""
        if word := re.match(r"Error parsing override '([^'=]*)' missing EQUAL", " ".join(text.split())):
            text = (
                f"{word[1]}: is no setting, which has the form key=value; put quotes around a value with spaces, as in"
                """ 'data.root="my folder"' or "data.root=my folder\""""
            )
        if "hydra/sweeper/optuna" in text or "INTERVAL_SWEEP" in text:
            text += """; hydra/sweeper=optuna takes intervals, and pip install ".[optuna]" installs it"""
    if isinstance(error, HydraException | OmegaConfBaseException):
        text = " ".join(text.split())  # they list choices and causes a line each
    return text.strip()


def print_error(error: Exception, where: str = "") -> None:
    """Prints the sentence to stderr; for an error that nobody foresaw, the traceback goes to a file."""
    text = sentence(error)
    if not isinstance(error, USER_ERRORS):
        with tempfile.NamedTemporaryFile("w", prefix="separation-", suffix=".txt", delete=False) as file:
            traceback.print_exception(error, file=file)
        text = f"{type(error).__name__}: {' '.join(text.split())[:300]} (unforeseen; the traceback is in {file.name})"
    tell(f"error: {where}{text}")


def as_hydra_error(error: Exception) -> Exception:
    """The error, or what Hydra means by a plain ValueError."""
    if not str(error).startswith("Config group override must be"):
        return error
    given = "null" if "NoneType" in str(error) else "a number or a truth value"
    return HydraException(f"{given} is no choice of a group (data, model, clip, ...); without clipping is clip=none")


def fail(error: Exception) -> NoReturn:
    """Reports and exits: status 2 for settings that can't be composed, 1 for everything else."""
    error = as_hydra_error(error)
    print_error(error)
    sys.exit(2 if isinstance(error, HydraException | OmegaConfBaseException) else 1)


def entry_point(main: Callable[[], None]) -> None:
    """Runs a program and ends it with a sentence, not a traceback, where something goes wrong."""
    logging.raiseExceptions = False  # whoever reads the output may have left
    os.environ["HYDRA_FULL_ERROR"] = "1"  # makes Hydra raise what it would print with a traceback
    try:
        main()
    except Exception as error:
        fail(error)
    except (Interrupted, KeyboardInterrupt) as stop:
        if os.environ.get("RANK", "0") == "0":
            tell(str(stop) or "interrupted")
        sys.exit(stop.status if isinstance(stop, Interrupted) else 130)
    finally:
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except OSError:  # the terminal is gone; Python would try once more and end with status 120
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def job(run: Callable[[DictConfig, Path], float]) -> Callable[[DictConfig], float]:
    """A Hydra job: `run` gets the settings and the run folder's path, and returns what a sweeper is to minimise.

    In a sweep the other runs go on after an error; it leaves a line in the sweep's `errors.txt`, for the report at the
    end (`separation.app.sweeps`). A run that failed or was stopped counts as infinitely bad.
    """

    @functools.wraps(run)
    def wrapper(config: DictConfig) -> float:
        hydra_config = HydraConfig.get()
        folder = Path(hydra_config.runtime.output_dir)
        stopped = Path(hydra_config.sweep.dir) / STOPPED
        is_sweep = hydra_config.mode == RunMode.MULTIRUN
        if is_sweep and stopped.exists():
            return math.inf  # a signal has ended the sweep: the jobs that were to come end at once
        try:
            with _marked(config, hydra_config, folder) if is_sweep else nullcontext():
                return run(config, folder)
        except Interrupted as stop:
            if not is_sweep:
                raise
            tell(str(stop))
            stopped.write_text(str(stop.number))  # joblib would kill the others at an exception, before they have saved
        except Exception as error:
            if not is_sweep:
                fail(error)
            print_error(error, f"{folder.name}: ")
            with open(Path(hydra_config.sweep.dir) / ERRORS, "a", encoding="utf-8") as file:
                file.write(f"{folder.name}: {' '.join(sentence(error).split())}\n")
        return math.inf

    return wrapper


@contextmanager
def _marked(config: DictConfig, hydra_config: HydraConf, folder: Path) -> Iterator[None]:
    """Inside, a run is one of a sweep's that are under way; its own bars stay away, and where the sweep has one, so do
    its lines, which `train.log` has."""
    for key in ("trainer.progress", "evaluation.progress"):
        OmegaConf.update(config, key, False)
    if os.environ.get(SHOWN):
        for handler in logging.getLogger().handlers:
            if type(handler) is logging.StreamHandler:
                handler.setLevel(logging.WARNING)
    sweep, number = Path(hydra_config.sweep.dir), int(hydra_config.job.num)
    mark = Mark(os.path.relpath(folder, sweep), False, config.trainer.max_steps)
    leave_mark(sweep, number, mark)
    try:
        yield
    finally:
        leave_mark(sweep, number, mark._replace(has_ended=True))


def resuming(folder: Path, config: DictConfig) -> str:
    """The command that goes on with a run; with all that was typed, where it has saved nothing yet."""
    place = folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder
    count = os.environ.get("WORLD_SIZE", "1")
    program = ["python", "train.py"] if count == "1" else ["torchrun", f"--nproc-per-node={count}", "train.py"]
    if RunFolder(folder).config.is_file():
        allow = [f"allow=[{','.join(config.allow)}]"] if config.allow else []
        sent = [f"{key}={OmegaConf.select(config, key)}" for key in sending(config)]
        settings = [literal(f"resume={place}"), *allow, *sent]
    else:
        kept = [item for item in config.overrides if not item.startswith(("run_dir=", "trainer.resume="))]
        settings = [*kept, literal(f"run_dir={place}"), "trainer.resume=true"]
    return shlex.join([*program, *settings])


def folder_name(overrides: str) -> str:
    """A sweep's overrides as the name of a run's folder: of paths the last part, and no longer than a file system
    allows; a checksum keeps what was shortened apart."""
    name = re.sub(r"(?<==)'(?:[^'\\]|\\.)*/((?:[^'\\/]|\\.)*)'", r"\1", overrides)  # of paths in quotes too
    name = re.sub(r"(?<==)[^,=]*/", "", name).replace("/", "_")
    name = name.encode()[:LONGEST_NAME].decode(errors="ignore")  # no half of a character
    return name if name == overrides else f"{name}-{zlib.crc32(overrides.encode()):08x}"


OmegaConf.register_new_resolver("folder_name", folder_name, replace=True)  # conf/config.yaml asks for it


@contextmanager
def logging_level(level: int) -> Iterator[None]:
    """Inside, the project's messages are heard from a level on, unless the caller has asked for a higher one."""
    logger = logging.getLogger("separation")
    before = logger.level
    logger.setLevel(max(level, before))
    try:
        yield
    finally:
        logger.setLevel(before)


@contextmanager
def logged_to(path: Path) -> Iterator[None]:
    """Inside, log messages are copied to a file; those of other runs that train together with this one are not."""
    handler = logging.FileHandler(path, encoding="utf-8")
    this = threading.get_ident()
    if threading.current_thread() is not threading.main_thread():
        handler.addFilter(lambda record: record.thread == this)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)
        handler.close()
