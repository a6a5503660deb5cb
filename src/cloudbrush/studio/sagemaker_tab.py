"""The *Amazon SageMaker* tab: endpoints deployed and deleted, and what models are in the cloud."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from html import escape
from typing import Any

import gradio as gr
from pydantic import ValidationError

from cloudbrush.aws import prices
from cloudbrush.domain.asset import ModelAsset
from cloudbrush.domain.endpoint import SAGEMAKER, THIS_MACHINE, Endpoint, EndpointKind, EndpointSpec
from cloudbrush.domain.errors import InvalidInput
from cloudbrush.studio.theme import tool

LOCAL = "local"
INSTANCE_TYPE = "ml.g5.2xlarge"
PLACES = [("Amazon SageMaker", SAGEMAKER), ("This machine", LOCAL)]
KINDS = [("Asynchronous", EndpointKind.ASYNC.value), ("Real-time", EndpointKind.REALTIME.value)]
NO_ENDPOINT = ""
MOST_INSTANCES = 16  # that the sliders offer
NOT_CONNECTED = (
    "<p><b>No AWS account is connected.</b> <code>cloudbrush aws up</code> makes what is needed in yours"
    " (docs/aws.md tells the way in ten steps); then start Cloudbrush again. Endpoints on this machine can be"
    " deployed meanwhile.</p>"
)
# The element id of the control for each field of a spec, for what is wrong with it.
CONTROLS = {
    "name": "endpoint_name",
    "provider": "endpoint_provider",
    "kind": "endpoint_kind",
    "instance_type": "endpoint_instance_type",
    "min_instances": "endpoint_min_instances",
    "max_instances": "endpoint_max_instances",
    "autoscaling": "endpoint_autoscaling",
}


@dataclass(frozen=True)
class Deployment:
    """The controls that say what to deploy, in the order of `Wish`."""

    advanced: gr.Checkbox
    name: gr.Textbox
    provider: gr.Dropdown
    kind: gr.Dropdown
    instance_type: gr.Dropdown
    min_instances: gr.Slider
    max_instances: gr.Slider
    autoscaling: gr.Checkbox

    @property
    def components(self) -> list[Any]:
        """All of them."""
        return [getattr(self, field.name) for field in fields(self)]


@dataclass(frozen=True)
class Wish:
    """What a person wants deployed; without the advanced controls, theirs do not count."""

    advanced: bool = False
    name: str = ""
    provider: str = SAGEMAKER
    kind: str = EndpointKind.ASYNC
    instance_type: str = INSTANCE_TYPE
    min_instances: int = 1
    max_instances: int = 1
    autoscaling: bool = True

    def spec(self) -> EndpointSpec:
        """The wish as an endpoint to deploy; raises `InvalidInput` that names the field."""
        wish = self if self.advanced else Wish(provider=self.provider)
        asked: dict[str, Any] = {
            "name": (wish.name or "").strip() or f"cloudbrush-{secrets.token_hex(3)}",
            "provider": wish.provider,
            "min_instances": int(wish.min_instances),
        }
        if wish.provider == SAGEMAKER:
            asked |= {
                "kind": wish.kind,
                "instance_type": (wish.instance_type or "").strip(),
                "max_instances": int(wish.max_instances),
                "autoscaling": bool(wish.autoscaling),
            }
        try:
            return EndpointSpec(**asked)
        except ValidationError as error:
            first = error.errors()[0]
            message = str(first["msg"]).removeprefix("Value error, ")
            raise InvalidInput(message, field=str(first["loc"][0])) from error


@dataclass(frozen=True)
class SageMakerTab:
    """The components of the tab."""

    tab: gr.Tab
    connection: gr.HTML
    deployment: Deployment
    rented: gr.Column  # what only rented endpoints have
    details: gr.Column
    estimate: gr.HTML
    deploy: gr.Button
    notice: gr.HTML
    table: gr.HTML
    refresh: gr.Button
    chosen: gr.Dropdown
    delete: gr.Button
    models: gr.HTML

    @property
    def listed(self) -> list[Any]:
        """What a look at the endpoints fills, in the order of `listing`."""
        return [self.table, self.chosen, self.models]


def build_sagemaker(tab: gr.Tab) -> SageMakerTab:
    """The tab's content."""
    with gr.Column(elem_id="sagemaker", min_width=0):
        connection = gr.HTML("", elem_id="sagemaker_connection")
        with gr.Column(elem_classes="card", elem_id="endpoint_deployment", min_width=0):
            gr.HTML("<h2>Deploy New SageMaker Endpoint</h2>")
            deployment, details, rented = _build_deployment()
            estimate = gr.HTML("", elem_id="endpoint_estimate")
            with gr.Row(elem_classes="actions"):
                deploy = gr.Button("Deploy", elem_id="endpoint_deploy", size="sm", min_width=0, scale=0)
            notice = gr.HTML("", elem_id="endpoint_notice")
        with gr.Column(elem_classes="card", elem_id="endpoint_list", min_width=0):
            with gr.Row(elem_classes="with-tools"):
                gr.HTML("<h2>Endpoints</h2>")
                refresh = tool("↻", "endpoint_refresh")
            table = gr.HTML("", elem_id="endpoint_table")
            with gr.Row(elem_id="endpoint_deletion"):
                chosen = gr.Dropdown(
                    [("Choose an endpoint to delete", NO_ENDPOINT)],
                    value=NO_ENDPOINT,
                    label="Delete SageMaker Endpoint",
                    elem_id="endpoint_chosen",
                    min_width=0,
                )
                delete = gr.Button("Delete", elem_id="endpoint_delete", size="sm", min_width=0, scale=0)
        with gr.Column(elem_classes="card", elem_id="cloud_assets", min_width=0):
            gr.HTML("<h2>Cloud Assets</h2>")
            models = gr.HTML("", elem_id="cloud_models")
    return SageMakerTab(
        tab,
        connection,
        deployment,
        rented,
        details,
        estimate,
        deploy,
        notice,
        table,
        refresh,
        chosen,
        delete,
        models,
    )


