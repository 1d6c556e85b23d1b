"""Where the bundles of registered releases are kept: by version, and never replaced.

A release must be what it was for as long as it may serve, be rolled back to, or be looked into. The folder that a
job writes to holds its newest bundle, so a release has a copy of its own: `bundles/<version>` beside its log.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from sqlalchemy.engine import make_url

from monitoring.evidence import Expectation
from monitoring.profile import load_profile
from riskdistill.bundle import Bundle
from riskdistill.errors import ConfigError
from riskdistill.manifest import MANIFEST
from riskdistill.releasing import load_release, load_version
from riskdistill.storage.database import database_folder
from riskdistill.storage.releases import Release


def bundle_folder(url: str, store: Path | None = None) -> Path:
    """The folder that bundles of the release log at `url` are kept in: `store`, or one beside a SQLite log.

    The folder of a SQLite log is made where it is missing: the first registration founds the log.

    Raises:
        ConfigError: the log is in no file, and there is no `store`.
    """
    folder = database_folder(url)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        store = store or folder / "bundles"
    if store is None:
        raise ConfigError(
            "this log is in no file that bundles could be kept beside",
            where=without_password(url),
            mend="name a folder for them with --store",
        )
    return store


def without_password(url: str) -> str:
    """A database `url` that may be shown."""
    return make_url(url).render_as_string(hide_password=True)


def keep(bundle: Bundle, store: Path) -> Path:
    """Copy a bundle to `store`/version, whole or not at all, unless it is there; returns where it is.

    Raises:
        BundleDamagedError: what is there is not that bundle, or the copy is not.
    """
    place = store / bundle.version
    if not place.exists():
        store.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=store, prefix=".draft-") as folder:
            draft = Path(folder) / bundle.version
            draft.mkdir()
            for name in (*bundle.manifest.files, MANIFEST):
                with (bundle.path / name).open("rb") as source, (draft / name).open("xb") as copy:
                    shutil.copyfileobj(source, copy)
                    copy.flush()
                    os.fsync(copy.fileno())  # the log that will name it survives a loss of power too
            load_version(draft, bundle.version)
            try:
                draft.rename(place)
            except OSError:  # another process was first, or nothing can be written: the next line tells
                if not place.exists():
                    raise
    load_version(place, bundle.version)
    return place


def expectation(release: Release) -> Expectation:
    """From which score on a release's student alerts, and how often it did so on its reference period.

    Raises:
        BundleDamagedError, BundleIncompatibleError: as `load_release`.
    """
    bundle = load_release(release)
    profile = load_profile(bundle.profile)
    segments = {name: _rate(segment.alert_rate, segment.rows) for name, segment in profile.segments.items()}
    return Expectation(bundle.thresholds.review, _rate(profile.alert_rate, profile.rows), segments)


def _rate(share: float, rows: int) -> float:
    return (share * rows + 0.5) / (rows + 1)  # half a row (Jeffreys): none seen is not none ever
