"""Settings from the command line, from conf/ and from run folders."""

import difflib
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.conf import HydraConf
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, flag_override

from separation.app.assembly import build_corpus, build_data
from separation.app.literal_paths import literal, with_keys
from separation.data.corpora.corpus import Corpus
from separation.data.corpora.file_corpus import named
from separation.data.mixtures import Data
from separation.data.sample_store import is_built
from separation.errors import InputError
from separation.runs.earlier_versions import use_todays_names
from separation.runs.paths import user_path
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
    try:
        config = _compose(name, overrides, folder)
    except HydraException as error:
        raise hinted(error, name, folder, overrides) from error
    check_targets(config, config.get("allow", ()))
    return config


def compose_with_hydra(name: str, overrides: Sequence[str]) -> tuple[DictConfig, HydraConf]:
    """The configuration `name` of conf/, and Hydra's own settings, as Hydra's main function would have them."""
    try:
        config = _compose(name, overrides, CONF, with_hydra=True)
    except HydraException as error:
        raise hinted(error, name, CONF, overrides) from error
    with flag_override(config, ["readonly", "struct"], False):
        return config, config.pop("hydra")


def _compose(name: str, overrides: Sequence[str], folder: Path, with_hydra: bool = False) -> DictConfig:
    """By Hydra's rules.

    Args:
        with_hydra: with Hydra's own settings.

    Raises:
        HydraException: an override can't be used; names the keys that there are.
    """
    hydra = GlobalHydra.instance()
    before, hydra.hydra = hydra.hydra, None  # the program that calls may be one of Hydra's
    try:
        with initialize_config_dir(str(folder.absolute()), version_base="1.3"):
            return compose(name, list(overrides), return_hydra_config=with_hydra)
    finally:
        GlobalHydra.instance().hydra = before


def stft_samples(hops: int, rate: int) -> int:
    """So many hops of 8 ms in samples: 64 each at 8 kHz."""
    return hops * max(1, round(rate / 125))


OmegaConf.register_new_resolver("stft_samples", stft_samples, replace=True)  # conf/config.yaml asks for it


def split_overrides(typed: Sequence[str], name: str, folder: Path = CONF) -> tuple[DictConfig, list[str]]:
    """Divides a command line into a program's settings (`name` of a folder), composed, and overrides for a run's."""
    keys = set(compose_config(name, [], folder))
    chosen = [argument for argument in typed if argument.partition("=")[0] in keys]
    return compose_config(name, chosen, folder), [argument for argument in typed if argument not in chosen]


def arguments(doc: str | None, name: str, folder: Path = CONF, positional: Sequence[str] = ()) -> list[str]:
    """The command line of a program whose settings are `name` of a folder, paths taken literally; with --help, prints
    how to call it and ends.

    Args:
        positional: keys of the arguments that have none.
    """
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(f"{doc}\n{(folder / f'{name}.yaml').read_text()}")
        sys.exit()
    usage = re.search(r"`(python .+?)`", doc or "", re.DOTALL)
    typed = with_keys(sys.argv[1:], positional, usage[1] if usage else "--help says more")
    return [literal(argument) for argument in typed]


def hinted(error: HydraException, name: str, folder: Path, typed: Sequence[str]) -> HydraException:
    """An error of an override's key, with the keys that there are beside it and the one that may be meant."""
    text = str(error).partition("Config search path")[0]
    unknown = re.search(r"Could not override '([\w.]+)'", text)
    if not unknown:
        return error
    parent, _, key = unknown[1].rpartition(".")
    groups = [argument for argument in typed if re.fullmatch(r"\w+=\w+", argument)]
    try:
        config = _compose(name, groups, folder)
    except HydraException:
        config = _compose(name, [], folder)
    beside = OmegaConf.select(config, parent) if parent else config
    keys = [str(name) for name in beside if not str(name).startswith("_")] if isinstance(beside, DictConfig) else []
    if not keys:
        return error
    others = _choices_with(parent, key)
    meant = [name for name in keys if name == "".join(word[0] for word in key.split("_") if word)]
    meant = meant or difflib.get_close_matches(key, keys, n=1)
    question = f"did you mean {f'{parent}.' if parent else ''}{meant[0]}? " if meant else ""
    where = f"{parent} has" if parent else "there are"
    elsewhere = f"; it is one of {parent}={', '.join(others)}" if others and not meant else ""
    return HydraException(f"{unknown[1]}: there is no such setting; {question}{where} {', '.join(keys)}{elsewhere}")


