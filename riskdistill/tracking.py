"""MLflow beside the release log: runs with their figures, bundles, and the aliases champion, challenger, previous.

The release log decides and MLflow follows: nothing here is read back, and where MLflow is not installed, away or
is slow, a warning says so and the work goes on. A service and a watch let it follow aside, in a thread; a command
does so last, when all else is done and told. `RISKDISTILL_MLFLOW` names it, as `sqlite:///runs/mlflow.db` or as the
URL of a server; where it is not set, nothing is tracked.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from riskdistill.storage.database import database_folder
from riskdistill.storage.releases import Release, ReleaseLog

if TYPE_CHECKING:
    from mlflow import MlflowClient

VARIABLE: Final = "RISKDISTILL_MLFLOW"
MODEL: Final = "riskdistill"  # of the registered model, and of the experiment that runs are in
DEADLINE: Final = 60.0  # seconds for one call here, bundle and all
_RELEASE: Final = "riskdistill.release"
_FOLLOWING: Final = threading.Lock()

_logger = logging.getLogger(__name__)


class Tracker:
    """The MLflow at `uri`.

    Args:
        deadline: seconds that one call may take before it is left to itself.
    """

    def __init__(self, uri: str, deadline: float = DEADLINE) -> None:
        self._uri, self._deadline = uri, deadline

    def log_run(
        self,
        name: str,
        *,
        parameters: Mapping[str, object],
        metrics: Mapping[str, float],
        artefacts: Sequence[Path] = (),
    ) -> bool:
        """Keep a finished run; says whether it was kept."""

        def keep(client: MlflowClient) -> None:
            run = client.create_run(_experiment(client), run_name=name)
            for key, value in parameters.items():
                client.log_param(run.info.run_id, key, str(value)[:500])
            for key, figure in metrics.items():
                client.log_metric(run.info.run_id, key, figure)
            for path in artefacts:
                client.log_artifact(run.info.run_id, str(path))
            client.set_terminated(run.info.run_id)

        return self._within_the_deadline(keep, "the run is not tracked")

    def follow(self, log: ReleaseLog) -> bool:
        """Store the bundles of releases that MLflow does not have yet, and set the aliases; says whether it did."""

        def set_aliases(client: MlflowClient) -> None:
            serving, releases = log.serving(), log.list()
            versions = _versions(client)
            for release in releases:
                if release.release_id not in versions and Path(release.bundle_path).is_dir():
                    versions[release.release_id] = _stored(client, release)
            for alias, holder in serving._asdict().items():
                if holder is None:
                    client.delete_registered_model_alias(MODEL, alias)
                elif holder.release_id in versions:
                    client.set_registered_model_alias(MODEL, alias, versions[holder.release_id])

        return self._within_the_deadline(set_aliases, "the aliases are not set")

    def _within_the_deadline(self, work: Callable[[MlflowClient], None], otherwise: str) -> bool:
        """Do something with a client, in a thread that nobody waits for longer than the deadline."""
        failure: list[BaseException] = []

        def run() -> None:
            try:
                from mlflow import MlflowClient

                logging.getLogger("mlflow").setLevel(logging.WARNING)  # it tells of every table that it makes
                work(MlflowClient(tracking_uri=self._uri, registry_uri=self._uri))
            except BaseException as error:  # whatever it is, the work that is tracked goes on
                failure.append(error)

        thread = threading.Thread(target=run, name="mlflow", daemon=True)
        thread.start()
        thread.join(self._deadline)
        if thread.is_alive():
            _logger.warning("MLflow does not answer within %g s: %s", self._deadline, otherwise)
            return False
        if failure:
            mend = "; install riskdistill[mlflow]" if isinstance(failure[0], ImportError) else ""
            _logger.warning("MLflow cannot follow (%s)%s: %s", failure[0], mend, otherwise)
            return False
        return True


def tracker() -> Tracker | None:
    """The MLflow that the environment names, if it names one."""
    uri = os.environ.get(VARIABLE)
    return Tracker(uri) if uri else None


def follow(log: ReleaseLog) -> None:
    """Let MLflow follow the release log, where the environment names one. One call after another."""
    if (tracking := tracker()) is not None:
        with _FOLLOWING:  # else the aliases of an earlier change could come last
            tracking.follow(log)


def follow_aside(log: ReleaseLog) -> threading.Thread:
    """The same in a thread that nobody needs to wait for; whoever ends the process may, so that MLflow is told."""
    thread = threading.Thread(target=follow, args=(log,), name="mlflow", daemon=True)
    thread.start()
    return thread


def _experiment(client: MlflowClient) -> str:
    """The experiment that runs are in; with SQLite, artefacts lie beside the file, not in the working folder."""
    found = client.get_experiment_by_name(MODEL)
    if found is not None:
        return str(found.experiment_id)
    folder = database_folder(client.tracking_uri) if client.tracking_uri.startswith("sqlite:") else None
    return str(client.create_experiment(MODEL, None if folder is None else str(folder / "mlflow-artefacts")))


def _versions(client: MlflowClient) -> dict[str, str]:
    """The version of each release that is stored; the registered model is made where it is missing."""
    if not client.search_registered_models(f"name = '{MODEL}'"):
        client.create_registered_model(MODEL)
    found = client.search_model_versions(f"name = '{MODEL}'")
    return {version.tags[_RELEASE]: str(version.version) for version in found if _RELEASE in version.tags}


def _stored(client: MlflowClient, release: Release) -> str:
    """Store the bundle of a release as artefacts of a run of its own, and make a model version of it."""
    run = client.create_run(_experiment(client), run_name=f"release {release.release_id}")
    client.log_artifacts(run.info.run_id, release.bundle_path, "bundle")
    client.set_terminated(run.info.run_id)
    tags = {_RELEASE: release.release_id, "riskdistill.bundle": release.bundle_version}
    source = f"{run.info.artifact_uri}/bundle"
    return str(client.create_model_version(MODEL, source, run_id=run.info.run_id, tags=tags).version)
