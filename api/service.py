"""One running scoring service: its parts, put together in order and taken apart in reverse."""

from __future__ import annotations

import asyncio
import fcntl
import logging
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from api.account_state import rebuild
from api.bypass import TeacherBypass
from api.group_commit import GroupCommit
from api.metrics import Metrics
from api.pseudonyms import Pseudonyms, key_from_file
from api.rollout import Shadows
from api.schemas import Ready
from api.scoring import Scorer
from api.serving_bundle import ServingBundle
from api.settings import ApiSettings
from riskdistill.data.rates import Rates
from riskdistill.errors import ConfigError, UnavailableError
from riskdistill.storage.decisions import DecisionLog
from riskdistill.storage.releases import ReleaseLog
from riskdistill.storage.shadows import ShadowLog

_logger = logging.getLogger(__name__)
_MEND = "wait until /readyz answers 200"


class Parts(NamedTuple):
    """What a request needs of a service that is up."""

    scorer: Scorer
    log: DecisionLog
    commit: GroupCommit


class Service:
    """A scoring service from `start` to `stop`.

    `start` returns at once: bundle and account state come up behind it while `/livez` answers. If they
    cannot, `failure` keeps the error, requests are told, and `on_failure` is called.
    """

    def __init__(self, settings: ApiSettings, metrics: Metrics) -> None:
        self.settings, self.metrics = settings, metrics
        self.failure: Exception | None = None
        self.on_failure: Callable[[], None] = lambda: None
        self._parts: Parts | None = None
        self._bundles: ServingBundle | None = None
        self._running: asyncio.Task[None] | None = None
        self._stack = AsyncExitStack()

    @property
    def parts(self) -> Parts:
        """What scores and what is stored.

        Raises:
            UnavailableError: they are not up yet; says why, where that is known.
        """
        if self._parts is None:
            raise UnavailableError(f"the service cannot score yet: {self._obstacle()}", mend=_MEND)
        return self._parts

    @property
    def bundles(self) -> ServingBundle:
        """The bundles kept warm."""
        if self._bundles is None:
            raise UnavailableError(f"no bundle is warm: {self._obstacle()}", mend=_MEND)
        return self._bundles

    def ready(self) -> Ready:
        """What is served now.

        Raises:
            UnavailableError: transactions cannot be scored now; says why.
        """
        self.parts.commit.check()
        warm, refused = self.bundles.warm, self.bundles.refused
        assert warm is not None  # `parts` came up with it
        return Ready(
            bundle_version=warm.bundle.version,
            release_id=warm.release_id,
            previous_bundle_version=warm.previous.version if warm.previous else None,
            teacher=warm.bundle.teacher is not None,
            refused_release=refused.release_id if refused else None,
            refused_reason=refused.reason if refused else None,
            challenger_release=warm.challenger.release_id if warm.challenger else None,
            canary_share=warm.challenger.share if warm.challenger else 0.0,
        )

    def start(self) -> None:
        """Begins to bring the service up, and then follows the releases."""
        self._running = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Stores what is decided and lets go of everything."""
        if self._running is not None:
            self._running.cancel()
            with suppress(asyncio.CancelledError):
                await self._running
        await self._stack.aclose()

    async def _run(self) -> None:
        try:
            self._parts = await self._assemble(self.settings)
        except Exception as error:
            _logger.error("the service cannot start: %s", error)
            self.failure = error
            self.on_failure()
            return
        await self.bundles.run(self.settings.follow_seconds)

    async def _assemble(self, settings: ApiSettings) -> Parts:
        settings.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._stack.enter_context(_claimed(settings.state_dir / "lock"))
        log = DecisionLog(settings.database_url)
        self._stack.callback(log.close)
        pseudonyms = Pseudonyms(_pseudonym_key(settings, log))
        rates = Rates.read(settings.rates)
        source = settings.bundle or self._releases(settings)
        self._bundles = ServingBundle(source, self.metrics, rates, settings.provider)
        warm = await self._bundles.first(settings.follow_seconds)
        engine = warm.bundle.engine(rates)
        place = await asyncio.to_thread(rebuild, engine, settings.history, log, pseudonyms)
        bypass = TeacherBypass(settings.teacher_deadline_ms / 1e3)
        self._stack.callback(bypass.close)
        commit = GroupCommit(log)
        commit.start()
        self._stack.push_async_callback(commit.close)
        shadows = self._shadows(settings)
        scorer = Scorer(self._bundles, engine, place, log, commit, bypass, pseudonyms, self.metrics, shadows)
        self._stack.push_async_callback(scorer.close)
        return Parts(scorer, log, commit)

    def _releases(self, settings: ApiSettings) -> ReleaseLog:
        assert settings.releases is not None  # the settings have one source
        # not created: at a mistyped URL the service would wait for ever for a champion
        releases = ReleaseLog(settings.releases.get_secret_value(), create=False)
        self._stack.callback(releases.close)
        return releases

    def _shadows(self, settings: ApiSettings) -> Shadows | None:
        """What scores beside a challenger; a fixed bundle has none."""
        if settings.releases is None:
            return None
        shadows = Shadows(ShadowLog(settings.database_url), self.metrics)
        self._stack.push_async_callback(asyncio.to_thread, shadows.close)
        return shadows

    def _obstacle(self) -> str:
        if self.failure is not None:
            return str(self.failure)
        if self._bundles is None:
            return "it is starting"
        if self._bundles.refused is not None:
            return f"release {self._bundles.refused.release_id} is refused: {self._bundles.refused.reason}"
        return (
            "account state is being rebuilt" if self._bundles.warm else "no release is champion, or it is loading"
        )


def _pseudonym_key(settings: ApiSettings, log: DecisionLog) -> str:
    if settings.pseudonym_key is not None:
        return settings.pseudonym_key.get_secret_value()
    is_new = next(log.read(limit=1), None) is None
    return key_from_file(settings.state_dir / "pseudonym.key", make=is_new)


@contextmanager
def _claimed(path: Path) -> Iterator[None]:
    """Holds the state folder for this process: a second one would move account state unseen by the first."""
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(
                "another service runs on this state folder",
                where=str(path.parent),
                mend="stop it, or give this one a folder of its own (RISKDISTILL_STATE_DIR)",
            ) from error
        yield
