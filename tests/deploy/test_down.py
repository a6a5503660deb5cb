"""`cloudbrush aws down`: what it refuses, and what is left."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cloudbrush.aws import env_file
from cloudbrush.aws.account import Account
from cloudbrush.settings import Settings
from tests.deploy.commands import run, up
from tests.deploy.conftest import REGION

pytestmark = pytest.mark.usefixtures("cloud")


@pytest.fixture
def bucket() -> str:
    """The bucket of a stack that is up."""
    up()
    name = Settings().aws_bucket
    assert name is not None
    return name


def stacks(account: Account) -> list[str]:
    return [stack["StackName"] for stack in account.call("cloudformation", "describe_stacks")["Stacks"]]


def buckets(account: Account) -> list[str]:
    return [bucket["Name"] for bucket in account.call("s3", "list_buckets")["Buckets"]]


def deploy(account: Account, name: str, role: str) -> None:
    """An endpoint as the service knows it; moto knows old instance types only."""
    variant = {
        "VariantName": "v",
        "ModelName": name,
        "InitialInstanceCount": 2,
        "InstanceType": "ml.g4dn.xlarge",
    }
    image = {"Image": "123456789012.dkr.ecr.eu-central-1.amazonaws.com/cloudbrush:1"}
    account.call("sagemaker", "create_model", ModelName=name, ExecutionRoleArn=role, PrimaryContainer=image)
    account.call(
        *("sagemaker", "create_endpoint_config"), EndpointConfigName=name, ProductionVariants=[variant]
    )
    account.call("sagemaker", "create_endpoint", EndpointName=name, EndpointConfigName=name)


def test_an_empty_stack_goes_and_its_settings_with_it(account: Account, bucket: str) -> None:
    Path(".env").write_text("# mine\nCLOUDBRUSH_PORT=7000\n" + Path(".env").read_text())
    said = run("down", "--yes")
    assert said.status == 0, said.text
    assert "DELETE_COMPLETE                      cloudbrush\n" in said.text
    assert (stacks(account), buckets(account)) == ([], [])
    assert Path(".env").read_text() == "# mine\nCLOUDBRUSH_PORT=7000\n"


def test_a_bucket_with_something_in_it_is_kept_and_how_to_save_it_is_told(
    account: Account, bucket: str
) -> None:
    account.call("s3", "put_object", Bucket=bucket, Key="models/a", Body=b"x" * 2**20)
    said = run("down", "--yes")
    assert said.status == 1
    assert f"the bucket {bucket} holds 1 objects (1.0 MiB)" in said.text
    assert f"aws s3 sync s3://{bucket}" in said.text
    assert stacks(account) == ["cloudbrush"]
    assert account.call("s3", "get_object", Bucket=bucket, Key="models/a")["ContentLength"] == 2**20
    assert env_file.values(Path(".env"))["CLOUDBRUSH_AWS_BUCKET"] == bucket


def test_told_to_it_deletes_every_object_and_every_old_version(account: Account, bucket: str) -> None:
    account.call(
        *("s3", "put_bucket_versioning"), Bucket=bucket, VersioningConfiguration={"Status": "Enabled"}
    )
    for _ in range(2):
        account.call("s3", "put_object", Bucket=bucket, Key="jobs/a/1/0.png", Body=b"x")
    account.call("s3", "delete_object", Bucket=bucket, Key="jobs/a/1/0.png")
    account.call("s3", "create_multipart_upload", Bucket=bucket, Key="models/half")
    refused = run("down", "--yes")
    assert "holds 3 objects" in refused.text  # two versions and the mark that it is deleted
    said = run("down", "--yes", "--delete-bucket-content")
    assert said.status == 0, said.text
    assert (stacks(account), buckets(account)) == ([], [])


def test_more_objects_than_one_call_deletes_are_deleted(
    account: Account, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloudbrush.aws.bucket.AT_ONCE", 3)
    for number in range(10):
        account.call("s3", "put_object", Bucket=bucket, Key=f"jobs/{number}", Body=b"")
    said = run("down", "--yes", "--delete-bucket-content")
    assert said.status == 0, said.text
    assert buckets(account) == []


def test_it_refuses_while_endpoints_run_and_says_what_they_cost(account: Account, bucket: str) -> None:
    role = Settings().aws_worker_role_arn
    assert role is not None
    deploy(account, "cloudbrush-studio", role)
    deploy(account, "cloudbrush-elses", "arn:aws:iam::123456789012:role/elses")
    said = run("down", "--yes", "--delete-bucket-content")
    assert said.status == 1
    assert "these endpoints still run, and cost money: cloudbrush-studio\n" in said.text
    assert "cloudbrush endpoints delete" in said.text
    assert stacks(account) == ["cloudbrush"]
    told = run("status").text
    assert "cloudbrush-elses" not in told
    line = re.search(r"cloudbrush-studio is InService: 2 x ml.g4dn.xlarge, about ([\d.]+) USD per hour", told)
    assert line is not None
    assert float(line[1]) == pytest.approx(2 * 0.7364, rel=0.01)  # SageMaker's price list for us-east-1


def test_it_asks_first(account: Account, bucket: str) -> None:
    said = run("down")
    assert said.status == 1
    assert "Delete the stack cloudbrush in eu-central-1, for good?" in said.text
    assert stacks(account) == ["cloudbrush"]


def test_settings_of_another_stack_stay(account: Account, bucket: str) -> None:
    up("--stack", "other")
    before = Path(".env").read_text()
    said = run("down", "--yes", "--stack", "cloudbrush")
    assert said.status == 0, said.text
    assert Path(".env").read_text() == before
    assert stacks(account) == ["other"]


def test_what_is_put_into_the_bucket_at_the_last_moment_makes_it_fail_with_the_reason(
    account: Account, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloudbrush.aws.bucket.content", lambda *_: (0, 0))
    account.call("s3", "put_object", Bucket=bucket, Key="models/late", Body=b"x")
    said = run("down", "--yes")
    assert said.status == 1
    assert "Bucket (AWS::S3::Bucket): The bucket you tried to delete is not empty" in said.text
    assert stacks(account) == ["cloudbrush"]
    monkeypatch.undo()


def test_a_stack_that_never_came_up_can_be_taken_down(account: Account) -> None:
    account.call("ecr", "create_repository", repositoryName="cloudbrush")
    assert run("up", "--yes", "--region", REGION).status == 1
    Path(".env").write_text(f"CLOUDBRUSH_AWS_REGION={REGION}\n")
    said = run("down", "--yes")
    assert said.status == 0, said.text
    assert stacks(account) == []
    assert Path(".env").read_text() == f"CLOUDBRUSH_AWS_REGION={REGION}\n"


def test_a_stack_that_is_not_there_is_not_found() -> None:
    said = run("down", "--yes", "--region", REGION)
    assert said.status == 1
    assert "there is no stack cloudbrush in eu-central-1" in said.text
