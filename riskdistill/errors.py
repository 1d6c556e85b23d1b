"""The exception tree. Every error says what was wrong, where, and how to mend it.

    RiskDistillError
    ├── ConfigError              a configuration file or an override is wrong
    ├── DataError                an input file cannot be used as a whole
    │   ├── UnknownFormatError   no reader of that name
    │   ├── MissingColumnError   the file lacks a column that its format promises
    │   ├── UnreadableFileError  truncated, not the format that it claims, or absent
    │   └── EmptyInputError      nothing usable in it
    ├── TransactionError         one transaction does not meet the canonical schema
    │   └── ConflictError        the same id arrived earlier with another body
    ├── StateError               account state that cannot be restored
    ├── TrainingError            training or distillation cannot go on
    │   └── DegenerateTermError  a loss term that carries no signal in this setting
    ├── BundleError              a bundle that must not be served
    │   ├── BundleDamagedError   checksum mismatch, missing or unreadable file
    │   └── BundleIncompatibleError  written for another feature specification or format version
    ├── AuditError               the decision, release or act log does not verify
    ├── ReleaseError             a transition that the release life cycle does not allow
    ├── CaseError                what was told of a case or suppression cannot be true
    │   └── ContradictionError   it contradicts what was told of the same time
    ├── RequestError             a request that is wrong apart from its transactions, e.g. a header
    │   ├── KeyReusedError       an Idempotency-Key that was used with another body
    │   └── InFlightError        an Idempotency-Key whose request is under way
    ├── AuthenticationError      no key or token, or a wrong one
    ├── ForbiddenError           a known caller without the scope that the route needs
    ├── TooManyRequestsError     more than the caller's rate, or too many failed authentications
    ├── NotFoundError            no such decision, release or file
    └── UnavailableError         a part that the answer needs is not there now

The command line prints `str(error)` on one line; the API turns `status`, `title` and the message into an
RFC 9457 problem document.
"""

from __future__ import annotations

from typing import ClassVar


class RiskDistillError(Exception):
    """Base of all errors that riskdistill raises on purpose.

    Args:
        what: what was wrong, in one sentence.
        where: the file, line, row, field or URL concerned.
        mend: what the reader can do about it.
    """

    status: ClassVar[int] = 500
    title: ClassVar[str] = "riskdistill error"

    def __init__(self, what: str, *, where: str = "", mend: str = "") -> None:
        self.what, self.where, self.mend = what, where, mend
        super().__init__(what)

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        mend = f" (mend: {self.mend})" if self.mend else ""
        return f"{place}{self.what}{mend}"


class ConfigError(RiskDistillError):
    title = "Configuration is wrong"


class DataError(RiskDistillError):
    status = 422
    title = "Input data cannot be used"


class UnknownFormatError(DataError):
    title = "Unknown input format"


class MissingColumnError(DataError):
    title = "Column missing"


class UnreadableFileError(DataError):
    title = "File cannot be read"


class EmptyInputError(DataError):
    title = "Nothing to read"


class TransactionError(RiskDistillError):
    status = 422
    title = "Transaction is not valid"


class ConflictError(TransactionError):
    status = 422
    title = "Transaction id was used with another body"


class StateError(RiskDistillError):
    title = "Account state cannot be used"


class TrainingError(RiskDistillError):
    title = "Training cannot go on"


class DegenerateTermError(TrainingError):
    title = "Distillation term carries no signal"


class BundleError(RiskDistillError):
    status = 503
    title = "Bundle cannot be served"


class BundleDamagedError(BundleError):
    title = "Bundle is damaged"


class BundleIncompatibleError(BundleError):
    title = "Bundle is incompatible"


class AuditError(RiskDistillError):
    title = "Log does not verify"


class ReleaseError(RiskDistillError):
    status = 409
    title = "Release transition not allowed"


class CaseError(RiskDistillError):
    status = 422
    title = "Case or suppression is not valid"


class ContradictionError(CaseError):
    status = 409
    title = "Outcome contradicts an earlier case"


class RequestError(RiskDistillError):
    status = 400
    title = "Request is wrong"


class KeyReusedError(RequestError):
    status = 422
    title = "Idempotency key was used with another body"


class InFlightError(RequestError):
    status = 409
    title = "Request is under way"


class AuthenticationError(RiskDistillError):
    status = 401
    title = "Authentication failed"


class ForbiddenError(RiskDistillError):
    """`scope` is what the caller lacks; the answer's WWW-Authenticate header tells it."""

    status = 403
    title = "Not allowed"

    def __init__(self, what: str, *, scope: str = "", where: str = "", mend: str = "") -> None:
        self.scope = scope
        super().__init__(what, where=where, mend=mend)


class TooManyRequestsError(RiskDistillError):
    """`retry_after` is the seconds after which the same request may pass; one where nobody knows better."""

    status = 429
    title = "Too many requests"

    def __init__(self, what: str, *, retry_after: float = 1.0, where: str = "", mend: str = "") -> None:
        self.retry_after = retry_after
        super().__init__(what, where=where, mend=mend)


class NotFoundError(RiskDistillError):
    status = 404
    title = "Not found"


class UnavailableError(RiskDistillError):
    status = 503
    title = "Not available now"
