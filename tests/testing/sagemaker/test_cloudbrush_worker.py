"""Our own worker on the stand-in: the very process that a container runs."""

from __future__ import annotations

import hashlib
import sys
from importlib.resources import files
from pathlib import Path

import boto3
import pytest

from cloudbrush.domain.asset import AssetKind
from cloudbrush.domain.invocation import WORKER_EVENT, AssetRef, Finished, Invocation, Progress
from cloudbrush.stores.blobs import Blobs
from cloudbrush.testing.sagemaker import SageMaker
from tests import builders
from tests.testing.sagemaker.cloud import until

WORKER = (sys.executable, "-m", "cloudbrush", "worker", "--port", "{port}", "--exit-with-parent")
PATIENCE = 120.0  # seconds; it loads torch


@pytest.mark.usefixtures("aws")
def test_it_paints_and_streams_its_events(tmp_path: Path) -> None:
    weights = files("cloudbrush").joinpath("builtin/Stable-diffusion/pocket.safetensors").read_bytes()
    sha256 = hashlib.sha256(weights).hexdigest()
    store = (tmp_path / "blobs").as_uri()
    blobs = Blobs(store)
    key = f"models/{sha256}.safetensors"
    blobs.put(key, weights)
    asset = AssetRef(kind=AssetKind.CHECKPOINT, name="pocket", sha256=sha256, size=len(weights), key=key)
    invocation = Invocation(
        job_id=builders.new_id(), epoch=1, generation=builders.generation(steps=3), assets=(asset,)
    )
    with SageMaker(WORKER) as standin:
        sagemaker = boto3.client("sagemaker", endpoint_url=standin.url)
        environment = {"CLOUDBRUSH_WORKER_BLOBS_URL": store, "CLOUDBRUSH_WORKER_DEVICE": "cpu"}
        container = {"Image": "cloudbrush-worker:1", "Environment": environment}
        sagemaker.create_model(ModelName="worker", PrimaryContainer=container)
        variant = {"VariantName": "main", "ModelName": "worker"}
        variant |= {"InstanceType": "ml.g5.2xlarge", "InitialInstanceCount": 1}
        sagemaker.create_endpoint_config(EndpointConfigName="worker", ProductionVariants=[variant])
        sagemaker.create_endpoint(EndpointName="worker", EndpointConfigName="worker")

        def serving() -> bool | None:
            seen = sagemaker.describe_endpoint(EndpointName="worker")
            assert seen["EndpointStatus"] != "Failed", standin.controls.logs("worker")
            return True if seen["EndpointStatus"] == "InService" else None

        until(serving, PATIENCE)
        runtime = boto3.client("sagemaker-runtime", endpoint_url=standin.url)
        answer = runtime.invoke_endpoint_with_response_stream(
            EndpointName="worker",
            Body=invocation.model_dump_json().encode(),
            ContentType="application/json",
            Accept="application/jsonl",
        )
        lines = b"".join(event["PayloadPart"]["Bytes"] for event in answer["Body"]).splitlines()
    events = [WORKER_EVENT.validate_json(line) for line in lines]
    assert [event.step for event in events if isinstance(event, Progress)][-1] == 3
    finished = events[-1]
    assert isinstance(finished, Finished)
    (image,) = finished.images
    assert hashlib.sha256(blobs.get(image.key)).hexdigest() == image.sha256
