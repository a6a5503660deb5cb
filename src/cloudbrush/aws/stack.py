"""The CloudFormation stack: what it would change, its events as they happen, what it gave."""

from __future__ import annotations

import re
import sysconfig
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

from cloudbrush.aws.account import Account, AwsRefused
from cloudbrush.domain.errors import Conflict, NotFound

PAUSE = 2.0  # seconds between looks; CloudFormation has no way to tell us
CHANGE_SET_LIMIT = 300.0  # seconds CloudFormation may take to compare
STACK_LIMIT = 3600.0  # seconds a stack may take to change
NOTHING_TO_CHANGE = ("didn't contain changes", "No updates are to be performed")
STACK = "AWS::CloudFormation::Stack"
UNFINISHED = "REVIEW_IN_PROGRESS"  # only ever looked at: a change set was made and not carried out
USELESS = frozenset({"ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "CREATE_FAILED", "DELETE_FAILED"})
TAGS = [{"Key": "application", "Value": "cloudbrush"}]


def template() -> str:
    """The template, from the source tree or from where the package was installed."""
    for root in (Path(__file__).parents[3] / "deploy", Path(sysconfig.get_path("data")) / "share/cloudbrush"):
        file = root / "aws" / "template.yaml"
        if file.exists():
            return file.read_text(encoding="utf-8")
    raise NotFound("the CloudFormation template is not installed", hint="Install Cloudbrush again.")


def declared(body: str) -> set[str]:
    """The names of a template's parameters; an older one may have had others."""
    block = body.partition("\nParameters:\n")[2].partition("\nConditions:\n")[0]
    return set(re.findall(r"^  (\w+):$", block, flags=re.MULTILINE))


@dataclass(frozen=True)
class Change:
    """One resource that a plan would touch."""

    action: str  # Add, Modify, Remove
    name: str
    kind: str  # AWS::S3::Bucket and so on
    replaced: bool  # it is made anew, so what is in it does not come along


@dataclass(frozen=True)
class Plan:
    """A change set that is ready to be carried out."""

    id: str
    stack_id: str
    creates: bool
    changes: tuple[Change, ...]


@dataclass(frozen=True)
class Event:
    """Something that happened to one resource."""

    resource: str
    kind: str
    status: str
    reason: str | None

    @property
    def failed(self) -> bool:
        """Whether this is where things went wrong, and not what was called off because of it."""
        return self.status.endswith("_FAILED") and "cancelled" not in (self.reason or "")

    @property
    def at_rest(self) -> bool:
        """Whether nothing more happens to the resource by itself."""
        return not self.status.endswith("_IN_PROGRESS")


@dataclass(frozen=True)
class State:
    """The stack as it is now."""

    id: str
    status: str
    parameters: Mapping[str, str] = field(default_factory=dict)
    outputs: Mapping[str, str] = field(default_factory=dict)

    def output(self, name: str) -> str:
        """What the stack gives under that name. Raises `Conflict` while it does not."""
        if name not in self.outputs:
            raise Conflict(
                f"the stack is {self.status} and gives no {name}",
                hint="`cloudbrush aws up` brings it to its end, or says why not.",
            )
        return self.outputs[name]


class Stack:
    """One stack of one account, by name."""

    def __init__(self, account: Account, name: str) -> None:
        self.name = name
        self._account = account

    def state(self) -> State | None:
        """The stack as it is now; None when there is none."""
        return self._describe(self.name)

    def plan(self, parameters: Mapping[str, str]) -> Plan | None:
        """What would change; None if nothing would. Parameters that are not given keep their values.

        Raises `Conflict` when the stack is being changed or cannot be, `AwsRefused` for a bad parameter.
        """
        now = self.state()
        creates = now is None or now.status == UNFINISHED
        if now and not creates:
            self._check_changeable(now)
        body = template()
        known = {} if creates or now is None else now.parameters
        kept = (known.keys() & declared(body)) - parameters.keys()
        made = self._account.call(
            *("cloudformation", "create_change_set"),
            StackName=self.name,
            ChangeSetName=f"cloudbrush-{uuid4().hex}",
            ChangeSetType="CREATE" if creates else "UPDATE",
            TemplateBody=body,
            Parameters=[
                *({"ParameterKey": name, "ParameterValue": value} for name, value in parameters.items()),
                *({"ParameterKey": name, "UsePreviousValue": True} for name in sorted(kept)),
            ],
            Capabilities=["CAPABILITY_IAM"],
            Tags=TAGS,
        )
        changes = self._compared(made["Id"])
        if changes is None:
            self._account.call("cloudformation", "delete_change_set", ChangeSetName=made["Id"])
            return None
        return Plan(made["Id"], made["StackId"], creates, changes)

    def discard(self, plan: Plan) -> None:
        """Forget a plan; nothing was changed and nothing is left."""
        self._account.call("cloudformation", "delete_change_set", ChangeSetName=plan.id)
        if plan.creates:
            self._account.call("cloudformation", "delete_stack", StackName=plan.stack_id)

    def apply(self, plan: Plan) -> Iterator[Event]:
        """Carry a plan out, telling what happens. Raises `Conflict` with the reasons if it fails."""
        old = {event_id for event_id, _ in self._events(plan.stack_id)}
        self._account.call("cloudformation", "execute_change_set", ChangeSetName=plan.id)
        wanted = "CREATE_COMPLETE" if plan.creates else "UPDATE_COMPLETE"
        yield from self._until(plan.stack_id, wanted, old)

    def delete(self) -> Iterator[Event]:
        """Take the stack down, telling what happens. Raises `NotFound`, `Conflict` with the reasons."""
        now = self.state()
        if now is None:
            raise NotFound(f"there is no stack {self.name} in {self._account.region}")
        old = {event_id for event_id, _ in self._events(now.id)}
        self._account.call("cloudformation", "delete_stack", StackName=now.id)
        yield from self._until(now.id, "DELETE_COMPLETE", old)

    def _check_changeable(self, now: State) -> None:
        if now.status in USELESS:
            raise Conflict(
                f"the stack {self.name} is {now.status} and cannot be changed",
                hint="Take it down with `cloudbrush aws down`, then bring it up again.",
            )
        if now.status.endswith("_IN_PROGRESS"):
            raise Conflict(
                f"the stack {self.name} is {now.status}: it is being changed at this moment",
                hint="Wait until that has ended; `cloudbrush aws status` tells.",
            )

    def _compared(self, change_set: str) -> tuple[Change, ...] | None:
        deadline = time.monotonic() + CHANGE_SET_LIMIT
        while time.monotonic() < deadline:
            pages = list(
                self._account.pages("cloudformation", "describe_change_set", ChangeSetName=change_set)
            )
            status, reason = pages[0]["Status"], pages[0].get("StatusReason", "")
            if status == "CREATE_COMPLETE":
                return tuple(_change(entry["ResourceChange"]) for page in pages for entry in page["Changes"])
            if status == "FAILED":
                if any(words in reason for words in NOTHING_TO_CHANGE):
                    return None
                raise Conflict(f"CloudFormation cannot make this change: {reason}")
            time.sleep(PAUSE)
        raise Conflict("CloudFormation took too long to compare", hint="Try again.")

    def _until(self, stack_id: str, wanted: str, seen: set[str]) -> Iterator[Event]:
        """New events, oldest first, until one says that the stack is at rest.

        Its status would not do: it may still be that of the change before.
        """
        failures: list[Event] = []
        deadline = time.monotonic() + STACK_LIMIT
        while time.monotonic() < deadline:
            for event_id, event in reversed(self._events(stack_id)):
                if event_id in seen:
                    continue
                seen.add(event_id)
                failures += [event] if event.failed else []
                yield event
                if event.kind == STACK and event.resource == self.name and event.at_rest:
                    if event.status != wanted:
                        raise Conflict(_reasons(self.name, event.status, failures))
                    return
            time.sleep(PAUSE)
        raise Conflict(f"the stack {self.name} did not come to rest", hint="Look at it in the AWS console.")

    def _events(self, stack_id: str) -> list[tuple[str, Event]]:
        """Ids and events, newest first."""
        return [
            (entry["EventId"], _event(entry))
            for page in self._account.pages("cloudformation", "describe_stack_events", StackName=stack_id)
            for entry in page["StackEvents"]
        ]

    def _describe(self, name: str) -> State | None:
        try:
            found = self._account.call("cloudformation", "describe_stacks", StackName=name)["Stacks"][0]
        except AwsRefused as error:
            if error.reason == "ValidationError" and "does not exist" in error.detail:
                return None
            raise
        return State(
            found["StackId"],
            found["StackStatus"],
            {entry["ParameterKey"]: entry["ParameterValue"] for entry in found.get("Parameters", ())},
            {entry["OutputKey"]: entry["OutputValue"] for entry in found.get("Outputs", ())},
        )


def _change(entry: dict[str, Any]) -> Change:
    replaced = entry.get("Replacement") in ("True", "Conditional")
    return Change(entry["Action"], entry["LogicalResourceId"], entry["ResourceType"], replaced)


def _event(entry: dict[str, Any]) -> Event:
    return Event(
        entry["LogicalResourceId"],
        entry["ResourceType"],
        entry["ResourceStatus"],
        entry.get("ResourceStatusReason"),
    )


def _reasons(name: str, status: str, failures: list[Event]) -> str:
    told = "; ".join(f"{event.resource} ({event.kind}): {event.reason}" for event in failures if event.reason)
    return f"the stack {name} ended as {status}. {told or 'CloudFormation gives no reason'}"
