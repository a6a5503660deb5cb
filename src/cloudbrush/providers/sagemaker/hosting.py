"""Endpoints at SageMaker: made with what belongs to them, resized, looked at, and taken down again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import structlog

from cloudbrush.aws import image
from cloudbrush.aws.account import AwsRefused, Denied
from cloudbrush.domain.endpoint import EndpointKind, EndpointSpec, EndpointState
from cloudbrush.domain.errors import CloudbrushError, Conflict, InvalidInput, NotFound, Unavailable
from cloudbrush.providers.base import Observed
from cloudbrush.providers.sagemaker.calls import Calls
from cloudbrush.providers.sagemaker.place import VARIANT, Place
from cloudbrush.providers.sagemaker.scaling import Scaling

log = structlog.get_logger()
LOOK_AGAIN = 5.0  # seconds between looks at an endpoint that is being changed; SageMaker cannot ring
START_LIMIT = 900  # seconds a container may take until it answers /ping
OWNER_TAG = "cloudbrush:control-plane"

STATES = {
    "Creating": EndpointState.CREATING,
    "InService": EndpointState.IN_SERVICE,
    "Updating": EndpointState.UPDATING,
    "SystemUpdating": EndpointState.UPDATING,
    "RollingBack": EndpointState.UPDATING,
    "Deleting": EndpointState.DELETING,
    "OutOfService": EndpointState.FAILED,
    "UpdateRollbackFailed": EndpointState.FAILED,
    "Failed": EndpointState.FAILED,
}


class Hosting:
    """The endpoints of one control plane."""

    def __init__(self, calls: Calls, place: Place, on_change: Callable[[str], None]) -> None:
        self._calls = calls
        self._place = place
        self._on_change = on_change
        self._scaling = Scaling(calls)
        self._settling: dict[str, asyncio.Task[None]] = {}  # by endpoint name
        self._troubles: dict[str, str] = {}  # why an endpoint that serves does not scale

    async def deploy(self, spec: EndpointSpec) -> None:
        """See `Provider.deploy`."""
        endpoint = self._place.endpoint(spec.name)
        try:
            await self._require_own(endpoint, (await self._describe(endpoint))["EndpointArn"])
        except NotFound:
            await self._create(endpoint, spec)
        if old := self._settling.pop(spec.name, None):
            old.cancel()
        settling = asyncio.create_task(self._settle(endpoint, spec), name=f"settling {spec.name}")
        self._settling[spec.name] = settling

    async def describe(self, name: str) -> Observed:
        """See `Provider.describe`. Raises `NotFound`."""
        seen = await self._describe(self._place.endpoint(name))
        variants = seen.get("ProductionVariants", ())
        state = STATES.get(seen["EndpointStatus"], EndpointState.UPDATING)
        return Observed(
            state,
            instances=sum(variant.get("CurrentInstanceCount", 0) for variant in variants),
            failure_reason=seen.get("FailureReason") or self._troubles.get(name),
        )

    async def delete(self, name: str) -> None:
        """See `Provider.delete`."""
        if settling := self._settling.pop(name, None):
            settling.cancel()
        self._troubles.pop(name, None)
        endpoint = self._place.endpoint(name)
        await self._scaling.remove(endpoint)
        await self._delete_endpoint(endpoint)
        await self._delete_parts(endpoint)
        self._on_change(name)

    async def close(self) -> None:
        """Watch nothing any more; what runs at SageMaker goes on."""
        for settling in self._settling.values():
            settling.cancel()
        await asyncio.gather(*self._settling.values(), return_exceptions=True)

    async def _describe(self, endpoint: str) -> dict[str, Any]:
        return await self._calls.call("sagemaker", "describe_endpoint", EndpointName=endpoint)

    async def _require_own(self, endpoint: str, arn: str) -> None:
        answer = await self._calls.call("sagemaker", "list_tags", ResourceArn=arn)
        tags = {tag["Key"]: tag["Value"] for tag in answer["Tags"]}
        if tags.get(OWNER_TAG) != self._place.control_plane:
            raise Conflict(
                f"the endpoint {endpoint} in the cloud is not of this control plane",
                field="name",
                hint="Choose another name, or delete that endpoint where it was made or in the AWS console.",
            )

    async def _create(self, endpoint: str, spec: EndpointSpec) -> None:
        """Make model, configuration and endpoint, or nothing at all."""
        if self._place.image_uri is None:
            raise InvalidInput(
                "there is no image that workers in the cloud could run",
                field="CLOUDBRUSH_AWS_IMAGE_URI",
                hint="Run `cloudbrush aws push`.",
            )
        tags = [
            {"Key": "application", "Value": "cloudbrush"},
            {"Key": OWNER_TAG, "Value": self._place.control_plane},
        ]
        await self._delete_parts(endpoint)  # of an endpoint that went without them
        try:
            await self._calls.call("sagemaker", "create_model", **self._model(endpoint), Tags=tags)
            config = self._config(endpoint, spec)
            await self._calls.call("sagemaker", "create_endpoint_config", **config, Tags=tags)
            await self._calls.call(
                "sagemaker", "create_endpoint", EndpointName=endpoint, EndpointConfigName=endpoint, Tags=tags
            )
        except CloudbrushError as error:
            with suppress(CloudbrushError):
                await self._delete_parts(endpoint)
            raise _told(error) from error

    def _model(self, endpoint: str) -> dict[str, Any]:
        place = self._place
        return {
            "ModelName": endpoint,
            "ExecutionRoleArn": place.worker_role_arn,
            "PrimaryContainer": {
                "Image": place.image_uri,
                "Environment": {
                    "CLOUDBRUSH_WORKER_BLOBS_URL": place.blobs_url,
                    "AWS_REGION": place.region,
                    "AWS_DEFAULT_REGION": place.region,
                },
            },
        }

    def _config(self, endpoint: str, spec: EndpointSpec) -> dict[str, Any]:
        variant: dict[str, Any] = {
            "VariantName": VARIANT,
            "ModelName": endpoint,
            "InstanceType": spec.instance_type,
            "InitialInstanceCount": max(1, spec.min_instances),  # SageMaker starts none with 0
            "ContainerStartupHealthCheckTimeoutInSeconds": START_LIMIT,
            "InferenceAmiVersion": image.HOST,
        }
        config: dict[str, Any] = {"EndpointConfigName": endpoint, "ProductionVariants": [variant]}
        if spec.kind is EndpointKind.REALTIME:
            variant["RoutingConfig"] = {"RoutingStrategy": "LEAST_OUTSTANDING_REQUESTS"}
        else:
            config["AsyncInferenceConfig"] = {
                "ClientConfig": {"MaxConcurrentInvocationsPerInstance": spec.concurrency},
                "OutputConfig": {
                    "S3OutputPath": self._place.url("temporary/output"),
                    "S3FailurePath": self._place.url("temporary/failure"),
                    "NotificationConfig": {
                        "SuccessTopic": self._place.success_topic_arn,
                        "ErrorTopic": self._place.error_topic_arn,
                    },
                },
            }
        return config

    async def _settle(self, endpoint: str, spec: EndpointSpec) -> None:
        """Watch an endpoint until it rests, then give it the instances and the scaling asked for."""
        try:
            while await self._until_at_rest(endpoint, spec.name):
                if not await self._resized(endpoint, spec):
                    await self._scaling.apply(endpoint, spec)
                    self._troubles.pop(spec.name, None)
                    return
        except CloudbrushError as error:
            log.warning("endpoint does not scale", name=spec.name, reason=error.detail)
            self._troubles[spec.name] = f"it does not scale: {error.detail}"
        finally:
            self._on_change(spec.name)

    async def _until_at_rest(self, endpoint: str, name: str) -> bool:
        """Tell of every change until the endpoint is InService; False if it will not be."""
        seen: Observed | None = None
        while True:
            with suppress(Unavailable):
                try:
                    now = await self.describe(name)
                except NotFound:
                    return False
                if now != seen:
                    seen = now
                    self._on_change(name)
                if now.state not in (EndpointState.CREATING, EndpointState.UPDATING):
                    return now.state is EndpointState.IN_SERVICE
            await asyncio.sleep(LOOK_AGAIN)

    async def _resized(self, endpoint: str, spec: EndpointSpec) -> bool:
        """Ask for the number of instances that is wanted; whether another one was there."""
        now = (await self.describe(spec.name)).instances
        most = spec.max_instances if spec.autoscaling and spec.max_instances else spec.min_instances
        wanted = min(max(now, spec.min_instances), most)
        if wanted == now:
            return False
        await self._calls.call(
            "sagemaker",
            "update_endpoint_weights_and_capacities",
            EndpointName=endpoint,
            DesiredWeightsAndCapacities=[{"VariantName": VARIANT, "DesiredInstanceCount": wanted}],
        )
        return True

    async def _delete_endpoint(self, endpoint: str) -> None:
        """Return when the endpoint is gone; one that is being made or changed is waited for."""
        with suppress(NotFound):
            while True:
                if (await self._describe(endpoint))["EndpointStatus"] != "Deleting":
                    await self._ask_to_delete(endpoint)
                await asyncio.sleep(LOOK_AGAIN)

    async def _ask_to_delete(self, endpoint: str) -> None:
        try:
            await self._calls.call("sagemaker", "delete_endpoint", EndpointName=endpoint)
        except AwsRefused as error:
            if error.reason != "ValidationException":  # refused while the endpoint is being changed
                raise

    async def _delete_parts(self, endpoint: str) -> None:
        with suppress(NotFound):
            await self._calls.call("sagemaker", "delete_endpoint_config", EndpointConfigName=endpoint)
        with suppress(NotFound):
            await self._calls.call("sagemaker", "delete_model", ModelName=endpoint)


def _told(error: CloudbrushError) -> CloudbrushError:
    """What a person who deploys is told of a refusal."""
    if isinstance(error, Denied) or not isinstance(error, AwsRefused):
        return error
    if error.reason == "ResourceLimitExceeded":
        return Conflict(
            error.detail,
            field="instance_type",
            hint="Choose another instance type, or ask for a higher quota in the Service Quotas console.",
        )
    return Conflict(error.detail, hint=error.hint)
