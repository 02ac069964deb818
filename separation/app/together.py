"""`hydra/launcher=together`: those jobs of a sweep that can train as one do, in one process; others run as they would.

Jobs are of one shape if they differ in nothing but seeds, clipping, losses, rates and when they end. What each leaves
is the run folder that it would have had alone.
"""

import logging
import resource
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path

import psutil
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, configure_log, run_job, setup_globals
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException
from tqdm.contrib.logging import logging_redirect_tqdm

from separation.app import command
from separation.app.train import start
from separation.errors import check_count, check_flag
from separation.training.devices import pick_device
from separation.training.interruption import Interruption
from separation.training.together.group import Group, Member, State

log = logging.getLogger(__name__)
NETWORKS = tuple(f"separation.model.networks.{name}" for name in ("mask_inference", "deep_clustering", "chimera"))
SHAPE = (
    *("model.network", "mixing", "stft", "data", "magnitude_scale", "device", "threads", "allow", "optimizer._target_"),
    *("trainer.batch_size", "trainer.excerpt_frames", "trainer.precision", "trainer.cuda_graph"),
)
"""Settings that all runs of a group share."""
HYDRAS_STATE: State = (
    lambda: HydraConfig.instance().cfg,
    lambda config: setattr(HydraConfig.instance(), "cfg", config),
)
"""The settings that `${hydra:...}` means."""
FILES_A_RUN, FILES_LEFT = 8, 50
"""Open files: of a run, about, and of everything else."""
USABLE = 0.8
"""Share of the free memory that groups take."""


class Together:
    """Trains jobs of one shape as one.

    Args:
        max_runs: in a group; None: as many as the memory holds.
        stacked: see `joint_step`; None: on a GPU.
        context, task, config: what Hydra gives a launcher.
    """

    def __init__(
        self,
        max_runs: int | None,
        stacked: bool | None,
        context: HydraContext,
        task: TaskFunction,
        config: DictConfig,
    ) -> None:
        if max_runs is not None:
            check_count("hydra.launcher.max_runs", max_runs)
        if stacked is not None:
            check_flag("hydra.launcher.stacked", stacked)
        self._max_runs = max_runs
        self._stacked = stacked
        self._context, self._task, self._config = context, task, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Runs the jobs and returns what they returned, in their order."""
        setup_globals()
        get, put = HYDRAS_STATE
        before = get()
        configure_log(self._config.hydra.job_logging, self._config.hydra.verbose)
        Path(str(self._config.hydra.sweep.dir)).mkdir(parents=True, exist_ok=True)
        configs = [self._composed(overrides, initial_job_idx + i) for i, overrides in enumerate(job_overrides)]
        returned: dict[int, JobReturn] = {}
        for numbers in self._groups(configs):
            returned |= zip(numbers, self._train([configs[number] for number in numbers]), strict=True)
        put(before)
        return [returned[number] for number in range(len(configs))]

    def _composed(self, overrides: Sequence[str], number: int) -> DictConfig:
        config = self._context.config_loader.load_sweep_config(self._config, list(overrides))
        with open_dict(config):
            config.hydra.job.id = config.hydra.job.num = number
        return config

    def _groups(self, configs: Sequence[DictConfig]) -> Iterator[list[int]]:
        """The jobs' numbers, those that train as one together."""
        shapes: dict[str, list[int]] = {}
        for number, config in enumerate(configs):
            problem = why_alone_or_wrong(config)
            if problem:
                announce("%s trains alone: %s", " ".join(config.hydra.overrides.task), problem)
            shapes.setdefault(f"alone {number}" if problem else shape(config), []).append(number)
        for numbers in shapes.values():
            size = len(numbers) if len(numbers) == 1 else self._max_runs or num_fitting(configs[numbers[0]])
            rest = iter(numbers)
            while group := list(islice(rest, size)):
                yield group

    def _train(self, configs: Sequence[DictConfig]) -> list[JobReturn]:
        """Runs the jobs of a group; what is in no other's shape, as any launcher does."""
        if len(configs) == 1:
            return [self._run(configs[0], self._task)]
        announce("%d runs train as one", len(configs))
        device = pick_device(configs[0].device)
        stacked = device.type == "cuda" if self._stacked is None else self._stacked
        interruption = Interruption()
        with interruption.handled(), interruption.deferred(), command.logging_level(logging.INFO):
            group = Group(stacked, configs[0].trainer.cuda_graph, interruption, [HYDRAS_STATE])
            returned = group.run([partial(self._run_member, config) for config in configs])
            if interruption.number:  # the jobs that were to come end at once, then the sweep
                stopped = Path(str(self._config.hydra.sweep.dir)) / command.STOPPED
                stopped.write_text(str(interruption.number))
                interruption.number = 0
        return returned

    def _run_member(self, config: DictConfig, member: Member) -> JobReturn:
        def train(settings: DictConfig, path: Path) -> float:
            return start(settings, path, HydraConfig.get(), member).best

        return self._run(config, command.job(train))

    def _run(self, config: DictConfig, task: Callable[[DictConfig], object]) -> JobReturn:
        return run_job(
            hydra_context=self._context,
            task_function=task,
            config=config,
            job_dir_key="hydra.sweep.dir",
            job_subdir_key="hydra.sweep.subdir",
            configure_logging=False,
        )


