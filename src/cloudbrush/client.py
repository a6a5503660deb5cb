"""The REST API as Python calls: how the studio and the command line reach a control plane, near or far."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import datetime
from types import TracebackType
from typing import Any, Self

import httpx
from pydantic import TypeAdapter

from cloudbrush.domain.asset import AssetKind, ModelAsset
from cloudbrush.domain.endpoint import Endpoint, EndpointSpec
from cloudbrush.domain.errors import CloudbrushError, Unavailable, from_dict
from cloudbrush.domain.generation import Generation
from cloudbrush.domain.health import Health
from cloudbrush.domain.image_file import Picture
from cloudbrush.domain.job import EventKind, Job, JobEvent, JobList, JobState

SILENCE = 60.0  # seconds without a sign of life after which an event stream is opened again
_ENDPOINTS = TypeAdapter(list[Endpoint])
_ASSETS = TypeAdapter(list[ModelAsset])


class Client:
    """One control plane. Every call raises the `CloudbrushError` the control plane answered with."""

    def __init__(self, url: str) -> None:
        """Talk to the control plane at `url`, such as `http://127.0.0.1:7860`."""
        self.url = url.rstrip("/")
        self._http = httpx.AsyncClient(
            base_url=f"{self.url}/api/v1",
            timeout=30.0,
            trust_env=False,
            limits=httpx.Limits(max_connections=None),  # each followed job holds one
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def submit(
        self, generation: Generation, *, endpoint: str | None = None, idempotency_key: str | None = None
    ) -> Job:
        """Ask for a generation; no endpoint means this machine. The job is on disk when this returns."""
        headers = {"Idempotency-Key": idempotency_key} if idempotency_key else {}
        body = {"generation": generation.model_dump(mode="json"), "endpoint": endpoint}
        return Job.model_validate_json(await self._call("POST", "/jobs", json=body, headers=headers))

    async def job(self, job_id: str) -> Job:
        """The job as it is now."""
        return Job.model_validate_json(await self._call("GET", f"/jobs/{job_id}"))

    async def add_picture(self, data: bytes) -> Picture:
        """Hand in a picture to paint over; its `id` is what generations name it by."""
        return Picture.model_validate_json(await self._call("POST", "/pictures", content=data))

    async def picture(self, picture_id: str) -> bytes:
        """A picture as it was handed in."""
        return await self._call("GET", f"/pictures/{picture_id}")

    async def jobs(
        self,
        *,
        states: list[JobState] | None = None,
        task: str | None = None,
        endpoint: str | None = None,
        checkpoint: str | None = None,
        created_from: datetime | None = None,
        created_before: datetime | None = None,
        limit: int = 10,
        cursor: str | None = None,
    ) -> JobList:
        """My jobs, newest first; `cursor` of one page brings the next."""
        wanted: dict[str, Any] = {
            "state": states,
            "task": task,
            "endpoint": endpoint,
            "checkpoint": checkpoint,
            "created_from": created_from and created_from.isoformat(),
            "created_before": created_before and created_before.isoformat(),
            "limit": limit,
            "cursor": cursor,
        }
        params = {name: value for name, value in wanted.items() if value is not None}
        return JobList.model_validate_json(await self._call("GET", "/jobs", params=params))

    async def cancel(self, job_id: str) -> Job:
        """Call the job off, whatever its state; a finished job stays as it is."""
        return Job.model_validate_json(await self._call("POST", f"/jobs/{job_id}/cancel"))

    async def delete(self, job_id: str) -> None:
        """Forget a finished job and its images."""
        await self._call("DELETE", f"/jobs/{job_id}")

    async def image(self, job_id: str, index: int) -> bytes:
        """One image of the job: its PNG bytes, infotext inside."""
        return await self._call("GET", f"/jobs/{job_id}/images/{index}")

    async def events(self, job_id: str, after: int = 0) -> AsyncGenerator[JobEvent]:
        """What happens to the job from number `after` on, as it happens, until it is finished.

        A broken connection is opened again where it broke.
        """
        seq = after
        while True:
            try:
                async with aclosing(self._stream(job_id, seq)) as stream:
                    async for event in stream:
                        seq = event.seq
                        yield event
                        if event.kind is EventKind.FINISHED:
                            return
                if (await self.job(job_id)).state.is_terminal:
                    return  # its last event was before `after`
            except httpx.ReadTimeout:
                continue  # silent for too long: ask again
            except (httpx.RemoteProtocolError, httpx.ReadError):
                await self.job(job_id)  # raises Unavailable when the control plane is gone

    async def _stream(self, job_id: str, seq: int) -> AsyncGenerator[JobEvent]:
        headers = {"Last-Event-ID": str(seq)}
        timeout = httpx.Timeout(30.0, read=SILENCE)
        try:
            async with self._http.stream(
                "GET", f"/jobs/{job_id}/events", headers=headers, timeout=timeout
            ) as response:
                if response.is_error:
                    await response.aread()
                    raise _error(response)
                async for line in response.aiter_lines():
                    if line.startswith("data:"):
                        yield JobEvent.model_validate_json(line.removeprefix("data:").strip())
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise self._unreachable() from error

    async def health(self) -> Health:
        """Whether the control plane answers, and where it can deploy endpoints."""
        return Health.model_validate_json(await self._call("GET", "/health"))

    async def endpoints(self) -> list[Endpoint]:
        """Every endpoint, newest first."""
        return _ENDPOINTS.validate_json(await self._call("GET", "/endpoints"))

    async def endpoint(self, name: str) -> Endpoint:
        """The endpoint as it is now."""
        return Endpoint.model_validate_json(await self._call("GET", f"/endpoints/{name}"))

    async def deploy(self, spec: EndpointSpec) -> Endpoint:
        """Bring up an endpoint; it is `Creating` when this returns."""
        return Endpoint.model_validate_json(await self._call("POST", "/endpoints", json=spec.model_dump()))

    async def resize_endpoint(self, name: str, **instances: int) -> Endpoint:
        """Change `min_instances` and `max_instances` of an endpoint."""
        answer = await self._call("PATCH", f"/endpoints/{name}", json=instances)
        return Endpoint.model_validate_json(answer)

    async def delete_endpoint(self, name: str) -> None:
        """Take an endpoint down; it is `Deleting` when this returns."""
        await self._call("DELETE", f"/endpoints/{name}")

    async def models(self, kind: AssetKind | None = None) -> list[ModelAsset]:
        """The model files in the catalogue."""
        params = {"kind": kind.value} if kind else {}
        return _ASSETS.validate_json(await self._call("GET", "/models", params=params))

    async def _call(self, method: str, path: str, **request: Any) -> bytes:
        try:
            response = await self._http.request(method, path, **request)
        except httpx.TransportError as error:
            raise self._unreachable() from error
        if response.is_error:
            raise _error(response)
        return response.content

    def _unreachable(self) -> Unavailable:
        return Unavailable(f"nothing answers at {self.url}", hint="Is Cloudbrush running? Start it: make run")


def _error(response: httpx.Response) -> CloudbrushError:
    try:
        return from_dict(response.json())
    except (json.JSONDecodeError, AttributeError):
        return Unavailable(f"the control plane answered {response.status_code} without saying why")
