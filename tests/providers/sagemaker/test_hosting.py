"""Endpoints at SageMaker: made whole, scaled, resized, and taken down with all that belongs to them."""

from __future__ import annotations

import asyncio
from typing import Any

import boto3
import pytest

from cloudbrush.aws import image
from cloudbrush.domain.endpoint import EndpointSpec, EndpointState
from cloudbrush.domain.errors import Conflict, InvalidInput, NotFound
from cloudbrush.providers.sagemaker import SageMakerProvider
from cloudbrush.testing.sagemaker import Fault
from tests.providers.sagemaker.cloud import IMAGE, ROLE, Cloud, until, until_state, up
from tests.testing.sagemaker.cloud import ECHO


@pytest.fixture(scope="module")
def worker() -> tuple[str, ...]:
    """Nothing is painted here."""
    return ECHO


def policies(endpoint: str) -> dict[str, dict[str, Any]]:
    """The scaling policies by what their names end with."""
    found = boto3.client("application-autoscaling").describe_scaling_policies(
        ServiceNamespace="sagemaker", ResourceId=f"endpoint/{endpoint}/variant/main"
    )["ScalingPolicies"]
    return {policy["PolicyName"].removeprefix(f"{endpoint}-"): policy for policy in found}


def alarms(endpoint: str) -> dict[str, dict[str, Any]]:
    """Our alarms by what their names end with."""
    found = boto3.client("cloudwatch").describe_alarms(AlarmNamePrefix=endpoint)["MetricAlarms"]
    return {alarm["AlarmName"].removeprefix(f"{endpoint}-"): alarm for alarm in found}


def target(endpoint: str) -> tuple[int, int] | None:
    """Fewest and most instances between which the endpoint scales; None if it does not."""
    found = boto3.client("application-autoscaling").describe_scalable_targets(
        ServiceNamespace="sagemaker", ResourceIds=[f"endpoint/{endpoint}/variant/main"]
    )["ScalableTargets"]
    return (found[0]["MinCapacity"], found[0]["MaxCapacity"]) if found else None


async def test_a_new_endpoint_is_made_whole_and_deleted_without_a_trace(
    cloud: Cloud, provider: SageMakerProvider
) -> None:
    changes: list[str] = []
    provider.watch(changes.append)
    sagemaker = boto3.client("sagemaker")
    await up(provider, name="whole", min_instances=0, max_instances=3, concurrency=4, scale_in_minutes=6)
    assert (await provider.describe("whole")).instances == 1
    assert "whole" in changes

    model = sagemaker.describe_model(ModelName="brush-whole")
    assert (model["ExecutionRoleArn"], model["PrimaryContainer"]["Image"]) == (ROLE, IMAGE)
    assert model["PrimaryContainer"]["Environment"]["CLOUDBRUSH_WORKER_BLOBS_URL"] == cloud.blobs_url
    config = sagemaker.describe_endpoint_config(EndpointConfigName="brush-whole")
    (variant,) = config["ProductionVariants"]
    assert (variant["InstanceType"], variant["InitialInstanceCount"]) == ("ml.g5.2xlarge", 1)
    assert variant["InferenceAmiVersion"] == image.HOST  # the driver that the image's CUDA needs
    queueing = config["AsyncInferenceConfig"]
    assert queueing["ClientConfig"]["MaxConcurrentInvocationsPerInstance"] == 4
    assert queueing["OutputConfig"]["S3OutputPath"] == f"{cloud.blobs_url}/temporary/output"
    assert queueing["OutputConfig"]["NotificationConfig"]["ErrorTopic"] == cloud.topics["error"]
    arn = sagemaker.describe_endpoint(EndpointName="brush-whole")["EndpointArn"]
    tags = {tag["Key"]: tag["Value"] for tag in sagemaker.list_tags(ResourceArn=arn)["Tags"]}
    assert tags == {"application": "cloudbrush", "cloudbrush:control-plane": "one"}

    await until(lambda: set(policies("brush-whole")) == {"load", "idle", "waiting"})
    await until(lambda: {"idle", "waiting"} <= set(alarms("brush-whole")))
    await provider.delete("whole")
    with pytest.raises(NotFound):
        await provider.describe("whole")
    assert sagemaker.list_models(NameContains="whole")["Models"] == []
    assert sagemaker.list_endpoint_configs(NameContains="whole")["EndpointConfigs"] == []
    assert (target("brush-whole"), policies("brush-whole")) == (None, {})
    assert {"idle", "waiting"}.isdisjoint(alarms("brush-whole"))
    await provider.delete("whole")  # once more changes nothing


