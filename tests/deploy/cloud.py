"""A moto server as a process of its own, which is what the tests call AWS.

Its CloudFormation does change sets in part only. This mends, inside the server, what would hide our mistakes,
as the CloudFormation User Guide says: a change set lists what parameters change too, and fails when there is
nothing to change; it is carried out while the caller looks on, tells of each resource, keeps its parameters
and gives outputs; one whose resource cannot be made is rolled back; a bucket with something in it is not
deleted. SNS subscriptions, which moto leaves out, are made.

Run as `python -m tests.deploy.cloud PORT HELD`: a resource whose name is a file in the folder HELD is not
made before the file is gone.
"""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path
from typing import Any

import yaml
from moto.cloudformation import models, parsing, responses
from moto.s3.models import s3_backends
from moto.s3.responses import ACTION_MAP
from moto.server import main
from moto.sns.models import sns_backends
from moto.utilities.utils import get_partition

HOLD_LIMIT = 60.0  # seconds
SUBSCRIPTION = "AWS::SNS::Subscription"
make_resource = parsing.parse_and_create_resource
make_change_set = models.CloudFormationBackend.create_change_set
delete_stack = models.CloudFormationBackend.delete_stack


class Recorder:
    """Makes resources, and tells the stack they belong to of each."""

    def __init__(self, held: Path) -> None:
        self._held = held
        self._stacks: dict[str, models.Stack] = {}
        self._failed: str | None = None

    def follow(self, stack: models.Stack) -> None:
        """From now on the stack is told."""
        self._stacks[stack.stack_id] = stack

    def __call__(
        self, name: str, definition: dict[str, Any], resources: Any, *others: Any, **more: Any
    ) -> Any:
        """In place of moto's `parse_and_create_resource`."""
        stack = self._stacks.get(resources.stack_id)
        kind = definition["Type"]
        condition = definition.get("Condition")
        if stack is None or (condition and not resources.lazy_condition_map[condition]):
            return make_resource(name, definition, resources, *others, **more)
        tell(stack, name, kind, "CREATE_IN_PROGRESS")
        self._wait(name)
        try:
            if kind == SUBSCRIPTION:
                subscribe(stack, parsing.clean_json(definition, resources)["Properties"])
            made = make_resource(name, definition, resources, *others, **more)
        except Exception as error:
            if self._failed is None:  # the innermost: what failed itself, not what needed it
                self._failed = name
                tell(stack, name, kind, "CREATE_FAILED", getattr(error, "message", None) or str(error))
            raise
        tell(stack, name, kind, "CREATE_COMPLETE")
        return made

    def leave(self, stack: models.Stack) -> None:
        """The change is over, and its failure with it."""
        self._stacks.pop(stack.stack_id)
        self._failed = None

    def _wait(self, name: str) -> None:
        deadline = time.monotonic() + HOLD_LIMIT
        while (self._held / name).exists() and time.monotonic() < deadline:
            time.sleep(0.02)  # a file that another process takes away


def tell(stack: models.Stack, name: str, kind: str, status: str, reason: str | None = None) -> None:
    """One event of a resource."""
    event = models.Event(stack.stack_id, stack.name, name, name, kind, status, reason, None)
    stack.events.append(event)


def subscribe(stack: models.Stack, properties: dict[str, str]) -> None:
    """Make a subscription."""
    backend = sns_backends[stack.account_id][stack.region_name]
    backend.subscribe(properties["TopicArn"], properties["Endpoint"], properties["Protocol"])


def settle(stack: models.Stack, status: str, reason: str | None = None) -> None:
    """Give the stack a status and tell of it."""
    stack.status = status
    stack._add_stack_event(status, resource_status_reason=reason)


def parsed(template: str) -> dict[str, Any]:
    """A template as moto reads it, with a constructor for the short forms of functions."""
    read: dict[str, Any] = yaml.load(template, Loader=yaml.Loader)
    return read


def diff(change_set: models.ChangeSet) -> list[models.Change]:
    """In place of moto's `ChangeSet.diff`, which forgets parameters, and sees changes that it made itself."""
    stack = change_set.stack
    before = parsed(stack.template) if stack.template else {"Resources": {}}
    old, new = before["Resources"], change_set.template_dict["Resources"]
    names = change_set.template_dict.get("Parameters", {})
    defaults = {name: str(entry.get("Default", "")) for name, entry in names.items()}
    now = {**defaults, **change_set.parameters}
    was = {**defaults, **stack.parameters}
    changed = {name for name in names if now[name] != was[name]}

    def differs(name: str) -> bool:
        return bool(old[name] != new[name] or changed & set(parsing.get_references_from_template(new[name])))

    return [
        *(models.Change("Add", name, new[name]["Type"]) for name in new if name not in old),
        *(models.Change("Modify", name, new[name]["Type"]) for name in new if name in old and differs(name)),
        *(models.Change("Remove", name, old[name]["Type"]) for name in old if name not in new),
    ]


