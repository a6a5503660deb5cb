"""The provider itself: which endpoint is of which kind, and who does what for it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from cloudbrush.aws.account import Account
from cloudbrush.domain.endpoint import EndpointKind, EndpointSpec
from cloudbrush.domain.errors import NotFound
from cloudbrush.domain.invocation import Invocation, WorkerEvent, stop_key
from cloudbrush.providers.base import Capabilities, Observed
from cloudbrush.providers.sagemaker.calls import Calls
from cloudbrush.providers.sagemaker.hosting import Hosting
from cloudbrush.providers.sagemaker.notices import Notices, Settle
from cloudbrush.providers.sagemaker.place import Place
from cloudbrush.providers.sagemaker.queued import Clock, Queued
from cloudbrush.providers.sagemaker.streamed import Streamed


class SageMakerProvider:
    """Endpoints in one AWS account; asynchronous invocations go on without the control plane."""

    capabilities = Capabilities(scales_to_zero=True)

    def __init__(
        self,
        account: Account,
        place: Place,
        *,
        is_watched: Callable[[str], bool],
        settle: Settle,
        clock: Clock | None = None,
    ) -> None:
        """`is_watched(job id)`: whether steps are worth looking for; `settle`: see `notices.Settle`."""
        self._place = place
        self._calls = Calls(account)
        self._specs: dict[str, EndpointSpec] = {}  # by name
        self._on_change: Callable[[str], None] = lambda _name: None
        self._hosting = Hosting(self._calls, place, lambda name: self._on_change(name))
        self._notices = Notices(self._calls, place.queue_url, settle)
        self._queued = Queued(self._calls, place, self._notices, is_watched, clock or Clock(time.monotonic))
        self._streamed = Streamed(self._calls)
        self._listening: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to listen for results."""
        self._listening = asyncio.create_task(self._notices.listen(), name="notices")

    async def close(self) -> None:
        """Stop listening and watching; what runs in the cloud goes on."""
        if self._listening:
            self._listening.cancel()
            await asyncio.gather(self._listening, return_exceptions=True)
        await self._hosting.close()

    def watch(self, on_change: Callable[[str], None]) -> None:
        """See `Provider.watch`."""
        self._on_change = on_change

    async def deploy(self, spec: EndpointSpec) -> None:
        """See `Provider.deploy`."""
        self._specs[spec.name] = spec  # also when AWS does not answer: the endpoint may be there
        await self._hosting.deploy(spec)

    async def describe(self, name: str) -> Observed:
        """See `Provider.describe`."""
        return await self._hosting.describe(name)

    async def delete(self, name: str) -> None:
        """See `Provider.delete`."""
        await self._hosting.delete(name)
        self._specs.pop(name, None)

    async def invoke(self, name: str, invocation: Invocation) -> AsyncGenerator[WorkerEvent]:
        """See `Provider.invoke`."""
        spec = self._specs.get(name)
        if spec is None:
            raise NotFound(f"there is no endpoint {name!r}", field="endpoint")
        way = self._streamed if spec.kind is EndpointKind.REALTIME else self._queued
        async with aclosing(way.invoke(self._place.endpoint(name), invocation)) as events:
            async for event in events:
                yield event

    async def resume(self, handle: str) -> AsyncGenerator[WorkerEvent]:
        """See `LastingProvider.resume`."""
        async with aclosing(self._queued.resume(handle)) as events:
            async for event in events:
                yield event

    async def stop(self, job_id: str, epoch: int) -> None:
        """See `LastingProvider.stop`. SageMaker cannot call off an invocation: its worker reads this."""
        await self._calls.call("s3", "put_object", **self._place.object(stop_key(job_id, epoch)), Body=b"")
