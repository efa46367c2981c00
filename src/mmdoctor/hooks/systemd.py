"""What systemd gets so that mmdoctor looks at a service's environment before the service starts from it: the text.

Nothing here touches the machine; `systemd_here` does. systemd's rules are those of systemd.service(5), systemd.unit(5)
and systemd.exec(5); docs/systemd.md says which of them were tried, and how.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal, Optional

from mmdoctor.errors import RefusedError, UsageError
from mmdoctor.model import Value

Mode = Literal["gate", "condition", "heal"]
# systemd.unit(5): ASCII letters, digits and `:-_.\\`; an `@` before the instance of a template.
UNIT = re.compile(r"[A-Za-z0-9:_.\\-]+(?:@[A-Za-z0-9:_.\\@-]*)?")
LONGEST_UNIT = 255
OTHER_KINDS = ("socket", "device", "mount", "automount", "swap", "target", "path", "timer", "slice", "scope")
FOLDER = "/etc/systemd/system"
FILE = "50-mmdoctor.conf"
MARK = "# Written by `mmdoctor hook systemd`."
READY = "mmdoctor-ready.json"
OWN_DIRECTORY = "mmdoctor-%N"

# What a quick check takes is about a second; ten of them on a machine that just booted from a slow disk.
DEADLINE = 30
SHORTEST_DEADLINE = 5
# For mmdoctor to start, to end what hangs, and to say so.
SLACK_SECONDS = 10
# TimeoutStartSec= of the healing. From the caches, with its proof, it took 2 to 6 minutes on two cores that had a dozen
# other things to do.
HEAL_SECONDS = 900
HEALS = 10
# ExecCondition= came with 243; an older systemd ignores the line, and the service would start unlooked at.
CONDITION_SINCE = 243
# What `mmdoctor check` ends with when it does not pass (ARCHITECTURE, exit codes).
NOT_PASSED = ("1", "2", "3", "70", "75", "130")
# Of a unit's look alone: short lines with priorities, the verdict for `systemctl status`, the readiness file.
TOLD = ("--format", "journal", "--notify", "--ready")
# A signal that ends a process which does not ask for it.
KILLS = ("KILL", "SEGV", "ABRT", "BUS", "ILL", "FPE")


class Service(Value, frozen=True, kw_only=True):
    """What matters of a service's own settings; the defaults are systemd's. Times in seconds, None is infinity.

    `permissions_start_only`: only ExecStart= runs as `user` (deprecated in 240). `notify_access` is empty where it is
    not known. `runtime_directories` lie below /run.
    """

    user: str = ""
    dynamic_user: bool = False
    permissions_start_only: bool = False
    restart: str = "on-failure"
    restart_seconds: float = 0.1
    start_seconds: Optional[float] = 90.0
    burst: int = 5
    interval: Optional[float] = 10.0
    notify_access: str = ""
    runtime_directories: tuple[str, ...] = ()
    success: tuple[str, ...] = ()


class Hook(Value, frozen=True, kw_only=True):
    """What is to be installed: absolute paths, the deadline in seconds (None: the longest that fits), and who heals.

    `environment` is what the healing gets of mmdoctor's and uv's own settings, such as where their caches lie.
    """

    unit: str
    mode: Mode
    mmdoctor: str
    env: str
    deadline: Optional[int] = None
    healer: str = ""
    recipe: str = "rtmpose"
    environment: Mapping[str, str] = {}


def unit_name(unit: str) -> str:
    """The name without `.service`, validated. Raises UsageError for what is no name of a service."""
    name = unit.removesuffix(".service")
    suffix = name.rpartition(".")[2]
    if not UNIT.fullmatch(name) or len(healing_unit(name)) > LONGEST_UNIT or (suffix in OTHER_KINDS and "." in name):
        expected = "expected the name of a service, such as mmpose-service or worker@1.service"
        raise UsageError(f"{unit!r} names no service: {expected}", "see `systemctl list-units --type=service`")
    return name


def healing_unit(name: str) -> str:
    """The unit that heals for a service; the instances of a template share an environment, and so a healing."""
    return f"mmdoctor-heal-{name.replace('@', '-').rstrip('-')}.service"


def drop_in_path(unit: str) -> str:
    """Where the drop-in belongs."""
    return f"{FOLDER}/{unit_name(unit)}.service.d/{FILE}"


def healing_path(unit: str) -> str:
    """Where the unit that heals belongs."""
    return f"{FOLDER}/{healing_unit(unit_name(unit))}"


def ready_file(service: Service) -> str:
    """The readiness file as a word of an Exec line: in a RuntimeDirectory= that the unit has, since another one would
    change the $RUNTIME_DIRECTORY that its program reads; else in one that the drop-in adds."""
    if service.runtime_directories:
        return escape(f"/run/{service.runtime_directories[0]}/{READY}")
    return f"%t/{OWN_DIRECTORY}/{READY}"


def files(hook: Hook, service: Service) -> dict[str, str]:
    """The files to install, each with its text, in the order in which they are to be written.

    Raises UsageError for what systemd would refuse or read differently, RefusedError where the unit's own settings
    would let a broken service start, or run foreign code as root.
    """
    for what, path in (("mmdoctor", hook.mmdoctor), ("--env", hook.env)):
        if not path.startswith("/"):
            raise UsageError(f"{what} {path!r}: expected an absolute path", "systemd takes no other")
    for text in (hook.mmdoctor, hook.env, hook.recipe, *hook.environment.values()):
        if not text.isprintable():
            raise UsageError(f"{text!r}: expected one line of text that can be printed", "systemd takes no other")
    refuse_what_lets_through(hook.unit, service)
    before = {healing_path(hook.unit): healing(hook, service)} if hook.mode == "heal" else {}
    return {**before, drop_in_path(hook.unit): drop_in(hook, service)}


def refuse_what_lets_through(unit: str, service: Service) -> None:
    """RefusedError for settings under which a look that did not pass would count as passed, or would run as root."""
    taken = [code for code in service.success if code in NOT_PASSED or code.removeprefix("SIG") in KILLS]
    if taken:
        raise RefusedError(
            f"{unit} counts {', '.join(taken)} as success (SuccessExitStatus=), and systemd applies that to every "
            "command of a start: a look that does not pass would pass",
            "take these out of SuccessExitStatus=; mmdoctor check ends with 0, 1, 2, 3, 70, 75 or 130",
        )
    if service.permissions_start_only and service.user not in ("", "root"):
        raise RefusedError(
            f"{unit} says PermissionsStartOnly=, so that the look would run the environment's Python as root and not "
            f"as {service.user}",
            "give its other commands the prefix + instead (systemd.service(5)); PermissionsStartOnly= is deprecated",
        )


def deadline_of(hook: Hook, service: Service) -> int:
    """The look's deadline in seconds: below TimeoutStartSec=, which systemd counts anew for every command of a start,
    or systemd would end the look before it can name what hangs. Raises UsageError where it is not."""
    most = None if service.start_seconds is None else int(service.start_seconds - SLACK_SECONDS)
    if most is not None and most < (hook.deadline or SHORTEST_DEADLINE):
        raise UsageError(
            f"TimeoutStartSec= of {hook.unit} is {service.start_seconds:g} s: a deadline of "
            f"{hook.deadline or SHORTEST_DEADLINE} s and {SLACK_SECONDS} s to say what hung do not fit in",
            f"--deadline {most}" if most >= SHORTEST_DEADLINE else "give the unit a longer TimeoutStartSec=",
        )
    return hook.deadline or (DEADLINE if most is None else min(DEADLINE, most))


DROP_IN = """\
{mark}
# This is {path}
# Take it away with: mmdoctor hook systemd {unit} --remove
#
{why}
"""
WHY = {
    "gate": """\
