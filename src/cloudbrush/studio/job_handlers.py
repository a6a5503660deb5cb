"""What the panel and Output do: jobs shown, listed, cancelled. Plain functions over a client."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from typing import Any

import gradio as gr

from cloudbrush.client import Client
from cloudbrush.domain.errors import CloudbrushError, NotFound
from cloudbrush.domain.invocation import ImageResult
from cloudbrush.domain.job import Job
from cloudbrush.studio import cloud_panel, output
from cloudbrush.studio.cloud_panel import JobQuery
from cloudbrush.studio.live import JobView, Watches, follow, watch
from cloudbrush.studio.streams import Streams
from cloudbrush.studio.telling import telling, toast


class JobHandlers:
    """The handlers of one mounted studio. They keep open streams, and which watch speaks for which page."""

    def __init__(self, client: Client, cache: str) -> None:
        """`cache` is the folder Gradio serves files from."""
        self._client = client
        self._cache = cache
        self._streams = Streams(client)
        self._outputs = Watches()
        self._job_lists = Watches()
        self._endpoint_lists = Watches()

    async def show(self, job_id: str, request: gr.Request) -> AsyncGenerator[list[Any]]:
        """Show a job in Output, live, until it is finished or the page shows another."""
        with self._outputs.begin(request.session_hash) as watcher:
            shown = output.nothing()
            try:
                if not job_id:
                    yield output.updates(shown)
                    return
                files: dict[str, str] = {}  # by key in the blob store
                async with aclosing(follow(self._client, self._streams, job_id, watcher)) as views:
                    async for view in views:
                        if view is not None:
                            paths = await self._fetched(view.job, view.images, files)
                            shown = output.render(view, paths, watcher.selected)
                        if not watcher.retired:
                            yield output.updates(shown)
            except CloudbrushError as error:
                yield output.updates(output.nothing(error))

    async def _fetched(self, job: Job, images: tuple[ImageResult, ...], files: dict[str, str]) -> list[str]:
        """The files of the images, fetched once each; one of an attempt that was lost is left out."""
        for image in images:
            if image.key not in files:
                with suppress(NotFound):
                    files[image.key] = await output.fetch(self._client, self._cache, job, image)
        return [files[image.key] for image in images if image.key in files]

    async def list_jobs(self, request: gr.Request, shown: str, *filters: Any) -> AsyncGenerator[Any]:
        """The job dropdown with the job that Output shows chosen, again when a listed job changes state."""
        query = JobQuery(*filters)
        update: dict[str, Any] = {}
        with self._job_lists.begin(request.session_hash) as watcher:
            try:
                found = watch(self._streams, lambda: cloud_panel.find_jobs(self._client, query), watcher)
                async with aclosing(found) as lists:
                    async for jobs in lists:
                        if jobs is not None:
                            update = cloud_panel.job_list(jobs, query, shown)
                        if not watcher.retired:
                            yield gr.update(**update)
            except CloudbrushError as error:
                raise toast(error) from error

    async def list_endpoints(self, chosen: str, request: gr.Request) -> AsyncGenerator[list[Any]]:
        """Endpoint dropdown, note and Generate's label, again while an endpoint is on its way to a state."""
        with self._endpoint_lists.begin(request.session_hash) as watcher:
            while not watcher.retired:
                try:
                    endpoints = await cloud_panel.listed_endpoints(self._client)
                except CloudbrushError as error:
                    raise toast(error) from error
                if watcher.retired:
                    return
                yield cloud_panel.endpoint_updates(endpoints, chosen)
                if not any(endpoint.state in cloud_panel.MOVING for endpoint in endpoints):
                    return
                await watcher.news(cloud_panel.ENDPOINT_LOOK)

    @telling
    async def show_filters(self, advanced: bool) -> list[Any]:
        """Reveal the filters with what can be chosen now, or hide and clear them."""
        endpoint, checkpoint = await cloud_panel.filter_choices(self._client)
        return [gr.update(visible=advanced), cloud_panel.ANY, [], endpoint, checkpoint, None, None]

    @telling
    async def select(self, job_id: str, chosen: gr.SelectData, request: gr.Request) -> tuple[Any, Any]:
        """Infotext and file of the image chosen in the gallery."""
        index = int(chosen.index)
        if watcher := self._outputs.speaking(request.session_hash):
            watcher.select(index)  # it tells what Output shows for as long as the job runs
            return gr.skip(), gr.skip()
        job = await self._client.job(job_id)
        path = chosen.value["image"]["path"]
        return output.infotext(JobView.of(job), index), gr.update(value=path)

    @telling
    async def cancel(self, job_id: str) -> None:
        """Call the job off; Output is told by the job's own events."""
        await self._client.cancel(job_id)

    @telling
    async def delete(self, job_id: str) -> str:
        """Forget the job and show none; nothing happens without an id, as when the person thought better."""
        if not job_id:
            return gr.skip()  # type: ignore[no-any-return]
        await self._client.delete(job_id)
        return cloud_panel.NO_JOB
