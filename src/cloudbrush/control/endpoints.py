"""Deploying and deleting endpoints, and keeping what is stored of them true to what their providers see."""

from __future__ import annotations

import asyncio
from collections.abc import Container, Sequence
from contextlib import suppress

import structlog
from anyio import to_thread
from pydantic import ValidationError

from cloudbrush.control.bells import DISPATCH
from cloudbrush.control.jobs import end
from cloudbrush.control.plane import ControlPlane
from cloudbrush.domain.endpoint import THIS_MACHINE, Endpoint, EndpointSpec, EndpointState
from cloudbrush.domain.errors import (
    CloudbrushError,
    Conflict,
    InvalidInput,
    NotFound,
    Stale,
)
from cloudbrush.domain.job import JobState, Problem
from cloudbrush.providers.base import Observed, Provider
from cloudbrush.stores.base import JobFilter

log = structlog.get_logger()
PROVIDERS = "endpoints"  # the bell topic providers ring when an endpoint of theirs changed
LOOK_AGAIN = 30.0  # seconds between looks when no provider rings
UNFINISHED = frozenset({JobState.QUEUED, JobState.RUNNING})
PAGE = 100


async def deploy(plane: ControlPlane, spec: EndpointSpec) -> Endpoint:
    """Bring up an endpoint, `Creating` at first.

    Raises `InvalidInput`, `Conflict` when the name is taken, and what its provider says; then there is none.
    """
    provider = _provider(plane, spec)
    endpoint = await to_thread.run_sync(plane.stores.endpoints.add, _new(plane, spec))
    try:
        await provider.deploy(spec)
    except CloudbrushError:
        await to_thread.run_sync(plane.stores.endpoints.delete, spec.name)
        raise
    try:
        await to_thread.run_sync(plane.stores.endpoints.get, spec.name)
    except NotFound:  # deleted before it was up
        await provider.delete(spec.name)
        raise
    return endpoint


async def resize(
    plane: ControlPlane, name: str, min_instances: int | None, max_instances: int | None = None
) -> Endpoint:
    """Change how many instances an endpoint has; None leaves a number as it is.

    Raises `NotFound`, `InvalidInput`, `Conflict` while it is not up.
    """
    endpoint = await to_thread.run_sync(plane.stores.endpoints.get, name)
    if not endpoint.state.takes_jobs:
        raise Conflict(
            f"endpoint {name!r} is {endpoint.state}", field="name", hint="Wait until it is InService."
        )
    asked = {"min_instances": min_instances, "max_instances": max_instances}
    given = {field: number for field, number in asked.items() if number is not None}
    spec = _checked(endpoint.spec, given)
    await _provider(plane, spec).deploy(spec)
    return await to_thread.run_sync(_change, plane, endpoint.evolved(plane.now(), spec=spec))


async def delete(plane: ControlPlane, name: str) -> Endpoint:
    """Begin to take an endpoint down; its unfinished jobs are cancelled, and say why.

    Raises `NotFound`, and `Conflict` for the one that jobs without an endpoint need.
    """
    if name == THIS_MACHINE:
        raise Conflict(f"{name!r} cannot be deleted: jobs that choose no endpoint run there", field="name")
    endpoint = await to_thread.run_sync(plane.stores.endpoints.get, name)
    if endpoint.state is not EndpointState.DELETING:
        endpoint = await to_thread.run_sync(_mark_deleting, plane, endpoint)
    await to_thread.run_sync(_call_off_jobs, plane, name)
    plane.bells.ring(PROVIDERS)
    return endpoint


