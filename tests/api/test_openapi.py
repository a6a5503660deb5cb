"""Every route against its own description: whatever is sent, the answer is as documented and never a 5xx."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from cloudbrush.api.app import create_app
from cloudbrush.control.plane import ControlPlane
from cloudbrush.control.submit import submit
from cloudbrush.domain.endpoint import Endpoint, EndpointSpec, EndpointState
from cloudbrush.domain.generation import Txt2Img
from cloudbrush.providers.fake import FakeProvider
from cloudbrush.stores.base import AssetSource, Stores
from tests import builders
from tests.builders import START

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


@pytest.fixture
def api(stores: Stores) -> schemathesis.BaseSchema:
    plane = ControlPlane(stores=stores, providers={"fake": FakeProvider()})
    stores.assets.put(AssetSource(builders.checkpoint(), Path("pocket.safetensors"), modified=1))
    spec = EndpointSpec(name="pocket", provider="fake")
    stores.endpoints.add(
        Endpoint(spec=spec, state=EndpointState.IN_SERVICE, created_at=START, changed_at=START)
    )
    submit(plane, Txt2Img(), owner="local", endpoint="pocket")
    return schemathesis.openapi.from_asgi(
        "/api/v1/openapi.json", create_app(plane, nullcontext(), hosts=["*"])
    )


def test_every_answer_is_as_documented(api: schemathesis.BaseSchema) -> None:
    tried = 0
    for found in api.exclude(path_regex="/events$").get_all_operations():  # a stream has no end to check
        operation = found.ok()

        @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), database=None)
        @given(case=operation.as_strategy())
        def check(case: schemathesis.Case) -> None:
            case.call_and_validate(checks=CHECKS)

        check()
        tried += 1
    assert tried == 16
