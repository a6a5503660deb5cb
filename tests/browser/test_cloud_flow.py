"""From an empty account to an image from the cloud: deploy, upload, Generate on Cloud, cancel, delete.

S3, SNS, SQS and the rest are a moto server, SageMaker is our stand-in with real workers; boto3 is unchanged.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import boto3
import pytest
from playwright.sync_api import expect

from cloudbrush.testing.sagemaker import SageMaker
from tests import moto_server
from tests.browser.conftest import opening
from tests.browser.studio_page import StudioPage
from tests.program import Program

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]
WORKER = (sys.executable, "-m", "cloudbrush", "worker", "--port", "{port}")
COMES_UP = 240_000  # milliseconds for a worker that loads torch on a busy machine
LONG = 150  # steps, of which some are seen and one is called off


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where a Cloudbrush listens that an AWS account is connected to; Pocket is uploaded."""
    with moto_server.running() as moto, pytest.MonkeyPatch.context() as patch:
        for name, value in {**moto_server.ENVIRONMENT, "AWS_ENDPOINT_URL": moto}.items():
            patch.setenv(name, value)
        with SageMaker(WORKER) as standin:
            for name, value in {**standin.environment, **_stack(moto)}.items():
                patch.setenv(name, value)
            data = tmp_path_factory.mktemp("cloud") / "data"
            _run("models", "upload", "pocket", "--data-dir", str(data))
            program = Program(data)
            program.start()
            try:
                with ThreadPoolExecutor() as aside:  # Playwright has this thread's event loop
                    url = aside.submit(asyncio.run, program.url()).result()
                yield url
            finally:
                program.stop()


@pytest.fixture
def open_cloud(browser: Any, cloud: str) -> Iterator[Callable[..., StudioPage]]:
    """Open that studio."""
    with opening(browser, cloud) as open_page:
        yield open_page


def _stack(moto: str) -> dict[str, str]:
    """What `cloudbrush aws up` would have made, as it would have written it down."""
    bucket = moto_server.make_bucket(moto)
    sns, sqs, iam = (boto3.client(service) for service in ("sns", "sqs", "iam"))
    queue = sqs.create_queue(QueueName="cloudbrush")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    topics = [sns.create_topic(Name=f"cloudbrush-{kind}")["TopicArn"] for kind in ("success", "error")]
    for topic in topics:
        sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
    trust = {"Principal": {"Service": "sagemaker.amazonaws.com"}, "Action": "sts:AssumeRole"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", **trust}]})
    role = iam.create_role(RoleName="worker", AssumeRolePolicyDocument=policy)["Role"]["Arn"]
    return {
        "CLOUDBRUSH_AWS_REGION": moto_server.ENVIRONMENT["AWS_DEFAULT_REGION"],
        "CLOUDBRUSH_AWS_BUCKET": bucket,
        "CLOUDBRUSH_AWS_WORKER_ROLE_ARN": role,
        "CLOUDBRUSH_AWS_SUCCESS_TOPIC_ARN": topics[0],
        "CLOUDBRUSH_AWS_ERROR_TOPIC_ARN": topics[1],
        "CLOUDBRUSH_AWS_QUEUE_URL": queue,
        "CLOUDBRUSH_AWS_IMAGE_URI": "registry.example/cloudbrush/worker:1",
    }


def _run(*words: str) -> None:
    command = [sys.executable, "-m", "cloudbrush", *words]
    done = subprocess.run(command, env=os.environ, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr


def _deploy(studio: StudioPage, name: str, kind: str) -> None:
    studio.page.get_by_role("tab", name="Amazon SageMaker").click()
    studio.page.locator("#endpoint_advanced input").check()
    studio.field("endpoint_name", "input").fill(name)
    studio.choose("endpoint_kind", kind)
    expect(studio.page.locator("#endpoint_estimate")).to_contain_text("$1.52 per hour")
    studio.page.locator("#endpoint_deploy").click()
    expect(studio.page.locator("#endpoint_notice")).to_contain_text(f"{name} is Creating")
    row = studio.page.locator("#endpoint_table tr", has_text=name)
    expect(row).to_contain_text("InService", timeout=COMES_UP)
    expect(row).to_contain_text("ml.g5.2xlarge")
    studio.page.get_by_role("tab", name="txt2img").click()


def _generate(studio: StudioPage, name: str) -> None:
    studio.choose("cloud_endpoint", f"{name}+InService")
    expect(studio.generate).to_have_text("Generate on Cloud")
    studio.write("a red circle on a blue background")
    studio.submit()
    expect(studio.images).to_be_visible(timeout=COMES_UP)
    expect(studio.infotext).to_have_value(re.compile("a red circle on a blue background\nSteps: 20"))


def _cancel(studio: StudioPage) -> None:
    studio.set("txt2img_steps", LONG)
    studio.set("txt2img_batch_count", 100)
    studio.submit()
    expect(studio.progress).to_be_visible(timeout=COMES_UP)
    studio.page.locator("#txt2img_cancel").click()
    expect(studio.state).to_contain_text("Cancelled")


def _delete(studio: StudioPage, name: str) -> None:
    studio.page.get_by_role("tab", name="Amazon SageMaker").click()
    studio.page.locator("#endpoint_refresh").click()
    studio.choose("endpoint_chosen", name)
    studio.page.once("dialog", lambda dialog: dialog.accept())
    studio.page.locator("#endpoint_delete").click()
    expect(studio.page.locator("#endpoint_table tr", has_text=name)).to_have_count(0, timeout=COMES_UP)
    assert boto3.client("sagemaker").list_endpoints(NameContains=name)["Endpoints"] == []


@pytest.mark.parametrize(("kind", "name"), [("Asynchronous", "queued"), ("Real-time", "direct")])
def test_from_nothing_to_an_image_from_the_cloud(
    open_cloud: Callable[..., StudioPage], screenshot: Any, kind: str, name: str
) -> None:
    studio = open_cloud()
    _deploy(studio, name, kind)
    expect(studio.checkpoint).to_have_value(re.compile(r"pocket .*\[sagemaker\]"))
    _generate(studio, name)
    _cancel(studio)
    studio.page.get_by_role("tab", name="Amazon SageMaker").click()
    screenshot(studio, f"sagemaker-{name}")
    _delete(studio, name)


def test_what_is_not_in_the_cloud_is_refused_by_name(
    open_cloud: Callable[..., StudioPage],
) -> None:
    """Nothing runs, and the hint says how to put it there."""
    studio = open_cloud()
    _deploy(studio, "picky", "Asynchronous")
    studio.choose("cloud_endpoint", "picky+InService")
    studio.write("a star <lora:nowhere:1>")
    studio.generate.click()
    expect(studio.page.locator("#notice")).to_contain_text("nowhere")
    _delete(studio, "picky")
