"""Which bundle serves, and which is kept warm beside it; follows the release log without failing a request.

A bundle is loaded, verified and warmed up in a thread before it takes over in one assignment; a request keeps
the bundles that it started with. A release that is damaged or incompatible is refused once: the bundle in
service stays, and `/readyz` and a metric tell. A challenger that is refused is left out, and nothing else changes.

The first bundle serves as soon as its student does; its teacher is loaded behind it. A later one takes over whole,
for there is a teacher in service already.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal, NamedTuple, Protocol

from api.telemetry.metrics import Metrics
from riskdistill.bundle import Bundle
from riskdistill.data.rates import Rates
from riskdistill.data.transaction import Transaction
from riskdistill.errors import BundleDamagedError, BundleError, BundleIncompatibleError
from riskdistill.models.onnx_model import Provider, require_provider
from riskdistill.reasons import explain

_logger = logging.getLogger(__name__)
_ANY: Final = Transaction(
    tx_id="warm-up",
    timestamp=datetime(2026, 1, 1, tzinfo=UTC),
    sender_account="a",
    sender_bank="b",
    receiver_account="c",
    receiver_bank="d",
    amount_paid=1.0,
    currency_paid="EUR",
    amount_received=1.0,
    currency_received="EUR",
    payment_format="wire",
)


class Released(Protocol):
    """The parts of a release that serving needs (`riskdistill.storage.releases.Release`)."""

    @property
    def release_id(self) -> str: ...
    @property
    def bundle_path(self) -> str: ...
    @property
    def bundle_version(self) -> str: ...
    @property
    def share(self) -> float: ...


class Serving(Protocol):
    """Which releases are to be warm (`riskdistill.storage.releases.Serving`)."""

    @property
    def champion(self) -> Released | None: ...
    @property
    def previous(self) -> Released | None: ...
    @property
    def challenger(self) -> Released | None: ...


class Releases(Protocol):
    """Where releases are read from (`riskdistill.storage.releases.ReleaseLog`)."""

    def serving(self) -> Serving: ...


class Challenger(NamedTuple):
    """The release that scores beside the champion, and decides for a share of the accounts (0: a shadow)."""

    bundle: Bundle
    release_id: str
    share: float


class Warm(NamedTuple):
    """Bundles ready to score: the one that decides, the one that decided before it, and the challenger."""

    bundle: Bundle
    previous: Bundle | None
    release_id: str | None
    challenger: Challenger | None = None

    @property
    def all(self) -> tuple[Bundle, ...]:
        """Every bundle that is warm."""
        others = self.previous, self.challenger.bundle if self.challenger is not None else None
        return self.bundle, *(bundle for bundle in others if bundle is not None)


TeacherState = Literal["none", "loading", "loaded", "failed"]


class Refused(NamedTuple):
    """A release that was not taken, and why."""

    release_id: str
    reason: str


class ServingBundle:
    """Holds the warm bundles. `warm` is None until the first is ready.

    Args:
        source: the directory of the one bundle to serve, or the releases to follow.
        metrics: told of swaps and refusals.
        rates: dollars per unit as of a day; a bundle that was trained at others is refused.
        provider: what computes the networks.

    Raises:
        BundleIncompatibleError: the provider is not there, so that no bundle could be served.
    """

    def __init__(
        self, source: Path | Releases, metrics: Metrics, rates: Rates | None = None, provider: Provider = "cpu"
    ) -> None:
        require_provider(provider)
        self.warm: Warm | None = None
        self.refused: Refused | None = None
        self._refused_challenger: str | None = None
        self._source, self._metrics, self._rates, self._provider = source, metrics, rates, provider
        self._following = asyncio.Lock()  # one look at a time: an older one must not swap last
        self._teacherless: set[str] = set()  # versions of bundles whose teacher could not be loaded

    @property
    def teacher(self) -> TeacherState:
        """How the deciding bundle's teacher is."""
        bundle = self.warm.bundle if self.warm is not None else None
        if bundle is None or not bundle.has_teacher:
            return "none"
        if bundle.teacher is not None:
            return "loaded"
        return "failed" if bundle.version in self._teacherless else "loading"

    async def follow(self) -> None:
        """Takes over what should be served now, if it is not served already.

        Raises:
            BundleError: the one fixed bundle cannot be served. A refused release raises nothing.
        """
        async with self._following:
            await self._follow()

    async def catch_up(self) -> None:
        """As `follow`; where that is not possible now, the next look tries again."""
        try:
            await self.follow()
        except Exception:
            _logger.exception("the release log cannot be followed now")

    async def _follow(self) -> None:
        if isinstance(self._source, Path):
            if self.warm is None:
                bundle = await asyncio.to_thread(_load, self._source, self._rates, self._provider, teacher=False)
                self._swap(Warm(bundle, None, None))
            return
        serving = await asyncio.to_thread(self._source.serving)
        champion = serving.champion
        if champion is None or (self.refused is not None and champion.release_id == self.refused.release_id):
            return
        if self.warm is not None and champion.release_id == self.warm.release_id:
            self.refused = None  # withdrawn, if there was one
            await self._follow_challenger(self.warm, serving.challenger)
            return
        previous = await self._previous(serving.previous)
        try:
            bundle = await self._resolve(champion)
        except BundleError as error:
            self._refuse(champion, error)
            if self.warm is None and previous is not None:  # after a restart: the last one that is whole
                self._swap(Warm(previous, None, None))
            return
        self.refused = None
        warm = Warm(bundle, previous, champion.release_id)
        self._swap(warm)
        await self._follow_challenger(warm, serving.challenger)

    async def first(self, seconds: float) -> Warm:
        """Waits for the first bundle to be warm, looking every so many `seconds`."""
        await self.follow()
        while self.warm is None:
            await asyncio.sleep(seconds)
            await self.follow()
        return self.warm

    async def run(self, seconds: float) -> None:
        """Loads the teachers of the first bundles, and then follows the releases for ever.

        It looks every so many `seconds`; a release log that is away is asked again.
        """
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._load_teachers())
            while True:
                await asyncio.sleep(seconds)
                await self.catch_up()

    async def _load_teachers(self) -> None:
        for bundle in self.warm.all if self.warm is not None else ():
            try:
                await asyncio.to_thread(_warm_teacher, bundle, self._rates)
            except Exception:  # whatever it is, the student goes on
                self._teacherless.add(bundle.version)
                _logger.exception("the teacher of bundle %s cannot be loaded", bundle.version)

    async def _follow_challenger(self, warm: Warm, release: Released | None) -> None:
        """Takes the challenger over, beside `warm`; one that was refused is not tried again."""
        known = warm.challenger
        wanted = None if release is None else (release.release_id, release.share)
        if wanted == (None if known is None else (known.release_id, known.share)):
            return
        challenger = None
        if release is not None and release.release_id != self._refused_challenger:
            try:
                challenger = Challenger(await self._resolve(release), release.release_id, release.share)
            except BundleError as error:
                self._refused_challenger = release.release_id
                self._metrics.refused.inc()
                _logger.error("challenger %s is refused: %s", release.release_id, error)
        if challenger is not known:
            self._swap(warm._replace(challenger=challenger))

    async def _previous(self, release: Released | None) -> Bundle | None:
        if release is None:
            return None
        try:
            return await self._resolve(release)
        except BundleError as error:
            _logger.warning("the previous bundle is not kept warm: %s", error)
            return self.warm.bundle if self.warm is not None else None  # it was never taken: this one served

    async def _resolve(self, release: Released) -> Bundle:
        for kept in self.warm.all if self.warm is not None else ():
            if kept.version == release.bundle_version:
                return kept  # a challenger that is promoted is warm already
        whole = self.warm is not None
        bundle = await asyncio.to_thread(
            _load, Path(release.bundle_path), self._rates, self._provider, teacher=whole
        )
        if bundle.version != release.bundle_version:
            raise BundleDamagedError(
                f"version {bundle.version} is not the released {release.bundle_version}",
                where=release.bundle_path,
                mend="register the bundle that is there as a new release",
            )
        if self.warm is not None and bundle.spec.fingerprint != self.warm.bundle.spec.fingerprint:
            raise BundleIncompatibleError(
                "it needs other features than the account state holds",
                where=release.bundle_path,
                mend="restart the service: it rebuilds the state from the log",
            )
        return bundle

    def _refuse(self, release: Released, error: BundleError) -> None:
        self.refused = Refused(release.release_id, str(error))
        self._metrics.refused.inc()
        _logger.error("release %s is refused: %s", release.release_id, error)

    def _swap(self, warm: Warm) -> None:
        self.warm = warm
        self._metrics.serving(
            warm.bundle.version,
            warm.previous.version if warm.previous else None,
            warm.challenger.bundle.version if warm.challenger else None,
        )
        _logger.info("bundle %s decides now", warm.bundle.version)


def _load(path: Path, rates: Rates | None, provider: Provider, *, teacher: bool) -> Bundle:
    """A verified bundle that has scored once, so that no request pays for first-time work.

    Raises:
        BundleError: whatever is wrong with it.
    """
    try:
        bundle = Bundle.load(path, teacher=False, provider=provider)
        encoded = bundle.engine(rates).observe(_ANY)
        bundle.student.score(encoded)
        explain(bundle, encoded)
        if teacher:
            bundle.load_teacher(encoded)
    except BundleError:
        raise
    except Exception as error:
        raise BundleDamagedError(
            f"it does not load and score ({type(error).__name__}: {error})",
            where=str(path),
            mend="build the bundle again",
        ) from error
    return bundle


def _warm_teacher(bundle: Bundle, rates: Rates | None) -> None:
    bundle.load_teacher(bundle.engine(rates).observe(_ANY))
