"""Settings to objects: builds what the files under conf/ describe, and turns what goes wrong into sentences."""

import inspect
import logging
import re
from collections.abc import Callable
from functools import partial
from typing import Any

import psutil
import torch
from hydra.errors import HydraException, InstantiationException
from hydra.utils import get_class, instantiate
from omegaconf import DictConfig, OmegaConf
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from separation.data.corpora.corpus import TEST, TEST_UNKNOWN, TRAIN, VALID, Corpus
from separation.data.drawn_mixtures import DrawnMixtures
from separation.data.listed_mixtures import ListedMixtures
from separation.data.mixtures import Data, Mixing, MixtureList
from separation.data.sample_store import open_store
from separation.errors import InputError, check_count
from separation.model.losses import Loss, ScaledLoss
from separation.model.separators import TrainedModel
from separation.runs import checkpoint
from separation.runs.run_folder import RunFolder
from separation.training.devices import Precision, allow_tf32, pick_device
from separation.training.processes import Processes
from separation.training.schedules import Schedule
from separation.training.step import TrainingParts
from separation.training.together.group import Member

log = logging.getLogger(__name__)


def build(config: DictConfig, key: str, **arguments: Any) -> Any:
    """Instantiates the settings under `key`.

    Args:
        config: the whole configuration.
        arguments: passed on to the target.

    Raises:
        InputError: a value is unknown or not allowed.
        MissingMandatoryValue: a value is missing.
    """
    node = OmegaConf.select(config, key)
    if not isinstance(node, DictConfig):
        raise InputError(f"{key}={node}: expected settings with a _target_, as in the files under conf/{key}")
    OmegaConf.to_container(node, resolve=True, throw_on_missing=True)
    try:
        return instantiate(node, **arguments)
    except InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, InputError):
            raise cause from error
        if isinstance(cause, ValueError | TypeError):
            # The clipping library names the argument first ("p: expected ..."): make it the key ("clip.p: ...").
            joint = "." if re.match(r"\w+: ", str(cause)) else ": "
            given = ", ".join(f"{name!s}={value}" for name, value in node.items() if not str(name).startswith("_"))
            remark = f" (given: {given})" if isinstance(cause, TypeError) else ""
            raise InputError(f"{key}{joint}{cause}{remark}") from error
        raise


def build_corpus(config: DictConfig, mixing: Mixing | None = None) -> Corpus:
    """The corpus, without looking at its files.

    Args:
        mixing: what the settings say of it, if it was built before.

    Raises:
        InputError: it was told other mixtures than those that are to be made.
    """
    mixing = mixing or build(config, "mixing")
    for key in ("num_sources", "mode"):
        if key in config.data and config.data[key] != getattr(mixing, key):
            raise InputError(
                f"data.{key}={config.data[key]}: must equal mixing.{key}={getattr(mixing, key)}; give it for both"
            )
    if OmegaConf.is_missing(config.data, "root"):
        sources = getattr(get_class(config.data._target_), "downloads", ())
        fetch = "".join(f"; python scripts/download.py {name} root=FOLDER fetches it" for name in sources[:1])
        raise HydraException(
            f"data.root: has no value; give the folder that holds the corpus, as in data.root=FOLDER{fetch}"
        )
    return build(config, "data")


def build_data(config: DictConfig, corpus: Corpus | None = None) -> Data:
    """Opens the corpus's sample store (built first where there is none) and its mixture lists.

    Only the training list depends on the run's seed: every run is validated and tested on the same mixtures.

    Args:
        corpus: what `build_corpus` gave, if it was called before.
    """
    mixing = build(config, "mixing")
    corpus = corpus or build_corpus(config, mixing)
    num_sources = OmegaConf.select(config, "model.num_sources", default=mixing.num_sources)
    if num_sources != mixing.num_sources:
        raise InputError(f"model.num_sources={num_sources}: must equal mixing.num_sources={mixing.num_sources}")
    store = open_store(corpus)
    lists = corpus.mixture_lists({utterance.name for utterance in store.utterances})
    splits = {utterance.split for utterance in store.utterances}

    def mixtures(split: str, count: int | None, seed: int | None = None) -> MixtureList:
        if split in lists:
            return ListedMixtures(store, split, mixing, lists[split], count, seed)
        return DrawnMixtures(store, split, mixing, count, seed or 0)

    return Data(
        train=mixtures(TRAIN, corpus.num_train, config.seed),
        valid=mixtures(VALID, corpus.num_valid),
        tests=[mixtures(split, corpus.num_test) for split in (TEST, TEST_UNKNOWN) if split == TEST or split in splits],
        corpus=corpus,
        lists=lists,
    )


