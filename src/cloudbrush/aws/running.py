"""The SageMaker endpoints that run under a stack's role: what costs money by the hour."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from cloudbrush.aws.account import Account, AwsRefused
from cloudbrush.aws.prices import INSTANCES


@dataclass(frozen=True)
class Running:
    """One endpoint and its instances of one type."""

    name: str
    status: str
    instance_type: str
    instances: int

    @property
    def usd_per_hour(self) -> float | None:
        """What it costs by the hour, about; None for an instance type whose price is not known here."""
        known = INSTANCES.get(self.instance_type)
        return known.usd_per_hour * self.instances if known else None


def endpoints(account: Account, prefix: str, role_arn: str) -> list[Running]:
    """The endpoints whose names begin with `prefix` and whose workers have the role."""
    return [
        found
        for page in account.pages("sagemaker", "list_endpoints", NameContains=prefix)
        for listed in page["Endpoints"]
        if listed["EndpointName"].startswith(prefix)
        for found in _running(account, listed["EndpointName"], role_arn)
    ]


def _running(account: Account, name: str, role_arn: str) -> Iterator[Running]:
    try:
        endpoint = account.call("sagemaker", "describe_endpoint", EndpointName=name)
        config = account.call(
            "sagemaker", "describe_endpoint_config", EndpointConfigName=endpoint["EndpointConfigName"]
        )
        variants = [variant for variant in config["ProductionVariants"] if _has(account, variant, role_arn)]
    except AwsRefused as error:
        if error.reason != "ValidationException":  # SageMaker's word for a thing that is gone by now
            raise
        return
    counts = {entry["VariantName"]: entry for entry in endpoint.get("ProductionVariants", ())}
    for variant in variants:
        now = counts.get(variant["VariantName"], {})
        count = now.get("CurrentInstanceCount", variant.get("InitialInstanceCount", 0))
        yield Running(name, endpoint["EndpointStatus"], variant.get("InstanceType", "serverless"), count)


def _has(account: Account, variant: dict[str, Any], role_arn: str) -> bool:
    model = account.call("sagemaker", "describe_model", ModelName=variant["ModelName"])
    return bool(model["ExecutionRoleArn"] == role_arn)
