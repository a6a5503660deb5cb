"""What the *Amazon SageMaker* tab does: plain functions over a client."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

import gradio as gr

from cloudbrush.client import Client
from cloudbrush.domain.endpoint import SAGEMAKER
from cloudbrush.domain.errors import CloudbrushError
from cloudbrush.studio import sagemaker_tab
from cloudbrush.studio.cloud_panel import ENDPOINT_LOOK, MOVING
from cloudbrush.studio.live import Watches
from cloudbrush.studio.sagemaker_tab import CONTROLS, LOCAL, PLACES, Wish
from cloudbrush.studio.telling import problem, telling, toast


class EndpointHandlers:
    """The handlers of one mounted studio; they keep which look speaks for which page."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._looks = Watches()

    @telling
    async def connect(self) -> list[Any]:
        """Whether AWS is connected, and where endpoints can be deployed."""
        known = (await self._client.health()).providers
        places = [place for place in PLACES if place[1] in known]
        where = SAGEMAKER if SAGEMAKER in known else LOCAL
        note = "" if SAGEMAKER in known else sagemaker_tab.NOT_CONNECTED
        wish = Wish(provider=where)
        chosen = gr.update(choices=places, value=where, visible=len(places) > 1)
        return [note, chosen, sagemaker_tab.estimate(wish), gr.update(visible=where == SAGEMAKER)]

    async def look(self, chosen: str, request: gr.Request) -> AsyncGenerator[list[Any]]:
        """The endpoints and cloud models, again while an endpoint is on its way to a state."""
        with self._looks.begin(request.session_hash) as watcher:
            while not watcher.retired:
                try:
                    endpoints = await self._client.endpoints()
                    models = [asset for asset in await self._client.models() if asset.in_cloud]
                except CloudbrushError as error:
                    raise toast(error) from error
                if watcher.retired:
                    return
                yield sagemaker_tab.listing(endpoints, models, chosen)
                if not any(endpoint.state in MOVING for endpoint in endpoints):
                    return
                await watcher.news(ENDPOINT_LOOK)

    async def deploy(self, *values: Any) -> str:
        """Begin to bring an endpoint up; what came of it, in words."""
        try:
            endpoint = await self._client.deploy(Wish(*values).spec())
        except CloudbrushError as error:
            return problem(error, CONTROLS.get(error.field or "", ""))
        return f"<p>{endpoint.name} is {endpoint.state}.</p>"

    @telling
    async def delete(self, name: str) -> str:
        """Begin to take an endpoint down; without a name, as when the person thought better, nothing."""
        if name:
            await self._client.delete_endpoint(name)
        return sagemaker_tab.NO_ENDPOINT


def reveal(advanced: bool) -> Any:
    """Show or hide the advanced controls."""
    return gr.update(visible=advanced)


def reveal_rented(provider: str) -> Any:
    """Show what only rented endpoints have."""
    return gr.update(visible=provider == SAGEMAKER)


def estimate(*values: Any) -> str:
    """What the endpoint will cost."""
    return sagemaker_tab.estimate(Wish(*values))
