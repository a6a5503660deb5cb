"""The Amazon SageMaker tab: what is deployed, what it costs, what is listed."""

from __future__ import annotations

import re

import pytest

from cloudbrush.domain.asset import AssetKind, ModelAsset
from cloudbrush.domain.endpoint import THIS_MACHINE, Endpoint, EndpointKind, EndpointSpec, EndpointState
from cloudbrush.domain.errors import InvalidInput
from cloudbrush.studio import endpoint_handlers, sagemaker_tab
from cloudbrush.studio.endpoint_handlers import EndpointHandlers
from cloudbrush.studio.sagemaker_tab import Wish, estimate
from tests.builders import START
from tests.studio.fake_client import FakeClient


@pytest.fixture
def client() -> FakeClient:
    return FakeClient()


@pytest.fixture
def handle(client: FakeClient) -> EndpointHandlers:
    return EndpointHandlers(client)  # type: ignore[arg-type]


class Request:
    session_hash = "page"


def rented(name: str = "mine", **changes: object) -> Endpoint:
    spec = EndpointSpec(name=name, provider="sagemaker")
    return Endpoint(spec=spec, created_at=START, changed_at=START).model_copy(update=changes)


def test_the_default_is_one_g5_2xlarge_with_autoscaling() -> None:
    spec = Wish().spec()
    assert (spec.provider, spec.kind, spec.instance_type) == (
        "sagemaker",
        EndpointKind.ASYNC,
        "ml.g5.2xlarge",
    )
    assert (spec.min_instances, spec.max_instances, spec.autoscaling) == (1, 1, True)
    assert re.fullmatch(r"cloudbrush-[0-9a-f]{6}", spec.name)


def test_what_is_hidden_does_not_count() -> None:
    spec = Wish(advanced=False, name="left from before", min_instances=9).spec()
    assert spec.min_instances == 1
    assert spec.name.startswith("cloudbrush-")


def test_the_advanced_controls_say_all() -> None:
    wish = Wish(True, " mine ", "sagemaker", "realtime", "ml.g6e.xlarge", 2, 4, True)
    spec = wish.spec()
    assert (spec.name, spec.kind, spec.instance_type) == ("mine", EndpointKind.REALTIME, "ml.g6e.xlarge")
    assert (spec.min_instances, spec.max_instances) == (2, 4)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"name": "my endpoint"}, "name"),
        ({"instance_type": "g5"}, "instance_type"),
        ({"min_instances": 3, "max_instances": 2}, "max_instances"),
        ({"kind": "realtime", "min_instances": 0}, "min_instances"),
    ],
)
async def test_a_wrong_wish_is_refused_beside_its_control(
    handle: EndpointHandlers, changes: dict[str, object], field: str
) -> None:
    wish = Wish(**{"advanced": True, **changes})  # type: ignore[arg-type]
    with pytest.raises(InvalidInput) as refused:
        wish.spec()
    assert refused.value.field == field
    told = await handle.deploy(*vars(wish).values())
    assert f'data-control="{sagemaker_tab.CONTROLS[field]}"' in told


def test_a_wish_tells_what_it_costs() -> None:
    assert "<b>$1.52 per hour</b>" in estimate(Wish())
    several = estimate(Wish(advanced=True, min_instances=0, max_instances=3))
    assert "<b>$0.00 to $4.56 per hour</b>" in several
    assert "zero instances when idle" in several
    assert "not known" in estimate(Wish(advanced=True, instance_type="ml.x9.large"))
    assert "no cost" in estimate(Wish(provider="local"))


def test_the_table_tells_state_instances_cost_and_reason() -> None:
    table = sagemaker_tab.endpoint_table(
        [
            rented(state=EndpointState.IN_SERVICE, instances=1),
            rented("broken", state=EndpointState.FAILED, failure_reason="no <capacity>"),
        ]
    )
    assert "<td>InService</td><td>1 of 1 to 1</td><td>$1.52</td>" in table
    assert "no &lt;capacity&gt;" in table


async def test_a_look_lists_endpoints_and_cloud_models(client: FakeClient, handle: EndpointHandlers) -> None:
    client.deployed.append(rented(state=EndpointState.IN_SERVICE))
    client.assets.append(
        ModelAsset(kind=AssetKind.LORA, name="neon", sha256="a" * 64, size=2**20, in_cloud=True)
    )
    (looks,) = [look async for look in handle.look("mine", Request())]  # type: ignore[arg-type]
    table, chosen, models = looks
    assert "mine" in table
    assert THIS_MACHINE not in table
    assert chosen["value"] == "mine"
    assert "neon" in models
    assert "pocket" not in models  # only on this disk


async def test_empty_lists_say_what_to_do() -> None:
    assert "Deploy one above" in sagemaker_tab.endpoint_table([])
    assert "cloudbrush models upload" in sagemaker_tab.model_table([])


async def test_deploying_and_deleting(client: FakeClient, handle: EndpointHandlers) -> None:
    told = await handle.deploy(*vars(Wish(advanced=True, name="fresh")).values())
    assert told == "<p>fresh is Creating.</p>"
    assert await handle.delete("fresh") == sagemaker_tab.NO_ENDPOINT
    assert all(endpoint.name != "fresh" for endpoint in client.deployed)


async def test_without_an_account_it_says_how_to_connect_one(
    client: FakeClient, handle: EndpointHandlers
) -> None:
    note, where, _cost, rented_controls = await handle.connect()
    assert "cloudbrush aws up" in note
    assert where["value"] == "local"
    assert rented_controls["visible"] is False
    client.providers = ("local", "sagemaker")
    note, where, cost, rented_controls = await handle.connect()
    assert (note, where["value"], rented_controls["visible"]) == ("", "sagemaker", True)
    assert "per hour" in cost


def test_switches_reveal_what_they_are_about() -> None:
    assert endpoint_handlers.reveal(True)["visible"] is True
    assert endpoint_handlers.reveal_rented("local")["visible"] is False
