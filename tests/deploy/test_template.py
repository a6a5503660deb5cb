"""What the CloudFormation template promises, read from the template itself."""

from __future__ import annotations

import json
import subprocess
import sys
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
from cfnlint.decode import cfn_yaml

from cloudbrush.aws import stack

FILE = Path(__file__).parents[2] / "deploy/aws/template.yaml"
SUBSTITUTED = {
    "AWS::Partition": "aws",
    "AWS::Region": "eu-central-1",
    "AWS::AccountId": "123456789012",
    "NamePrefix": "cloudbrush",
    "Bucket.Arn": "arn:aws:s3:::bucket",
    "Bucket": "bucket",
}


@pytest.fixture(scope="module")
def template() -> dict[str, Any]:
    read: dict[str, Any] = cfn_yaml.load(str(FILE))
    return read


def properties(template: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = template["Resources"][name]["Properties"]
    return found


def resolved(value: Any) -> Any:
    """The value with its references replaced: known ones by what they mean, others by `<Queue.Arn>`."""
    if isinstance(value, list):
        return [resolved(item) for item in value]
    if isinstance(value, dict):
        if set(value) == {"Ref"}:
            return SUBSTITUTED.get(value["Ref"], f"<{value['Ref']}>")
        if set(value) == {"Fn::GetAtt"}:
            name = ".".join(value["Fn::GetAtt"])
            return SUBSTITUTED.get(name, f"<{name}>")
        if set(value) == {"Fn::Sub"}:
            text = value["Fn::Sub"]
            for name, meaning in SUBSTITUTED.items():
                text = text.replace(f"${{{name}}}", meaning)
            return text
        return {key: resolved(item) for key, item in value.items()}
    return value


def statements(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [resolved(statement) for statement in document["Statement"]]


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def may(allowed: list[dict[str, Any]], action: str, resource: str) -> bool:
    """Whether IAM would allow it; conditions are looked at elsewhere."""
    return any(
        statement["Effect"] == "Allow"
        and any(fnmatchcase(action, pattern) for pattern in listed(statement["Action"]))
        and any(fnmatchcase(resource, pattern) for pattern in listed(statement["Resource"]))
        for statement in allowed
    )


@pytest.fixture(scope="module")
def worker(template: dict[str, Any]) -> list[dict[str, Any]]:
    (policy,) = properties(template, "WorkerRole")["Policies"]
    return statements(policy["PolicyDocument"])


@pytest.fixture(scope="module")
def control(template: dict[str, Any]) -> list[dict[str, Any]]:
    return statements(properties(template, "ControlPlanePolicy")["PolicyDocument"])


def test_cfn_lint_has_nothing_to_say() -> None:
    command = [str(Path(sys.executable).parent / "cfn-lint"), "--include-checks", "I", "--", str(FILE)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_command_uses_this_template() -> None:
    assert stack.template() == FILE.read_text(encoding="utf-8")


def test_it_is_small_enough_to_be_sent_along() -> None:
    assert FILE.stat().st_size <= 51_200  # bytes of a TemplateBody, CloudFormation quotas


def test_its_parameters_are_found_without_reading_yaml(template: dict[str, Any]) -> None:
    assert stack.declared(FILE.read_text(encoding="utf-8")) == set(template["Parameters"])


def test_nobody_reaches_the_bucket_from_outside(template: dict[str, Any]) -> None:
    bucket = properties(template, "Bucket")
    assert bucket["PublicAccessBlockConfiguration"] == dict.fromkeys(
        ("BlockPublicAcls", "BlockPublicPolicy", "IgnorePublicAcls", "RestrictPublicBuckets"), True
    )
    assert bucket["OwnershipControls"]["Rules"] == [{"ObjectOwnership": "BucketOwnerEnforced"}]
    (plain,) = statements(properties(template, "BucketPolicy")["PolicyDocument"])
    assert (plain["Effect"], plain["Principal"], plain["Action"]) == ("Deny", "*", "s3:*")
    assert plain["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
    assert plain["Resource"] == ["arn:aws:s3:::bucket", "arn:aws:s3:::bucket/*"]


def test_everything_at_rest_is_encrypted(template: dict[str, Any]) -> None:
    (rule,) = properties(template, "Bucket")["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert rule["ServerSideEncryptionByDefault"]["SSEAlgorithm"] in ("AES256", "aws:kms")
    for queue in ("Queue", "DeadLetters"):
        assert properties(template, queue)["SqsManagedSseEnabled"] is True


def test_temporary_objects_and_unfinished_uploads_expire_and_nothing_else(template: dict[str, Any]) -> None:
    rules = properties(template, "Bucket")["LifecycleConfiguration"]["Rules"]
    assert all(rule["Status"] == "Enabled" for rule in rules)
    expiring = {rule.get("Prefix"): rule["ExpirationInDays"] for rule in rules if "ExpirationInDays" in rule}
    assert expiring == {"temporary/": {"Ref": "TemporaryDays"}}
    aborting = [rule for rule in rules if "AbortIncompleteMultipartUpload" in rule]
    assert [rule["AbortIncompleteMultipartUpload"]["DaysAfterInitiation"] for rule in aborting] == [1]
    assert all("Prefix" not in rule for rule in aborting)


def test_browsers_may_upload_from_the_studio_only(template: dict[str, Any]) -> None:
    (rule,) = properties(template, "Bucket")["CorsConfiguration"]["CorsRules"]
    assert rule["AllowedOrigins"] == {"Ref": "AllowedOrigins"}
    assert set(rule["AllowedMethods"]) == {"GET", "HEAD", "PUT"}
    assert "ETag" in rule["ExposedHeaders"]  # a multipart upload needs it of every part
    assert "*" not in template["Parameters"]["AllowedOrigins"]["Default"]


def test_both_topics_lead_to_one_queue_and_nothing_else_does(template: dict[str, Any]) -> None:
    subscriptions = [
        resolved(resource["Properties"])
        for resource in template["Resources"].values()
        if resource["Type"] == "AWS::SNS::Subscription"
    ]
    assert {entry["TopicArn"] for entry in subscriptions} == {"<SuccessTopic>", "<ErrorTopic>"}
    assert {(entry["Protocol"], entry["Endpoint"]) for entry in subscriptions} == {("sqs", "<Queue.Arn>")}
    (sending,) = statements(properties(template, "QueuePolicy")["PolicyDocument"])
    assert sending["Action"] == "sqs:SendMessage"
    assert sending["Principal"] == {"Service": "sns.amazonaws.com"}
    assert sending["Condition"] == {"ArnEquals": {"aws:SourceArn": ["<SuccessTopic>", "<ErrorTopic>"]}}


def test_a_message_nobody_can_read_is_kept_aside(template: dict[str, Any]) -> None:
    redrive = resolved(properties(template, "Queue")["RedrivePolicy"])
    assert redrive["deadLetterTargetArn"] == "<DeadLetters.Arn>"
    kept = properties(template, "DeadLetters")["MessageRetentionPeriod"]
    # A message keeps its age when it is moved, so the second queue must keep longer (SQS Developer Guide).
    assert kept > properties(template, "Queue")["MessageRetentionPeriod"]


def test_the_queue_is_polled_long(template: dict[str, Any]) -> None:
    assert properties(template, "Queue")["ReceiveMessageWaitTimeSeconds"] == 20  # the most SQS allows


@pytest.mark.parametrize(
    ("action", "key", "allowed"),
    [
        ("s3:GetObject", "models/ab.safetensors", True),
        ("s3:GetObject", "pictures/ab", True),
        ("s3:GetObject", "temporary/job/1/input.json", True),
        ("s3:PutObject", "temporary/job/1/progress.json", True),
        ("s3:PutObject", "jobs/job/1/0.png", True),
        ("s3:PutObject", "models/ab.safetensors", False),
        ("s3:PutObject", "pictures/ab", False),
        ("s3:DeleteObject", "jobs/job/1/0.png", False),
        ("s3:DeleteObject", "models/ab.safetensors", False),
        ("s3:GetObject", "elsewhere", False),
    ],
)
def test_what_a_worker_may_do_with_objects(
    worker: list[dict[str, Any]], action: str, key: str, allowed: bool
) -> None:
    assert may(worker, action, f"arn:aws:s3:::bucket/{key}") is allowed


def test_a_worker_reaches_no_other_bucket_and_no_account(worker: list[dict[str, Any]]) -> None:
    assert not may(worker, "s3:GetObject", "arn:aws:s3:::another/models/ab")
    for action in ("iam:PassRole", "sts:AssumeRole", "sagemaker:CreateEndpoint", "sqs:ReceiveMessage"):
        assert not may(worker, action, "arn:aws:iam::123456789012:role/any")


def test_sagemaker_can_do_with_the_workers_role_what_its_guide_asks_for(worker: list[dict[str, Any]]) -> None:
    # "SageMaker AI Roles", CreateModel API; and "Asynchronous inference: complete the prerequisites".
    for action in ("ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"):
        assert may(worker, action, "<Repository.Arn>")
    group = "arn:aws:logs:eu-central-1:123456789012:log-group:/aws/sagemaker/Endpoints/cloudbrush-studio"
    for action in ("CreateLogGroup", "CreateLogStream", "DescribeLogStreams", "PutLogEvents"):
        assert may(worker, f"logs:{action}", f"{group}:log-stream:x")
    for topic in ("<SuccessTopic>", "<ErrorTopic>"):
        assert may(worker, "sns:Publish", topic)
    assert may(worker, "ecr:GetAuthorizationToken", "*")
    assert may(worker, "cloudwatch:PutMetricData", "*")


@pytest.mark.parametrize(
    ("action", "resource", "allowed"),
    [
        ("sagemaker:CreateEndpoint", "sagemaker:eu-central-1:123456789012:endpoint/cloudbrush-studio", True),
        ("sagemaker:InvokeEndpointAsync", "sagemaker:eu-central-1:123456789012:endpoint/cloudbrush-x", True),
        ("sagemaker:DeleteModel", "sagemaker:eu-central-1:123456789012:model/cloudbrush-studio", True),
        ("sagemaker:DeleteEndpoint", "sagemaker:eu-central-1:123456789012:endpoint/production", False),
        ("sagemaker:DeleteEndpoint", "sagemaker:us-east-1:123456789012:endpoint/cloudbrush-x", False),
        ("sagemaker:CreateTrainingJob", "sagemaker:eu-central-1:123456789012:training-job/cloudbrush", False),
        ("s3:DeleteBucket", "s3:::bucket", False),
        ("iam:PassRole", "iam::123456789012:role/admin", False),
    ],
)
def test_what_the_control_plane_may_do(
    control: list[dict[str, Any]], action: str, resource: str, allowed: bool
) -> None:
    assert may(control, action, f"arn:aws:{resource}") is allowed


def test_the_workers_role_is_lent_to_sagemaker_only(control: list[dict[str, Any]]) -> None:
    (lending,) = (statement for statement in control if "iam:PassRole" in listed(statement["Action"]))
    assert lending["Resource"] == "<WorkerRole.Arn>"
    assert lending["Condition"] == {"StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}}


# Actions without resource types in the Service Authorization Reference: "*" is all IAM takes for them.
WITHOUT_RESOURCES = {
    "application-autoscaling:DescribeScalableTargets",
    "application-autoscaling:DescribeScalingPolicies",
    "cloudwatch:PutMetricData",
    "ecr:GetAuthorizationToken",
    "sagemaker:ListEndpoints",
}


def test_no_right_is_wider_than_iam_makes_it(
    worker: list[dict[str, Any]], control: list[dict[str, Any]]
) -> None:
    for statement in (*worker, *control):
        assert not [action for action in listed(statement["Action"]) if "*" in action]
        if "*" in listed(statement["Resource"]):
            assert set(listed(statement["Action"])) <= WITHOUT_RESOURCES


def test_who_may_take_the_roles(template: dict[str, Any]) -> None:
    (worker,) = statements(properties(template, "WorkerRole")["AssumeRolePolicyDocument"])
    assert worker["Principal"] == {"Service": "sagemaker.amazonaws.com"}
    (control,) = statements(properties(template, "ControlPlaneRole")["AssumeRolePolicyDocument"])
    assert control["Principal"] == {"AWS": "arn:aws:iam::123456789012:root"}


def test_images_are_scanned_cannot_be_replaced_and_old_ones_go(template: dict[str, Any]) -> None:
    repository = properties(template, "Repository")
    assert repository["ImageTagMutability"] == "IMMUTABLE"
    assert repository["ImageScanningConfiguration"] == {"ScanOnPush": True}
    (rule,) = json.loads(repository["LifecyclePolicy"]["LifecyclePolicyText"])["rules"]
    assert rule["action"] == {"type": "expire"}


def test_a_budget_is_there_only_for_one_who_asks(template: dict[str, Any]) -> None:
    budget = template["Resources"]["Budget"]
    assert budget["Condition"] == "HasBudget"
    assert template["Parameters"]["MonthlyBudgetUsd"]["Default"] == 0
    assert budget["Properties"]["Budget"]["CostFilters"] == {"Service": ["Amazon SageMaker"]}
    addresses = [
        subscriber["Address"]
        for notification in budget["Properties"]["NotificationsWithSubscribers"]
        for subscriber in notification["Subscribers"]
    ]
    assert addresses
    assert all(address == {"Ref": "BudgetEmail"} for address in addresses)


def test_nothing_in_it_has_a_name_that_two_stacks_would_fight_over(template: dict[str, Any]) -> None:
    for name, resource in template["Resources"].items():
        fixed = {
            key: value
            for key, value in resource.get("Properties", {}).items()
            if key
            in ("BucketName", "TopicName", "QueueName", "RoleName", "ManagedPolicyName", "RepositoryName")
        }
        assert set(map(str, fixed.values())) <= {"{'Ref': 'AWS::StackName'}"}, name
