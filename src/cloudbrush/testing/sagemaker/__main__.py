"""`python -m cloudbrush.testing.sagemaker`: the stand-in as a process of its own."""

from __future__ import annotations

import argparse
import json
from dataclasses import fields

from cloudbrush.testing.sagemaker.clock import VirtualClock, WallClock
from cloudbrush.testing.sagemaker.fleet import Delays
from cloudbrush.testing.sagemaker.server import SageMaker


def main() -> None:
    """Print `{"url": ...}` as first line, and serve until SIGTERM or Ctrl+C."""
    parser = argparse.ArgumentParser(prog="cloudbrush.testing.sagemaker", description=SageMaker.__doc__)
    parser.add_argument("--port", type=int, default=0, help="any free one by default")
    parser.add_argument("--region", help="boto3's by default")
    parser.add_argument("--virtual-clock", action="store_true", help="time stands until a test advances it")
    for field in fields(Delays):
        option = f"--{field.name.replace('_', '-')}"
        parser.add_argument(option, type=float, default=0.0, metavar="SECONDS", help="how long that takes")
    parser.add_argument("worker", nargs="+", help="the worker's command, after --; {port} is replaced")
    given = parser.parse_args()
    standin = SageMaker(
        given.worker,
        port=given.port,
        region=given.region,
        clock=VirtualClock() if given.virtual_clock else WallClock(),
        delays=Delays(**{field.name: getattr(given, field.name) for field in fields(Delays)}),
    )
    print(json.dumps({"url": standin.url}), flush=True)
    standin.serve()


if __name__ == "__main__":
    main()
