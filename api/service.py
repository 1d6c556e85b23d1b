"""One running scoring service: its parts, put together in order and taken apart in reverse."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import secrets
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Final, NamedTuple

from api.bypass import TeacherBypass, make_bypass
from api.bypass.settings import read_bypass
from api.desk.desk import Desk
from api.desk.release_desk import ReleaseDesk
from api.path.account_state import StateSource
from api.path.group_commit import GroupCommit
from api.path.idempotency import IdempotencyKeys
from api.path.known_ids import KnownIds
from api.path.pseudonyms import Pseudonyms, key_from_file
from api.path.rollout import Shadows
from api.path.shared_state import SharedState
from api.path.triage import Triager
from api.schemas import Ready
from api.scoring import Judges, Records, Scorer
from api.security.secret_files import read_secret, write_secret
from api.serving_bundle import ServingBundle
from api.settings import ApiSettings
from api.telemetry.anchoring import Anchoring
from api.telemetry.metrics import Metrics
from riskdistill.data.rates import Rates
from riskdistill.errors import ConfigError, NotFoundError, RiskDistillError, UnavailableError
from riskdistill.features.engine import FeatureEngine
from riskdistill.storage.administrative_acts import ActLog
from riskdistill.storage.anchors import AnchorKey
from riskdistill.storage.checkpoints import checkpointing
from riskdistill.storage.decisions import DecisionLog
from riskdistill.storage.payloads import PayloadKeys
from riskdistill.storage.shadows import ShadowLog

_logger = logging.getLogger(__name__)
MEASURE_SECONDS: Final = 0.5
_MEND = "wait until /readyz answers 200"


class Parts(NamedTuple):
    """What a request needs of a service that is up; `state` where several workers share it."""

    scorer: Scorer
    log: DecisionLog
    commit: GroupCommit
    state: SharedState | None
    engine: FeatureEngine | None
    bypass: TeacherBypass
    desk: Desk
    acts: ActLog
    keys: IdempotencyKeys


class Service:
    """A scoring service from `start` to `stop`.

    `start` returns at once: bundle and account state come up behind it while `/livez` answers. If they
    cannot, `failure` keeps the error, requests are told, and `on_failure` is called; else `on_ready` is.

    Raises:
        ConfigError: the settings of the teacher bypass are wrong.
    """

    def __init__(self, settings: ApiSettings, metrics: Metrics) -> None:
        self.settings, self.metrics = settings, metrics
        self._told = read_bypass(settings.bypass)
        self.failure: Exception | None = None
        self.on_failure: Callable[[], None] = lambda: None
        self.on_ready: Callable[[], None] = lambda: None
        self.draining = False  # it stops soon: takes nothing new, and answers what is under way
        self._began = monotonic()
        self._parts: Parts | None = None
        self._bundles: ServingBundle | None = None
        self._releases: ReleaseDesk | None = None
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

    @property
    def releases(self) -> ReleaseDesk:
        """The releases; open before one of them serves, so that the first can be promoted.

        Raises:
            NotFoundError: this service has none.
            UnavailableError: they are not open yet.
        """
        if self.settings.releases is None:
            raise NotFoundError(
                "this service serves one fixed bundle and has no releases",
                mend="serve a release log instead: riskdistill serve --releases URL",
            )
        if self._releases is None:
            raise UnavailableError(f"the release log is not open: {self._obstacle()}", mend="try again in a second")
        return self._releases

    def ready(self) -> Ready:
        """What is served now.

        Raises:
            UnavailableError: transactions cannot be scored now; says why.
        """
        if self.draining:
            raise UnavailableError("the service is stopping", mend="send requests to another replica")
        parts = self.parts
        parts.commit.check()
        parts.scorer.check()
        if parts.state is not None:
            parts.state.check()
        warm, refused = self.bundles.warm, self.bundles.refused
        assert warm is not None  # `parts` came up with it
        return Ready(
            bundle_version=warm.bundle.version,
            release_id=warm.release_id,
            previous_bundle_version=warm.previous.version if warm.previous else None,
            teacher=warm.bundle.teacher is not None,
            teacher_state=self.bundles.teacher,
            refused_release=refused.release_id if refused else None,
            refused_reason=refused.reason if refused else None,
            challenger_release=warm.challenger.release_id if warm.challenger else None,
            canary_share=warm.challenger.share if warm.challenger else 0.0,
        )

    def unfinished(self) -> tuple[int, int]:
        """How many transactions are under way, and how many decisions wait to be stored: nobody knows of them."""
        return (len(self._parts.scorer), len(self._parts.commit)) if self._parts is not None else (0, 0)

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
            if isinstance(error, RiskDistillError):
                _logger.error("the service cannot start: %s", error)
            else:
                _logger.exception("the service cannot start")
            self.failure = error
            self.on_failure()
            return
        self.metrics.started(monotonic() - self._began)
        self.on_ready()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.bundles.run(self.settings.follow_seconds))
            tasks.create_task(self._measure())

    async def _measure(self) -> None:
        """Shows what only grows and shrinks, twice a second; another worker may be asked for it."""
        conflicts = failures = 0
        while True:
            try:
                self.measure()
            except Exception:  # metrics are an optional part
                _logger.exception("the service could not be measured")
            if (state := self.parts.state) is not None:
                self.metrics.state_trouble(state.conflicts - conflicts, state.failures - failures)
                conflicts, failures = state.conflicts, state.failures
            await asyncio.sleep(MEASURE_SECONDS)

    def measure(self) -> None:
        """Shows queues, the size of the state and the readiness of this worker as they are now."""
        ready = teacher = False
        with suppress(UnavailableError):
            teacher = self.ready().teacher
            ready = True
        self.metrics.readiness(ready, teacher)
        if (parts := self._parts) is not None:
            scorer, commit, state, engine = parts.scorer, parts.commit, parts.state, parts.engine
            self.metrics.waiting(
                under_way=len(scorer), commit=len(commit), state=len(state) if state is not None else 0
            )
            if state is not None or engine is not None:
                self.metrics.accounts(state.accounts if state is not None else len(engine or ()))
        self.metrics.flush()

    async def _assemble(self, settings: ApiSettings) -> Parts:
        settings.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        if settings.redis_url is None:
            self._stack.enter_context(_claimed(settings.state_dir / "lock"))
        log = await asyncio.to_thread(DecisionLog, settings.database_url)  # a server may be away
        self._stack.callback(log.close)
        finish_checkpoint = self._stack.enter_context(checkpointing(log.engine))
        desk = await asyncio.to_thread(Desk, settings.database_url)
        self._stack.push_async_callback(desk.close)
        acts = await asyncio.to_thread(ActLog, settings.acts_url)
        self._stack.callback(acts.close)
        key = _pseudonym_key(settings, log)
        pseudonyms = Pseudonyms(key)
        rates = Rates.read(settings.rates)
        origin = settings.bundle or self._open_releases(settings, acts).log
        self._bundles = ServingBundle(origin, self.metrics, rates, settings.provider)
        bundle = (await self._bundles.first(settings.follow_seconds)).bundle
        source = StateSource(partial(bundle.engine, rates), settings.history, log, pseudonyms)
        engine: FeatureEngine | None = None
        shared: SharedState | None = None
        known: KnownIds | None = None
        place = 0
        if settings.redis_url is None:
            known = KnownIds()
            engine, place = await asyncio.to_thread(source.build, known)
        else:
            shared = await self._share(settings, source, pseudonyms)
        bypass = make_bypass(settings, self._told, rates, pseudonyms, self.metrics.teacher)
        self._stack.push_async_callback(bypass.close)
        releases = () if self._releases is None else (self._releases.log,)
        journals = [one.journal for one in (desk.cases, desk.suppressions, acts, *releases)]
        file = settings.state_dir / "anchors.jsonl"
        anchoring = Anchoring(log, journals, _anchor_key(settings), file, settings.anchor_seconds)
        anchoring.start()
        self._stack.push_async_callback(anchoring.close)
        commit = GroupCommit(log, payload_keys=_payload_keys(settings), patience=settings.deadline_ms / 1e3)
        commit.on_commit, commit.between = self.metrics.committed, finish_checkpoint
        commit.start()
        if shared is not None:
            self._stack.push_async_callback(shared.close)  # after the last decision is settled
        self._stack.push_async_callback(commit.close)
        keys = IdempotencyKeys(log)
        self._stack.push_async_callback(keys.close)
        triager = Triager(settings, desk.suppressions, key)
        desk.follow(settings.follow_seconds)
        state = engine if shared is None else shared
        assert state is not None
        judges = Judges(self._bundles, bypass, triager, self._shadows(settings))
        records = Records(log, commit, known)
        scorer = Scorer(state, place + 1, records, judges, pseudonyms, self.metrics)
        if shared is not None:
            shared.adopt = scorer.adopt
        self._stack.push_async_callback(scorer.close)
        return Parts(scorer, log, commit, shared, engine, bypass, desk, acts, keys)

    async def _share(self, settings: ApiSettings, source: StateSource, pseudonyms: Pseudonyms) -> SharedState:
        """The account state that other workers may use already."""
        try:
            from riskdistill.features.redis_once import OnceEngine
        except ModuleNotFoundError as error:
            raise ConfigError(
                "account state is in Redis, and its client is not installed",
                where="RISKDISTILL_STATE",
                mend="install riskdistill[redis]",
            ) from error
        assert settings.redis_url is not None
        empty = source.new_engine()  # of the bundle's specification and rates
        deadline = settings.state_deadline_ms / 1e3
        engine = OnceEngine(
            settings.redis_url, empty.spec, empty.rates, prefix=settings.state_prefix, deadline=deadline
        )
        shared = SharedState(engine, self.bundles, source, deadline)
        await shared.start(pseudonyms.of("which key this is"))
        return shared

    def _open_releases(self, settings: ApiSettings, acts: ActLog) -> ReleaseDesk:
        assert settings.releases is not None  # the settings have one source
        self._releases = ReleaseDesk(settings.releases.get_secret_value(), acts)
        self._stack.callback(self._releases.close)
        return self._releases

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


def prepare(settings: ApiSettings) -> None:
    """Makes what several workers would otherwise make at once: folder, decision log and pseudonym key.

    Raises:
        ConfigError: one of them cannot be used.
    """
    settings.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    log = DecisionLog(settings.database_url)
    try:
        _pseudonym_key(settings, log)
    finally:
        log.close()


def _pseudonym_key(settings: ApiSettings, log: DecisionLog) -> str:
    if settings.pseudonym_key is not None:
        return settings.pseudonym_key.get_secret_value()
    is_new = next(log.read(limit=1), None) is None
    return key_from_file(settings.state_dir / "pseudonym.key", make=is_new)


def _anchor_key(settings: ApiSettings) -> AnchorKey:
    if settings.anchor_key is not None:
        return AnchorKey(settings.anchor_key.get_secret_value())
    path = settings.state_dir / "anchor.key"
    if not path.exists():
        write_secret(path, secrets.token_hex(32))
    return AnchorKey(read_secret(path))


def _payload_keys(settings: ApiSettings) -> PayloadKeys | None:
    return None if settings.payload_key is None else PayloadKeys(settings.payload_key.get_secret_value())


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
