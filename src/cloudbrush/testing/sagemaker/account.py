"""The account and region the stand-in plays: models, configurations and endpoints by name."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any, TypeVar

from cloudbrush.testing.sagemaker.clock import Clock
from cloudbrush.testing.sagemaker.delivery import Delivery
from cloudbrush.testing.sagemaker.endpoint import Endpoint
from cloudbrush.testing.sagemaker.errors import Invalid
from cloudbrush.testing.sagemaker.faults import Faults
from cloudbrush.testing.sagemaker.fleet import Machinery
from cloudbrush.testing.sagemaker.records import EndpointConfig, Model

Thing = TypeVar("Thing")
ACCOUNT = "123456789012"  # moto's, too


class Account:
    """What there is; every method raises `Invalid` in the service's words."""

    def __init__(self, region: str, machinery: Machinery, delivery: Delivery) -> None:
        self.region = region
        self.machinery = machinery
        self.delivery = delivery
        self.models: dict[str, Model] = {}
        self.configs: dict[str, EndpointConfig] = {}
        self.endpoints: dict[str, Endpoint] = {}
        self.tags: dict[str, list[dict[str, str]]] = {}  # by ARN
        self.calls: Counter[str] = Counter()  # answered, by operation

    @property
    def clock(self) -> Clock:
        """The clock."""
        return self.machinery.clock

    @property
    def faults(self) -> Faults:
        """What is to go wrong."""
        return self.machinery.faults

    def arn(self, kind: str, name: str) -> str:
        """The name of a resource everywhere; resource names are lower case in it."""
        return f"arn:aws:sagemaker:{self.region}:{ACCOUNT}:{kind}/{name.lower()}"

    def model(self, name: str) -> Model:
        """A model by name."""
        return self._found(self.models, "model", "model", name)

    def config(self, name: str) -> EndpointConfig:
        """An endpoint configuration by name."""
        return self._found(self.configs, "endpoint-config", "endpoint configuration", name)

    def endpoint(self, name: str) -> Endpoint:
        """An endpoint by name."""
        return self._found(self.endpoints, "endpoint", "endpoint", name)

    def add_model(self, name: str, request: dict[str, Any]) -> Model:
        """Keep a model."""
        arn = self._free(self.models, "model", "model", name)
        model = self.models[name] = Model(name, arn, self.clock.now(), request)
        self._tag(arn, request)
        return model

    def add_config(self, name: str, request: dict[str, Any]) -> EndpointConfig:
        """Keep an endpoint configuration."""
        arn = self._free(self.configs, "endpoint-config", "endpoint configuration", name)
        model = self.model(request["ProductionVariants"][0]["ModelName"])
        config = self.configs[name] = EndpointConfig(name, arn, self.clock.now(), request, model)
        self._tag(arn, request)
        return config

    def add_endpoint(self, name: str, request: dict[str, Any]) -> Endpoint:
        """Begin to create an endpoint."""
        arn = self._free(self.endpoints, "endpoint", "endpoint", name)
        config = self.config(request["EndpointConfigName"])

        def gone() -> None:
            del self.endpoints[name]
            self.tags.pop(arn, None)

        endpoint = Endpoint(name, arn, config, self.machinery, self.delivery, gone)
        self.endpoints[name] = endpoint
        self._tag(arn, request)
        return endpoint

    async def close(self) -> None:
        """Kill every worker and forget what was asked of them."""
        await asyncio.gather(*(endpoint.close() for endpoint in self.endpoints.values()))
        await asyncio.gather(*(worker.kill() for worker in self.machinery.started))

    def _found(self, things: dict[str, Thing], kind: str, words: str, name: str) -> Thing:
        if name not in things:
            raise Invalid(f'Could not find {words} "{self.arn(kind, name)}".')
        return things[name]

    def _free(self, things: dict[str, Any], kind: str, words: str, name: str) -> str:
        if name in things:
            raise Invalid(f'Cannot create already existing {words} "{self.arn(kind, name)}".')
        return self.arn(kind, name)

    def _tag(self, arn: str, request: dict[str, Any]) -> None:
        self.tags[arn] = list(request.get("Tags", ()))