def _build_deployment() -> tuple[Deployment, gr.Column, gr.Column]:
    provider = gr.Dropdown(
        PLACES, value=SAGEMAKER, label="Where", elem_id="endpoint_provider", visible=False, min_width=0
    )
    advanced = gr.Checkbox(
        label="Advanced Endpoint Configuration", elem_id="endpoint_advanced", container=False, min_width=0
    )
    with gr.Column(visible=False, elem_id="endpoint_details", min_width=0) as details:
        with gr.Row(elem_classes="fields thirds"):
            name = gr.Textbox(
                label="Endpoint Name",
                elem_id="endpoint_name",
                placeholder="made up if left empty",
                max_lines=1,
                min_width=0,
            )
            minimum = gr.Slider(
                0, MOST_INSTANCES, 1, step=1, label="Min Instances", elem_id="endpoint_min_instances"
            )
        with (
            gr.Column(elem_id="endpoint_rented", min_width=0) as rented,
            gr.Row(elem_classes="fields thirds"),
        ):
            kind = gr.Dropdown(
                KINDS, value=KINDS[0][1], label="Endpoint Type", elem_id="endpoint_kind", min_width=0
            )
            instance_type = gr.Dropdown(
                instance_choices(),
                value=INSTANCE_TYPE,
                label="Instance Type",
                elem_id="endpoint_instance_type",
                allow_custom_value=True,
                min_width=0,
            )
            maximum = gr.Slider(
                1, MOST_INSTANCES, 1, step=1, label="Max Instances", elem_id="endpoint_max_instances"
            )
            autoscaling = gr.Checkbox(
                True, label="Enable Autoscaling", elem_id="endpoint_autoscaling", container=False, min_width=0
            )
    deployment = Deployment(advanced, name, provider, kind, instance_type, minimum, maximum, autoscaling)
    return deployment, details, rented


