"""`mmdoctor hook systemd`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Optional

import click

from mmdoctor.cli.common import OK
from mmdoctor.errors import RefusedError, UsageError

if TYPE_CHECKING:
    from mmdoctor.hooks.systemd import Hook, Service

# What the healing gets of the environment in which the hook is installed: where the caches lie.
CACHES = ("MMDOCTOR_CACHE", "UV_CACHE_DIR")


@click.command()
@click.argument("unit")
@click.option("--env", metavar="DIR", help="The environment that the unit runs from.")
@click.option(
    "--mode",
    type=click.Choice(("gate", "condition", "heal")),
    default="gate",
    show_default=True,
    help="A broken environment: the start fails, is skipped, or waits for a repair.",
)
@click.option(
    "--print", "action", flag_value="print", default="print", help="Print what would be installed (the default)."
)
@click.option(
    "--install", "action", flag_value="install", help="Write it below /etc/systemd/system, and reload systemd."
)
@click.option("--remove", "action", flag_value="remove", help="Take it away again.")
@click.option(
    "--deadline",
    type=click.IntRange(5, 600),
    metavar="SECONDS",
    help="For the look (default 30, or 10 less than the unit's TimeoutStartSec=).",
)
@click.option("--recipe", default="rtmpose", show_default=True, metavar="NAME|FILE", help="What heal repairs it to.")
@click.option("--heal-as-root", is_flag=True, help="Heal an environment of root's, running its packages' code as root.")
def hook_systemd(
    unit: str,
    env: Optional[str],
    mode: Literal["gate", "condition", "heal"],
    action: str,
    deadline: Optional[int],
    recipe: str,
    heal_as_root: bool,
) -> int:
    """Look at the environment before UNIT starts.

    Exit status: 0, 2 usage, 3 systemd does not answer, 4 refused: the unit's own settings would let a broken
    environment through, or a file there is not mmdoctor's.
    """
    from mmdoctor.hooks import systemd, systemd_here

    if action == "remove":
        return removed(unit)
    if not env:
        raise UsageError("which environment? there is no --env", hint=f"mmdoctor hook systemd {unit} --env DIR")
    folder = str(Path(env).absolute())
    hook = systemd.Hook(
        unit=unit,
        mode=mode,
        mmdoctor=own_command(),
        env=folder,
        deadline=deadline,
        healer=owner(folder, as_root=heal_as_root) if mode == "heal" else "",
        recipe=str(Path(recipe).absolute()) if Path(recipe).is_file() else recipe,
        environment={name: os.environ[name] for name in CACHES if os.environ.get(name)},
    )
    systemd.unit_name(unit)
    here = systemd_here.booted()
    service = systemd_here.seen(unit) if here else None
    if action == "install":
        return installed(hook, service, booted=here)
    if service is None:
        why = systemd_here.not_there(unit) if here else "systemd does not run here"
        click.echo(f"mmdoctor: {why}: this is for a unit with systemd's own defaults", err=True)
    texts = systemd.files(hook, service or systemd.Service())
    click.echo("\n".join(texts.values()).rstrip("\n"))
    return OK


def own_command() -> str:
    """The absolute path of the mmdoctor that runs."""
    from mmdoctor.system import which

    beside = Path(sys.executable).parent / "mmdoctor"
    return str(beside) if beside.exists() else which("mmdoctor") or str(Path(sys.argv[0]).absolute())


def owner(env: str, *, as_root: bool) -> str:
    """Who heals: the environment's owner. Raises UsageError where there is none, RefusedError for root unasked."""
    import pwd

    try:
        name = pwd.getpwuid(Path(env).stat().st_uid).pw_name
    except (OSError, KeyError) as error:
        raise UsageError(f"heal runs as the owner of {env}, and that is not known: {error}") from error
    if name == "root" and not as_root:
        raise RefusedError(
            f"{env} belongs to root: healing it would run its packages' code as root",
            "give it, with the folder that it lies in, to a user of its own (chown -R); or say --heal-as-root",
        )
    return name


def installed(hook: Hook, service: Optional[Service], *, booted: bool) -> int:
    """Write the files, and see to it that systemd reads them."""
    from mmdoctor.hooks import systemd, systemd_here

    if booted and service is None:
        raise UsageError(systemd_here.not_there(hook.unit), "install the service first, or --print")
    texts = systemd.files(hook, service or systemd.Service())
    systemd_here.refuse_without_rights()
    if service and booted:
        systemd_here.refuse_an_older_one(hook)
    if service and not service.dynamic_user and not service.user.isdecimal():
        look = systemd_here.looked_as(service.user, hook, systemd.deadline_of(hook, service))
        if look.returncode != OK:
            said = [line.partition(">")[2] for line in look.stdout.splitlines()]  # without journal's priorities
            click.echo("\n".join(said), err=True)
            then = "is repaired when it starts" if hook.mode == "heal" else "would not start now"
            click.echo(f"mmdoctor: {hook.unit} {then}", err=True)
    systemd_here.install(hook, texts)
    for path in texts:
        click.echo(f"mmdoctor: wrote {path}", err=True)
    if service and systemd.endless(service):
        click.echo(
            f"mmdoctor: {hook.unit} has no start limit, so a start that does not pass is tried again for ever, every "
            f"{service.restart_seconds:g} s; --mode condition does not",
            err=True,
        )
    if not booted:
        click.echo("mmdoctor: systemd does not run here, so nobody looked whether it has that unit", err=True)
        return OK
    systemd_here.reload(hook.unit)
    if not systemd_here.in_force(hook.unit):
        systemd_here.remove(hook.unit)
        systemd_here.reload(hook.unit)
        raise RefusedError(f"systemd does not read {systemd.drop_in_path(hook.unit)}, so it is gone again")
    click.echo(f"mmdoctor: in force at the next start: systemctl restart {hook.unit}", err=True)
    return OK


def removed(unit: str) -> int:
    """Take the files away."""
    from mmdoctor.hooks import systemd_here

    gone = systemd_here.remove(unit)
    for path in gone:
        click.echo(f"mmdoctor: removed {path}", err=True)
    if not gone:
        click.echo(f"mmdoctor: {unit} has no hook of mmdoctor's", err=True)
    elif systemd_here.booted():
        systemd_here.reload(unit)
    return OK
