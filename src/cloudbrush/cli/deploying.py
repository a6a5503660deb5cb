"""What `cloudbrush aws` does, and how it tells."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import typer
from rich.markup import escape
from rich.table import Table

from cloudbrush.aws import bucket, checks, env_file, image, prices, running
from cloudbrush.aws.account import Account
from cloudbrush.aws.stack import Event, Plan, Stack, State
from cloudbrush.cli.console import console, speaking_errors, wide_console
from cloudbrush.domain.errors import CloudbrushError, Conflict, InvalidInput, NotFound
from cloudbrush.settings import Settings

# What the stack gives, by the setting it is written to.
OUTPUTS = {
    "CLOUDBRUSH_AWS_BUCKET": "Bucket",
    "CLOUDBRUSH_AWS_WORKER_ROLE_ARN": "WorkerRoleArn",
    "CLOUDBRUSH_AWS_SUCCESS_TOPIC_ARN": "SuccessTopicArn",
    "CLOUDBRUSH_AWS_ERROR_TOPIC_ARN": "ErrorTopicArn",
    "CLOUDBRUSH_AWS_QUEUE_URL": "QueueUrl",
    "CLOUDBRUSH_AWS_NAME_PREFIX": "NamePrefix",
}

# What whoever runs a control plane needs, by the stack's output.
CONTROL_PLANE = {
    "ControlPlanePolicyArn": "A control plane needs this policy:",
    "ControlPlaneRoleArn": "or may take this role:",
}
STACK_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")  # it names the image repository too


@dataclass(frozen=True)
class Place:
    """Which stack, where, and where its settings are written."""

    name: str
    region: str | None
    env_file: Path

    @cached_property
    def settings(self) -> Settings:
        """The settings as they are now."""
        return Settings(_env_file=self.env_file)

    @cached_property
    def account(self) -> Account:
        """Raises `InvalidInput` without a region, `Unavailable` without boto3."""
        return Account(self.region or self.settings.aws_region)

    @cached_property
    def stack(self) -> Stack:
        """Raises `InvalidInput` for a name that AWS would not take."""
        if len(self.name) > 64 or not STACK_NAME.fullmatch(self.name):
            raise InvalidInput(
                f"{self.name!r} cannot be a stack's name here",
                field="stack",
                hint="Small letters, digits and single hyphens, beginning with a letter, 64 at most.",
            )
        return Stack(self.account, self.name)

    def standing(self) -> State:
        """The stack that is there. Raises `NotFound`."""
        state = self.stack.state()
        if state is None:
            raise NotFound(
                f"there is no stack {self.name} in {self.account.region}",
                hint="`cloudbrush aws up` makes one; --stack and --region choose another.",
            )
        return state


def up(place: Place, parameters: Mapping[str, str], *, yes: bool) -> None:
    """Make or update the stack and write the settings."""
    with speaking_errors():
        stack = place.stack
        _check_budget(parameters, stack.state())
        console.print(f"Account {place.account.id}, region {place.account.region}, stack {place.name}")
        with console.status("Asking CloudFormation what would change ..."):
            plan = stack.plan(parameters)
        if plan is None:
            console.print("Nothing to change.")
        else:
            _carry_out(stack, plan, yes=yes)
        _write_settings(place, place.standing())
        if not place.settings.aws_image_uri:
            console.print("Next: `cloudbrush aws push` builds the workers' image.")


def status(place: Place) -> None:
    """Show stack, settings and running endpoints."""
    with speaking_errors():
        state = place.stack.state()
        if state is None:
            console.print(
                f"There is no stack {place.name} in {place.account.region}: `cloudbrush aws up` makes one."
            )
            return
        console.print(f"The stack {place.name} in {place.account.region} is {state.status}.")
        table = Table(box=None)
        for column in ("setting", "value", "finding"):
            table.add_column(column, no_wrap=True)
        for finding in checks.findings(place.settings):
            table.add_row(finding.setting, escape(finding.value or ""), escape(_said(finding, state)))
        wide_console.print(table)
        for output, what in CONTROL_PLANE.items():
            if output in state.outputs:
                wide_console.print(f"{what} {state.output(output)}")
        _tell_running(_running(place, state))


def down(place: Place, *, delete_bucket_content: bool, yes: bool) -> None:
    """Take the stack down, unless something in it is still wanted."""
    with speaking_errors():
        state = place.standing()
        _check_nothing_runs(_running(place, state))
        name = state.outputs.get("Bucket")
        count, size = bucket.content(place.account, name) if name else (0, 0)
        if count and not delete_bucket_content:
            raise Conflict(
                f"the bucket {name} holds {count} objects ({size / 2**20:.1f} MiB)",
                hint=f"Save them with `aws s3 sync s3://{name} FOLDER`, then give --delete-bucket-content.",
            )
        doomed = f" and {count} objects in {name}" if count else ""
        _ask(f"Delete the stack {place.name} in {place.account.region}{doomed}, for good?", yes=yes)
        if name and count:
            with console.status(f"Emptying {name} ..."):
                bucket.empty(place.account, name)
            console.print(f"{name} is empty")
        _tell(place.stack.delete())
        console.print(f"The stack {place.name} is gone.")
        _forget_settings(place, state)


def push(place: Place, source: Path) -> None:
    """Build and push the image, unless the repository has it, and write its address."""
    with speaking_errors():
        uri = f"{place.standing().output('RepositoryUri')}:{image.tag(source)}"
        if image.is_pushed(place.account, uri):
            console.print(f"{uri} is there already: nothing to build.", soft_wrap=True)
        else:
            image.require_docker()
            console.print(f"Building {uri} ...", soft_wrap=True)
            image.build(source, uri)
            image.push(place.account, uri)
        if env_file.update(place.env_file, {checks.IMAGE_URI: uri}):
            console.print(f"Wrote {checks.IMAGE_URI} to {place.env_file}", soft_wrap=True)


def _check_budget(parameters: Mapping[str, str], now: State | None) -> None:
    wanted = {**(now.parameters if now else {}), **parameters}
    if wanted.get("MonthlyBudgetUsd", "0") != "0" and not wanted.get("BudgetEmail"):
        hint = "Give --budget-email too."
        raise InvalidInput("a budget needs someone to tell", field="budget-email", hint=hint)


def _carry_out(stack: Stack, plan: Plan, *, yes: bool) -> None:
    for change in plan.changes:
        note = " [bold red]is made anew[/]" if change.replaced else ""
        console.print(f"  {change.action:<7} {change.name:<20} {change.kind}{note}", soft_wrap=True)
    try:
        _ask("Carry this out?", yes=yes)
    except (CloudbrushError, typer.Abort):
        stack.discard(plan)
        raise
    _tell(stack.apply(plan))


def _ask(question: str, *, yes: bool) -> None:
    """Go on only with a person's yes. Raises `typer.Abort`, and `InvalidInput` where nobody can be asked."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise InvalidInput(f"nobody is here to be asked: {question}", field="yes", hint="Give --yes.")
    typer.confirm(question, abort=True)


