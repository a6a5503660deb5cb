"""Asynchronous invocations, from the call to the end of the job."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from cloudbrush.domain.errors import NotFound
from cloudbrush.domain.invocation import Accepted, Failed, Finished, ImagePainted, Invocation, WorkerEvent
from cloudbrush.providers.sagemaker import SageMakerProvider
from tests.providers.sagemaker.cloud import PATIENCE, Cloud, deployed, until


async def told(provider: SageMakerProvider, invocation: Invocation) -> list[WorkerEvent]:
    """Everything but heartbeats."""
    async with asyncio.timeout(PATIENCE):
        return [event async for event in provider.invoke("gpu", invocation) if event.kind != "heartbeat"]


async def test_an_attempt_is_accepted_and_brings_its_image(cloud: Cloud, provider: SageMakerProvider) -> None:
    await deployed(provider)
    invocation = cloud.invocation()
    accepted, painted, finished = await told(provider, invocation)
    assert isinstance(accepted, Accepted)
    assert isinstance(painted, ImagePainted)
    assert isinstance(finished, Finished)
    assert finished.images == (painted.image,)
    assert painted.image.key == f"jobs/{invocation.job_id}/1/0.png"
    assert cloud.blobs.get(painted.image.key) == b"\x89PNG"