# Before {unit} starts, mmdoctor looks at its environment. What is broken stops the start: the unit fails, and its
# journal says what to do, where otherwise it would die later with an import error, or run with wrong numbers.""",
    "condition": """\
# Before {unit} starts, mmdoctor looks at its environment. Where that is broken the start is skipped: the unit
# stays inactive, is not failed and not restarted, and its journal says what to do. Wants systemd 243.""",
    "heal": """\
# Before {unit} starts, mmdoctor looks at its environment, and repairs what is broken from its caches ({healing}).
# Then it looks again: what is still broken stops the start, and the unit's journal says what to do.""",
}
LIMITS = """\
# systemd restarts after a look that did not pass as after a crash. Its limit counts starts within an interval, which
# has to be as long as that many looks may take, or it would never be reached:
# {burst} × ({deadline} s for the look + {slack} s to end it + RestartSec={pause:g}).
# So a service that dies within about {deadline} s of its start, {burst} times in a row, stays down, too.
StartLimitIntervalSec={interval}
"""
NOTIFY = """\
# So that the verdict stands in `systemctl status`: the commands of a start, too, may tell systemd (STATUS=).
NotifyAccess=exec
"""
RUNTIME = """\
# For the readiness file; systemd deletes it when the service stops.
RuntimeDirectory={folder}
"""
LOOK = """\
# The readiness file is deleted first, by a program that needs no Python, and written by a look that passed.
{key}=/bin/rm -f {ready}
# --quick imports nothing and needs no network; it runs as the unit's User=, under its Environment= and its sandbox, so
# it sees what the service will see. {order}
# A look that hangs (a dead network file system) ends after {deadline} s, and names what hung.
{key}={command}
"""
ORDER = {
    "ExecStartPre": "It comes after the unit's own ExecStartPre= lines.",
    "ExecCondition": "It comes before the unit's ExecStartPre= lines.",
}


