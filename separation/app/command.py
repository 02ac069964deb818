"""What the entry points share: overrides, one-sentence errors, exit codes."""

import functools
import logging
import os
import re
import shlex
import sys
import tempfile
import traceback
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from separation.app.assembly import build_corpus, build_data
from separation.data.corpora.corpus import Corpus
from separation.data.mixtures import Data
from separation.data.sample_store import is_built
from separation.errors import InputError, check_path
from separation.runs.run_folder import RunFolder
from separation.training.interruption import Interrupted

CONF = Path(__file__).parent.parent.parent / "conf"
OVERRIDABLE = ("data=", "data.", "mixing.", "model.separator.", "device=", "threads=")
LONGEST_NAME = 180
ERRORS = "errors.txt"
STOPPED = ".stopped"
"""Of a sweep that a signal has ended; holds its number."""
USER_ERRORS = (InputError, HydraException, OmegaConfBaseException, OSError, MemoryError)


def sentence(error: BaseException) -> str:
    """What the user should read of an error."""
    if isinstance(error, MissingMandatoryValue):
        key = getattr(error, "full_key", None) or str(error).rpartition(" ")[2]
        return f"{key}: has no value; give it one, as in {key}=VALUE"
    if isinstance(error, OSError) and not isinstance(error, InputError) and error.filename:
        return f"{error.filename}: {error.strerror}; give another path (run_dir, data.store, output) or mend this one"
    if isinstance(error, MemoryError):
        return f"not enough memory ({error or 'of this process'}); take smaller settings or shorter recordings"
    text = str(error)
    if isinstance(error, HydraException):
        text = text.partition("Config search path")[0]
        if isinstance(error.__cause__, OmegaConfBaseException):
            text += f" ({str(error.__cause__).strip().splitlines()[0]})"
        if any(words in text for words in ("no viable alternative", "mismatched input", "Lexer")):
            text += """; put quotes around a value with special characters, as in 'data.root="my folder"'"""
    if isinstance(error, HydraException | OmegaConfBaseException):
        text = " ".join(text.split())  # they list choices and causes a line each
    return text.strip()


def report(error: Exception, where: str = "") -> None:
    """Prints the sentence to stderr; for an error that nobody foresaw, the traceback goes to a file."""
    text = sentence(error)
    if not isinstance(error, USER_ERRORS):
        with tempfile.NamedTemporaryFile("w", prefix="separation-", suffix=".txt", delete=False) as file:
            traceback.print_exception(error, file=file)
        text = f"{type(error).__name__}: {' '.join(text.split())[:300]} (unforeseen; the traceback is in {file.name})"
    print(f"error: {where}{text}", file=sys.stderr)


def fail(error: Exception) -> NoReturn:
    """Reports and exits: status 2 for settings that can't be composed, 1 for everything else."""
    if str(error).startswith("Config group override must be"):  # Hydra's plain ValueError
        found = "null" if "NoneType" in str(error) else "a number or a truth value"
        error = HydraException(
            f"{found} is no choice of a group (data, model, clip, ...); without clipping is clip=none"
        )
    report(error)
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
        print(str(stop) or "interrupted", file=sys.stderr)
        sys.exit(stop.status if isinstance(stop, Interrupted) else 130)


def job(run: Callable[[DictConfig, Path], None]) -> Callable[[DictConfig], None]:
    """A Hydra job: `run` gets the settings and the run folder's path.

    In a sweep the other runs go on after an error; it leaves a line in the sweep's `errors.txt`, for the report at the
    end (`separation.app.sweeps`).
    """

    @functools.wraps(run)
    def wrapper(config: DictConfig) -> None:
        hydra_config = HydraConfig.get()
        folder = Path(hydra_config.runtime.output_dir)
        stopped = Path(hydra_config.sweep.dir) / STOPPED
        if hydra_config.mode == RunMode.MULTIRUN and stopped.exists():
            return  # a signal has ended the sweep: the jobs that were to come end at once
        try:
            run(config, folder)
        except Interrupted as stop:
            if os.environ.get("RANK", "0") == "0":
                print(f"{stop}; go on with: {_resuming(hydra_config.overrides.task, folder)}", file=sys.stderr)
            if hydra_config.mode != RunMode.MULTIRUN:
                sys.exit(stop.status)
            stopped.write_text(str(stop.number))  # joblib would kill the others at an exception, before they have saved
        except Exception as error:
            if hydra_config.mode != RunMode.MULTIRUN:
                fail(error)
            report(error, f"{folder.name}: ")
            with open(Path(hydra_config.sweep.dir) / ERRORS, "a", encoding="utf-8") as file:
                file.write(f"{folder.name}: {' '.join(sentence(error).split())}\n")

    return wrapper


