"""What is to go wrong, on request and for so many times."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from dataclasses import dataclass
from enum import StrEnum

from cloudbrush.testing.sagemaker.errors import Refused

# Error codes by request of a test, with their HTTP status: "Common Errors" of the API reference, and the
# service model of the runtime.
STATUSES = {
    "ThrottlingException": 400,
    "ServiceUnavailable": 503,
    "InternalFailure": 500,
    "InternalDependencyException": 530,
    "AccessDeniedException": 400,
    "ExpiredTokenException": 400,
    "ValidationException": 400,
    "ValidationError": 400,
    "ResourceLimitExceeded": 400,
}


class Fault(StrEnum):
    """One way in which the next outcome, stream or launch goes wrong."""

    MESSAGE_LOST = "message_lost"  # the outcome is not told to SNS
    MESSAGE_TWICE = "message_twice"  # SNS gets the same message twice, as at-least-once delivery allows
    MESSAGE_LATE = "message_late"  # SNS is told so many seconds after the object was written
    OBJECT_LOST = "object_lost"  # neither output nor failure object is written
    OBJECT_LATE = "object_late"  # the object is written so many seconds after SNS was told
    INVOCATION_FAILS = "invocation_fails"  # the worker's answer is thrown away, the invocation fails
    OUTPUT_AFTER_TIMEOUT = "output_after_timeout"  # an invocation that timed out still writes its output
    NO_CAPACITY = "no_capacity"  # the instances asked for cannot be had
    STREAM_BREAKS = "stream_breaks"  # ModelStreamError after the first part
    STREAM_FAILS = "stream_fails"  # InternalStreamFailure after the first part


@dataclass
class Refusal:
    """So many calls are answered with an error, before or after the work they ask for is done."""

    code: str
    calls: int
    operation: str | None = None  # any operation, if None
    after: bool = False

    def error(self) -> Refused:
        """The answer."""
        throttled = self.code == "ThrottlingException"
        return Refused(
            self.code, STATUSES[self.code], "Rate exceeded" if throttled else "On request of a test."
        )


class Faults:
    """The faults that are armed, and how often each was met."""

    def __init__(self) -> None:
        self.met: Counter[str] = Counter()
        self._armed: defaultdict[Fault, deque[float]] = defaultdict(deque)
        self._refusals: list[Refusal] = []

    def arm(self, fault: Fault, times: int = 1, seconds: float = 0.0) -> None:
        """The next so many occasions go wrong; `seconds` is for those that are about lateness."""
        self._armed[fault].extend([seconds] * times)

    def refuse(self, refusal: Refusal) -> None:
        """The next calls of the operation are refused."""
        self._refusals.append(refusal)

    def take(self, fault: Fault) -> float | None:
        """The armed fault's seconds, used up by this; None if it is not armed."""
        if not self._armed[fault]:
            return None
        self.met[fault] += 1
        return self._armed[fault].popleft()

    def refusal(self, operation: str, *, after: bool) -> Refused | None:
        """The error to answer a call with, used up by this."""
        for refusal in self._refusals:
            if refusal.after == after and refusal.calls > 0 and refusal.operation in (None, operation):
                refusal.calls -= 1
                self.met[refusal.code] += 1
                return refusal.error()
        return None

    def disarm(self) -> None:
        """Nothing goes wrong any more."""
        self._armed.clear()
        self._refusals.clear()
