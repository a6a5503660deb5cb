"""Every error a person may meet, as one tree.

CloudbrushError
├── InvalidInput            a value was refused at the door
│   ├── UnknownModel        a named model is not in the catalogue
│   ├── NotInCloud          a named model is on this machine only, and wanted elsewhere
│   └── IdempotencyMismatch an Idempotency-Key used again with another request
├── NotFound                no such thing, or not yours
├── Conflict                the thing is not in a state that allows this
│   ├── EndpointNotReady    the chosen endpoint is not InService
│   └── Stale               someone else changed it first
├── Unavailable             try again later
├── ModelFileError          a model file cannot be used, and why
└── InvocationError         a worker did not deliver
    ├── WorkerLost          its process or connection died; the job may run again
    ├── WaitedTooLong       the endpoint's own queue kept the attempt longer than allowed
    ├── Cancelled           the attempt was called off
    ├── RanTooLong          the attempt ran longer than allowed
    └── GenerationFailed    the engine refused or failed; running again would not help
"""

from __future__ import annotations


class CloudbrushError(Exception):
    """Root of the tree: what happened, which field or thing, and what to do about it."""

    code = "error"

    def __init__(self, detail: str, *, field: str | None = None, hint: str | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.field = field
        self.hint = hint

    def as_dict(self) -> dict[str, str | None]:
        """The form in which the error reaches a person or a program."""
        return {"code": self.code, "detail": self.detail, "field": self.field, "hint": self.hint}


class InvalidInput(CloudbrushError):
    """A value was refused at the door; `field` names it."""

    code = "invalid_input"


class UnknownModel(InvalidInput):
    """A named model is not in the catalogue."""

    code = "unknown_model"


class NotInCloud(InvalidInput):
    """A named model is on this machine only, where workers in the cloud cannot reach it."""

    code = "not_in_cloud"


class NotFound(CloudbrushError):
    """There is no such thing, or it belongs to someone else."""

    code = "not_found"


class Conflict(CloudbrushError):
    """The thing is not in a state that allows this."""

    code = "conflict"


class EndpointNotReady(Conflict):
    """The chosen endpoint is not InService."""

    code = "endpoint_not_ready"


class IdempotencyMismatch(InvalidInput):
    """An Idempotency-Key was used again with a different request."""

    code = "idempotency_mismatch"


class Stale(Conflict):
    """The record changed between reading and writing; read it again."""

    code = "stale"


class Unavailable(CloudbrushError):
    """A part Cloudbrush needs does not answer now; trying later may help."""

    code = "unavailable"


class ModelFileError(CloudbrushError):
    """A model file cannot be used; the detail says what it is and what was expected."""

    code = "model_file"


class InvocationError(CloudbrushError):
    """A worker did not deliver what it was asked for."""

    code = "invocation"


class WorkerLost(InvocationError):
    """The worker's process or connection died; the job may run again elsewhere."""

    code = "worker_lost"


class WaitedTooLong(InvocationError):
    """The endpoint's own queue kept the attempt longer than allowed; no worker ever had it."""

    code = "expired"


class Cancelled(InvocationError):
    """The attempt was called off; whoever did it knows why."""

    code = "cancelled"


class RanTooLong(InvocationError):
    """The attempt ran longer than allowed and was ended."""

    code = "timed_out"


class GenerationFailed(InvocationError):
    """The engine refused or failed; running the same generation again would not help."""

    code = "generation_failed"


def from_dict(body: dict[str, str | None]) -> CloudbrushError:
    """The error that `as_dict` wrote; an unknown code becomes the root's."""
    kinds = {kind.code: kind for kind in _descendants(CloudbrushError)}
    kind = kinds.get(body.get("code") or "", CloudbrushError)
    return kind(body.get("detail") or "no detail given", field=body.get("field"), hint=body.get("hint"))


def _descendants(kind: type[CloudbrushError]) -> list[type[CloudbrushError]]:
    return [kind, *(found for child in kind.__subclasses__() for found in _descendants(child))]
