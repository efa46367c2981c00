"""`mmdoctor hook k8s`."""

from __future__ import annotations

from typing import Literal, Optional

import click

from mmdoctor.cli.common import OK


@click.command()
@click.option("--image", required=True, help="The image of the pods that are to be held back.")
@click.option("--env", required=True, metavar="DIR", help="The environment, inside the image.")
@click.option("--kind", type=click.Choice(("init", "job")), default="init", show_default=True)
@click.option("--name", default="mmdoctor", show_default=True, help="The name of the job.")
@click.option("--mmdoctor", default="/opt/mmdoctor/bin/mmdoctor", show_default=True, help="The command in the image.")
@click.option("--depth", type=click.Choice(("quick", "full", "deep")), help="Default: quick for init, full for job.")
@click.option("--gpus", type=click.IntRange(0), default=0, show_default=True, help="How many the pods ask for.")
def hook_k8s(
    image: str,
    env: str,
    kind: str,
    name: str,
    mmdoctor: str,
    depth: Optional[Literal["quick", "full", "deep"]],
    gpus: int,
) -> int:
    """An init container or a Job for Kubernetes.

    The one is a patch that puts the check before a deployment's own containers, the other looks once.
    """
    from mmdoctor.hooks.k8s import init_container, job

    if kind == "init":
        text = init_container(image, env, mmdoctor, depth or "quick", gpus)
    else:
        text = job(name, image, env, mmdoctor, depth or "full", gpus)
    click.echo(text.rstrip("\n"))
    return OK
