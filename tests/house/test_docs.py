"""What the documents claim about the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic_settings import BaseSettings

from cloudbrush.domain.job import MOVES, JobState
from cloudbrush.settings import Settings
from cloudbrush.worker.settings import WorkerSettings

DOCS = Path(__file__).parents[2] / "docs"


def test_the_diagram_of_job_states_is_the_table_of_moves() -> None:
    text = (DOCS / "job-states.md").read_text()
    drawn = set(re.findall(r"^  (\w+) --> (\w+)$", text, flags=re.MULTILINE))
    assert drawn == {(state.value, to.value) for state, moves in MOVES.items() for to in moves}
    assert set(re.findall(r"^\| `(\w+)` \|", text, flags=re.MULTILINE)) == {state.value for state in JobState}


def test_every_link_between_documents_leads_somewhere() -> None:
    root = DOCS.parent
    for document in (*root.glob("*.md"), *DOCS.rglob("*.md")):
        for target in re.findall(r"\]\(([^)#:]+)\)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name} links to {target}"


@pytest.mark.parametrize("settings", [Settings, WorkerSettings])
def test_every_setting_is_documented(settings: type[BaseSettings]) -> None:
    text = (DOCS / "settings.md").read_text()
    prefix = settings.model_config["env_prefix"]
    documented = set(re.findall(rf"^\| `{prefix}([A-Z_]+)` \|", text, flags=re.MULTILINE))
    expected = {name.upper() for name in settings.model_fields}
    assert {name for name in documented if not name.startswith("WORKER_")} == expected