class EndpointKeeper:
    """Brings stored endpoints up after a restart, writes down what providers see, finishes deletions."""

    def __init__(self, plane: ControlPlane, first: Sequence[EndpointSpec], only: Container[str]) -> None:
        """`first` are what a data directory without endpoints starts with; those in `only` are brought up."""
        self._plane = plane
        self._first = first
        self._only = only
        self._stopping = False
        self._retiring: dict[str, asyncio.Task[None]] = {}  # by endpoint name

    async def start(self) -> None:
        """Bring up what is stored; when this returns, no stored state is a leftover of an earlier run."""
        for provider in self._plane.providers.values():
            provider.watch(lambda _name: self._plane.bells.ring(PROVIDERS))
        stores = self._plane.stores
        if not await to_thread.run_sync(stores.endpoints.all):
            for spec in self._first:
                await to_thread.run_sync(stores.endpoints.add, _new(self._plane, spec))
        for endpoint in await to_thread.run_sync(stores.endpoints.all):
            if endpoint.state is not EndpointState.DELETING:
                await to_thread.run_sync(self._write_down, endpoint, Observed(EndpointState.CREATING))
                if endpoint.name in self._only:
                    await self._bring_up(endpoint)
        await self._look()

    def stop(self) -> None:
        """Make `run` end soon."""
        self._stopping = True
        self._plane.bells.ring(PROVIDERS)

    async def run(self) -> None:
        """Keep watch until stopped. An error of one look is logged and the next look goes on."""
        with self._plane.bells.listening(PROVIDERS) as bell:
            while not self._stopping:
                try:
                    await self._look()
                except Exception:
                    log.exception("watching endpoints stumbled; it goes on")
                await bell.wait(LOOK_AGAIN)

    async def _bring_up(self, endpoint: Endpoint) -> None:
        try:
            await _provider(self._plane, endpoint.spec).deploy(endpoint.spec)
        except CloudbrushError as error:
            failed = Observed(EndpointState.FAILED, failure_reason=error.detail)
            await to_thread.run_sync(self._write_down, endpoint, failed)

    async def _look(self) -> None:
        for endpoint in await to_thread.run_sync(self._plane.stores.endpoints.all):
            if endpoint.state is EndpointState.DELETING:
                if endpoint.name not in self._retiring:
                    self._retiring[endpoint.name] = asyncio.create_task(self._retire(endpoint))
                continue
            try:
                observed = await _provider(self._plane, endpoint.spec).describe(endpoint.name)
            except NotFound:
                if not endpoint.state.takes_jobs:  # not brought up here
                    continue
                log.warning("endpoint was deleted by someone else", name=endpoint.name)
                observed = Observed(EndpointState.DELETING)  # the next look clears away what is left of it
                self._plane.bells.ring(PROVIDERS)
            except InvalidInput:  # its provider is not here
                continue
            except CloudbrushError as error:
                log.warning("endpoint cannot be seen", name=endpoint.name, reason=error.detail)
                continue
            await to_thread.run_sync(self._write_down, endpoint, observed)

    async def _retire(self, endpoint: Endpoint) -> None:
        try:
            await _provider(self._plane, endpoint.spec).delete(endpoint.name)
            await to_thread.run_sync(_call_off_jobs, self._plane, endpoint.name)  # accepted in between
            await to_thread.run_sync(self._plane.stores.endpoints.delete, endpoint.name)
            log.info("endpoint deleted", name=endpoint.name)
        except CloudbrushError as error:  # the next look tries again
            log.warning("endpoint not deleted", name=endpoint.name, reason=error.detail)
            stuck = endpoint.evolved(self._plane.now(), failure_reason=error.detail)
            with suppress(Stale, NotFound):
                await to_thread.run_sync(self._plane.stores.endpoints.change, stuck)
        finally:
            del self._retiring[endpoint.name]

    def _write_down(self, endpoint: Endpoint, observed: Observed) -> None:
        endpoint = self._plane.stores.endpoints.get(endpoint.name)
        seen = endpoint.evolved(
            self._plane.now(),
            state=observed.state,
            instances=observed.instances,
            failure_reason=observed.failure_reason,
        )
        if seen == endpoint or endpoint.state is EndpointState.DELETING:
            return
        with suppress(Stale):  # changed meanwhile; the next look is right
            self._plane.stores.endpoints.change(seen)
        log.info("endpoint", name=endpoint.name, state=observed.state.value, instances=observed.instances)
        self._plane.bells.ring(DISPATCH)


def _new(plane: ControlPlane, spec: EndpointSpec) -> Endpoint:
    now = plane.now()
    return Endpoint(spec=spec, created_at=now, changed_at=now)


def _provider(plane: ControlPlane, spec: EndpointSpec) -> Provider:
    provider = plane.providers.get(spec.provider)
    if provider is None:
        known = ", ".join(sorted(plane.providers))
        raise InvalidInput(
            f"there is no provider {spec.provider!r} here", field="provider", hint=f"Choose one of: {known}."
        )
    if spec.min_instances == 0 and not provider.capabilities.scales_to_zero:
        raise InvalidInput(
            f"provider {spec.provider!r} cannot scale to zero", field="min_instances", hint="Use 1 or more."
        )
    return provider


def _checked(spec: EndpointSpec, changes: dict[str, int]) -> EndpointSpec:
    try:
        return EndpointSpec.model_validate({**spec.model_dump(), **changes})
    except ValidationError as error:
        first = error.errors()[0]
        told = str(first["msg"]).removeprefix("Value error, ")
        raise InvalidInput(told, field=str(first["loc"][0])) from error


def _mark_deleting(plane: ControlPlane, endpoint: Endpoint) -> Endpoint:
    return _change(plane, endpoint.evolved(plane.now(), state=EndpointState.DELETING))


def _change(plane: ControlPlane, endpoint: Endpoint) -> Endpoint:
    try:
        return plane.stores.endpoints.change(endpoint)
    except Stale as error:
        raise Conflict(
            f"endpoint {endpoint.name!r} is just changing", field="name", hint="Try again in a moment."
        ) from error


def _call_off_jobs(plane: ControlPlane, endpoint: str) -> None:
    problem = Problem(
        code="endpoint_deleted",
        detail=f"its endpoint {endpoint!r} was deleted",
        field="endpoint",
        hint="Submit it again to another endpoint.",
    )
    which = JobFilter(endpoint=endpoint, states=UNFINISHED)
    while jobs := plane.stores.jobs.find(which, PAGE).jobs:
        for job in jobs:
            end(plane, job.ended(JobState.CANCELLED, plane.now(), problem=problem))
