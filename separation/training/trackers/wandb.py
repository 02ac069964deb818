"""Weights & Biases. Offline, it writes into the run folder; `wandb sync FOLDER/wandb/offline-run-*` sends it later."""

import os
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from separation.errors import check_choice
from separation.training.trackers.tracker import Row, TrackedRun, check_installed

LONGEST_NAME = 128
"""That the service accepts."""
SECONDS: dict[str, Any] = {"init_timeout": 30, "finish_timeout": 300, "x_transaction_log_flush_interval": 1.0}
"""It would wait for a network for ever, and keep 15 s of rows in memory."""
NOTHING_ELSE: dict[str, Any] = {
    "silent": True,
    "console": "off",
    "save_code": False,
    "disable_code": True,
    "disable_git": True,
    "host": "",
    "x_disable_stats": True,
    "x_disable_meta": True,
    "x_disable_machine_info": True,
    "x_save_requirements": False,
}
"""Neither prints nor records what it isn't given."""


@dataclass
class Wandb:
    """Rows, settings and test scores, and nothing else: no console output, code, git state, host or its load.

    Args:
        project: in which the runs are shown.
        entity: whose project; null: the user's own.
        mode: offline, or online: rows are sent as they come.

    Raises:
        InputError: wandb isn't installed, or there is no such mode.
    """

    project: str
    entity: str | None
    mode: str

    def __post_init__(self) -> None:
        check_choice("logger.mode", self.mode, ("offline", "online"))
        check_installed("wandb")
        self._is_finished = False

    def begin(self, run: TrackedRun, step: int, identity: str | None) -> str:
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # read when wandb is imported
        import wandb

        identity = identity or uuid.uuid4().hex[:12]
        settings = wandb.Settings(
            mode=self.mode,
            project=self.project,
            entity=self.entity,
            root_dir=str(run.folder.path),
            run_id=identity,
            run_name=run.name[:LONGEST_NAME],
            run_group=run.sweep.name[:LONGEST_NAME] if run.sweep else None,
            resume="allow",
            allow_val_change=True,  # of settings that may change on resume
            reinit="create_new",  # leaves the runs of whoever calls this program alone
            **SECONDS,
            **NOTHING_ELSE,
        )
        self._run = wandb.init(config=dict(run.settings), settings=settings)
        return identity

    def write(self, rows: Sequence[Row]) -> None:
        for row in rows:  # an epoch's values join those of its last step
            self._run.log(dict(row.values), step=row.step)

    def finish(self, scores: Row) -> None:
        self._run.summary.update(dict(scores.values))
        self._is_finished = True

    def close(self) -> None:
        self._run.finish(exit_code=0 if self._is_finished else 1)
