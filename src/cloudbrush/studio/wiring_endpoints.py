"""Which handler the controls of the *Amazon SageMaker* tab call."""

from __future__ import annotations

from typing import Any

import gradio as gr

from cloudbrush.studio import endpoint_handlers
from cloudbrush.studio.endpoint_handlers import EndpointHandlers
from cloudbrush.studio.layout import Page
from cloudbrush.studio.theme import AS_SENT

EACH = {"trigger_mode": "multiple"}
CONFIRM_DELETE = (
    "(name) => name && confirm(`Delete the endpoint ${name}? Its unfinished jobs are cancelled.`) ? name : ''"
)


def wire_sagemaker(page: Page, handle: EndpointHandlers, panel_listing: dict[str, Any]) -> None:
    """`panel_listing`: how the endpoints of the cloud panel are asked for again."""
    tab, wish = page.sagemaker, page.sagemaker.deployment
    connection = [tab.connection, wish.provider, tab.estimate, tab.rented]
    tab.tab.select(handle.connect, None, connection, **page.quiet)
    wish.advanced.input(endpoint_handlers.reveal, wish.advanced, tab.details, **page.quiet)
    wish.provider.change(
        endpoint_handlers.reveal_rented, wish.provider, tab.rented, **AS_SENT, **EACH, **page.quiet
    )
    changes = [component.change for component in wish.components]
    gr.on(changes, endpoint_handlers.estimate, wish.components, tab.estimate, **AS_SENT, **EACH, **page.quiet)
    looking = {
        "fn": handle.look,
        "inputs": tab.chosen,
        "outputs": tab.listed,
        **AS_SENT,
        **EACH,
        **page.quiet,
    }
    gr.on([tab.tab.select, tab.refresh.click], **looking)
    deployed = tab.deploy.click(handle.deploy, wish.components, tab.notice, **AS_SENT, **page.quiet)
    deleted = tab.delete.click(
        handle.delete, tab.chosen, tab.chosen, js=CONFIRM_DELETE, **AS_SENT, **page.quiet
    )
    for before in (deployed, deleted):
        before.then(**panel_listing)
        before.then(**looking)
