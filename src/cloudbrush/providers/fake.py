"""A provider for tests: no processes; what its workers do is scripted."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from cloudbrush.domain.endpoint import EndpointSpec, EndpointState
from cloudbrush.domain.errors import NotFound
from cloudbrush.domain.invocation import Finished, Invocation, WorkerEvent
from cloudbrush.providers.base import Capabilities, Observed

Script = Callable[[Invocation], AsyncGenerator[WorkerEvent]]


async def nothing_painted(_invocation: Invocation) -> AsyncGenerator[WorkerEvent]:
    """The simplest script: finishes at once without images."""
    yield Finished(images=())


class FakeProvider:
    """Endpoints in a dictionary, InService as soon as deployed; every invocation runs `script`."""

    capabilities = Capabilities(outlives_control_plane=False, scales_to_zero=True)

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
        if spec.name not in self._endpoints:
            self.set(spec.name, Observed(EndpointState.IN_SERVICE, instances=1))

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
