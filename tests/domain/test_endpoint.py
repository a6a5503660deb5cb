"""What an endpoint may be asked to be."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from cloudbrush.domain.endpoint import EndpointKind, EndpointSpec


def test_a_rented_endpoint_is_complete_when_nothing_else_is_asked_for() -> None:
    spec = EndpointSpec(name="gpu", provider="sagemaker")
    assert (spec.kind, spec.instance_type, spec.autoscaling) == (EndpointKind.ASYNC, "ml.g5.2xlarge", True)
    assert (spec.min_instances, spec.max_instances, spec.scale_in_minutes) == (1, 1, 6)
    assert spec.target_backlog == spec.concurrency


def test_workers_on_this_machine_have_no_instance_type() -> None:
    spec = EndpointSpec(name="here")
    assert (spec.kind, spec.instance_type, spec.max_instances) == (None, None, None)


@pytest.mark.parametrize("provider", ["local", "sagemaker"])
def test_a_spec_is_the_same_after_being_stored(provider: str) -> None:
    spec = EndpointSpec(name="gpu", provider=provider, min_instances=2)
    assert EndpointSpec.model_validate_json(spec.model_dump_json()) == spec


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"instance_type": "ml.g5.xlarge"}, "instance_type"),
        ({"autoscaling": False}, "autoscaling"),
        ({"provider": "sagemaker", "instance_type": "g5"}, "instance_type"),
        ({"provider": "sagemaker", "min_instances": 3, "max_instances": 2}, "max_instances"),
        ({"provider": "sagemaker", "min_instances": 0, "kind": "realtime"}, "min_instances"),
        ({"provider": "sagemaker", "min_instances": 0, "autoscaling": False}, "min_instances"),
        ({"provider": "sagemaker", "min_instances": "many"}, "min_instances"),
        ({"provider": "sagemaker", "scale_in_minutes": 0}, "scale_in_minutes"),
    ],
)
def test_what_cannot_be_is_refused_by_field(asked: dict[str, Any], field: str) -> None:
    with pytest.raises(ValidationError) as refused:
        EndpointSpec(name="gpu", **asked)
    assert [error["loc"] for error in refused.value.errors()] == [(field,)]
