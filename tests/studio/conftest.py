"""Fixtures of the studio's tests."""

from __future__ import annotations

import pytest

from tests.studio.fake_client import FakeClient


@pytest.fixture
def client() -> FakeClient:
    return FakeClient()
