"""Where Hydra looks for `hydra/launcher=together`; what it does is in separation/app/together.py, which every start of
every program would import if it were here."""

from collections.abc import Sequence

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class TogetherLauncher(Launcher):
    """Trains jobs of one shape as one.

    Args:
        max_runs: in a group; None: as many as the memory holds.
        stacked: see `joint_step`; None: on a GPU.
    """

    def __init__(self, max_runs: int | None, stacked: bool | None) -> None:
        self._settings = (max_runs, stacked)

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Hydra's: what `launch` needs."""
        self._context, self._task, self._config = hydra_context, task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Hydra's: runs the jobs and returns what they returned, in their order."""
        from separation.app.together import Together

        together = Together(*self._settings, self._context, self._task, self._config)
        return together.launch(job_overrides, initial_job_idx)