def _tell(events: Iterator[Event]) -> None:
    try:
        for event in events:
            line = f"  {event.status:<36} {event.resource:<20} {event.reason or ''}".rstrip()
            console.print(escape(line), style="red" if event.failed else None, soft_wrap=True)
    except KeyboardInterrupt:
        console.print("CloudFormation goes on without us: `cloudbrush aws status` tells how far it is.")
        raise


def _said(finding: checks.Finding, state: State) -> str:
    """What was found, in a few words; a setting of another stack is no setting of this one."""
    problem = finding.problem
    if problem is not None:
        return f"{problem.detail}. {problem.hint or ''}".rstrip()
    given = state.outputs.get(OUTPUTS.get(finding.setting, ""))
    return "ok" if given in (None, finding.value) else f"is there, but this stack's is {given}"


def _write_settings(place: Place, state: State) -> None:
    found = {setting: state.output(name) for setting, name in OUTPUTS.items()}
    if env_file.update(place.env_file, {"CLOUDBRUSH_AWS_REGION": place.account.region, **found}):
        console.print(f"Wrote the settings to {place.env_file}", soft_wrap=True)


def _forget_settings(place: Place, state: State) -> None:
    """Drop the lines that tell of this stack; those of another one stay."""
    name = state.outputs.get("Bucket")
    if name and env_file.values(place.env_file).get("CLOUDBRUSH_AWS_BUCKET") == name:
        env_file.update(place.env_file, dict.fromkeys(("CLOUDBRUSH_AWS_REGION", checks.IMAGE_URI, *OUTPUTS)))


def _running(place: Place, state: State) -> list[running.Running]:
    if "WorkerRoleArn" not in state.outputs:
        return []  # the stack never came up
    return running.endpoints(place.account, state.output("NamePrefix"), state.output("WorkerRoleArn"))


def _check_nothing_runs(found: list[running.Running]) -> None:
    if found:
        names = ", ".join(endpoint.name for endpoint in found)
        raise Conflict(
            f"these endpoints still run, and cost money: {names}",
            hint="Delete them first: `cloudbrush endpoints list`, then `cloudbrush endpoints delete NAME`.",
        )


def _tell_running(found: list[running.Running]) -> None:
    if not found:
        console.print("No endpoint runs.")
    for endpoint in found:
        price = endpoint.usd_per_hour
        cost = "price not known" if price is None else f"about {price:.2f} USD per hour"
        console.print(
            f"{endpoint.name} is {endpoint.status}: {endpoint.instances} x {endpoint.instance_type}, {cost}",
            soft_wrap=True,
        )
    if found:
        console.print(f"Prices are those of {prices.REGION} in {prices.AS_OF}: check yours.")
