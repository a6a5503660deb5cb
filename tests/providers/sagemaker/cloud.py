"""An AWS account to test in: a moto server behind a proxy, and the stand-in for SageMaker."""

from __future__ import annotations

import asyncio
import hashlib
import re
import sys
import time
from collections.abc import Callable, Container
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import boto3

from cloudbrush.aws.account import Account
from cloudbrush.domain.asset import AssetKind
from cloudbrush.domain.endpoint import EndpointSpec, EndpointState
from cloudbrush.domain.errors import NotFound
from cloudbrush.domain.invocation import AssetRef, Invocation
from cloudbrush.providers.sagemaker import Place, SageMakerProvider
from cloudbrush.providers.sagemaker.queued import Clock
from cloudbrush.stores.blobs import Blobs
from cloudbrush.testing.sagemaker import SageMaker
from tests import builders, faulty, moto_server

WORKER = (sys.executable, str(Path(__file__).with_name("scripted_worker.py")), "{port}")
PATIENCE = 90.0  # seconds for what other processes do, on a busy machine
GLANCE = 0.02  # seconds between looks at what cannot ring
TICK = 0.05  # seconds between the provider's looks at the clock
ROLE = "arn:aws:iam::123456789012:role/worker"
IMAGE = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/worker:1"


@dataclass
class Cloud:
    """One account, the calls that were made in it, and what a test changes about it."""

    standin: SageMaker
    proxy: faulty.Proxy  # before everything but SageMaker
    folder: Path
    topics: dict[str, str]
    queue_url: str
    blobs_url: str
    moved: float = 0.0  # seconds that tests have added to the time
    watched: Container[str] = frozenset()  # job ids
    strays: list[tuple[str, int]] = field(default_factory=list)  # attempts nobody expected, as told
    over: bool = True  # what is answered of them
    doors: list[Path] = field(default_factory=list)

    @classmethod
    def open(cls, standin: SageMaker, proxy: faulty.Proxy, folder: Path) -> Cloud:
        """A new bucket and new topics, which lead to a new queue."""
        name = uuid4().hex[:12]
        sns, sqs = boto3.client("sns"), boto3.client("sqs")
        queue = sqs.create_queue(QueueName=name, Attributes={"VisibilityTimeout": "1"})["QueueUrl"]
        answer = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])
        topics = {}
        for kind in ("success", "error"):
            topic = topics[kind] = sns.create_topic(Name=f"{kind}-{name}")["TopicArn"]
            sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=answer["Attributes"]["QueueArn"])
        blobs_url = f"s3://{moto_server.make_bucket(proxy.target)}"
        return cls(standin, proxy, folder, topics, queue, blobs_url)

    @property
    def controls(self) -> Any:
        """The stand-in's controls."""
        return self.standin.controls

    @property
    def blobs(self) -> Blobs:
        """The blob store workers share."""
        return Blobs(self.blobs_url)

    def place(self, **changes: Any) -> Place:
        """What a stack would give."""
        given = {
            "region": moto_server.ENVIRONMENT["AWS_DEFAULT_REGION"],
            "blobs_url": self.blobs_url,
            "worker_role_arn": ROLE,
            "success_topic_arn": self.topics["success"],
            "error_topic_arn": self.topics["error"],
            "queue_url": self.queue_url,
            "image_uri": IMAGE,
            "name_prefix": "brush",
            "control_plane": "one",
        }
        return Place(**{**given, **changes})

    def provider(self, **changes: Any) -> SageMakerProvider:
        """A provider in this account; the test starts and closes it."""

        async def settle(job_id: str, epoch: int) -> bool:
            self.strays.append((job_id, epoch))
            return self.over

        return SageMakerProvider(
            Account(),
            self.place(**changes),
            is_watched=lambda job_id: job_id in self.watched,
            settle=settle,
            clock=Clock(self.now, TICK),
        )

    def now(self) -> float:
        """Time as the provider sees it, in seconds."""
        return time.monotonic() + self.moved

    async def pass_time(self, seconds: float) -> None:
        """Let time pass for the provider and for SageMaker."""
        self.moved += seconds
        await asyncio.to_thread(self.controls.advance, seconds)

    async def scaled(self, name: str, instances: int) -> None:
        """Give an endpoint so many instances, as autoscaling does; they are there when this returns."""
        endpoint = f"brush-{name}"
        self.controls.set_instances(endpoint, instances)
        describe = boto3.client("sagemaker").describe_endpoint
        await until(lambda: describe(EndpointName=endpoint)["EndpointStatus"] == "InService")

    def asset(self) -> AssetRef:
        """A model file in the bucket."""
        content = b"weights"
        sha256 = hashlib.sha256(content).hexdigest()
        key = f"models/{sha256}.safetensors"
        self.blobs.put(key, content, replace=True)
        return AssetRef(kind=AssetKind.CHECKPOINT, name="pocket", sha256=sha256, size=len(content), key=key)

    def invocation(self, prompt: str = "paint", *, epoch: int = 1, **changes: Any) -> Invocation:
        """An attempt at a new job."""
        fields = {"job_id": builders.new_id(), "epoch": epoch, "assets": (self.asset(),), **changes}
        return Invocation(generation=builders.generation(prompt=prompt), **fields)

    def door(self) -> Path:
        """A file that does not exist yet, for workers to wait for."""
        self.doors.append(self.folder / f"door-{len(self.doors) + 1}")
        return self.doors[-1]

    def objects(self, method: str) -> list[str]:
        """The keys of the objects that were asked for so since the proxy's list was cleared, by anyone."""
        paths = (urlsplit(asked.path).path for asked in self.proxy.asked if asked.method == method)
        return [path.split("/", 2)[2] for path in paths if re.match(r"/bucket-[0-9a-f]+/.", path)]

    def waiting_messages(self) -> int:
        """How many messages are in the queue, seen or not."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        answer = boto3.client("sqs").get_queue_attributes(QueueUrl=self.queue_url, AttributeNames=names)
        return sum(int(count) for count in answer["Attributes"].values())


async def until(look: Callable[[], Any]) -> Any:
    """What `look` sees, once it sees something."""
    async with asyncio.timeout(PATIENCE):
        while not (seen := await asyncio.to_thread(look)):
            await asyncio.sleep(GLANCE)
    return seen


async def up(provider: SageMakerProvider, **spec: Any) -> EndpointSpec:
    """An endpoint, once it is in service and nothing more is done to it."""
    asked = EndpointSpec(**{"provider": "sagemaker", **spec})
    await provider.deploy(asked)
    await until_state(provider, asked.name, EndpointState.IN_SERVICE)
    async with asyncio.timeout(PATIENCE):
        await asyncio.gather(*provider._hosting._settling.values())
    return asked


async def until_state(provider: SageMakerProvider, name: str, state: EndpointState | None) -> None:
    """Return once the endpoint is so; None: once it is gone."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                if (await provider.describe(name)).state is state:
                    return
            except NotFound:
                if state is None:
                    return
            await asyncio.sleep(GLANCE)