def instance_choices() -> list[tuple[str, str]]:
    """Instance types with what they have and cost."""
    return [
        (f"{name} · {one.gpu} {one.gpu_gib} GiB · {_usd(one.usd_per_hour)}/h", name)
        for name, one in prices.INSTANCES.items()
    ]


def usd_per_hour(spec: EndpointSpec, instances: int) -> float | None:
    """What so many instances cost; None where the price is not known."""
    if spec.provider != SAGEMAKER:
        return 0.0
    instance = prices.INSTANCES.get(spec.instance_type or "")
    return None if instance is None else instance.usd_per_hour * instances


def estimate(wish: Wish) -> str:
    """What a wish will cost, in words."""
    try:
        spec = wish.spec()
    except InvalidInput:
        return ""
    if spec.provider != SAGEMAKER:
        return "<p>On this machine: no cost beyond its own.</p>"
    least = usd_per_hour(spec, spec.min_instances)
    most = usd_per_hour(spec, spec.max_instances or spec.min_instances)
    if least is None or most is None:
        return "<p>The price of this instance type is not known here.</p>"
    cost = _usd(least) if least == most else f"{_usd(least)} to {_usd(most)}"
    idle = " It goes to zero instances when idle." if spec.min_instances == 0 else ""
    rest = f" as of {prices.AS_OF}, {prices.REGION}; check yours." if prices.AS_OF else ""
    return f"<p>{spec.instance_type}: <b>{cost} per hour</b>{rest}{idle}</p>"


def _usd(amount: float) -> str:
    return f"${amount:.2f}"


def listing(endpoints: Sequence[Endpoint], models: Sequence[ModelAsset], chosen: str) -> list[Any]:
    """What a look fills: the table, who can be deleted, and the models in the cloud."""
    mine = [endpoint for endpoint in endpoints if endpoint.name != THIS_MACHINE]
    names = [endpoint.name for endpoint in mine]
    choices = [("Choose an endpoint to delete", NO_ENDPOINT), *((name, name) for name in names)]
    update = gr.update(choices=choices, value=chosen if chosen in names else NO_ENDPOINT)
    return [endpoint_table(mine), update, model_table(models)]


def endpoint_table(endpoints: Sequence[Endpoint]) -> str:
    """The endpoints with state, instances, cost and what went wrong."""
    if not endpoints:
        return '<div class="empty"><p>No endpoint yet</p><p>Deploy one above.</p></div>'
    head = ("Name", "Where", "Instance type", "State", "Instances", "Cost per hour", "")
    return _table(head, (_row(endpoint) for endpoint in endpoints))


def _row(endpoint: Endpoint) -> tuple[str, ...]:
    spec, now = endpoint.spec, usd_per_hour(endpoint.spec, endpoint.instances)
    where = "this machine" if spec.provider == LOCAL else f"SageMaker, {spec.kind}"
    most = spec.max_instances or spec.min_instances
    instances = f"{endpoint.instances} of {spec.min_instances} to {most}"
    cost = "not known" if now is None else _usd(now) if spec.provider == SAGEMAKER else "–"
    return (
        endpoint.name,
        where,
        spec.instance_type or "–",
        str(endpoint.state),
        instances,
        cost,
        endpoint.failure_reason or "",
    )


def model_table(models: Sequence[ModelAsset]) -> str:
    """The models that endpoints in the cloud can use."""
    if not models:
        return (
            '<div class="empty"><p>No model is in the cloud yet</p>'
            "<p><code>cloudbrush models upload NAME</code> puts one there.</p></div>"
        )
    rows = (
        (asset.name, str(asset.kind), asset.short_hash, f"{asset.size / 2**20:.1f} MiB") for asset in models
    )
    return _table(("Name", "Kind", "Hash", "Size"), rows)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    titles = "".join(f"<th scope='col'>{escape(title)}</th>" for title in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<div class='table'><table><thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table></div>"