async def test_an_endpoint_scales_by_its_backlog_and_rests_after_six_idle_minutes(
    provider: SageMakerProvider,
) -> None:
    """The metrics' names: "Automatically scale an asynchronous endpoint" of the developer guide."""
    await up(provider, name="grows", min_instances=0, max_instances=3, concurrency=4)
    await until(lambda: len(alarms("brush-grows")) >= 2 and set(policies("brush-grows")))
    assert target("brush-grows") == (0, 3)
    found = policies("brush-grows")
    load = found["load"]["TargetTrackingScalingPolicyConfiguration"]
    assert (load["TargetValue"], load["ScaleInCooldown"]) == (4.0, 360)
    metric = load["CustomizedMetricSpecification"]
    assert (metric["Namespace"], metric["MetricName"]) == (
        "AWS/SageMaker",
        "ApproximateBacklogSizePerInstance",
    )
    assert metric["Dimensions"] == [{"Name": "EndpointName", "Value": "brush-grows"}]

    waiting = alarms("brush-grows")["waiting"]
    assert (waiting["MetricName"], waiting["Threshold"]) == ("HasBacklogWithoutCapacity", 1.0)
    assert waiting["AlarmActions"] == [found["waiting"]["PolicyARN"]]
    (step,) = found["waiting"]["StepScalingPolicyConfiguration"]["StepAdjustments"]
    assert step["ScalingAdjustment"] == 1

    idle = alarms("brush-grows")["idle"]
    assert (idle["MetricName"], idle["ComparisonOperator"]) == ("ApproximateBacklogSize", "LessThanThreshold")
    assert 0 < idle["Threshold"] <= 1
    assert idle["Period"] * idle["EvaluationPeriods"] == 6 * 60
    assert idle["AlarmActions"] == [found["idle"]["PolicyARN"]]
    rest = found["idle"]["StepScalingPolicyConfiguration"]
    assert rest["AdjustmentType"] == "ExactCapacity"
    assert rest["StepAdjustments"][0]["ScalingAdjustment"] == 0
    await provider.delete("grows")


async def test_instances_are_changed_by_deploying_with_another_number(
    cloud: Cloud, provider: SageMakerProvider
) -> None:
    cloud.controls.delay(scaling_out=30.0)
    spec = await up(provider, name="sized", autoscaling=False)
    assert target("brush-sized") is None
    await provider.deploy(spec)  # the same once more changes nothing
    await asyncio.sleep(0.3)
    assert (await provider.describe("sized")).state is EndpointState.IN_SERVICE
    await provider.deploy(
        EndpointSpec(name="sized", provider="sagemaker", autoscaling=False, min_instances=2)
    )
    await until_state(provider, "sized", EndpointState.UPDATING)
    await cloud.pass_time(31.0)
    await until_state(provider, "sized", EndpointState.IN_SERVICE)
    assert (await provider.describe("sized")).instances == 2
    cloud.controls.delay(scaling_out=0.0)
    await provider.delete("sized")


async def test_why_an_endpoint_failed_is_told_and_it_can_be_deleted(
    cloud: Cloud, provider: SageMakerProvider
) -> None:
    cloud.controls.arm(Fault.NO_CAPACITY)
    await provider.deploy(EndpointSpec(name="poor", provider="sagemaker"))
    await until_state(provider, "poor", EndpointState.FAILED)
    seen = await provider.describe("poor")
    assert seen.failure_reason is not None
    assert "InsufficientInstanceCapacity" in seen.failure_reason
    await provider.delete("poor")
    with pytest.raises(NotFound):
        await provider.describe("poor")


async def test_an_endpoint_that_is_still_being_made_is_deleted_once_it_is(
    cloud: Cloud, provider: SageMakerProvider
) -> None:
    cloud.controls.delay(creating=60.0)
    await provider.deploy(EndpointSpec(name="hasty", provider="sagemaker"))
    await until_state(provider, "hasty", EndpointState.CREATING)
    deleting = asyncio.create_task(provider.delete("hasty"))
    await asyncio.sleep(0.3)
    assert not deleting.done()
    await cloud.pass_time(61.0)
    await deleting
    await until_state(provider, "hasty", None)
    cloud.controls.delay(creating=0.0)


async def test_a_quota_that_is_used_up_is_told_and_nothing_is_left(
    cloud: Cloud, provider: SageMakerProvider
) -> None:
    cloud.controls.refuse("ResourceLimitExceeded", 1, "CreateEndpoint")
    with pytest.raises(Conflict) as refused:
        await provider.deploy(EndpointSpec(name="much", provider="sagemaker"))
    assert refused.value.field == "instance_type"
    assert "quota" in (refused.value.hint or "")
    sagemaker = boto3.client("sagemaker")
    assert sagemaker.list_models(NameContains="much")["Models"] == []
    assert sagemaker.list_endpoint_configs(NameContains="much")["EndpointConfigs"] == []


async def test_an_endpoint_of_another_control_plane_is_not_touched(
    cloud: Cloud, provider: SageMakerProvider
) -> None:
    cloud.controls.delay(creating=3600.0)
    await provider.deploy(EndpointSpec(name="mine", provider="sagemaker"))
    other = cloud.provider(control_plane="two")
    with pytest.raises(Conflict, match="not of this control plane"):
        await other.deploy(EndpointSpec(name="mine", provider="sagemaker"))
    await other.close()
    cloud.controls.delay(creating=0.0)


async def test_without_an_image_or_with_too_long_a_name_nothing_is_made(
    cloud: Cloud, provider: SageMakerProvider
) -> None:
    imageless = cloud.provider(image_uri=None)
    with pytest.raises(InvalidInput, match="no image") as refused:
        await imageless.deploy(EndpointSpec(name="bare", provider="sagemaker"))
    assert "aws push" in (refused.value.hint or "")
    await imageless.close()
    with pytest.raises(InvalidInput, match="57 characters"):
        await provider.deploy(EndpointSpec(name="n" * 58, provider="sagemaker"))
