"""What control plane and workers say to each other; the only things that cross that line."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from cloudbrush.domain.asset import AssetKind
from cloudbrush.domain.generation import AnyGeneration

HEARTBEAT_SECONDS = 5.0


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class AssetRef(_Message):
    """A model file a worker needs: where its bytes are and what they must hash to."""

    kind: AssetKind
    name: str
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    size: Annotated[int, Field(ge=0)]  # bytes
    key: Annotated[str, Field(pattern=r"^models/[0-9a-f]{64}(\.safetensors)?$")]  # in the blob store


class Delivery(StrEnum):
    """How a worker tells what happens during an attempt."""

    STREAM = "stream"  # one event a line, as it happens
    OBJECT = "object"  # the last event as the answer; steps and images so far as an object in the blob store


def picture_key(picture: str) -> str:
    """Where a picture that a generation begins with lies in the blob store, by its id."""
    return f"pictures/{picture}"


class Invocation(_Message):
    """One attempt at one job, as the body of `POST /invocations`."""

    job_id: Annotated[str, Field(pattern=r"^[0-9a-f-]{36}$")]
    epoch: Annotated[int, Field(ge=1)]
    generation: AnyGeneration
    assets: tuple[AssetRef, ...]
    delivery: Delivery = Delivery.STREAM
    wait_limit: Annotated[int, Field(ge=0)] = 6 * 3600  # seconds it may still wait for a worker
    run_limit: Annotated[int, Field(ge=1)] = 15 * 60  # seconds it may run

    @property
    def output_prefix(self) -> str:
        """Where the images of this attempt go; attempts never share a prefix."""
        return f"jobs/{self.job_id}/{self.epoch}"


def temporary_prefix(job_id: str, epoch: int) -> str:
    """Where an attempt keeps in the blob store what nobody needs once it has ended."""
    return f"temporary/{job_id}/{epoch}"


def stop_key(job_id: str, epoch: int) -> str:
    """The object whose being there tells the worker to stop the attempt, or not to begin it."""
    return f"{temporary_prefix(job_id, epoch)}/stop"


def report_key(job_id: str, epoch: int) -> str:
    """Where a worker whose answer is one object keeps its latest `Report`."""
    return f"{temporary_prefix(job_id, epoch)}/report.json"


class ImageResult(_Message):
    """One painted image: where its PNG lies and what made it."""

    index: int
    key: str  # in the blob store
    seed: int
    width: int  # pixels
    height: int
    sha256: str
    infotext: str


class Accepted(_Message):
    """The provider keeps the attempt, whatever becomes of the control plane. A worker never says this."""

    kind: Literal["accepted"] = "accepted"
    handle: str  # by which the provider finds the attempt again; opaque to everyone else


class Heartbeat(_Message):
    """The worker is alive; sent when it has nothing else to say, so that silence means it hangs."""

    kind: Literal["heartbeat"] = "heartbeat"


class Progress(_Message):
    """The attempt took a step."""

    kind: Literal["progress"] = "progress"
    step: int  # over all batches of the job, counted from 1
    steps: int
    preview: str | None = None  # small JPEG as a data URI


class ImagePainted(_Message):
    """An image is final and stored."""

    kind: Literal["image"] = "image"
    image: ImageResult


class Finished(_Message):
    """All images are stored; nothing follows."""

    kind: Literal["finished"] = "finished"
    images: tuple[ImageResult, ...]
    seconds: dict[str, float] = {}  # wall time by stage


class Failed(_Message):
    """The attempt ended without images; nothing follows."""

    kind: Literal["failed"] = "failed"
    code: str
    detail: str
    field: str | None = None
    hint: str | None = None


class Report(_Message):
    """How far an attempt is whose worker answers with one object."""

    progress: Progress | None = None
    images: tuple[ImageResult, ...] = ()


WorkerEvent = Accepted | Heartbeat | Progress | ImagePainted | Finished | Failed
WORKER_EVENT: TypeAdapter[WorkerEvent] = TypeAdapter(Annotated[WorkerEvent, Field(discriminator="kind")])