def announce(text: str, *values: object) -> None:
    """Logs a line, above the sweep's bar where there is one."""
    with logging_redirect_tqdm():
        log.info(text, *values)


def why_alone(config: DictConfig) -> str:
    """Why a job can't train as one with others; empty where it can."""
    target = OmegaConf.select(config, "model.network._target_")
    if target not in NETWORKS:
        return f"model.network._target_={target} has no BLSTM layers of known names"
    if config.model.dropout and config.model.num_layers > 1:
        return f"model.dropout={config.model.dropout}: all runs would draw from one sequence of random numbers"
    if config.trainer.precision == "fp16":
        return "trainer.precision=fp16 scales each run's loss; bf16 and tf32 don't"
    if config.trainer.accumulate != 1:
        return f"trainer.accumulate={config.trainer.accumulate}: a group's batches are processed whole"
    if config.allow:
        return f"allow={config.allow}: code of one's own may use what all runs of a process share, as random numbers"
    return ""


def why_alone_or_wrong(config: DictConfig) -> str:
    """As `why_alone`, of a job whose settings may be wrong: which ones, the run itself says."""
    job = OmegaConf.select(config, "hydra.job", default={})
    if job.get("chdir") or job.get("env_set"):
        return "hydra.job.chdir and hydra.job.env_set hold for the whole process"
    try:
        problem = why_alone(config)
        pick_device(config.device)
        num_bytes(config)
    except Exception:
        return "a setting is wrong"
    return problem


def shape(config: DictConfig) -> str:
    """What is the same for all runs that can train as one."""
    lines = []
    for key in SHAPE:
        try:
            value = OmegaConf.select(config, key)
            lines.append(OmegaConf.to_yaml(value, resolve=True) if OmegaConf.is_config(value) else str(value))
        except OmegaConfBaseException as error:  # the run itself will say so
            lines.append(str(error))
    return "\n".join(lines)


def num_fitting(config: DictConfig) -> int:
    """How many runs the free memory of the device holds, and the limit of open files allows; one at least."""
    device = pick_device(config.device)
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return max(1, min(int(USABLE * free / num_bytes(config)), (files - FILES_LEFT) // FILES_A_RUN))


def num_bytes(config: DictConfig) -> int:
    """About as much memory as a run's step takes: what backpropagation needs of each frame, and six copies of the
    parameters (gradient, Adam's two, both stacked)."""
    model, hidden = config.model, config.model.hidden_size
    bins = config.stft.window_length // 2 + 1
    heads = OmegaConf.select(config, "model.num_sources", default=0)
    heads += OmegaConf.select(config, "model.embedding_size", default=0)
    num_frames = config.trainer.batch_size * config.trainer.excerpt_frames
    of_a_frame = model.num_layers * 48 * hidden + bins * (6 * heads + 2 * config.mixing.num_sources + 10)
    of_layers = 8 * hidden * (bins + hidden) + (model.num_layers - 1) * 8 * hidden * 3 * hidden
    return 4 * (num_frames * of_a_frame + 6 * (of_layers + 2 * hidden * bins * heads))
