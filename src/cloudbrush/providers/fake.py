"""A provider for tests: no processes; what its workers do is scripted."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from cloudbrush.domain.endpoint import EndpointSpec, EndpointState
from cloudbrush.domain.errors import NotFound, WorkerLost
from cloudbrush.domain.invocation import Accepted, Finished, Invocation, WorkerEvent
from cloudbrush.providers.base import Capabilities, Observed

Script = Callable[[Invocation], AsyncGenerator[WorkerEvent]]


async def nothing_painted(_invocation: Invocation) -> AsyncGenerator[WorkerEvent]:
    """The simplest script: finishes at once without images."""
    yield Finished(images=())


class FakeProvider:
    """Endpoints in a dictionary, InService as soon as deployed; every invocation runs `script`."""

    capabilities = Capabilities(scales_to_zero=True)

    def __init__(self, script: Script = nothing_painted) -> None:
        self.script = script
        self.invocations: list[Invocation] = []
        self._endpoints: dict[str, Observed] = {}
        self._on_change: Callable[[str], None] = lambda _name: None

    def watch(self, on_change: Callable[[str], None]) -> None:
        """See `Provider.watch`."""
        self._on_change = on_change

    async def deploy(self, spec: EndpointSpec) -> None:
        """See `Provider.deploy`."""
        wanted = Observed(EndpointState.IN_SERVICE, instances=max(1, spec.min_instances))
        now = self._endpoints.get(spec.name)
        if now is None or (now.state is EndpointState.IN_SERVICE and now != wanted):
            self.set(spec.name, wanted)

    async def describe(self, name: str) -> Observed:
        """See `Provider.describe`."""
        return self._endpoint(name)

    async def delete(self, name: str) -> None:
        """See `Provider.delete`."""
        if self._endpoints.pop(name, None):
            self._on_change(name)

    async def invoke(self, name: str, invocation: Invocation) -> AsyncGenerator[WorkerEvent]:
        """See `Provider.invoke`."""
        self._endpoint(name)
        self.invocations.append(invocation)
        async with aclosing(self.script(invocation)) as events:
            async for event in events:
                yield event

    def set(self, name: str, observed: Observed) -> None:
        """Make an endpoint be seen in this state."""
        self._endpoints[name] = observed
        self._on_change(name)

    def _endpoint(self, name: str) -> Observed:
        if name not in self._endpoints:
            raise NotFound(f"there is no endpoint {name!r}", field="endpoint")
        return self._endpoints[name]


class LastingFakeProvider(FakeProvider):
    """Its attempts go on when nobody follows them, as those of a cloud endpoint do."""

    def __init__(self, script: Script = nothing_painted) -> None:
        super().__init__(script)
        self.stopped: list[tuple[str, int]] = []  # job id and epoch
        self._attempts: dict[str, _Attempt] = {}  # by handle

    async def invoke(self, name: str, invocation: Invocation) -> AsyncGenerator[WorkerEvent]:
        """See `Provider.invoke`."""
        self._endpoint(name)
        self.invocations.append(invocation)
        handle = f"{invocation.job_id}.{invocation.epoch}"
        self._attempts[handle] = _Attempt(self.script(invocation))
        yield Accepted(handle=handle)
        async for event in self.resume(handle):
            yield event

    async def resume(self, handle: str) -> AsyncGenerator[WorkerEvent]:
        """See `LastingProvider.resume`."""
        if handle not in self._attempts:
            raise WorkerLost("the attempt is gone")
        async for event in self._attempts[handle].told():
            yield event

    async def stop(self, job_id: str, epoch: int) -> None:
        """See `LastingProvider.stop`."""
        self.stopped.append((job_id, epoch))
        if attempt := self._attempts.pop(f"{job_id}.{epoch}", None):
            attempt.task.cancel()


class _Attempt:
    """A script that runs by itself; whoever asks is told everything from the start."""

    def __init__(self, events: AsyncGenerator[WorkerEvent]) -> None:
        self._said: list[WorkerEvent | Exception | None] = []  # None at the end
        self._news = asyncio.Condition()
        self.task = asyncio.create_task(self._run(events))

    async def _run(self, events: AsyncGenerator[WorkerEvent]) -> None:
        try:
            async with aclosing(events):
                async for event in events:
                    await self._say(event)
            await self._say(None)
        except Exception as error:
            await self._say(error)

    async def _say(self, what: WorkerEvent | Exception | None) -> None:
        async with self._news:
            self._said.append(what)
            self._news.notify_all()

    async def told(self) -> AsyncGenerator[WorkerEvent]:
        """Everything said so far, then what is said next."""
        for place in itertools.count():
            async with self._news:
                while len(self._said) <= place:
                    await self._news.wait()
            match self._said[place]:
                case None:
                    return
                case Exception() as error:
                    raise error
                case event:
                    yield event