def drop_in(hook: Hook, service: Service) -> str:
    """The drop-in's text."""
    name = unit_name(hook.unit)
    deadline = deadline_of(hook, service)
    key = "ExecCondition" if hook.mode == "condition" else "ExecStartPre"
    ready = ready_file(service)
    why = WHY[hook.mode].format(unit=name, healing=healing_unit(name))
    head = DROP_IN.format(mark=MARK, path=drop_in_path(hook.unit), unit=name, why=why)
    unit_section = limits(hook, service, deadline)
    if hook.mode == "heal":
        unit_section += f"Wants={healing_unit(name)}\nAfter={healing_unit(name)}\n"
    look = LOOK.format(
        key=key,
        ready=ready,
        order=ORDER[key],
        deadline=deadline,
        command=" ".join([*map(escape, look_command(hook, deadline)), *TOLD, ready]),
    )
    section = NOTIFY if service.notify_access in ("none", "main") else ""
    if not service.runtime_directories:
        section += RUNTIME.format(folder=OWN_DIRECTORY)
    return head + (f"[Unit]\n{unit_section}\n" if unit_section else "") + f"[Service]\n{section}{look}"


def look_command(hook: Hook, deadline: int) -> tuple[str, ...]:
    """The look itself, without what only a unit's command has."""
    return (hook.mmdoctor, "check", "--quick", "--deadline", str(deadline), "--env", hook.env)


def endless(service: Service) -> bool:
    """Whether the unit says of itself that it may be started without end (an interval or a burst of 0)."""
    return service.restart != "no" and (not service.burst or service.interval == 0)


def limits(hook: Hook, service: Service, deadline: int) -> str:
    """The start limit that a gate which never passes reaches; empty where nothing restarts, where the unit's own is
    long enough, and where it says that there is none."""
    if hook.mode == "condition" or service.restart == "no" or endless(service):
        return ""
    interval = int(service.burst * (deadline + SLACK_SECONDS + service.restart_seconds)) + 1
    if service.interval is None or service.interval >= interval:
        return ""
    return LIMITS.format(
        burst=service.burst,
        deadline=deadline,
        slack=SLACK_SECONDS,
        pause=service.restart_seconds,
        interval=interval,
    )


HEALING = """\
{mark}
# This is {path}
# Take it away with: mmdoctor hook systemd {unit} --remove
#
# Started with {unit}, before it. A unit of its own: that one's user may not be allowed to write to the environment,
# its sandbox may let nobody, and its TimeoutStartSec= be too short.
[Unit]
Description=Repair the environment of {unit} where it is broken
# Where healing fails again and again it is given up: {heals} times within what these may take.
StartLimitIntervalSec={interval}
StartLimitBurst={heals}

[Service]
Type=oneshot
# The environment's owner: mmdoctor runs the packages' code to prove what it installed, which is for nobody else to do.
User={user}
TimeoutStartSec={seconds}
# From the caches, and nowhere else.
PrivateNetwork=yes
SyslogIdentifier=mmdoctor
# torch's threads shall sleep while they wait: on a machine with other work the proof's inferences took a second or two
# with it, and minutes without.
Environment=OMP_WAIT_POLICY=passive
{environment}# Only what is broken (exit status 1) is repaired; nothing is compiled at a start.
ExecStart={command}
"""
HEAL_SCRIPT = (
    '"$1" check --quick --format journal --deadline "$2" --env "$3"; found=$?; [ $found = 1 ] || exit $found; '
    'exec "$1" fix --apply --yes --offline --no-build --recipe "$4" --env "$3"'
)


def healing(hook: Hook, service: Service) -> str:
    """The text of the unit that heals. Raises UsageError where nobody is named to do it."""
    name = unit_name(hook.unit)
    if not hook.healer:
        raise UsageError("heal wants to know who owns the environment")
    deadline = deadline_of(hook, service)
    argv = ("/bin/sh", "-c", HEAL_SCRIPT, "mmdoctor", hook.mmdoctor, str(deadline), hook.env, hook.recipe)
    each = HEAL_SECONDS + deadline + SLACK_SECONDS + service.restart_seconds
    settings = sorted(hook.environment.items())
    return HEALING.format(
        mark=MARK,
        path=healing_path(hook.unit),
        unit=name,
        user=hook.healer,
        heals=HEALS,
        interval=int(HEALS * each) + 1,
        seconds=HEAL_SECONDS,
        environment="".join(f"Environment={quoted(f'{key}={value}')}\n" for key, value in settings),
        command=" ".join(map(escape, argv)),
    )


def escape(word: str) -> str:
    """One word of an Exec line (systemd.service(5), "Command lines"): `%` begins a specifier, `$` a variable, and
    quotes and backslashes are C's."""
    return quoted(word.replace("$", "$$"))


def quoted(word: str) -> str:
    """One word of a setting in which `$` means itself."""
    word = word.replace("%", "%%")
    if re.fullmatch(r"[\w@%+=:,./$-]+", word, re.ASCII):
        return word
    return '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'
