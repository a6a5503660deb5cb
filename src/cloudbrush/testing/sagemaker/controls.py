"""A test's hands on a stand-in, in this process or another."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import httpx

from cloudbrush.testing.sagemaker.faults import Fault

PATIENCE = 60.0  # seconds an order may take; killing a worker and moving time are quick


class Controls:
    """Speaks to the stand-in at `url`; every method raises `ValueError` with the reason of a refusal."""

    def __init__(self, url: str) -> None:
        self._http = httpx.Client(base_url=f"{url}/_standin", timeout=PATIENCE, trust_env=False)

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def now(self) -> datetime:
        """What its clock says."""
        return datetime.fromisoformat(self._ask("now")["now"])

    def advance(self, seconds: float) -> datetime:
        """Let virtual time pass, and say what time it is then; for a stand-in with a virtual clock only."""
        return datetime.fromisoformat(self._ask("advance", seconds=seconds)["now"])

    def arm(self, fault: Fault, *, times: int = 1, seconds: float = 0.0) -> None:
        """The next so many occasions of the fault go wrong; `seconds` says how late a late thing is."""
        self._ask("arm", fault=fault.value, times=times, seconds=seconds)

    def throttle(self, calls: int, operation: str | None = None) -> None:
        """The next calls, of the operation or of any, are answered with ThrottlingException."""
        self.refuse("ThrottlingException", calls, operation)

    def refuse(self, code: str, calls: int = 1, operation: str | None = None, *, after: bool = False) -> None:
        """The next calls are answered with an error code; `after` doing what they asked for."""
        self._ask("refuse", code=code, calls=calls, operation=operation, after=after)

    def disarm(self) -> None:
        """Take back every fault and refusal that was not met yet."""
        self._ask("disarm")

    def met(self) -> dict[str, int]:
        """How often each fault and each error code was met."""
        return dict(self._ask("met"))

    def calls(self) -> dict[str, int]:
        """How often each operation of the two APIs was called."""
        return dict(self._ask("calls"))

    def delay(self, **seconds: float) -> None:
        """Change `Delays` from now on: `delay(scaling_out=180)`."""
        self._ask("delay", **seconds)

    def kill_worker(self, endpoint: str) -> int:
        """kill -9 for the endpoint's busiest worker: its process id."""
        return int(self._ask("kill_worker", endpoint=endpoint)["pid"])

    def set_instances(self, endpoint: str, instances: int) -> None:
        """Scale as application autoscaling would."""
        self._ask("set_instances", endpoint=endpoint, instances=instances)

    def metrics(self, endpoint: str) -> dict[str, float | None]:
        """CloudWatch's metrics of an asynchronous endpoint now; None where nothing would be published."""
        return dict(self._ask("metrics", endpoint=endpoint))

    def logs(self, endpoint: str) -> str:
        """What the endpoint's workers have printed."""
        return str(self._ask("logs", endpoint=endpoint)["text"])

    def _ask(self, what: str, **asked: Any) -> Any:
        response = self._http.post(f"/{what}", json=asked)
        if response.status_code == 400:
            raise ValueError(response.json()["detail"])
        return response.raise_for_status().json()
