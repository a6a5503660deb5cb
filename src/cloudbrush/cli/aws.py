"""`cloudbrush aws`: its commands and their options. Nothing heavy is imported until one runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    help="Set up, look at and take down what Cloudbrush needs in an AWS account; see docs/aws.md.",
    no_args_is_help=True,
)

StackName = Annotated[str, typer.Option("--stack", help="Name of the CloudFormation stack.")]
Region = Annotated[
    str | None, typer.Option(help="AWS region.", show_default="CLOUDBRUSH_AWS_REGION, then boto3's own")
]
EnvFile = Annotated[Path, typer.Option(help="Where the settings are written.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before changing anything.")]


@app.command()
def up(
    stack: StackName = "cloudbrush",
    region: Region = None,
    origin: Annotated[
        list[str] | None,
        typer.Option(
            help="Address of the studio, for uploads from browsers; may be given more than once.",
            show_default="this machine, port 7860",
        ),
    ] = None,
    temporary_days: Annotated[
        int | None,
        typer.Option(min=1, max=365, help="How long temporary objects are kept.", show_default="3"),
    ] = None,
    budget: Annotated[
        int | None, typer.Option(min=0, help="Mail above so many USD of SageMaker a month; 0 ends that.")
    ] = None,
    budget_email: Annotated[str | None, typer.Option(help="Who gets that mail.")] = None,
    env_file: EnvFile = Path(".env"),
    yes: Yes = False,
) -> None:
    """Make or update bucket, roles, queue and image repository, and write the settings.

    What is not given keeps its value. Running it again changes nothing that is right already.
    """
    from cloudbrush.cli import deploying

    wanted = {
        "AllowedOrigins": ",".join(origin) if origin else None,
        "TemporaryDays": temporary_days,
        "MonthlyBudgetUsd": budget,
        "BudgetEmail": budget_email,
    }
    parameters = {name: str(value) for name, value in wanted.items() if value is not None}
    deploying.up(deploying.Place(stack, region, env_file), parameters, yes=yes)


@app.command()
def status(stack: StackName = "cloudbrush", region: Region = None, env_file: EnvFile = Path(".env")) -> None:
    """Show the stack, whether the settings fit it, and the endpoints that cost money now."""
    from cloudbrush.cli import deploying

    deploying.status(deploying.Place(stack, region, env_file))


@app.command()
def down(
    stack: StackName = "cloudbrush",
    region: Region = None,
    delete_bucket_content: Annotated[
        bool, typer.Option("--delete-bucket-content", help="Delete models and images too, for good.")
    ] = False,
    env_file: EnvFile = Path(".env"),
    yes: Yes = False,
) -> None:
    """Take everything down again. Refuses while endpoints run or the bucket holds anything."""
    from cloudbrush.cli import deploying

    place = deploying.Place(stack, region, env_file)
    deploying.down(place, delete_bucket_content=delete_bucket_content, yes=yes)


@app.command()
def push(
    stack: StackName = "cloudbrush",
    region: Region = None,
    source: Annotated[Path, typer.Option(help="Cloudbrush's source tree, with its Dockerfile.")] = Path("."),
    env_file: EnvFile = Path(".env"),
) -> None:
    """Build the worker's container image with Docker and push it to the stack's repository."""
    from cloudbrush.cli import deploying

    deploying.push(deploying.Place(stack, region, env_file), source)
