"""The `sagemaker` API: JSON 1.1, every operation a POST to / that X-Amz-Target names."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from cloudbrush.testing.sagemaker import describing, shapes
from cloudbrush.testing.sagemaker.account import Account
from cloudbrush.testing.sagemaker.errors import Invalid, Refused
from cloudbrush.testing.sagemaker.listing import page

Asked = dict[str, Any]
Operation = Callable[[Account, Asked], Asked | None]

# What the stand-in does not do, and refuses rather than ignores.
NOT_IN_VARIANTS = ("ServerlessConfig", "ManagedInstanceScaling", "InstancePools", "CapacityReservationConfig")
NOT_IN_MODELS = ("Containers", "InferenceExecutionConfig")
NOT_IN_CONFIGS = ("ShadowProductionVariants", "DataCaptureConfig", "ExplainerConfig")


def create_model(account: Account, asked: Asked) -> Asked:
    """CreateModel, with a PrimaryContainer."""
    _refuse(asked, NOT_IN_MODELS)
    if not asked.get("PrimaryContainer", {}).get("Image"):
        raise Invalid("The stand-in hosts models with a PrimaryContainer that has an Image.")
    return {"ModelArn": account.add_model(asked["ModelName"], asked).arn}


def create_endpoint_config(account: Account, asked: Asked) -> Asked:
    """CreateEndpointConfig, with one production variant of one model."""
    _refuse(asked, NOT_IN_CONFIGS)
    if len(asked["ProductionVariants"]) > 1:
        raise Invalid("The stand-in hosts one production variant an endpoint.")
    variant = asked["ProductionVariants"][0]
    _refuse(variant, NOT_IN_VARIANTS)
    missing = [name for name in ("ModelName", "InstanceType", "InitialInstanceCount") if name not in variant]
    if missing:
        raise Invalid(f"{missing[0]} is required for production variant {variant['VariantName']}.")
    output = asked.get("AsyncInferenceConfig", {}).get("OutputConfig", {})
    if "AsyncInferenceConfig" in asked and "S3OutputPath" not in output:
        raise Invalid("The stand-in hosts asynchronous endpoints with an S3OutputPath.")
    return {"EndpointConfigArn": account.add_config(asked["EndpointConfigName"], asked).arn}


def create_endpoint(account: Account, asked: Asked) -> Asked:
    """CreateEndpoint."""
    _refuse(asked, ("DeploymentConfig",))
    return {"EndpointArn": account.add_endpoint(asked["EndpointName"], asked).arn}


def update_endpoint(account: Account, asked: Asked) -> Asked:
    """UpdateEndpoint; all at once, whatever DeploymentConfig says."""
    endpoint = account.endpoint(asked["EndpointName"])
    retain = bool(asked.get("RetainAllVariantProperties"))
    endpoint.update(account.config(asked["EndpointConfigName"]), retain=retain)
    return {"EndpointArn": endpoint.arn}


def update_weights_and_capacities(account: Account, asked: Asked) -> Asked:
    """UpdateEndpointWeightsAndCapacities: what application autoscaling calls."""
    endpoint = account.endpoint(asked["EndpointName"])
    wanted = asked["DesiredWeightsAndCapacities"][0]
    if wanted["VariantName"] != endpoint.config.variant["VariantName"]:
        raise Invalid(f'Could not find variant {wanted["VariantName"]} of endpoint "{endpoint.arn}".')
    endpoint.scale(wanted.get("DesiredInstanceCount"), wanted.get("DesiredWeight"))
    return {"EndpointArn": endpoint.arn}


def delete_endpoint(account: Account, asked: Asked) -> None:
    """DeleteEndpoint."""
    account.endpoint(asked["EndpointName"]).delete()


def delete_endpoint_config(account: Account, asked: Asked) -> None:
    """DeleteEndpointConfig; endpoints made from it go on."""
    config = account.config(asked["EndpointConfigName"])
    del account.configs[config.name], account.tags[config.arn]


def delete_model(account: Account, asked: Asked) -> None:
    """DeleteModel; configurations made from it stay."""
    model = account.model(asked["ModelName"])
    del account.models[model.name], account.tags[model.arn]


def list_endpoints(account: Account, asked: Asked) -> Asked:
    """ListEndpoints."""
    summaries = [describing.endpoint_summary(endpoint) for endpoint in account.endpoints.values()]
    return page("Endpoints", summaries, asked, name="EndpointName")


def list_endpoint_configs(account: Account, asked: Asked) -> Asked:
    """ListEndpointConfigs."""
    summaries = [describing.config_summary(config) for config in account.configs.values()]
    return page("EndpointConfigs", summaries, asked, name="EndpointConfigName")


def list_models(account: Account, asked: Asked) -> Asked:
    """ListModels."""
    summaries = [describing.model_summary(model) for model in account.models.values()]
    return page("Models", summaries, asked, name="ModelName")


def add_tags(account: Account, asked: Asked) -> Asked:
    """AddTags; one with a known key replaces its value."""
    tags = {tag["Key"]: tag for tag in (*_tags(account, asked), *asked["Tags"])}
    account.tags[asked["ResourceArn"]] = list(tags.values())
    return {"Tags": list(tags.values())}


def list_tags(account: Account, asked: Asked) -> Asked:
    """ListTags, all on one page."""
    return {"Tags": _tags(account, asked)}


OPERATIONS: dict[str, Operation] = {
    "CreateModel": create_model,
    "DescribeModel": lambda account, asked: describing.model(account.model(asked["ModelName"])),
    "ListModels": list_models,
    "DeleteModel": delete_model,
    "CreateEndpointConfig": create_endpoint_config,
    "DescribeEndpointConfig": lambda account, asked: describing.config(
        account.config(asked["EndpointConfigName"])
    ),
    "ListEndpointConfigs": list_endpoint_configs,
    "DeleteEndpointConfig": delete_endpoint_config,
    "CreateEndpoint": create_endpoint,
    "DescribeEndpoint": lambda account, asked: describing.endpoint(account.endpoint(asked["EndpointName"])),
    "ListEndpoints": list_endpoints,
    "UpdateEndpoint": update_endpoint,
    "UpdateEndpointWeightsAndCapacities": update_weights_and_capacities,
    "DeleteEndpoint": delete_endpoint,
    "AddTags": add_tags,
    "ListTags": list_tags,
}


async def answer(account: Account, request: Request) -> Response:
    """One call."""
    name = request.headers.get("x-amz-target", "").rpartition(".")[2]
    account.calls[name] += 1
    try:
        if refused := account.faults.refusal(name, after=False):
            raise refused
        body = _perform(account, name, await request.body())
        if refused := account.faults.refusal(name, after=True):
            raise refused
    except Invalid as error:
        return _error(Refused("ValidationException", 400, error.message))
    except Refused as error:
        return _error(error)
    content = "" if body is None else json.dumps(body, default=_seconds)
    return Response(content, media_type="application/x-amz-json-1.1")


def _perform(account: Account, name: str, body: bytes) -> Asked | None:
    """Raises `Invalid`, `Refused`."""
    if name not in OPERATIONS:
        raise Refused("UnknownOperationException", 400, f"The stand-in does not do {name or 'that'}.")
    try:
        shape = shapes.operation("sagemaker", name).input_shape
        asked = json.loads(body or b"{}")
    except ValueError as error:
        raise Refused("SerializationException", 400, "The request is not JSON.") from error
    shapes.check(shape, asked)
    return OPERATIONS[name](account, asked)


def _error(error: Refused) -> Response:
    content = json.dumps({"__type": error.code, "message": error.message, **error.fields})
    return Response(content, error.status, media_type="application/x-amz-json-1.1")


def _refuse(asked: Asked, names: tuple[str, ...]) -> None:
    for name in names:
        if name in asked:
            raise Invalid(f"The stand-in does not do {name}.")


def _tags(account: Account, asked: Asked) -> list[dict[str, str]]:
    if asked["ResourceArn"] not in account.tags:
        raise Invalid(f'Could not find resource "{asked["ResourceArn"]}".')
    return account.tags[asked["ResourceArn"]]


def _seconds(value: object) -> float:
    """Timestamps travel as seconds since 1970."""
    if isinstance(value, datetime):
        return value.timestamp()
    raise TypeError(f"{type(value).__name__} has no JSON form")