def _resuming(overrides: Sequence[str], folder: Path) -> str:
    """The command that goes on with a run."""
    kept = [item for item in overrides if not item.startswith(("run_dir=", "trainer.resume="))]
    place = str(folder) if re.fullmatch(r"[\w./-]+", str(folder)) else "'" + str(folder).replace("'", r"\'") + "'"
    count = os.environ.get("WORLD_SIZE", "1")
    program = ["python", "train.py"] if count == "1" else ["torchrun", f"--nproc-per-node={count}", "train.py"]
    return shlex.join([*program, *kept, f"run_dir={place}", "trainer.resume=true"])


def folder_name(overrides: str) -> str:
    """A sweep's overrides as the name of a run's folder: of paths the last part, and no longer than a file system
    allows; a checksum keeps what was shortened apart."""
    name = re.sub(r"(?<==)[^,=]*/", "", overrides).replace("/", "_")[:LONGEST_NAME]
    return name if name == overrides else f"{name}-{zlib.crc32(overrides.encode()):08x}"


OmegaConf.register_new_resolver("folder_name", folder_name, replace=True)  # conf/config.yaml asks for it


def note_choices(config: DictConfig) -> None:
    """Adds to the settings how they were composed: `choices`, each group's, and `overrides`, as they were typed."""
    hydra = HydraConfig.get()
    choices = {group: choice for group, choice in hydra.runtime.choices.items() if not group.startswith("hydra/")}
    OmegaConf.update(config, "choices", choices, force_add=True)
    OmegaConf.update(config, "overrides", list(hydra.overrides.task), force_add=True)


def log_to_file(path: Path) -> None:
    """Copies log messages to a file."""
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    logging.getLogger().addHandler(handler)


def compose_config(name: str, overrides: Sequence[str], folder: Path = CONF) -> DictConfig:
    """The configuration `name` of a folder with overrides, by Hydra's rules."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(folder.absolute()), version_base="1.3"):
        return compose(name, list(overrides))


def split_overrides(arguments: Sequence[str], name: str, folder: Path = CONF) -> tuple[DictConfig, list[str]]:
    """Divides a command line into the program's own settings (`name` of a folder), composed, and overrides for the
    run's settings."""
    keys = set(compose_config(name, [], folder))
    own = [argument for argument in arguments if argument.partition("=")[0] in keys]
    return compose_config(name, own, folder), [argument for argument in arguments if argument not in own]


def run_config(folder: RunFolder, overrides: Sequence[str]) -> DictConfig:
    """A run's saved settings with overrides; `data=NAME` replaces its corpus by another of conf/data.

    Raises:
        InputError: the saved settings are damaged, or an override would change what the network was trained for.
        HydraException: an override names no setting of the run.
    """
    folder.load_config()
    for override in overrides:
        if not override.startswith(OVERRIDABLE):
            raise InputError(f"{override}: a trained run takes overrides of {', '.join(OVERRIDABLE)} only")
    data = [override for override in overrides if override.startswith(("data=", "data."))]
    others = [override for override in overrides if override not in data]
    if any(override.startswith("data=") for override in data):
        config = compose_config("config", others, folder.path)
        config.data = compose_config("config", data).data
    else:
        config = compose_config("config", overrides, folder.path)
    rate = (compose_config("config", [], folder.path) if data else config).data.sample_rate
    if config.data.sample_rate != rate:
        raise InputError(f"data.sample_rate={config.data.sample_rate}: the network was trained at {rate} Hz; use that")
    return config


def run_data(config: DictConfig, overrides: Sequence[str]) -> Data:
    """The mixtures of a run's settings.

    Its samples are read where the settings say, if they are there; they are written only where the user says.
    """
    corpus = build_corpus(config)
    if any(override.startswith("data.store=") for override in overrides) or is_built(corpus):
        return build_data(config, corpus)
    config.data.store = Corpus.store
    return build_data(config)


def use_separator(config: DictConfig, separator: DictConfig | None) -> None:
    """Replaces a run's separator by a choice of conf/separator; None leaves it."""
    if separator is not None:
        config.model.separator = OmegaConf.create(OmegaConf.to_container(separator, resolve=False))


def run_folder(path: object) -> RunFolder:
    """The run folder that a `run` key names.

    Raises:
        InputError: it names none.
    """
    check_path("run", path)
    return RunFolder.open(Path(str(path)).expanduser())
