"""Settings from the command line, from conf/ and from run folders."""

import sys
from collections.abc import Sequence
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from separation.app.assembly import build_corpus, build_data
from separation.data.corpora.corpus import Corpus
from separation.data.mixtures import Data
from separation.data.sample_store import is_built
from separation.errors import InputError, check_path
from separation.runs.earlier_versions import use_todays_names
from separation.runs.run_folder import RunFolder
from separation.runs.untrusted_files import check_targets

PACKAGE = Path(__file__).parent.parent
CONF = PACKAGE / "conf" if (PACKAGE / "conf").is_dir() else PACKAGE.parent / "conf"
"""The settings' files: inside of an installed package, beside it in a checkout."""
OVERRIDABLE = ("data=", "data.", "mixing.", "model.separator.", "device=", "threads=")


def compose_config(name: str, overrides: Sequence[str], folder: Path = CONF) -> DictConfig:
    """The configuration `name` of a folder with overrides, by Hydra's rules.

    Raises:
        InputError: it would build something else than this project's classes.
    """
    config = _compose(name, overrides, folder)
    check_targets(config)
    return config


def _compose(name: str, overrides: Sequence[str], folder: Path) -> DictConfig:
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(folder.absolute()), version_base="1.3"):
        return compose(name, list(overrides))


def split_overrides(typed: Sequence[str], name: str, folder: Path = CONF) -> tuple[DictConfig, list[str]]:
    """Divides a command line into a program's settings (`name` of a folder), composed, and overrides for a run's."""
    keys = set(compose_config(name, [], folder))
    chosen = [argument for argument in typed if argument.partition("=")[0] in keys]
    return compose_config(name, chosen, folder), [argument for argument in typed if argument not in chosen]


def arguments(doc: str | None, name: str, folder: Path = CONF) -> list[str]:
    """The command line of a program whose settings are `name` of a folder; with --help, prints how to call it and
    ends."""
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(f"{doc}\n{(folder / f'{name}.yaml').read_text()}")
        sys.exit()
    return sys.argv[1:]


def note_choices(config: DictConfig) -> None:
    """Adds to the settings how they were composed: `choices`, each group's, and `overrides`, as they were typed."""
    hydra = HydraConfig.get()
    choices = {group: choice for group, choice in hydra.runtime.choices.items() if not group.startswith("hydra/")}
    OmegaConf.update(config, "choices", choices, force_add=True)
    OmegaConf.update(config, "overrides", list(hydra.overrides.task), force_add=True)


def run_folder(path: object) -> RunFolder:
    """The run folder that a `run` key names.

    Raises:
        InputError: it names none.
    """
    check_path("run", path)
    return RunFolder.open(Path(str(path)).expanduser())


def run_config(folder: RunFolder, overrides: Sequence[str], separator: DictConfig | None = None) -> DictConfig:
    """A run's saved settings, checked and under today's names, with overrides.

    Args:
        overrides: `data=NAME` replaces the corpus by another of conf/data.
        separator: a choice of conf/separator, which replaces the run's; None: the run's.

    Raises:
        InputError: the saved settings are damaged or build something else than this project's classes, or an override
            would change what the network was trained for.
        HydraException: an override names no setting of the run.
    """
    rate = folder.load_config().data.sample_rate
    for override in overrides:
        if not override.startswith(OVERRIDABLE):
            raise InputError(f"{override}: a trained run takes overrides of {', '.join(OVERRIDABLE)} only")
    data = [override for override in overrides if override.startswith(("data=", "data."))]
    others = [override for override in overrides if override not in data]
    if any(override.startswith("data=") for override in data):
        config = _compose("config", others, folder.path)
        config.data = compose_config("config", data).data
    else:
        config = _compose("config", overrides, folder.path)
    use_todays_names(config)
    if separator is not None:
        config.model.separator = OmegaConf.create(OmegaConf.to_container(separator, resolve=False))
    check_targets(config)
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
