"""`cloudbrush aws up` and `status`: what the account has afterwards, and what a person is told."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cloudbrush.aws import env_file
from cloudbrush.aws import stack as stack_module
from cloudbrush.aws.account import Account
from cloudbrush.settings import Settings
from tests.deploy.commands import run, up
from tests.deploy.conftest import REGION

pytestmark = pytest.mark.usefixtures("cloud")


def test_the_settings_are_those_of_what_was_made(account: Account, tmp_path: Path) -> None:
    up()
    settings = Settings()
    assert settings.aws_region == REGION
    account.call("s3", "head_bucket", Bucket=settings.aws_bucket)
    roles = {role["Arn"] for role in account.call("iam", "list_roles")["Roles"]}
    assert settings.aws_worker_role_arn in roles
    topics = {topic["TopicArn"] for topic in account.call("sns", "list_topics")["Topics"]}
    assert {settings.aws_success_topic_arn, settings.aws_error_topic_arn} == topics
    assert (tmp_path / ".env").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("setting", ["aws_success_topic_arn", "aws_error_topic_arn"])
def test_what_is_announced_on_either_topic_is_heard_in_the_queue(account: Account, setting: str) -> None:
    up()
    settings = Settings()
    account.call("sns", "publish", TopicArn=getattr(settings, setting), Message="it is done")
    answer = account.call("sqs", "receive_message", QueueUrl=settings.aws_queue_url)
    assert [json.loads(message["Body"])["Message"] for message in answer["Messages"]] == ["it is done"]


def test_a_change_is_shown_before_it_is_asked_for_and_nothing_happens_without_a_yes(account: Account) -> None:
    said = run("up", "--region", REGION)
    assert said.status == 1
    assert "Add     Bucket               AWS::S3::Bucket" in said.text
    assert "Give --yes." in said.text
    assert account.call("s3", "list_buckets")["Buckets"] == []
    assert account.call("cloudformation", "describe_stacks")["Stacks"] == []
    assert not Path(".env").exists()


def test_an_up_that_was_killed_while_it_asked_is_taken_up_again(account: Account) -> None:
    assert stack_module.Stack(account, "cloudbrush").plan({}) is not None
    assert "is REVIEW_IN_PROGRESS" in run("status", "--region", REGION).text
    up()
    (stack,) = account.call("cloudformation", "describe_stacks")["Stacks"]
    assert stack["StackStatus"] == "CREATE_COMPLETE"


def test_a_stack_that_is_being_changed_is_left_alone(account: Account, held: Path) -> None:
    stack = stack_module.Stack(account, "cloudbrush")
    plan = stack.plan({})
    assert plan is not None
    (held / "Bucket").touch()
    events = stack.apply(plan)
    try:
        assert next(events).status == "CREATE_IN_PROGRESS"
        said = run("up", "--yes", "--region", REGION)
        assert said.status == 1
        assert "is being changed at this moment" in said.text
    finally:
        (held / "Bucket").unlink()
    assert [event.status for event in events][-1] == "CREATE_COMPLETE"


def test_every_event_is_shown_with_its_end(account: Account) -> None:
    said = up()
    for resource in ("Bucket", "SuccessTopic", "ErrorTopic", "Queue", "WorkerRole", "ControlPlaneRole"):
        assert f"CREATE_COMPLETE                      {resource}\n" in said.text
    assert "CREATE_COMPLETE                      cloudbrush\n" in said.text


def test_events_are_shown_while_the_stack_is_being_made(account: Account, held: Path) -> None:
    (held / "WorkerRole").touch()
    command = [sys.executable, "-m", "cloudbrush", "aws", "up", "--yes", "--region", REGION]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ) as going:
        try:
            assert going.stdout is not None
            seen = next(
                line for line in going.stdout if "CREATE_IN_PROGRESS" in line and "WorkerRole" in line
            )
            assert seen
            (stack,) = account.call("cloudformation", "describe_stacks", StackName="cloudbrush")["Stacks"]
            assert stack["StackStatus"] == "CREATE_IN_PROGRESS"
        finally:
            (held / "WorkerRole").unlink()
        rest = going.stdout.read()
    assert going.returncode == 0, rest
    assert "CREATE_COMPLETE                      cloudbrush\n" in rest


def test_doing_it_again_changes_nothing() -> None:
    up()
    before = Path(".env").read_text()
    said = up()
    assert "Nothing to change." in said.text
    assert Path(".env").read_text() == before


def test_lost_settings_are_written_again_by_the_next_up() -> None:
    up()
    before = env_file.values(Path(".env"))
    Path(".env").unlink()
    up()
    assert env_file.values(Path(".env")) == before


def test_an_update_changes_what_is_asked_for_and_keeps_the_rest(account: Account) -> None:
    up("--temporary-days", "7", "--origin", "https://studio.example.org")
    bucket = Settings().aws_bucket
    said = up("--temporary-days", "9")
    assert "Modify  Bucket               AWS::S3::Bucket" in said.text
    assert "UPDATE_COMPLETE" in said.text
    (stack,) = account.call("cloudformation", "describe_stacks", StackName="cloudbrush")["Stacks"]
    values = {entry["ParameterKey"]: entry["ParameterValue"] for entry in stack["Parameters"]}
    assert values["TemporaryDays"] == "9"
    assert values["AllowedOrigins"] == "https://studio.example.org"
    assert Settings().aws_bucket == bucket


def test_an_older_stack_is_brought_up_to_date(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    today = stack_module.template()
    older = today.replace("  Repository:\n", "  OldRepository:\n").replace("Repository.", "OldRepository.")
    older = older.replace(
        "\nConditions:\n", "\n  Forgotten:\n    Type: String\n    Default: x\n\nConditions:\n"
    )
    with monkeypatch.context() as then:
        then.setattr(stack_module, "template", lambda: older)
        up()
    said = up()
    assert "Add     Repository           AWS::ECR::Repository" in said.text
    assert "Remove  OldRepository        AWS::ECR::Repository" in said.text
    (stack,) = account.call("cloudformation", "describe_stacks", StackName="cloudbrush")["Stacks"]
    assert "Forgotten" not in {entry["ParameterKey"] for entry in stack["Parameters"]}


def test_a_stack_that_fails_tells_which_resource_and_why_and_what_to_do_next(account: Account) -> None:
    account.call("ecr", "create_repository", repositoryName="cloudbrush")
    said = run("up", "--yes", "--region", REGION)
    assert said.status == 1
    assert "ROLLBACK_COMPLETE" in said.text
    assert "Repository (AWS::ECR::Repository): The repository with name 'cloudbrush'" in said.text
    assert not Path(".env").exists()
    again = run("up", "--yes", "--region", REGION)
    assert again.status == 1
    assert "cloudbrush aws down" in again.text


def test_a_budget_needs_someone_to_tell() -> None:
    said = run("up", "--yes", "--region", REGION, "--budget", "100")
    assert said.status == 1
    assert "budget-email" in said.text
    up("--budget", "100", "--budget-email", "me@example.org")
    up("--budget", "200")  # the address is kept


@pytest.mark.parametrize("name", ["Big", "9lives", "under_score", "two--hyphens", "a" * 65])
def test_a_name_that_aws_would_not_take_is_refused(name: str) -> None:
    said = run("up", "--yes", "--region", REGION, "--stack", name)
    assert said.status == 1
    assert "stack:" in said.text


def test_without_a_region_it_says_how_to_choose_one() -> None:
    said = run("up", "--yes")
    assert said.status == 1
    assert "CLOUDBRUSH_AWS_REGION" in said.text


def test_the_region_may_be_boto3s_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    said = run("status")
    assert "There is no stack cloudbrush in eu-west-1" in said.text


def test_two_stacks_live_beside_each_other() -> None:
    up()
    first = Settings().aws_bucket
    up("--stack", "other")
    assert Settings().aws_bucket != first


def test_status_finds_everything_as_it_was_made(account: Account) -> None:
    up()
    said = run("status")
    assert "The stack cloudbrush in eu-central-1 is CREATE_COMPLETE." in said.text
    lines = {line.split()[0]: line for line in said.text.splitlines() if line.startswith(" CLOUDBRUSH_")}
    bad = {name for name, line in lines.items() if not line.rstrip().endswith("ok")}
    assert bad == {"CLOUDBRUSH_AWS_IMAGE_URI"}
    assert "cloudbrush aws push" in lines["CLOUDBRUSH_AWS_IMAGE_URI"]
    assert "No endpoint runs." in said.text
    policies = [policy["Arn"] for policy in account.call("iam", "list_policies", Scope="Local")["Policies"]]
    assert [f"A control plane needs this policy: {arn}" in said.text for arn in policies] == [True]


def test_status_tells_of_settings_that_are_another_stacks() -> None:
    up()
    mine = Settings().aws_bucket
    up("--stack", "other")
    said = run("status")
    assert f"is there, but this stack's is {mine}" in said.text


def test_status_without_a_stack_says_how_to_make_one() -> None:
    said = run("status", "--region", REGION)
    assert said.status == 0
    assert "`cloudbrush aws up` makes one" in said.text
