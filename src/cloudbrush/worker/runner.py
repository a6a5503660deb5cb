"""One invocation from fetched models to stored images; many may run at once on the one engine."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import ExitStack, aclosing, asynccontextmanager
from typing import TypeVar

import structlog

from cloudbrush.domain.asset import AssetKind
from cloudbrush.domain.errors import CloudbrushError, InvalidInput
from cloudbrush.domain.generation import Img2Img
from cloudbrush.domain.invocation import (
    HEARTBEAT_SECONDS,
    Failed,
    Finished,
    Heartbeat,
    ImagePainted,
    ImageResult,
    Invocation,
    Progress,
    WorkerEvent,
    picture_key,
)
from cloudbrush.engine import Broke, Done, Engine, ImageReady, ModelFile, Models, StepTaken
from cloudbrush.stores.blobs import Blobs
from cloudbrush.worker.model_cache import ModelCache
from cloudbrush.worker.post import Post, called_off, is_stopped

log = structlog.get_logger()
EngineEvent = StepTaken | ImageReady | Done | Broke
Said = TypeVar("Said")


class Runner:
    """Runs invocations on the engine; closing the stream of one stops it before the next UNet call."""

    def __init__(self, engine: Engine, blobs: Blobs, cache: ModelCache) -> None:
        self._engine = engine
        self._blobs = blobs
        self._cache = cache

    @property
    def serves(self) -> bool:
        """Whether the engine can paint; if not, only a new process helps."""
        return self._engine.serves

    async def run(self, invocation: Invocation) -> AsyncGenerator[WorkerEvent]:
        """What happens during the attempt; the last event is `Finished` or `Failed`, never an exception."""
        post = Post(self._blobs, invocation)
        try:
            async with aclosing(post.until_stopped(self._attempt(invocation))) as events:
                async for event in events:
                    await post.report(event)
                    yield event
        except CloudbrushError as error:
            yield Failed(code=error.code, detail=error.detail, field=error.field, hint=error.hint)
        except Exception:
            log.exception("invocation broke", job=invocation.job_id, epoch=invocation.epoch)
            yield Failed(
                code="worker_error", detail="the worker met an error it did not expect", hint="See its log."
            )

    async def _attempt(self, invocation: Invocation) -> AsyncGenerator[WorkerEvent]:
        with ExitStack() as held:
            fetching = asyncio.create_task(asyncio.to_thread(self._models, invocation, held))
            while not fetching.done():
                await asyncio.wait({fetching}, timeout=HEARTBEAT_SECONDS)
                yield Heartbeat()
            models = fetching.result()
            async with aclosing(self._paint(invocation, models)) as events:
                async for event in events:
                    yield event

    def _models(self, invocation: Invocation, held: ExitStack) -> Models:
        files: defaultdict[AssetKind, list[ModelFile]] = defaultdict(list)
        for asset in invocation.assets:
            path = held.enter_context(self._cache.holding(asset))
            files[asset.kind].append(ModelFile(asset.name, path, asset.sha256))
        if not files[AssetKind.CHECKPOINT]:
            raise InvalidInput("the invocation names no checkpoint", field="assets")
        checkpoint, *others = files[AssetKind.CHECKPOINT]
        return Models(
            checkpoint=checkpoint,
            checkpoints=tuple(others),
            vae=next(iter(files[AssetKind.VAE]), None),
            loras=tuple(files[AssetKind.LORA]),
            hypernetworks=tuple(files[AssetKind.HYPERNETWORK]),
            embeddings=tuple(files[AssetKind.EMBEDDING]),
            upscalers=tuple(files[AssetKind.UPSCALER]),
            pictures=self._pictures(invocation),
        )

    def _pictures(self, invocation: Invocation) -> dict[str, bytes]:
        """What the generation begins with, by id; raises `InvalidInput` for a picture that was changed."""
        generation = invocation.generation
        found = {}
        for picture in generation.pictures if isinstance(generation, Img2Img) else ():
            found[picture] = self._blobs.get(picture_key(picture))
            if hashlib.sha256(found[picture]).hexdigest() != picture:
                raise InvalidInput(f"the picture {picture} is not what was handed in", field="image")
        return found

    async def _paint(self, invocation: Invocation, models: Models) -> AsyncGenerator[WorkerEvent]:
        images: list[ImageResult] = []
        async with self._engine_events(invocation, models) as events:
            while True:
                match await _next_within(events, HEARTBEAT_SECONDS):
                    case None:
                        yield Heartbeat()
                    case StepTaken(step, steps, preview):
                        yield Progress(step=step, steps=steps, preview=_data_uri(preview))
                    case ImageReady() as ready:
                        images.append(await asyncio.to_thread(self._store, invocation, ready))
                        yield ImagePainted(image=images[-1])
                    case Done(seconds):
                        yield Finished(images=tuple(images), seconds=seconds)
                        return
                    case Broke(error):
                        raise error

    @asynccontextmanager
    async def _engine_events(
        self, invocation: Invocation, models: Models
    ) -> AsyncIterator[asyncio.Queue[EngineEvent]]:
        """The engine's events, carried from its threads to this loop; leaving the context cancels the run."""
        loop = asyncio.get_running_loop()
        events: asyncio.Queue[EngineEvent] = asyncio.Queue()

        def carry(event: EngineEvent) -> None:
            loop.call_soon_threadsafe(events.put_nowait, event)

        handle = self._engine.submit(invocation.generation, models, carry)
        try:
            yield events
        finally:
            self._engine.cancel(handle)

    def _store(self, invocation: Invocation, ready: ImageReady) -> ImageResult:
        if is_stopped(self._blobs, invocation):
            raise called_off()  # nobody would ever look at the image, or delete it
        key = f"{invocation.output_prefix}/{ready.index}.png"
        self._blobs.put(key, ready.png, replace=True)
        return ImageResult(
            index=ready.index,
            key=key,
            seed=ready.seed,
            width=ready.width,
            height=ready.height,
            sha256=hashlib.sha256(ready.png).hexdigest(),
            infotext=ready.infotext,
        )


async def _next_within(queue: asyncio.Queue[Said], seconds: float) -> Said | None:
    try:
        async with asyncio.timeout(seconds):
            return await queue.get()
    except TimeoutError:
        return None


def _data_uri(jpeg: bytes | None) -> str | None:
    return jpeg and f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"  # type: ignore[return-value]
