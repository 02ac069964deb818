"""What the entry points share: overrides, one-sentence errors, exit codes."""

import functools
import logging
import os
import sys
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

from separation import atomic
from separation.errors import InputError
from separation.run_folder import RunFolder

CONF = Path(__file__).parent.parent / "conf"
LONGEST_NAME = 100
USER_ERRORS = (InputError, HydraException, OmegaConfBaseException, OSError)


def sentence(error: BaseException) -> str:
    """What the user should read of an error."""
    if isinstance(error, MissingMandatoryValue):
        key = getattr(error, "full_key", None) or str(error).rpartition(" ")[2]
        return f"{key}: has no value; give it one, as in {key}=VALUE"
    if isinstance(error, OSError) and not isinstance(error, InputError) and error.filename:
        return f"{error.filename}: {error.strerror}; give another path (run_dir, data.store, output) or mend this one"
    text = str(error)
    if isinstance(error, HydraException):
        text = text.partition("Config search path")[0]
        if isinstance(error.__cause__, OmegaConfBaseException):
            text += f" ({str(error.__cause__).strip().splitlines()[0]})"
        text = " ".join(text.split())  # Hydra lists choices a line each
    return text.strip()


def fail(error: BaseException) -> NoReturn:
    """Prints the sentence and exits: status 2 for settings that can't be composed, 1 for everything else."""
    print(f"error: {sentence(error)}", file=sys.stderr)
    sys.exit(2 if isinstance(error, HydraException | OmegaConfBaseException) else 1)


def entry_point(main: Callable[[], None]) -> None:
    """Runs a program; errors that its user can mend end it with a sentence, others with their traceback."""
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # makes Hydra raise what it would print with a traceback
    try:
        main()
    except USER_ERRORS as error:
        fail(error)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)


def job(run: Callable[[DictConfig, Path], None]) -> Callable[[DictConfig], None]:
    """A Hydra job: `run` gets the settings and the run folder's path.

    In a sweep, an error leaves `error.txt` in its run's folder and the other runs go on; the sweep's report then ends
    the program with status 1.
    """

    @functools.wraps(run)
    def wrapper(config: DictConfig) -> None:
        hydra_config = HydraConfig.get()
        folder = Path(hydra_config.runtime.output_dir)
        try:
            run(config, folder)
        except USER_ERRORS as error:
            if hydra_config.mode != RunMode.MULTIRUN:
                fail(error)
            print(f"error: {folder.name}: {sentence(error)}", file=sys.stderr)
            atomic.write_text(RunFolder(folder).error, sentence(error) + "\n")

    return wrapper


def folder_name(overrides: str) -> str:
    """A sweep's overrides as the name of a run's folder: without slashes, and short enough for any file system."""
    name = overrides.replace("/", "_")
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 9]}-{zlib.crc32(name.encode()):08x}"


OmegaConf.register_new_resolver("folder_name", folder_name, replace=True)  # conf/config.yaml asks for it


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


def split_overrides(arguments: Sequence[str], name: str) -> tuple[DictConfig, list[str]]:
    """Divides a command line into the program's own settings, composed, and overrides for the run's settings."""
    keys = set(compose_config(name, []))
    own = [argument for argument in arguments if argument.partition("=")[0] in keys]
    return compose_config(name, own), [argument for argument in arguments if argument not in own]


def run_config(folder: RunFolder, overrides: Sequence[str]) -> DictConfig:
    """A run's saved settings with overrides; `data=NAME` replaces its corpus by another of conf/data.

    Raises:
        InputError: the saved settings are damaged.
        HydraException: an override names no setting of the run.
    """
    folder.check_config()
    data = [override for override in overrides if override.partition("=")[0].split(".")[0] == "data"]
    if not any(override.startswith("data=") for override in data):
        return compose_config("config", overrides, folder.path)
    config = compose_config("config", [override for override in overrides if override not in data], folder.path)
    config.data = compose_config("config", data).data
    return config
