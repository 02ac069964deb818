"""MLflow, with a file or a server."""

import logging
import os
import re
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

from filelock import FileLock

from separation.training.trackers.tracker import Row, TrackedRun, check_installed

METRICS_A_CALL = 1000
PARAMS_A_CALL = 100
UNNAMEABLE = r"[^\w\-. :/]"
"""MLflow's limits."""
ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # its own seven and two minutes would hold training up
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}
"""Unless the user says otherwise."""


@dataclass
class MLflow:
    """Rows, settings and test scores.

    Args:
        experiment: in which the runs are shown.
        tracking_uri: of a server or a database; null: the file mlflow.db in the folder of the run, or of its sweep.

    Raises:
        InputError: mlflow isn't installed.
    """

    experiment: str
    tracking_uri: str | None

    def __post_init__(self) -> None:
        check_installed("mlflow")
        self._is_finished = False

    def begin(self, run: TrackedRun, step: int, identity: str | None) -> str:
        for name, value in ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient

        logging.getLogger("mlflow").setLevel(logging.WARNING)  # which importing it has set
        file = (run.sweep / run.folder.mlflow.name if run.sweep else run.folder.mlflow).absolute()
        lock = nullcontext() if self.tracking_uri else FileLock(file.with_name(f".{file.name}.lock"))
        with lock:  # of the runs of a sweep one makes the tables
            self._client = MlflowClient(self.tracking_uri or f"sqlite:///{file}")
            try:
                if identity is not None:
                    self._client.update_run(identity, status="RUNNING")
                    self._identity = identity
                    return identity
            except MlflowException:  # another server or database
                pass
            self._identity = self._create(run)
        return self._identity

    def _create(self, run: TrackedRun) -> str:
        from mlflow.entities import Param

        experiment = self._client.get_experiment_by_name(self.experiment)
        number = experiment.experiment_id if experiment else self._client.create_experiment(self.experiment)
        tags = {"sweep": run.sweep.name} if run.sweep else {}
        identity = self._client.create_run(number, run_name=run.name, tags=tags).info.run_id
        params = [Param(re.sub(UNNAMEABLE, "_", name), str(value)) for name, value in run.settings.items()]
        for first in range(0, len(params), PARAMS_A_CALL):
            self._client.log_batch(identity, params=params[first : first + PARAMS_A_CALL])
        return identity

    def write(self, rows: Sequence[Row]) -> None:
        from mlflow.entities import Metric

        metrics = [
            Metric(tag, value, round(1000 * row.time), row.step) for row in rows for tag, value in row.values.items()
        ]
        for first in range(0, len(metrics), METRICS_A_CALL):
            self._client.log_batch(self._identity, metrics=metrics[first : first + METRICS_A_CALL])

    def finish(self, scores: Row) -> None:
        self.write([scores])
        self._is_finished = True

    def close(self) -> None:
        self._client.set_terminated(self._identity, "FINISHED" if self._is_finished else "KILLED")
