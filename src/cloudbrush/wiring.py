"""The one file that picks stores and providers and puts a control plane together."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Container
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

from anyio import to_thread
from fastapi import FastAPI

from cloudbrush.api.app import create_app
from cloudbrush.aws.account import Account
from cloudbrush.control import assets
from cloudbrush.control.bells import Bells
from cloudbrush.control.cloud_models import CloudModels
from cloudbrush.control.dispatch import Dispatcher
from cloudbrush.control.endpoints import EndpointKeeper
from cloudbrush.control.jobs import settle
from cloudbrush.control.plane import ControlPlane, Limits
from cloudbrush.domain.endpoint import SAGEMAKER, THIS_MACHINE, EndpointSpec
from cloudbrush.domain.errors import InvalidInput
from cloudbrush.providers.local import LocalProvider
from cloudbrush.providers.sagemaker import Place, SageMakerProvider
from cloudbrush.settings import Settings
from cloudbrush.stores.base import Stores
from cloudbrush.stores.blobs import Blobs
from cloudbrush.stores.database import Database
from cloudbrush.stores.sql import SqlAssets, SqlEndpoints, SqlEvents, SqlJobs, SqlQueue, SqlRequests

BUILTIN_MODELS = Path(__file__).parent / "builtin"
FIRST_ENDPOINTS = (
    EndpointSpec(name="pocket"),
    EndpointSpec(name=THIS_MACHINE, min_instances=0),
)


class Everything:
    """Contains every name: all endpoints are brought up."""

    def __contains__(self, _name: object) -> bool:
        return True


def control_plane(settings: Settings, *, endpoints: Container[str] | None) -> FastAPI:
    """A control plane with its REST application; its work begins and ends with the application's lifespan.

    Only `endpoints` are brought up; None answers questions, and runs and changes nothing.
    """
    for folder in assets.FOLDERS:
        (settings.models_dir / folder).mkdir(parents=True, exist_ok=True)
    database = Database(settings.database_url)
    if endpoints is not None:
        database.hold()
    local = LocalProvider(
        blobs_url=settings.blobs_url,
        logs_dir=settings.logs_dir,
        silence=settings.lease_seconds,
    )
    blobs = Blobs(settings.blobs_url)
    bells = Bells()
    cloud = _cloud(settings, bells.is_heard, lambda job_id, epoch: settle(plane, job_id, epoch))
    plane = ControlPlane(
        stores=_stores(database, blobs, place=f"{socket.gethostname()}:{settings.models_dir}"),
        providers={"local": local} if cloud is None else {"local": local, SAGEMAKER: cloud},
        bells=bells,
        models_dirs=models_dirs(settings),
        cloud_models=CloudModels(blobs) if blobs.is_cloud else None,
        limits=Limits(
            lease=timedelta(seconds=settings.lease_seconds),
            run=timedelta(seconds=settings.run_seconds),
            queue=timedelta(seconds=settings.queue_seconds),
        ),
    )

    @asynccontextmanager
    async def working() -> AsyncIterator[None]:
        await to_thread.run_sync(assets.refresh, plane)
        async with AsyncExitStack() as stack:
            stack.callback(database.close)
            stack.push_async_callback(local.close)
            if cloud is not None:
                stack.push_async_callback(cloud.close)
            if endpoints is not None:
                if cloud is not None:
                    cloud.start()
                keeper = EndpointKeeper(plane, first=FIRST_ENDPOINTS, only=endpoints)
                await keeper.start()
                # Left in reverse: first the jobs are given back, then their workers end.
                await stack.enter_async_context(_running(keeper))
                await stack.enter_async_context(_running(Dispatcher(plane)))
            yield

    return create_app(plane, working(), hosts=settings.hosts)


def _cloud(
    settings: Settings, is_watched: Callable[[str], bool], settled: Callable[[str, int], bool]
) -> SageMakerProvider | None:
    """The provider of rented instances, where the settings name what it needs."""
    named = (
        settings.aws_worker_role_arn,
        settings.aws_success_topic_arn,
        settings.aws_error_topic_arn,
        settings.aws_queue_url,
    )
    if not all(named) or not settings.blobs_url.startswith("s3://"):
        return None
    role, success, error, queue = (str(name) for name in named)
    account = Account(settings.aws_region)
    place = Place(
        region=account.region,
        blobs_url=settings.blobs_url,
        worker_role_arn=role,
        success_topic_arn=success,
        error_topic_arn=error,
        queue_url=queue,
        image_uri=settings.aws_image_uri,
        name_prefix=settings.aws_name_prefix,
        control_plane=_identity(settings.data_dir / "control-plane.id"),
    )

    async def settle(job_id: str, epoch: int) -> bool:
        return await to_thread.run_sync(settled, job_id, epoch)

    return SageMakerProvider(account, place, is_watched=is_watched, settle=settle)


def _identity(file: Path) -> str:
    """By what a data directory knows its endpoints in the cloud; made once."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(uuid4().hex)
    return file.read_text()


@asynccontextmanager
async def _running(work: EndpointKeeper | Dispatcher) -> AsyncIterator[None]:
    task = asyncio.create_task(work.run())
    try:
        yield
    finally:
        work.stop()
        await task


def models_dirs(settings: Settings) -> tuple[Path, ...]:
    """The folders of model files, in the WebUI's layout."""
    return BUILTIN_MODELS, settings.models_dir


def cloud_models(settings: Settings) -> CloudModels:
    """The models in the bucket, without a control plane. Raises `InvalidInput` when there is no bucket."""
    blobs = Blobs(settings.blobs_url)
    if not blobs.is_cloud:
        raise InvalidInput(
            "there is no cloud to upload to",
            field="CLOUDBRUSH_AWS_BUCKET",
            hint="Run `cloudbrush aws up`; on this machine models in the models folder are there already.",
        )
    return CloudModels(blobs)


def _stores(database: Database, blobs: Blobs, place: str) -> Stores:
    return Stores(
        jobs=SqlJobs(database),
        requests=SqlRequests(database),
        events=SqlEvents(database),
        queue=SqlQueue(database),
        endpoints=SqlEndpoints(database),
        assets=SqlAssets(database, place),
        blobs=blobs,
    )
