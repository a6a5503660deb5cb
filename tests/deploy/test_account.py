"""What a person is told when AWS says no, asked of a server that evaluates policies."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import httpx
import pytest

from cloudbrush.aws import checks
from cloudbrush.aws.account import Account, AwsRefused, Denied
from cloudbrush.domain.errors import InvalidInput, Unavailable
from cloudbrush.settings import Settings
from tests.deploy.commands import run, up
from tests.deploy.conftest import REGION

BecomeUser = Callable[..., None]


@pytest.fixture
def become_user(account: Account, moto: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[BecomeUser]:
    """Be a user with these policies from now on; the server checks every call."""

    def become(*, policies: tuple[str, ...] = (), allow: tuple[str, ...] = ()) -> None:
        account.call("iam", "create_user", UserName="painter")
        for arn in policies:
            account.call("iam", "attach_user_policy", UserName="painter", PolicyArn=arn)
        if allow:
            document = {"Statement": [{"Effect": "Allow", "Action": list(allow), "Resource": "*"}]}
            account.call(
                *("iam", "put_user_policy"),
                UserName="painter",
                PolicyName="p",
                PolicyDocument=json.dumps({"Version": "2012-10-17", **document}),
            )
        key = account.call("iam", "create_access_key", UserName="painter")["AccessKey"]
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", key["AccessKeyId"])
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key["SecretAccessKey"])
        httpx.post(f"{moto}/moto-api/reset-auth", content="0").raise_for_status()

    yield become
    httpx.post(f"{moto}/moto-api/reset-auth", content="inf").raise_for_status()


def test_a_missing_permission_is_named(become_user: BecomeUser) -> None:
    become_user()
    with pytest.raises(Denied) as caught:
        Account(REGION).call("cloudformation", "describe_stacks", StackName="cloudbrush")
    assert caught.value.hint == "Ask your administrator for the permission cloudformation:DescribeStacks."


@pytest.mark.parametrize(
    ("operation", "permission"),
    [
        ("head_bucket", "s3:ListBucket"),  # the operation's name is another, and S3 says nothing but 403
        ("list_object_versions", "s3:ListBucketVersions"),
    ],
)
def test_a_permission_is_called_as_iam_calls_it(
    account: Account, become_user: BecomeUser, operation: str, permission: str
) -> None:
    where = {"LocationConstraint": REGION}
    account.call("s3", "create_bucket", Bucket="a-bucket", CreateBucketConfiguration=where)
    become_user()
    with pytest.raises(Denied) as caught:
        Account(REGION).call("s3", operation, Bucket="a-bucket")
    assert caught.value.hint == f"Ask your administrator for the permission {permission}."


def test_a_command_tells_the_permission_it_needs(become_user: BecomeUser) -> None:
    become_user()
    said = run("up", "--yes", "--region", REGION)
    assert said.status == 1
    assert "Ask your administrator for the permission cloudformation:DescribeStacks." in said.text


def test_the_stacks_own_policy_is_enough_for_a_control_plane_to_start(
    account: Account, become_user: BecomeUser
) -> None:
    up()
    (stack,) = account.call("cloudformation", "describe_stacks", StackName="cloudbrush")["Stacks"]
    given = {entry["OutputKey"]: entry["OutputValue"] for entry in stack["Outputs"]}
    become_user(policies=(given["ControlPlanePolicyArn"],))
    checks.require(Settings())


def test_without_it_the_setting_and_the_permission_are_told(become_user: BecomeUser) -> None:
    up()
    become_user(allow=("s3:ListBucket",))
    with pytest.raises(Denied) as caught:
        checks.require(Settings())
    assert caught.value.field == "CLOUDBRUSH_AWS_WORKER_ROLE_ARN"
    assert "iam:GetRole" in (caught.value.hint or "")


def test_without_credentials_it_says_where_they_come_from(
    cloud: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(Unavailable) as caught:
        _ = Account(REGION).id
    assert "aws sso login" in (caught.value.hint or "")


def test_half_of_the_credentials_are_none(cloud: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(Unavailable, match="credentials"):
        _ = Account(REGION).id


def test_a_profile_that_is_not_there_is_told(cloud: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(Unavailable, match="nobody"):
        Account(REGION)


def test_credentials_that_aws_does_not_know_are_told(
    cloud: None, moto: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
    httpx.post(f"{moto}/moto-api/reset-auth", content="0").raise_for_status()
    try:
        with pytest.raises(Unavailable, match="does not accept the credentials"):
            _ = Account(REGION).call("iam", "list_roles")
    finally:
        httpx.post(f"{moto}/moto-api/reset-auth", content="inf").raise_for_status()


def test_a_network_that_is_down_is_told(cloud: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")  # the port that discards
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(Unavailable, match="cannot be reached"):
        _ = Account(REGION).id


def test_what_boto3_does_not_take_is_invalid(account: Account) -> None:
    with pytest.raises(InvalidInput):
        account.call("s3", "head_bucket", Bucket="no/bucket")


def test_aws_own_word_for_an_error_is_kept(account: Account) -> None:
    with pytest.raises(AwsRefused) as caught:
        account.call("iam", "get_role", RoleName="nobody")
    assert caught.value.reason == "NoSuchEntity"


@pytest.mark.parametrize("region", ["eu-central-1", "us-east-1", "cn-north-1"])
def test_sagemaker_is_known_where_it_is(cloud: None, region: str) -> None:
    assert Account(region).has_sagemaker


@pytest.mark.parametrize("region", ["mars-north-1", "eu-central-99"])
def test_a_region_that_is_none_is_refused_by_name(cloud: None, region: str) -> None:
    assert not Account(region).has_sagemaker


def test_what_can_be_no_region_is_refused_by_name(cloud: None) -> None:
    with pytest.raises(InvalidInput) as caught:
        _ = Account("no region!").id
    assert caught.value.field == "region"


def test_an_address_that_is_none_is_told(cloud: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "nowhere")
    with pytest.raises(Unavailable, match="nowhere"):
        _ = Account(REGION).id
