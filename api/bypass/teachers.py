"""Who can be asked: the small protocol of a teacher, the bundle's own, and one behind HTTP.

What is sent to another machine are the encoded features, never a transaction: they are what the teacher sees here,
so its answer does not hang on account state that the other machine would have to keep alike, and no id leaves.
"""

from __future__ import annotations

import ssl
from typing import Final, NamedTuple, Protocol

import httpx
from pydantic import SecretStr

from api.bypass.open_inference import FEATURES, answer_of, request_of
from api.bypass.settings import OpenInference, RiskDistill
from api.path.threads import Threads
from api.telemetry import tracing
from riskdistill.bundle import Bundle
from riskdistill.errors import ConfigError, UnavailableError
from riskdistill.features.encoded import Encoded
from riskdistill.models.onnx_model import Scored

MAX_ANSWER_BYTES: Final = 1 << 16
PATIENCE: Final = 10  # deadlines after which a call of the bundle's teacher counts as hung


class Answer(NamedTuple):
    """A teacher's scores of one row, and its version where it states one."""

    scored: Scored
    version: str | None = None


class Teacher(Protocol):
    """Gives scores of one transaction's features; may fail, hang or talk nonsense."""

    kind: str

    def is_there(self, bundle: Bundle) -> bool:
        """Whether it can be asked at all, for the features of `bundle`."""
        ...

    async def ask(self, bundle: Bundle, encoded: Encoded) -> Answer:
        """Its answer; cancelled where it comes too late."""
        ...

    async def close(self) -> None:
        """Lets go of its threads or connections."""
        ...


class LocalTeacher:
    """The teacher in the bundle, on threads of its own.

    Args:
        calls_at_once: threads.
        deadline: seconds within which it should answer.
    """

    kind = "local"

    def __init__(self, calls_at_once: int, deadline: float) -> None:
        self._threads = Threads(calls_at_once, PATIENCE * deadline)

    def is_there(self, bundle: Bundle) -> bool:
        """Whether the bundle's teacher is loaded."""
        return bundle.teacher is not None

    async def ask(self, bundle: Bundle, encoded: Encoded) -> Answer:
        """Scores of any number of rows."""
        assert bundle.teacher is not None
        return Answer(await self._threads.run(bundle.teacher.score, encoded))

    async def close(self) -> None:
        """Lets the threads end."""
        self._threads.close()


class RemoteTeacher:
    """A teacher behind HTTP: another riskdistill service, or any Open Inference endpoint.

    It has its own connections. Certificates are verified; proxies of the environment are not used.

    Args:
        settings: where it is.
        key: sent as a bearer token.
        calls_at_once: connections.
        deadline: seconds for each step of a call.

    Raises:
        ConfigError: the file of authorities cannot be used.
    """

    def __init__(self, settings: OpenInference, key: SecretStr | None, calls_at_once: int, deadline: float) -> None:
        self.kind = "riskdistill" if isinstance(settings, RiskDistill) else "open_inference"
        self._url = f"{settings.url}/v2/models/{settings.model}/infer"
        headers = {"Content-Type": "application/json"}
        if key is not None:
            headers["Authorization"] = f"Bearer {key.get_secret_value()}"
        self._client = httpx.AsyncClient(
            headers=headers,
            verify=_trusted(settings),
            trust_env=False,
            timeout=deadline,
            limits=httpx.Limits(max_connections=calls_at_once, max_keepalive_connections=calls_at_once),
        )

    def is_there(self, bundle: Bundle) -> bool:
        """It shows when it is asked."""
        return True

    async def ask(self, bundle: Bundle, encoded: Encoded) -> Answer:
        """Scores of one row, checked.

        Raises:
            TimeoutError: a step of the call took longer than the deadline.
            UnavailableError: no answer, or none that can be used.
            BundleDamagedError: the logit that it gave is not a number.
        """
        own = self.kind == "riskdistill"  # it refuses rows of other features than its bundle has
        body = request_of(encoded, {FEATURES: bundle.spec.fingerprint} if own else {})
        raw = bytearray()
        try:
            async with self._client.stream("POST", self._url, content=body, headers=tracing.outgoing()) as response:
                if response.status_code != httpx.codes.OK:
                    raise UnavailableError(f"the teacher answers {response.status_code}", where=self._url)
                async for part in response.aiter_bytes():
                    raw += part
                    if len(raw) > MAX_ANSWER_BYTES:
                        raise UnavailableError("the teacher's answer is too long", where=self._url)
        except httpx.TimeoutException as error:
            raise TimeoutError(f"{self._url} is late") from error
        except httpx.HTTPError as error:
            raise UnavailableError(f"no answer ({type(error).__name__}: {error})", where=self._url) from error
        return Answer(*answer_of(bytes(raw), encoded, bundle.teacher, len(bundle.typologies)))

    async def close(self) -> None:
        """Closes the connections."""
        await self._client.aclose()


def _trusted(settings: OpenInference) -> ssl.SSLContext | bool:
    if settings.ca_file is None:
        return True
    try:
        return ssl.create_default_context(cafile=str(settings.ca_file))
    except OSError as error:  # ssl.SSLError is one
        raise ConfigError(
            f"not a file of certificates ({error.strerror or error})",
            where=str(settings.ca_file),
            mend="give a PEM file",
        ) from error
