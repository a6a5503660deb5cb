"""Asking for a generation: checked, completed, and on disk before the answer."""

from __future__ import annotations

import hashlib

from cloudbrush.control import pictures, resolve
from cloudbrush.control.bells import DISPATCH
from cloudbrush.control.plane import ControlPlane
from cloudbrush.domain.asset import ModelAsset
from cloudbrush.domain.endpoint import SAGEMAKER, THIS_MACHINE, Endpoint
from cloudbrush.domain.errors import EndpointNotReady
from cloudbrush.domain.generation import MAX_SEED, Generation, Img2Img, paintable
from cloudbrush.domain.job import EventKind, Job
from cloudbrush.stores.base import IdempotencyKey


def submit(
    plane: ControlPlane,
    generation: Generation,
    *,
    owner: str,
    endpoint: str | None = None,
    idempotency_key: str | None = None,
) -> Job:
    """Queue a generation. Raises `EndpointNotReady`, `InvalidInput`, `IdempotencyMismatch`, `NotFound`."""
    place = endpoint or THIS_MACHINE
    key = IdempotencyKey(idempotency_key, _digest(generation, place)) if idempotency_key else None
    if key and (earlier := plane.stores.requests.earlier(owner, key)):
        return earlier
    where = require_in_service(plane, place)
    in_cloud = where.spec.provider == SAGEMAKER  # whose workers see the bucket and nothing else
    checkpoint, *_ = resolve.everything(plane, generation, in_cloud=in_cloud)
    job = Job(
        id=plane.new_id(),
        owner=owner,
        endpoint=place,
        generation=_completed(plane, generation, checkpoint),
        created_at=plane.now(),
    )
    stored = plane.stores.jobs.add(job, (EventKind.QUEUED, {}), key)
    plane.bells.ring(DISPATCH)
    return stored


def _completed(plane: ControlPlane, generation: Generation, checkpoint: ModelAsset) -> Generation:
    size = (checkpoint.native_size, checkpoint.native_size)
    if isinstance(generation, Img2Img):
        width, height = pictures.check(plane, generation)
        size = (paintable(width), paintable(height))
    highest = MAX_SEED - generation.image_count  # seed + k must fit for each of the job's images
    return generation.completed(
        checkpoint=checkpoint.name,
        size=size,
        seed=min(plane.new_seed(), highest),
        variation_seed=min(plane.new_seed(), highest),
        vae=resolve.vae(plane, generation.vae, checkpoint),
    )


def require_in_service(plane: ControlPlane, name: str) -> Endpoint:
    """The endpoint. Raises `EndpointNotReady` unless the endpoint accepts jobs now."""
    endpoint = plane.stores.endpoints.get(name)
    if not endpoint.state.takes_jobs:
        because = f": {endpoint.failure_reason}" if endpoint.failure_reason else ""
        raise EndpointNotReady(
            f"endpoint {name!r} is {endpoint.state}, not InService{because}",
            field="endpoint",
            hint="Choose an endpoint that is InService, or wait and refresh the list. Nothing was run.",
        )
    return endpoint


def _digest(generation: Generation, endpoint: str) -> str:
    return hashlib.sha256(f"{endpoint}\n{generation.model_dump_json()}".encode()).hexdigest()
