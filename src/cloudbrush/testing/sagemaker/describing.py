"""What the Describe and List operations say of models, configurations and endpoints."""

from __future__ import annotations

from typing import Any

from cloudbrush.testing.sagemaker.endpoint import Endpoint
from cloudbrush.testing.sagemaker.records import EndpointConfig, Model

NOT_TOLD = ("Tags",)  # members of a request that its description leaves out


def model(model: Model) -> dict[str, Any]:
    """DescribeModel."""
    return {**_told(model.request), "ModelArn": model.arn, "CreationTime": model.created_at}


def model_summary(model: Model) -> dict[str, Any]:
    """A line of ListModels."""
    return {"ModelName": model.name, "ModelArn": model.arn, "CreationTime": model.created_at}


def config(config: EndpointConfig) -> dict[str, Any]:
    """DescribeEndpointConfig."""
    return {**_told(config.request), "EndpointConfigArn": config.arn, "CreationTime": config.created_at}


def config_summary(config: EndpointConfig) -> dict[str, Any]:
    """A line of ListEndpointConfigs."""
    return {
        "EndpointConfigName": config.name,
        "EndpointConfigArn": config.arn,
        "CreationTime": config.created_at,
    }


def endpoint_summary(endpoint: Endpoint) -> dict[str, Any]:
    """A line of ListEndpoints."""
    return {
        "EndpointName": endpoint.name,
        "EndpointArn": endpoint.arn,
        "CreationTime": endpoint.created_at,
        "LastModifiedTime": endpoint.modified_at,
        "EndpointStatus": endpoint.status,
    }


def endpoint(endpoint: Endpoint) -> dict[str, Any]:
    """DescribeEndpoint."""
    config = endpoint.config
    image = {
        "SpecifiedImage": config.model.image,
        "ResolvedImage": config.model.image,
        "ResolutionTime": endpoint.created_at,
    }
    variant: dict[str, Any] = {
        "VariantName": config.variant["VariantName"],
        "DeployedImages": [image],
        "CurrentWeight": endpoint.weight,
        "DesiredWeight": endpoint.weight,
        "CurrentInstanceCount": endpoint.instances(),
        "DesiredInstanceCount": endpoint.desired,
    }
    if endpoint.status in ("Creating", "Updating", "Deleting"):
        variant["VariantStatus"] = [{"Status": endpoint.status, "StartTime": endpoint.modified_at}]
    told = endpoint_summary(endpoint) | {"EndpointConfigName": config.name, "ProductionVariants": [variant]}
    if config.asynchronous:
        told["AsyncInferenceConfig"] = config.asynchronous
    if endpoint.failure_reason:
        told["FailureReason"] = endpoint.failure_reason
    return told


def _told(request: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in request.items() if name not in NOT_TOLD}
