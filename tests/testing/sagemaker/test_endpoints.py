"""The control API: what is kept, and the states of endpoints."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import httpx
import psutil
import pytest
from botocore.exceptions import ClientError

from cloudbrush.testing.sagemaker import Fault, SageMaker
from tests.testing.sagemaker.cloud import ROLE, Cloud, until

ARN = "arn:aws:sagemaker:eu-central-1:123456789012"
START = datetime(2026, 1, 1, tzinfo=UTC)


def refusal(call: Any, **asked: Any) -> str:
    """The message of a ValidationException."""
    with pytest.raises(ClientError) as refused:
        call(**asked)
    assert refused.value.response["Error"]["Code"] == "ValidationException"
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400
    return str(refused.value.response["Error"]["Message"])


def count(cloud: Cloud) -> tuple[int, int]:
    """Instances now and wanted."""
    variant = cloud.describe()["ProductionVariants"][0]
    return variant["CurrentInstanceCount"], variant["DesiredInstanceCount"]


def production_variant(**changes: Any) -> dict[str, Any]:
    """A production variant of the model `echo`."""
    plain = {"VariantName": "main", "ModelName": "echo", "InstanceType": "ml.g5.xlarge"}
    return {**plain, "InitialInstanceCount": 1, **changes}


def workers() -> set[int]:
    """The process ids of the echo workers that this process has."""
    children = psutil.Process().children()
    return {child.pid for child in children if any("echo_worker" in word for word in child.cmdline())}


def test_an_endpoint_is_created_described_and_deleted(cloud: Cloud) -> None:
    cloud.controls.delay(creating=120, deleting=60)
    cloud.configure("echo", instances=2)
    created = cloud.sagemaker.create_endpoint(EndpointName="echo", EndpointConfigName="echo")
    assert created["EndpointArn"] == f"{ARN}:endpoint/echo"
    cloud.controls.advance(119)
    assert cloud.describe()["EndpointStatus"] == "Creating"
    assert not workers()
    cloud.controls.advance(1)
    seen = cloud.until_status("InService")
    assert (seen["CreationTime"], seen["EndpointConfigName"]) == (START, "echo")
    assert (seen["LastModifiedTime"] - START).total_seconds() == 120
    assert seen["AsyncInferenceConfig"]["OutputConfig"]["S3OutputPath"] == "s3://works/out"
    assert seen["ProductionVariants"][0]["VariantName"] == "main"
    assert count(cloud) == (2, 2)
    assert len(workers()) == 2

    cloud.sagemaker.delete_endpoint(EndpointName="echo")
    cloud.controls.advance(59)
    assert cloud.describe()["EndpointStatus"] == "Deleting"
    cloud.controls.advance(1)
    until(lambda: True if not cloud.sagemaker.list_endpoints()["Endpoints"] else None)
    assert not workers()
    gone = refusal(cloud.sagemaker.describe_endpoint, EndpointName="echo")
    assert gone == f'Could not find endpoint "{ARN}:endpoint/echo".'
    cloud.sagemaker.delete_endpoint_config(EndpointConfigName="echo")
    cloud.sagemaker.delete_model(ModelName="echo")


def test_boto3s_own_waiters_understand_it(cloud: Cloud) -> None:
    cloud.configure("echo")
    cloud.sagemaker.create_endpoint(EndpointName="echo", EndpointConfigName="echo")
    pace = {"Delay": 1, "MaxAttempts": 60}
    cloud.sagemaker.get_waiter("endpoint_in_service").wait(EndpointName="echo", WaiterConfig=pace)
    cloud.sagemaker.delete_endpoint(EndpointName="echo")
    cloud.sagemaker.get_waiter("endpoint_deleted").wait(EndpointName="echo", WaiterConfig=pace)


def test_the_runtime_does_not_know_an_endpoint_that_is_not_in_service(cloud: Cloud) -> None:
    cloud.controls.delay(creating=60, deleting=60)
    cloud.configure("echo")
    cloud.sagemaker.create_endpoint(EndpointName="echo", EndpointConfigName="echo")
    with pytest.raises(ClientError, match="not found"):
        cloud.invoke({})
    cloud.controls.advance(60)
    cloud.until_status("InService")
    cloud.sagemaker.delete_endpoint(EndpointName="echo")
    with pytest.raises(ClientError, match="not found"):
        cloud.invoke({})


def test_an_endpoint_in_progress_is_left_alone(cloud: Cloud) -> None:
    cloud.controls.delay(creating=60)
    cloud.configure("echo")
    cloud.sagemaker.create_endpoint(EndpointName="echo", EndpointConfigName="echo")
    words = f'Cannot update in-progress endpoint "{ARN}:endpoint/echo".'
    assert refusal(cloud.sagemaker.delete_endpoint, EndpointName="echo") == words
    update = {"EndpointName": "echo", "EndpointConfigName": "echo"}
    assert refusal(cloud.sagemaker.update_endpoint, **update) == words
    scale = cloud.sagemaker.update_endpoint_weights_and_capacities
    wanted = [{"VariantName": "main", "DesiredInstanceCount": 2}]
    assert refusal(scale, EndpointName="echo", DesiredWeightsAndCapacities=wanted) == words


@pytest.mark.parametrize(
    "environment", [{"ECHO_EXIT": "3"}, {"ECHO_UNHEALTHY_WHILE": "/"}], ids=["exit", "503"]
)
def test_containers_that_do_not_become_healthy_fail_the_endpoint(
    cloud: Cloud, environment: dict[str, str]
) -> None:
    cloud.configure("echo", environment=environment)
    cloud.sagemaker.create_endpoint(EndpointName="echo", EndpointConfigName="echo")
    if "ECHO_EXIT" not in environment:
        until(lambda: True if "GET /ping" in cloud.controls.logs("echo") else None)
        cloud.controls.advance(479)
        assert cloud.describe()["EndpointStatus"] == "Creating"
        cloud.controls.advance(1)  # 8 minutes: "Custom Inference Code with Hosting Services"
    seen = cloud.until_status("Failed")
    assert "did not pass the ping health check" in seen["FailureReason"]
    assert not workers()
    update = {"EndpointName": "echo", "EndpointConfigName": "echo"}
    assert "failed" in refusal(cloud.sagemaker.update_endpoint, **update)
    cloud.sagemaker.delete_endpoint(EndpointName="echo")
    until(lambda: True if not cloud.sagemaker.list_endpoints()["Endpoints"] else None)


def test_a_container_may_take_its_time(cloud: Cloud) -> None:
    sick = cloud.folder / "sick"
    sick.touch()
    cloud.configure("echo", environment={"ECHO_UNHEALTHY_WHILE": str(sick)})
    cloud.sagemaker.create_endpoint(EndpointName="echo", EndpointConfigName="echo")
    until(lambda: True if "GET /ping" in cloud.controls.logs("echo") else None)
    assert cloud.describe()["EndpointStatus"] == "Creating"
    sick.unlink()
    cloud.until_status("InService")


def test_no_capacity_fails_a_new_endpoint_and_rolls_back_a_larger_one(cloud: Cloud) -> None:
    cloud.controls.arm(Fault.NO_CAPACITY)
    cloud.configure("echo")
    cloud.sagemaker.create_endpoint(EndpointName="echo", EndpointConfigName="echo")
    assert "InsufficientInstanceCapacity" in cloud.until_status("Failed")["FailureReason"]
    cloud.deploy("other")
    cloud.controls.arm(Fault.NO_CAPACITY)
    cloud.controls.set_instances("other", 3)

    def look() -> dict[str, Any] | None:
        seen = cloud.describe("other")
        return seen if "FailureReason" in seen and seen["EndpointStatus"] == "InService" else None

    seen = until(look)
    assert "InsufficientInstanceCapacity" in seen["FailureReason"]
    assert seen["ProductionVariants"][0]["CurrentInstanceCount"] == 1
    assert seen["ProductionVariants"][0]["DesiredInstanceCount"] == 1
    assert len(workers()) == 1


def test_an_update_replaces_the_instances_without_losing_an_invocation(cloud: Cloud) -> None:
    cloud.deploy(environment={"ECHO_GREETING": "old"})
    old, door = workers(), cloud.door()
    held = cloud.invoke({"hold": str(door), "say": "finished"})
    door.until_reached()
    cloud.controls.delay(updating=60)
    cloud.configure("new", environment={"ECHO_GREETING": "new"}, instances=2)
    cloud.sagemaker.update_endpoint(EndpointName="echo", EndpointConfigName="new")
    assert cloud.describe()["EndpointStatus"] == "Updating"
    before = cloud.invoke({})
    assert b'"greeting": "old"' in cloud.until_object(before["OutputLocation"]), "it answers all the while"
    cloud.controls.advance(60)
    assert cloud.until_status("InService")["EndpointConfigName"] == "new"
    assert count(cloud) == (2, 2)
    after = cloud.invoke({})
    assert b'"greeting": "new"' in cloud.until_object(after["OutputLocation"])
    door.open()
    assert cloud.until_object(held["OutputLocation"]) == b"finished", "SIGTERM lets a worker finish"
    until(lambda: True if not workers() & old else None)


def test_an_update_that_fails_leaves_the_old_configuration(cloud: Cloud) -> None:
    cloud.deploy()
    cloud.configure("bad", environment={"ECHO_EXIT": "1"})
    cloud.sagemaker.update_endpoint(EndpointName="echo", EndpointConfigName="bad")
    seen = cloud.until_status("InService")
    assert seen["EndpointConfigName"] == "echo"
    assert "ping health check" in seen["FailureReason"]
    answer = cloud.invoke({"say": "still here"})
    assert cloud.until_object(answer["OutputLocation"]) == b"still here"


def test_scaling_takes_its_time_and_instances_leave_in_peace(cloud: Cloud) -> None:
    cloud.deploy(concurrency=1)
    cloud.controls.delay(scaling_out=180, scaling_in=30)
    cloud.sagemaker.update_endpoint_weights_and_capacities(
        EndpointName="echo", DesiredWeightsAndCapacities=[{"VariantName": "main", "DesiredInstanceCount": 2}]
    )
    assert count(cloud) == (1, 2)
    cloud.controls.advance(179)
    assert cloud.describe()["EndpointStatus"] == "Updating"
    cloud.controls.advance(1)
    cloud.until_status("InService")
    assert count(cloud) == (2, 2)
    door = cloud.door()
    busy = cloud.invoke({"hold": str(door), "say": "busy"})
    door.until_reached()
    cloud.controls.set_instances("echo", 1)
    cloud.controls.advance(30)
    cloud.until_status("InService")
    assert len(workers()) == 1, "the idle one left"
    door.open()
    assert cloud.until_object(busy["OutputLocation"]) == b"busy"


def test_scaling_from_zero_by_its_metrics(cloud: Cloud) -> None:
    cloud.deploy(concurrency=1)
    cloud.controls.set_instances("echo", 0)
    cloud.until_status("InService")
    assert (count(cloud), workers()) == ((0, 0), set())
    answers = [cloud.invoke({"say": str(number)}) for number in range(3)]
    metrics = cloud.controls.metrics("echo")
    assert metrics["HasBacklogWithoutCapacity"] == 1
    assert metrics["ApproximateBacklogSize"] == 3
    assert metrics["ApproximateBacklogSizePerInstance"] is None, "there is nothing to divide by"
    cloud.controls.delay(scaling_out=300)
    cloud.controls.set_instances("echo", 1)
    cloud.controls.advance(299)
    assert cloud.controls.metrics("echo")["HasBacklogWithoutCapacity"] == 1
    cloud.controls.advance(1)
    for number, answer in enumerate(answers):
        assert cloud.until_object(answer["OutputLocation"]).decode() == str(number)
    cloud.until_metrics(HasBacklogWithoutCapacity=0, ApproximateBacklogSizePerInstance=0)


def test_a_real_time_endpoint_cannot_scale_to_zero(cloud: Cloud) -> None:
    cloud.deploy(real_time=True)
    scale = cloud.sagemaker.update_endpoint_weights_and_capacities
    wanted = [{"VariantName": "main", "DesiredInstanceCount": 0}]
    assert "at least 1" in refusal(scale, EndpointName="echo", DesiredWeightsAndCapacities=wanted)


def test_a_worker_that_dies_is_replaced(cloud: Cloud) -> None:
    cloud.deploy()
    cloud.controls.delay(replacing=45)
    killed = cloud.controls.kill_worker("echo")
    until(lambda: True if count(cloud) == (0, 1) else None)
    assert cloud.describe()["EndpointStatus"] == "InService"
    cloud.controls.advance(45)
    until(lambda: True if count(cloud) == (1, 1) else None)
    assert killed not in workers()


def test_deleting_an_endpoint_loses_what_it_was_asked(cloud: Cloud) -> None:
    cloud.deploy(concurrency=1)
    door = cloud.door()
    answers = [cloud.invoke({"hold": str(door)}), cloud.invoke({})]
    door.until_reached()
    cloud.sagemaker.delete_endpoint(EndpointName="echo")
    door.open()
    until(lambda: True if not cloud.sagemaker.list_endpoints()["Endpoints"] else None)
    assert [cloud.object(answer["OutputLocation"]) for answer in answers] == [None, None]
    assert cloud.message_if_any() is None


def test_names_are_unique_and_things_must_exist(cloud: Cloud) -> None:
    cloud.configure("echo")
    again = refusal(cloud.sagemaker.create_model, ModelName="echo", PrimaryContainer={"Image": "echo"})
    assert again == f'Cannot create already existing model "{ARN}:model/echo".'
    none = refusal(cloud.sagemaker.create_endpoint, EndpointName="echo", EndpointConfigName="none")
    assert none == f'Could not find endpoint configuration "{ARN}:endpoint-config/none".'
    create, variants = cloud.sagemaker.create_endpoint_config, [production_variant(ModelName="none")]
    none = refusal(create, EndpointConfigName="new", ProductionVariants=variants)
    assert none == f'Could not find model "{ARN}:model/none".'
    assert "endpoint configuration" in refusal(create, EndpointConfigName="echo", ProductionVariants=variants)


@pytest.mark.parametrize(
    ("name", "changes", "word"),
    [
        ("under_score", {}, "regular expression"),
        ("x" * 64, {}, "less than or equal to 63"),
        ("ok", {"InstanceType": "ml.g5.enormous"}, "enum value set"),
        ("ok", {"ServerlessConfig": {"MemorySizeInMB": 1024, "MaxConcurrency": 1}}, "does not do"),
        ("ok", {"ManagedInstanceScaling": {"Status": "ENABLED"}}, "does not do"),
        ("ok", {"ContainerStartupHealthCheckTimeoutInSeconds": 3601}, "less than or equal to 3600"),
    ],
)
def test_configurations_outside_the_model_are_refused(
    cloud: Cloud, name: str, changes: dict[str, Any], word: str
) -> None:
    cloud.sagemaker.create_model(ModelName="echo", PrimaryContainer={"Image": "echo:1"})
    create = cloud.sagemaker.create_endpoint_config
    assert word in refusal(
        create, EndpointConfigName=name, ProductionVariants=[production_variant(**changes)]
    )


@pytest.mark.parametrize("output", [{}, {"S3OutputPath": "https://works/out"}], ids=["none", "https"])
def test_an_asynchronous_endpoint_needs_an_output_path(cloud: Cloud, output: dict[str, str]) -> None:
    cloud.sagemaker.create_model(ModelName="echo", PrimaryContainer={"Image": "echo:1"})
    asked = {"EndpointConfigName": "c", "ProductionVariants": [production_variant()]}
    create = cloud.sagemaker.create_endpoint_config
    assert "S3OutputPath" in refusal(create, **asked, AsyncInferenceConfig={"OutputConfig": output})


def test_models_and_configurations_are_described_as_they_were_created(cloud: Cloud) -> None:
    cloud.configure("echo", concurrency=3, environment={"A": "b"})
    model = cloud.sagemaker.describe_model(ModelName="echo")
    assert model["PrimaryContainer"]["Environment"] == {"A": "b"}
    assert (model["ExecutionRoleArn"], model["CreationTime"]) == (ROLE, START)
    config = cloud.sagemaker.describe_endpoint_config(EndpointConfigName="echo")
    assert config["ProductionVariants"][0]["InstanceType"] == "ml.g5.2xlarge"
    assert config["AsyncInferenceConfig"]["ClientConfig"] == {"MaxConcurrentInvocationsPerInstance": 3}


def test_lists_are_filtered_sorted_and_paged(cloud: Cloud) -> None:
    cloud.controls.delay(creating=3600)
    cloud.configure("echo")
    for number in range(12):
        cloud.sagemaker.create_endpoint(EndpointName=f"e-{number:02d}", EndpointConfigName="echo")
        cloud.controls.advance(10)

    def names(**asked: Any) -> list[str]:
        return [entry["EndpointName"] for entry in cloud.sagemaker.list_endpoints(**asked)["Endpoints"]]

    every = [f"e-{number:02d}" for number in range(12)]
    first = cloud.sagemaker.list_endpoints()
    assert [entry["EndpointName"] for entry in first["Endpoints"]] == every[:1:-1], "ten, newest first"
    assert names(NextToken=first["NextToken"]) == every[1::-1]
    pages = cloud.sagemaker.get_paginator("list_endpoints").paginate(
        SortBy="Name", SortOrder="Ascending", PaginationConfig={"PageSize": 5}
    )
    assert [entry["EndpointName"] for page in pages for entry in page["Endpoints"]] == every
    assert names(NameContains="-1", SortBy="Name", SortOrder="Ascending") == ["e-10", "e-11"]
    third = datetime(2026, 1, 1, 0, 0, 30, tzinfo=UTC)
    assert names(CreationTimeBefore=third) == ["e-02", "e-01", "e-00"]
    assert names(CreationTimeAfter=third)[-1] == "e-03"
    assert names(StatusEquals="InService") == []
    assert len(names(StatusEquals="Creating", MaxResults=100)) == 12
    assert "NextToken" in refusal(cloud.sagemaker.list_endpoints, NextToken="nonsense")


def test_tags_are_kept(cloud: Cloud) -> None:
    tags = [{"Key": "owner", "Value": "ann"}]
    cloud.sagemaker.create_model(ModelName="m", PrimaryContainer={"Image": "echo:1"}, Tags=tags)
    arn = f"{ARN}:model/m"
    assert cloud.sagemaker.list_tags(ResourceArn=arn)["Tags"] == tags
    cloud.sagemaker.add_tags(
        ResourceArn=arn, Tags=[{"Key": "owner", "Value": "bob"}, {"Key": "a", "Value": "1"}]
    )
    kept = {tag["Key"]: tag["Value"] for tag in cloud.sagemaker.list_tags(ResourceArn=arn)["Tags"]}
    assert kept == {"owner": "bob", "a": "1"}


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("no JSON", "SerializationException"),
        ("[]", "ValidationException"),
        ('{"EndpointName": 7}', "ValidationException"),
        ("{}", "ValidationException"),
    ],
)
def test_other_clients_may_be_wrong_in_more_ways(standin: SageMaker, body: str, code: str) -> None:
    headers = {"X-Amz-Target": "SageMaker.DescribeEndpoint"}
    answer = httpx.post(standin.url, content=body, headers=headers, trust_env=False)
    assert (answer.status_code, answer.json()["__type"]) == (400, code)


def test_what_it_does_not_do_it_says(cloud: Cloud) -> None:
    with pytest.raises(ClientError, match="does not do ListTrainingJobs"):
        cloud.sagemaker.list_training_jobs()
