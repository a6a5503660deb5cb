"""The instance types people choose from."""

from __future__ import annotations

import re
from itertools import pairwise

import boto3
import pytest

from cloudbrush.aws import image, prices
from tests.deploy.dockerfile import ROOT, instructions


@pytest.fixture(scope="module")
def shapes() -> dict[str, list[str]]:
    """SageMaker's own lists, from the service model that boto3 ships."""
    session = boto3.Session(region_name=prices.REGION)
    model = session._session.get_service_model("sagemaker")
    names = ("ProductionVariantInstanceType", "ProductionVariantInferenceAmiVersion")
    return {name: model.shape_for(name).enum for name in names}


def test_sagemaker_has_every_instance_type(shapes: dict[str, list[str]]) -> None:
    assert set(prices.INSTANCES) <= set(shapes["ProductionVariantInstanceType"])


def test_sagemaker_has_the_host_image_the_container_needs(shapes: dict[str, list[str]]) -> None:
    assert image.HOST in shapes["ProductionVariantInferenceAmiVersion"]


def test_the_host_image_has_the_driver_for_the_containers_cuda() -> None:
    (base,) = (step.rest for step in instructions() if step.name == "FROM")
    cuda = int(re.search(r"cuda:(\d+)", base)[1])  # type: ignore[index]
    # API Reference, ProductionVariant: "gpu-4-1" has driver 580 and CUDA 13.0, those before it CUDA 12.
    assert cuda <= 13
    assert image.HOST.endswith("gpu-4-1")


def test_a_larger_machine_of_a_family_costs_more() -> None:
    sizes = ["xlarge", "2xlarge", "4xlarge", "8xlarge"]
    for family in {name.rpartition(".")[0] for name in prices.INSTANCES}:
        costs = [
            prices.INSTANCES[f"{family}.{size}"].usd_per_hour
            for size in sizes
            if f"{family}.{size}" in prices.INSTANCES
        ]
        assert len(costs) > 1
        assert all(smaller < larger for smaller, larger in pairwise(costs))


def test_the_document_tells_the_same_prices() -> None:
    text = (ROOT / "docs/aws.md").read_text()
    told = re.findall(r"^\| `(ml\.[\w.]+)` \| (\w+), (\d+) GiB \| ([\d.]+) \|", text, flags=re.MULTILINE)
    known = {
        (name, entry.gpu, str(entry.gpu_gib), f"{entry.usd_per_hour:.2f}")
        for name, entry in prices.INSTANCES.items()
    }
    assert set(told) == known
    assert prices.AS_OF in text
