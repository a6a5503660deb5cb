"""How an endpoint gets its instances by itself, and loses them when they are idle.

Metrics and policies: "Automatically scale an asynchronous endpoint" and "Automatic scaling of SageMaker AI
models" of the developer guide.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from cloudbrush.domain.endpoint import EndpointKind, EndpointSpec
from cloudbrush.domain.errors import NotFound
from cloudbrush.providers.sagemaker.calls import Calls
from cloudbrush.providers.sagemaker.place import VARIANT

SERVICE = "application-autoscaling"
POLICIES = ("load", "idle", "waiting")
PERIOD = 60  # seconds between the points of SageMaker's metrics
SCALE_OUT_PAUSE = 60  # seconds between one growth and the next
FIRST_INSTANCE_PAUSE = 300  # seconds; an instance that was asked for takes minutes to come


class Scaling:
    """The autoscaling of endpoints; everything may be done again, and nothing then changes."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def apply(self, endpoint: str, spec: EndpointSpec) -> None:
        """Let the endpoint grow and shrink as asked for, or hold it at its size."""
        if not spec.autoscaling or spec.min_instances == spec.max_instances:
            await self.remove(endpoint)
            return
        await self._calls.call(
            SERVICE,
            "register_scalable_target",
            **_target(endpoint),
            MinCapacity=spec.min_instances,
            MaxCapacity=spec.max_instances,
        )
        await self._track(endpoint, spec)
        if spec.kind is EndpointKind.ASYNC:
            await self._rest_when_idle(endpoint, spec)
            await self._wake_from_zero(endpoint)

    async def remove(self, endpoint: str) -> None:
        """Take policies and alarms away, and with the policies the alarms that AWS made for them."""
        for what in POLICIES:
            with suppress(NotFound):
                name = f"{endpoint}-{what}"
                await self._calls.call(SERVICE, "delete_scaling_policy", **_target(endpoint), PolicyName=name)
        with suppress(NotFound):
            await self._calls.call(SERVICE, "deregister_scalable_target", **_target(endpoint))
        for alarm in (_idle(endpoint), _waiting(endpoint)):
            with suppress(NotFound):
                await self._calls.call("cloudwatch", "delete_alarms", AlarmNames=[alarm])

    async def _track(self, endpoint: str, spec: EndpointSpec) -> None:
        """Hold what waits and runs per instance at the target, by adding instances and taking them away.

        AWS takes one away when the value was below the target for 15 minutes.
        """
        assert spec.scale_in_minutes is not None
        await self._policy(
            endpoint,
            "load",
            "TargetTrackingScaling",
            TargetTrackingScalingPolicyConfiguration={
                "TargetValue": float(spec.target_backlog or spec.concurrency),
                "ScaleOutCooldown": SCALE_OUT_PAUSE,
                "ScaleInCooldown": spec.scale_in_minutes * 60,
                **_load(endpoint, spec),
            },
        )

    async def _rest_when_idle(self, endpoint: str, spec: EndpointSpec) -> None:
        """Go to the fewest instances when nothing waited or ran for as many minutes as asked for."""
        fewest = {"MetricIntervalUpperBound": 0.0, "ScalingAdjustment": spec.min_instances}
        policy = await self._policy(
            endpoint,
            "idle",
            "StepScaling",
            StepScalingPolicyConfiguration={
                "AdjustmentType": "ExactCapacity",
                "StepAdjustments": [fewest],
                "MetricAggregationType": "Maximum",
            },
        )
        await self._alarm(
            _idle(endpoint),
            endpoint,
            "ApproximateBacklogSize",
            policy,
            Statistic="Maximum",
            Threshold=0.5,  # of a job: below it there is none
            ComparisonOperator="LessThanThreshold",
            EvaluationPeriods=spec.scale_in_minutes,
        )

    async def _wake_from_zero(self, endpoint: str) -> None:
        """The load per instance says nothing where there is no instance: this alarm starts the first."""
        first = {"MetricIntervalLowerBound": 0.0, "ScalingAdjustment": 1}
        policy = await self._policy(
            endpoint,
            "waiting",
            "StepScaling",
            StepScalingPolicyConfiguration={
                "AdjustmentType": "ChangeInCapacity",
                "StepAdjustments": [first],
                "MetricAggregationType": "Average",
                "Cooldown": FIRST_INSTANCE_PAUSE,
            },
        )
        await self._alarm(
            _waiting(endpoint),
            endpoint,
            "HasBacklogWithoutCapacity",
            policy,
            Statistic="Average",
            Threshold=1.0,
            ComparisonOperator="GreaterThanOrEqualToThreshold",
            EvaluationPeriods=1,
        )

    async def _policy(self, endpoint: str, what: str, kind: str, **configuration: Any) -> str:
        """Put a scaling policy; its ARN."""
        answer = await self._calls.call(
            SERVICE,
            "put_scaling_policy",
            **_target(endpoint),
            PolicyName=f"{endpoint}-{what}",
            PolicyType=kind,
            **configuration,
        )
        return str(answer["PolicyARN"])

    async def _alarm(self, name: str, endpoint: str, metric: str, policy: str, **condition: Any) -> None:
        await self._calls.call(
            "cloudwatch",
            "put_metric_alarm",
            AlarmName=name,
            Namespace="AWS/SageMaker",
            MetricName=metric,
            Dimensions=[{"Name": "EndpointName", "Value": endpoint}],
            Period=PERIOD,
            AlarmActions=[policy],
            TreatMissingData="missing",
            **condition,
        )


def _target(endpoint: str) -> dict[str, str]:
    return {
        "ServiceNamespace": "sagemaker",
        "ResourceId": f"endpoint/{endpoint}/variant/{VARIANT}",
        "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
    }


def _load(endpoint: str, spec: EndpointSpec) -> dict[str, Any]:
    """The metric that tells how busy an instance is."""
    if spec.kind is EndpointKind.REALTIME:
        metric = "SageMakerVariantConcurrentRequestsPerModelHighResolution"
        return {"PredefinedMetricSpecification": {"PredefinedMetricType": metric}}
    return {
        "CustomizedMetricSpecification": {
            "Namespace": "AWS/SageMaker",
            "MetricName": "ApproximateBacklogSizePerInstance",
            "Dimensions": [{"Name": "EndpointName", "Value": endpoint}],
            "Statistic": "Average",
        }
    }


def _idle(endpoint: str) -> str:
    return f"{endpoint}-idle"


def _waiting(endpoint: str) -> str:
    return f"{endpoint}-waiting"
