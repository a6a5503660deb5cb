"""Whether what the settings name is there and may be used: asked at the start, not in the middle of a job."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from cloudbrush.aws import image
from cloudbrush.aws.account import Account, AwsRefused, Denied
from cloudbrush.domain.errors import CloudbrushError, InvalidInput
from cloudbrush.settings import Settings

BRING_UP = "Run `cloudbrush aws up`; it writes the setting into .env."
WITHOUT = "To work without the cloud, take the CLOUDBRUSH_AWS_ settings away."
IMAGE_URI = "CLOUDBRUSH_AWS_IMAGE_URI"


@dataclass(frozen=True)
class Finding:
    """What was found about one setting."""

    setting: str
    value: str | None
    problem: CloudbrushError | None = None


def require(settings: Settings) -> None:
    """For a control plane that starts: raise the first problem with what it cannot do without.

    The image is not among that: it is needed to deploy only. Nothing is asked where no AWS setting but the
    region is given. Raises `InvalidInput`, `Denied` with the permission, `Unavailable`.
    """
    if not settings.uses_aws:
        return
    for finding in findings(settings):
        if (problem := finding.problem) and finding.setting != IMAGE_URI:
            problem.hint = f"{problem.hint or ''} {WITHOUT}".strip()
            raise problem


def findings(settings: Settings) -> Iterator[Finding]:
    """What is found about region, bucket, role, topics, queue and image, one after the other."""
    try:
        account = Account(settings.aws_region)
        _region(account)
    except CloudbrushError as problem:
        yield Finding("CLOUDBRUSH_AWS_REGION", settings.aws_region, problem)
        return
    yield Finding("CLOUDBRUSH_AWS_REGION", account.region)
    questions: tuple[tuple[str, str | None, Callable[[Account, str], None]], ...] = (
        ("CLOUDBRUSH_AWS_BUCKET", settings.aws_bucket, _bucket),
        ("CLOUDBRUSH_AWS_WORKER_ROLE_ARN", settings.aws_worker_role_arn, _role),
        ("CLOUDBRUSH_AWS_SUCCESS_TOPIC_ARN", settings.aws_success_topic_arn, _topic),
        ("CLOUDBRUSH_AWS_ERROR_TOPIC_ARN", settings.aws_error_topic_arn, _topic),
        ("CLOUDBRUSH_AWS_QUEUE_URL", settings.aws_queue_url, _queue),
        (IMAGE_URI, settings.aws_image_uri, _image),
    )
    for setting, value, question in questions:
        yield Finding(setting, value, _problem(account, setting, value, question))


def _problem(
    account: Account, setting: str, value: str | None, question: Callable[[Account, str], None]
) -> CloudbrushError | None:
    if not value:
        hint = "Run `cloudbrush aws push`." if question is _image else BRING_UP
        return InvalidInput("is not set", field=setting, hint=hint)
    try:
        question(account, value)
    except CloudbrushError as problem:
        problem.field = problem.field or setting
        return problem
    return None


def _region(account: Account) -> None:
    if not account.has_sagemaker:
        raise InvalidInput(
            f"SageMaker is not known in the region {account.region!r}",
            field="CLOUDBRUSH_AWS_REGION",
            hint="Choose one that is, for example us-east-1 or eu-central-1.",
        )


def _bucket(account: Account, bucket: str) -> None:
    try:
        answer = account.call("s3", "head_bucket", Bucket=bucket)
    except Denied:
        raise
    except AwsRefused as error:
        if error.reason in ("404", "NoSuchBucket"):
            raise InvalidInput(f"there is no bucket {bucket}", hint=BRING_UP) from error
        if error.reason in ("301", "PermanentRedirect"):
            raise _elsewhere(account, bucket, "another region") from error
        raise
    region = answer.get("BucketRegion") or account.region
    if region != account.region:
        raise _elsewhere(account, bucket, region)


def _elsewhere(account: Account, bucket: str, region: str) -> InvalidInput:
    return InvalidInput(
        f"the bucket {bucket} is in {region}, not in {account.region}",
        hint="SageMaker wants both in one region: set CLOUDBRUSH_AWS_REGION, or use another bucket.",
    )


def _role(account: Account, arn: str) -> None:
    name = arn.rpartition("/")[2]
    try:
        role = account.call("iam", "get_role", RoleName=name)["Role"]
    except Denied:
        raise
    except AwsRefused as error:
        if error.reason == "NoSuchEntity":
            raise InvalidInput(f"there is no role {name}", hint=BRING_UP) from error
        raise
    if role["Arn"] != arn:
        raise InvalidInput(f"the role {name} of this account is {role['Arn']}, not {arn}", hint=BRING_UP)
    if "sagemaker.amazonaws.com" not in str(role["AssumeRolePolicyDocument"]):
        raise InvalidInput(
            f"SageMaker may not assume the role {name}",
            hint="Its trust policy needs the principal sagemaker.amazonaws.com with sts:AssumeRole.",
        )


def _topic(account: Account, arn: str) -> None:
    """Only workers use topics, so the control plane has no permission to look at one."""
    parts = arn.split(":")
    if len(parts) != 6 or parts[2] != "sns":
        raise InvalidInput(f"{arn!r} is no topic's ARN", hint=BRING_UP)
    if parts[3] != account.region:
        raise InvalidInput(f"the topic {arn} is in {parts[3]}, not in {account.region}", hint=BRING_UP)


def _queue(account: Account, url: str) -> None:
    try:
        account.call("sqs", "get_queue_attributes", QueueUrl=url, AttributeNames=["QueueArn"])
    except Denied:
        raise
    except AwsRefused as error:
        if "NonExistentQueue" in error.reason or "QueueDoesNotExist" in error.reason:
            raise InvalidInput(f"there is no queue {url}", hint=BRING_UP) from error
        raise


def _image(account: Account, uri: str) -> None:
    if ".dkr.ecr." in uri and not image.is_pushed(account, uri):
        raise InvalidInput(f"there is no image {uri}", hint="Run `cloudbrush aws push`.")