def _choices_with(group: str, key: str) -> list[str]:
    """The choices of a group of conf/ that have a key."""
    return sorted(
        path.stem for path in (CONF / group).glob("*.yaml") if group and re.search(rf"^{key}:", path.read_text(), re.M)
    )


def check_model_keys(config: DictConfig) -> None:
    """Raises InputError where the model has a setting that none of its parts reads, such as one that an experiment
    sets for another model: the network wouldn't be what was asked for.

    Args:
        config: with its references, `${model.hidden_size}`, as composed.
    """
    text = OmegaConf.to_yaml(config, resolve=False)
    for key in config.model:
        node = config.model._get_node(key)
        if not isinstance(node, DictConfig) and key != "num_sources" and f"${{model.{key}}}" not in text:
            raise InputError(
                f"model.{key}: nothing in this model reads it; leave it out, or choose the model that it is for"
                " (an experiment of another model sets such keys)"
            )


def note_choices(config: DictConfig, hydra: HydraConf) -> None:
    """Adds to the settings how they were composed: `choices`, each group's, and `overrides`, as they were typed."""
    choices = {group: choice for group, choice in hydra.runtime.choices.items() if not group.startswith("hydra/")}
    OmegaConf.update(config, "choices", choices, force_add=True)
    OmegaConf.update(config, "overrides", list(hydra.overrides.task), force_add=True)


def run_folder(path: object, key: str = "run", trained: bool = True) -> RunFolder:
    """The run folder that a key names.

    Args:
        trained: it has to have a best checkpoint.

    Raises:
        InputError: it names none.
    """
    folder = user_path(key, path)
    runs = (
        [] if (folder / "config.yaml").is_file() else [*folder.glob("*/config.yaml"), *folder.glob("*/*/config.yaml")]
    )
    if runs:
        names = named(sorted(file.parent.relative_to(folder).as_posix() for file in runs), "\n  ")
        raise InputError(f"{key}={path}: holds {len(runs)} runs; give one of them:\n  {names}")
    return RunFolder.open(folder, key, trained)


def run_config(
    folder: RunFolder, overrides: Sequence[str], separator: DictConfig | None = None, allow: object = ()
) -> DictConfig:
    """A run's saved settings, checked and under today's names, with overrides.

    Args:
        overrides: `data=NAME` replaces the corpus by another of conf/data.
        separator: a choice of conf/separator, which replaces the run's; None: the run's.
        allow: see `check_targets`; never from the folder.

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
        config = compose_saved(folder, others)
        config.data = compose_config("config", data).data
    else:
        config = compose_saved(folder, overrides)
    if separator is not None:
        config.model.separator = OmegaConf.create(OmegaConf.to_container(separator, resolve=False))
    check_targets(config, allow)
    if config.data.sample_rate != rate:
        raise InputError(f"data.sample_rate={config.data.sample_rate}: the network was trained at {rate} Hz; use that")
    return config


def compose_saved(folder: RunFolder, overrides: Sequence[str]) -> DictConfig:
    """A run's saved settings, which `RunFolder.load_config` has checked, under today's names, with overrides.

    Raises:
        HydraException: an override names no setting of the run.
    """
    try:
        config = _compose("config", overrides, folder.path)
    except HydraException as error:
        raise hinted(error, "config", folder.path, overrides) from error
    use_todays_names(config)
    return config


def run_data(config: DictConfig, overrides: Sequence[str]) -> Data:
    """The mixtures of a run's settings."""
    return build_data(config, corpus_of_run(config, overrides))


def corpus_of_run(config: DictConfig, overrides: Sequence[str]) -> Corpus:
    """The corpus of a run's settings.

    Its samples are read where the settings say, if they are there; they are written only where the user says: for
    others `data.store` becomes the default.
    """
    corpus = build_corpus(config)
    if any(override.startswith("data.store=") for override in overrides) or is_built(corpus):
        return corpus
    config.data.store = Corpus.store
    return build_corpus(config)
