"""Changes of releases as people ask for them, on the command line and over HTTP: what both check is checked here.

A bundle that shall score is whole, and the one that was registered. What else a change needs (the life cycle,
approvals by others, a share that suits) the release log knows itself.
"""

from __future__ import annotations

from pathlib import Path

from riskdistill.bundle import Bundle
from riskdistill.errors import BundleDamagedError, BundleError, ReleaseError
from riskdistill.storage.life_cycle import Release, State, Transition, find, fold
from riskdistill.storage.releases import ReleaseLog


class ReleaseStory(Release):
    """A release as it stands, with every entry of the log about it and the figures behind them."""

    history: tuple[Transition, ...]


def story(log: ReleaseLog, release_id: str) -> ReleaseStory:
    """What the log tells of one release.

    Raises:
        NotFoundError: there is none of that id.
    """
    history = log.history()
    told = find(fold(history), release_id).model_dump()
    return ReleaseStory(**told, history=tuple(entry for entry in history if entry.release_id == release_id))


def approve(log: ReleaseLog, release_id: str, *, actor: str, reason: str) -> Release:
    """Say that a release may decide. Raises as `ReleaseLog.approve`."""
    evidence = {"bundle": log.get(release_id).bundle_version}
    return log.approve(release_id, actor=actor, reason=reason, evidence=evidence)


def shadow(log: ReleaseLog, release_id: str, *, actor: str, reason: str) -> Release:
    """Let a release score beside the champion. Raises as `canary`."""
    _require_whole(log.get(release_id))
    return log.stage(release_id, State.SHADOW, actor=actor, reason=reason, evidence={})


def canary(
    log: ReleaseLog, release_id: str, *, share: float, actor: str, reason: str, approvals: int = 0
) -> Release:
    """Let a release decide for a share of the accounts.

    Raises:
        NotFoundError: no such release.
        ReleaseError: its bundle does not verify, or the log does not allow it (`ReleaseLog.stage`).
    """
    _require_whole(log.get(release_id))
    return log.stage(
        release_id, State.CANARY, actor=actor, reason=reason, evidence={}, share=share, approvals=approvals
    )


def promote(log: ReleaseLog, release_id: str, *, actor: str, reason: str, approvals: int = 0) -> Release:
    """Make a release the champion; the log keeps who had approved it. Raises as `canary`."""
    found = log.get(release_id)
    _require_whole(found)
    evidence = {"approvals_needed": approvals, "approved_by": list(found.approved_by)}
    return log.promote(release_id, actor=actor, reason=reason, evidence=evidence, approvals=approvals)


def roll_back(log: ReleaseLog, *, actor: str, reason: str, canary: bool = False) -> Release:
    """Put the previous champion back, or with `canary` withdraw the canary: returns whose state is new.

    Raises:
        ReleaseError: there is no previous champion, or no canary.
    """
    if not canary:
        return log.rollback(actor=actor, reason=reason, evidence={})
    challenger = log.challenger()
    if challenger is None or challenger.state is not State.CANARY:
        raise ReleaseError("no release is canary", where="release log", mend="list the releases")
    return log.withdraw(challenger.release_id, actor=actor, reason=reason, evidence={})


def retire(log: ReleaseLog, release_id: str, *, actor: str, reason: str) -> Release:
    """End a release that does not decide. Raises as `ReleaseLog.retire`."""
    return log.retire(release_id, actor=actor, reason=reason, evidence={})


def load_release(release: Release) -> Bundle:
    """The verified bundle of a release, without its teacher.

    Raises:
        BundleDamagedError: it is damaged, or another bundle is there now.
        BundleIncompatibleError: this version cannot read it.
    """
    return load_version(Path(release.bundle_path), release.bundle_version)


def load_version(path: Path, version: str) -> Bundle:
    """The verified bundle at `path`, without its teacher. Raises as `load_release` where it is not of `version`."""
    bundle = Bundle.load(path, teacher=False)
    if bundle.version != version:
        raise BundleDamagedError(
            f"bundle {bundle.version} is there now, not {version}",
            where=str(path),
            mend="register the bundle that is there as a new release",
        )
    return bundle


def _require_whole(release: Release) -> None:
    try:
        load_release(release)
    except BundleError as error:  # of what was asked for, and not of what serves
        raise ReleaseError(error.what, where=error.where, mend=error.mend) from error