def parameters_in_force(stack: models.Stack) -> dict[str, str]:
    """In place of moto's `stack_parameters`, which takes lists apart and forgets to forget."""
    names = (parsed(stack.template) if stack.template else {}).get("Parameters", {})
    return {name: str(stack.parameters.get(name, entry.get("Default", ""))) for name, entry in names.items()}


def create_change_set(self: models.CloudFormationBackend, **wanted: Any) -> tuple[str, str]:
    """In place of moto's own; a stack that was only looked at is looked at again."""
    if wanted["change_set_type"] == "CREATE":
        for stack in list(self.stacks.values()):
            if stack.name == wanted["stack_name"] and stack.status == "REVIEW_IN_PROGRESS":
                del self.stacks[stack.stack_id]
    change_set_id, stack_id = make_change_set(self, **wanted)
    change_set = self.change_sets[change_set_id]
    if not change_set.changes:
        change_set.status, change_set.execution_status = "FAILED", "UNAVAILABLE"
        change_set.status_reason = (
            "The submitted information didn't contain changes. "
            "Submit different information to create a change set."
        )
    return change_set_id, stack_id


def execute(self: models.CloudFormationBackend, change_set_name: str, stack_name: str | None = None) -> None:
    """In place of moto's `execute_change_set`."""
    change_set = self.describe_change_set(change_set_name)
    assert change_set is not None
    settle(change_set.stack, f"{change_set.change_set_type}_IN_PROGRESS", "User Initiated")
    threading.Thread(target=carry_out, args=(change_set,), daemon=True).start()


def carry_out(change_set: models.ChangeSet) -> None:
    """Make the changes and tell of them."""
    stack, kind = change_set.stack, change_set.change_set_type
    recorder.follow(stack)
    if stack.template:  # moto added to its copy, and would see that as a change
        stack.resource_map._resource_json_map = parsed(stack.template)["Resources"]
    try:
        change_set.apply()
    except Exception:
        back = "ROLLBACK" if kind == "CREATE" else "UPDATE_ROLLBACK"
        settle(stack, f"{back}_IN_PROGRESS", "The following resource(s) failed to create.")
        if kind == "CREATE":
            stack.resource_map.delete()
        settle(stack, f"{back}_COMPLETE")
        return
    finally:
        recorder.leave(stack)
    stack.template = change_set.template
    stack._parse_template()
    stack.parameters = change_set.parameters
    stack.output_map = stack._create_output_map()
    settle(stack, f"{kind}_COMPLETE")


def delete(self: models.CloudFormationBackend, name_or_stack_id: str) -> None:
    """In place of moto's `delete_stack`."""
    stack = self.get_stack(name_or_stack_id)
    buckets = s3_backends[stack.account_id][get_partition(stack.region_name)].buckets
    for resource in list(stack.resource_map._parsed_resources.values()):
        bucket = buckets.get(getattr(resource, "name", ""))
        if bucket is not None and list(bucket.keys):
            settle(stack, "DELETE_IN_PROGRESS", "User Initiated")
            reason = "The bucket you tried to delete is not empty"
            tell(stack, resource.logical_resource_id, "AWS::S3::Bucket", "DELETE_FAILED", reason)
            settle(stack, "DELETE_FAILED", "The following resource(s) failed to delete.")
            return
    delete_stack(self, name_or_stack_id)


if __name__ == "__main__":
    recorder = Recorder(Path(sys.argv[2]))
    parsing.parse_and_create_resource = recorder
    models.Stack.stack_parameters = property(parameters_in_force)  # type: ignore[assignment]
    models.Stack.parameter_list = property(  # type: ignore[assignment]
        lambda stack: [
            {"ParameterKey": name, "ParameterValue": value} for name, value in stack.stack_parameters.items()
        ]
    )
    models.ChangeSet.diff = diff  # type: ignore[method-assign]
    models.CloudFormationBackend.create_change_set = create_change_set  # type: ignore[method-assign]
    models.CloudFormationBackend.execute_change_set = execute  # type: ignore[method-assign]
    models.CloudFormationBackend.delete_stack = delete  # type: ignore[method-assign]
    # It refuses at once what CloudFormation answers with a change set that failed.
    responses.CloudFormationResponse._validate_different_update = lambda *_: None  # type: ignore[method-assign]
    ACTION_MAP["BUCKET"]["HEAD"]["DEFAULT"] = "ListBucket"  # HeadBucket, Amazon S3 API Reference
    main(["-H", "127.0.0.1", "-p", sys.argv[1]])
