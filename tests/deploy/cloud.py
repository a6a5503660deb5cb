"""A moto server as a process of its own, which is what the tests call AWS.

Its CloudFormation does change sets in part only. This corrects, in the server, what would hide our mistakes: a change
set that was carried out gives outputs, keeps its parameters, tells of each resource, and one whose resource cannot
be made fails and rolls back, as AWS says. Run as `python -m tests.deploy.cloud PORT`.
"""

from __future__ import annotations

import sys
from typing import Any

from moto.cloudformation import models, parsing
from moto.server import main


class Recorder:
    """Tells the stack of every resource that is made."""

    def __init__(self) -> None:
        self._make = parsing.parse_and_create_resource
        self._stack: Any = None
        self.last = ("", "")

    def follow(self, stack: Any) -> None:
        """From now on resources belong to this stack."""
        self._stack = stack

    def __call__(self, name: str, definition: dict[str, Any], *others: Any, **options: Any) -> Any:
        """In place of moto's `parse_and_create_resource`."""
        self.last = (name, definition["Type"])
        self.tell("CREATE_IN_PROGRESS")
        made = self._make(name, definition, *others, **options)
        self.tell("CREATE_COMPLETE")
        return made

    def tell(self, status: str, reason: str | None = None) -> None:
        """One event of the resource at hand."""
        if self._stack is not None:
            event = models.Event(
                stack_id=self._stack.stack_id,
                stack_name=self._stack.name,
                logical_resource_id=self.last[0],
                physical_resource_id=self.last[0],
                resource_type=self.last[1],
                resource_status=status,
                resource_status_reason=reason,
                resource_properties=None,
            )
            self._stack.events.append(event)


recorder = Recorder()


def execute(self: models.CloudFormationBackend, change_set_name: str, stack_name: str | None = None) -> None:
    """In place of moto's `execute_change_set`."""
    change_set = self.describe_change_set(change_set_name)
    assert change_set is not None
    stack, kind = change_set.stack, change_set.change_set_type
    stack._add_stack_event(f"{kind}_IN_PROGRESS", resource_status_reason="User Initiated")
    recorder.follow(stack)
    try:
        change_set.apply()
    except Exception as error:  # whatever a service says is the resource's reason
        recorder.tell("CREATE_FAILED", getattr(error, "message", None) or str(error))
        back = "ROLLBACK" if kind == "CREATE" else "UPDATE_ROLLBACK"
        stack._add_stack_event(f"{back}_IN_PROGRESS", resource_status_reason="Rollback requested by user.")
        stack._add_stack_event(f"{back}_COMPLETE")
        stack.status = f"{back}_COMPLETE"
        return
    finally:
        recorder.follow(None)
    stack.template = change_set.template
    stack._parse_template()
    stack.parameters = change_set.parameters
    stack.output_map = stack._create_output_map()
    stack.status = f"{kind}_COMPLETE"
    stack._add_stack_event(stack.status)


if __name__ == "__main__":
    parsing.parse_and_create_resource = recorder
    models.CloudFormationBackend.execute_change_set = execute  # type: ignore[method-assign]
    main(["-H", "127.0.0.1", "-p", sys.argv[1]])
