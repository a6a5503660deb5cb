"""What an account holds beside its endpoints: models and endpoint configurations, as they were created."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

CONCURRENCY = 4  # per instance, where the configuration leaves it to the service


@dataclass(frozen=True)
class Model:
    """A container image and its environment."""

    name: str
    arn: str
    created_at: datetime
    request: dict[str, Any]

    @property
    def image(self) -> str:
        """The container's image."""
        return str(self.request["PrimaryContainer"]["Image"])

    @property
    def environment(self) -> dict[str, str]:
        """What the container finds in its environment."""
        return dict(self.request["PrimaryContainer"].get("Environment", {}))


@dataclass(frozen=True)
class EndpointConfig:
    """One production variant, and how asynchronous inference is to go."""

    name: str
    arn: str
    created_at: datetime
    request: dict[str, Any]
    model: Model

    @property
    def variant(self) -> dict[str, Any]:
        """The production variant, as it was asked for."""
        return dict(self.request["ProductionVariants"][0])

    @property
    def asynchronous(self) -> dict[str, Any] | None:
        """AsyncInferenceConfig; None makes a real-time endpoint."""
        return self.request.get("AsyncInferenceConfig")

    @property
    def output(self) -> dict[str, Any]:
        """The OutputConfig of an asynchronous endpoint."""
        return dict((self.asynchronous or {}).get("OutputConfig", {}))

    @property
    def concurrency(self) -> int:
        """How many invocations one instance works on at a time; for asynchronous endpoints only."""
        client = (self.asynchronous or {}).get("ClientConfig", {})
        return int(client.get("MaxConcurrentInvocationsPerInstance", CONCURRENCY))