def shared_data(member: Member, config: DictConfig) -> Data:
    """As `build_data`, once for all runs of a group that train on the same mixtures."""
    keys = [OmegaConf.to_yaml(config[key], resolve=True) for key in ("data", "mixing")]
    keys += [str(config.seed), str(OmegaConf.select(config, "model.num_sources"))]
    return member.shared(" ".join(keys), partial(build_data, config))


def build_loss(config: DictConfig) -> Loss:
    """The training loss, in the units that were asked for."""
    loss: Loss = build(config, "model.loss")
    scales = config.loss_scale, config.magnitude_scale
    return loss if scales == (1.0, 1.0) else ScaledLoss(loss, *scales)


def build_parts(
    config: DictConfig,
    device: torch.device,
    processes: Processes,
    initialise: Callable[[torch.nn.Module], object] | None = None,
    data: Callable[[DictConfig], Data] = build_data,
) -> TrainingParts:
    """What a training run holds, with the initial values of its seed.

    Args:
        initialise: gives the network others.
        data: opens the corpus, last of all.
    """
    needed = processes.count * config.trainer.accumulate
    if needed > config.trainer.batch_size:
        raise InputError(
            f"trainer.batch_size={config.trainer.batch_size}: each of the {processes.count} processes needs an excerpt"
            f" for each of its parts (trainer.accumulate={config.trainer.accumulate}); take {needed} or more"
        )
    # What is quick to build goes first: a wrong setting is told before a corpus is read.
    loss, separator, stft = build_loss(config), build(config, "model.separator"), build(config, "stft")
    torch.manual_seed(config.seed)
    network = build(config, "model.network").to(device)
    if initialise is not None:
        initialise(network)
    optimizer = build(config, "optimizer", params=network.parameters())
    if not isinstance(optimizer, torch.optim.Optimizer) or _needs_closure(optimizer):
        raise InputError(
            f"optimizer._target_={config.optimizer._target_}: doesn't take steps from given gradients; see"
            " torch.optim for one that does, such as torch.optim.Adam"
        )
    schedule = build_schedule(config, optimizer)
    averaged = None
    if config.trainer.ema is not None:
        averaged = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(config.trainer.ema), use_buffers=True)
    if processes.rank:  # every process has the same network, but its own dropout
        torch.manual_seed(config.seed + processes.rank * 2**40)
    clipper = build(config, "clip")
    clipper.attached_to(optimizer)
    return TrainingParts(
        replica=processes.wrap(network, config.trainer.accumulate),
        network=network,
        loss=loss,
        clipper=clipper,
        optimizer=optimizer,
        separator=separator,
        stft=stft,
        data=data(config),
        device=device,
        precision=Precision(config.trainer.precision, device),
        processes=processes,
        num_parts=config.trainer.accumulate,
        schedule=schedule,
        averaged=averaged,
    )


def build_schedule(config: DictConfig, optimizer: torch.optim.Optimizer) -> Schedule:
    """What changes the optimizer's learning rate."""
    if not config.scheduler:
        return Schedule()
    scheduler = build(config, "scheduler", optimizer=optimizer)
    if not isinstance(scheduler, LRScheduler):
        raise InputError(
            f"scheduler._target_={config.scheduler._target_}: is none; see torch.optim.lr_scheduler.LRScheduler"
        )
    return Schedule(scheduler)


def _needs_closure(optimizer: torch.optim.Optimizer) -> bool:
    """Whether it computes gradients itself, several times a step, as LBFGS does."""
    return inspect.signature(type(optimizer).step).parameters["closure"].default is inspect.Parameter.empty


def load_model(folder: RunFolder, config: DictConfig, weights: str = "best") -> TrainedModel:
    """Builds a run's network and restores its best checkpoint.

    Args:
        weights: best, or averaged.

    Raises:
        InputError: the checkpoint is damaged or doesn't fit the settings.
    """
    device = pick_device(config.device)
    allow_tf32(False)  # scores are of the network as it is
    network = build(config, "model.network").to(device)
    checkpoint.load_network(folder.checkpoint(weights), network, device)
    return TrainedModel(network.eval(), build(config, "model.separator"), build(config, "stft"), device)


def set_threads(config: DictConfig) -> None:
    """Limits torch to `threads` CPU threads; warns where none are given and other programs use the cores."""
    if config.threads is not None:
        check_count("threads", config.threads, maximum=1024)
        torch.set_num_threads(config.threads)
        return
    busy, count = psutil.getloadavg()[0], torch.get_num_threads()
    if count > 1 and busy > count / 2:
        log.warning(
            "other programs use the CPU (load %.1f): where %d threads wait for each other, threads=1 may be far faster",
            *(busy, count),
        )
