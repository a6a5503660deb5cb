"""Whether what the settings name is there: asked when a control plane starts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cloudbrush.aws import checks
from cloudbrush.aws.account import Account
from cloudbrush.domain.errors import CloudbrushError
from cloudbrush.settings import Settings
from tests.deploy.commands import up
from tests.deploy.conftest import REGION


@pytest.fixture
def settings(cloud: None) -> Settings:
    """Those of a stack that is up."""
    up()
    return Settings()


def problem(settings: Settings, **changes: str | None) -> CloudbrushError:
    """The problem with settings that differ a little from good ones."""
    with pytest.raises(CloudbrushError) as caught:
        checks.require(settings.model_copy(update=changes))
    return caught.value


def test_what_aws_up_made_is_good(settings: Settings) -> None:
    checks.require(settings)


def test_without_aws_settings_nothing_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    checks.require(Settings(_env_file=None, aws_region=REGION))


@pytest.mark.parametrize(
    ("field", "value", "detail", "hint"),
    [
        ("aws_region", "mars-north-1", "not known in the region 'mars-north-1'", "us-east-1"),
        ("aws_bucket", None, "is not set", "cloudbrush aws up"),
        ("aws_bucket", "cloudbrush-nowhere", "no bucket cloudbrush-nowhere", "cloudbrush aws up"),
        ("aws_worker_role_arn", None, "is not set", "cloudbrush aws up"),
        ("aws_worker_role_arn", "arn:aws:iam::123456789012:role/gone", "no role gone", "cloudbrush aws up"),
        ("aws_success_topic_arn", "queue", "no topic's ARN", "cloudbrush aws up"),
        ("aws_error_topic_arn", "arn:aws:sns:us-east-1:123456789012:t", "us-east-1, not in", "aws up"),
        ("aws_queue_url", None, "is not set", "cloudbrush aws up"),
        (
            "aws_queue_url",
            "https://sqs.eu-central-1.amazonaws.com/123456789012/gone",
            "no queue",
            "cloudbrush aws up",
        ),
    ],
)
def test_a_wrong_setting_is_named_with_what_to_do(
    settings: Settings, field: str, value: str | None, detail: str, hint: str
) -> None:
    found = problem(settings, **{field: value})
    assert found.field == f"CLOUDBRUSH_{field.upper()}"
    assert detail in found.detail
    assert hint in (found.hint or "")
    assert "To work without the cloud" in (found.hint or "")


def test_a_bucket_in_another_region_is_told_with_that_region(settings: Settings, account: Account) -> None:
    where = {"LocationConstraint": "eu-west-1"}
    Account("eu-west-1").call(
        *("s3", "create_bucket"), Bucket="cloudbrush-elsewhere", CreateBucketConfiguration=where
    )
    found = problem(settings, aws_bucket="cloudbrush-elsewhere")
    assert "is in eu-west-1, not in eu-central-1" in found.detail


def test_a_role_that_sagemaker_may_not_take_is_told(settings: Settings, account: Account) -> None:
    made = account.call(
        *("iam", "create_role"),
        RoleName="for-lambda",
        AssumeRolePolicyDocument=(
            '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "sts:AssumeRole",'
            ' "Principal": {"Service": "lambda.amazonaws.com"}}]}'
        ),
    )
    found = problem(settings, aws_worker_role_arn=made["Role"]["Arn"])
    assert "SageMaker may not assume the role for-lambda" in found.detail


def test_a_role_of_another_account_is_not_taken_for_ours(settings: Settings) -> None:
    assert settings.aws_worker_role_arn is not None
    other = settings.aws_worker_role_arn.replace("123456789012", "210987654321")
    assert "of this account is" in problem(settings, aws_worker_role_arn=other).detail


def test_the_image_is_needed_to_deploy_and_not_to_start(settings: Settings) -> None:
    checks.require(settings.model_copy(update={"aws_image_uri": "123456789012.dkr.ecr.x/cloudbrush:gone"}))


def test_a_studio_does_not_start_on_settings_that_are_wrong(cloud: None, tmp_path: Path) -> None:
    words = [sys.executable, "-m", "cloudbrush", "serve", "--no-studio", "--port", "0"]
    environment = {
        **os.environ,
        "CLOUDBRUSH_AWS_REGION": REGION,
        "CLOUDBRUSH_AWS_BUCKET": "cloudbrush-nowhere",
    }
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert "CLOUDBRUSH_AWS_BUCKET: there is no bucket cloudbrush-nowhere" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "data").exists()
