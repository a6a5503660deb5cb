"""What a test asks of the stand-in beside the service's APIs: JSON under /_standin. `Controls` speaks it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import asdict, fields
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from cloudbrush.testing.sagemaker.account import Account
from cloudbrush.testing.sagemaker.clock import VirtualClock
from cloudbrush.testing.sagemaker.errors import Invalid
from cloudbrush.testing.sagemaker.faults import STATUSES, Fault, Refusal

Asked = dict[str, Any]


async def advance(account: Account, asked: Asked) -> Any:
    """Let virtual time pass."""
    if not isinstance(account.clock, VirtualClock):
        raise Invalid("the stand-in was started with the wall's clock, which nobody can advance")
    await account.clock.advance(float(asked["seconds"]))
    return await now(account, asked)


async def now(account: Account, _asked: Asked) -> Any:
    """The clock's time, in ISO 8601."""
    return {"now": account.clock.now().isoformat()}


async def arm(account: Account, asked: Asked) -> Any:
    """Arm a fault."""
    account.faults.arm(Fault(asked["fault"]), int(asked["times"]), float(asked["seconds"]))


async def refuse(account: Account, asked: Asked) -> Any:
    """Refuse the next calls."""
    if asked["code"] not in STATUSES:
        raise Invalid(f"{asked['code']} is none of {', '.join(STATUSES)}")
    account.faults.refuse(
        Refusal(asked["code"], int(asked["calls"]), asked["operation"], bool(asked["after"]))
    )


async def disarm(account: Account, _asked: Asked) -> Any:
    """Take back every fault and refusal."""
    account.faults.disarm()


async def met(account: Account, _asked: Asked) -> Any:
    """How often each fault and refusal was met."""
    return dict(account.faults.met)


async def calls(account: Account, _asked: Asked) -> Any:
    """Calls answered, by operation."""
    return dict(account.calls)


async def delay(account: Account, asked: Asked) -> Any:
    """Change how long things take from now on."""
    delays = account.machinery.delays
    unknown = set(asked) - {field.name for field in fields(delays)}
    if unknown:
        raise Invalid(f"there is no delay called {', '.join(sorted(unknown))}")
    for name, seconds in asked.items():
        setattr(delays, name, float(seconds))
    return asdict(delays)


async def kill_worker(account: Account, asked: Asked) -> Any:
    """kill -9 for an endpoint's busiest worker."""
    return {"pid": await account.endpoint(asked["endpoint"]).kill_worker()}


async def set_instances(account: Account, asked: Asked) -> Any:
    """What application autoscaling does: UpdateEndpointWeightsAndCapacities, uncounted."""
    account.endpoint(asked["endpoint"]).scale(int(asked["instances"]))


async def metrics(account: Account, asked: Asked) -> Any:
    """An asynchronous endpoint's metrics at this moment."""
    return account.endpoint(asked["endpoint"]).queue.metrics()


async def logs(account: Account, asked: Asked) -> Any:
    """What an endpoint's workers have printed."""
    return {"text": account.endpoint(asked["endpoint"]).logs}


def _door(
    serve: Callable[[Account, Asked], Awaitable[Any]],
) -> Callable[[Account, Request], Awaitable[Response]]:
    async def opened(account: Account, request: Request) -> Response:
        asked = await request.json() if await request.body() else {}
        try:
            return JSONResponse(await serve(account, asked))
        except (Invalid, KeyError, ValueError) as error:
            return JSONResponse({"detail": str(error)}, status_code=400)

    return opened


DOORS = {
    ("POST", serve.__name__): _door(serve)
    for serve in (
        *(advance, now, arm, refuse, disarm, met, calls, delay),
        *(kill_worker, set_instances, metrics, logs),
    )
}
