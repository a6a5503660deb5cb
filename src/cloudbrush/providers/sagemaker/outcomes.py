"""What came of a queued invocation, read from what SageMaker left in S3 and said about it."""

from __future__ import annotations

from contextlib import suppress

from pydantic import BaseModel, ConfigDict, ValidationError

from cloudbrush.domain.errors import NotFound, RanTooLong, Unavailable, WaitedTooLong, WorkerLost
from cloudbrush.domain.invocation import Failed, Finished, Report, report_key
from cloudbrush.providers import answers
from cloudbrush.providers.sagemaker.calls import Calls
from cloudbrush.providers.sagemaker.notices import Notice
from cloudbrush.providers.sagemaker.place import Place

RESULT_LOOKS = 6  # for a result that was announced, before it counts as missing
REASON_LOOKS = 2  # for what a worker said of its failure, before SageMaker's own words must do


class Handle(BaseModel):
    """Everything by which an invocation is found again."""

    model_config = ConfigDict(frozen=True)

    endpoint: str  # SageMaker's name
    job_id: str
    epoch: int
    output: str  # S3 URL of the worker's answer
    failure: str  # S3 URL of what came instead

    @property
    def inference_id(self) -> str:
        """What SageMaker calls the invocation."""
        return inference_id(self.job_id, self.epoch)


def inference_id(job_id: str, epoch: int) -> str:
    """An attempt's name at SageMaker, by which its notice is known."""
    return f"{job_id}.{epoch}"


class Outcomes:
    """Looks for the end of an invocation, and at how far it is."""

    def __init__(self, calls: Calls, place: Place) -> None:
        self._calls = calls
        self._place = place

    async def end(self, handle: Handle, notice: Notice | None, looks: int) -> Finished | Failed | None:
        """How it ended; None when that cannot be seen now, `looks` counting since the notice.

        Raises `WaitedTooLong`, `RanTooLong`, `WorkerLost`.
        """
        with suppress(Unavailable):  # S3 is asked again
            if notice is None:
                return await self._unannounced(handle)
            if notice.failure_reason is None:
                if answer := await self._calls.object(handle.output):
                    return _finished(answer)
                if looks >= RESULT_LOOKS:
                    raise WorkerLost("its result was announced, but is not there")
                return None
            said = await self._calls.object(handle.failure)
            if said is not None or looks >= REASON_LOOKS:
                return _failed(said or b"", notice.failure_reason)
        return None

    async def report(self, handle: Handle) -> Report:
        """How far the worker says it is; nothing while it waits."""
        with suppress(Unavailable, ValidationError):
            found = await self._calls.object(self._place.url(report_key(handle.job_id, handle.epoch)))
            if found is not None:
                return Report.model_validate_json(found)
        return Report()

    async def _unannounced(self, handle: Handle) -> Finished | Failed | None:
        if answer := await self._calls.object(handle.output):
            return _finished(answer)
        said = await self._calls.object(handle.failure)
        if said is not None:
            return _failed(said, None)
        try:  # what waits or runs at an endpoint that is deleted ends without a word
            await self._calls.call("sagemaker", "describe_endpoint", EndpointName=handle.endpoint)
        except NotFound as error:
            raise WorkerLost("its endpoint was deleted") from error
        return None


def _finished(answer: bytes) -> Finished:
    try:
        return Finished.model_validate_json(answer)
    except ValidationError as error:
        raise WorkerLost("the worker answered what no worker of this version says") from error


def _failed(said: bytes, reason: str | None) -> Failed:
    """The problem the worker told. Raises what SageMaker says instead where no worker could."""
    if failed := answers.failure(said):
        return failed
    reason = reason or said.decode(errors="replace")[:500]
    if "expired" in reason.lower():
        raise WaitedTooLong(f"no instance took it in time: {reason}")
    if "timed out" in reason.lower():
        raise RanTooLong(
            f"it ran longer than allowed: {reason}",
            hint="Try fewer steps, a smaller size or batch, or a faster instance type.",
        )
    raise WorkerLost(f"the instance did not deliver: {reason}")
