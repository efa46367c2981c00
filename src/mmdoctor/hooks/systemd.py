"""A systemd drop-in that looks at a service's environment before the service starts from it."""

from __future__ import annotations

import re

from mmdoctor.errors import UsageError

# systemd.unit(5): ASCII letters, digits and `:-_.\\`; an `@` before the instance of a template.
UNIT = re.compile(r"[A-Za-z0-9:_.\\-]+(?:@[A-Za-z0-9:_.\\@-]*)?")
LONGEST_UNIT = 255
OTHER_KINDS = ("socket", "device", "mount", "automount", "swap", "target", "path", "timer", "slice", "scope")
FOLDER = "/etc/systemd/system"
FILE = "50-mmdoctor.conf"
# coreutils; an absolute path, since systemd before 239 takes no other.
TIMEOUT = "/usr/bin/timeout"
KILL_SECONDS = 5
# DefaultTimeoutStartSec is 90 s (systemd-system.conf(5)): ours ends first, or the journal blames the wrong one.
LONGEST_DEADLINE = 80

TEMPLATE = """\
# Written by `mmdoctor hook systemd`.
# Install as {path}, then: systemctl daemon-reload
#
# Before {unit}.service starts, mmdoctor looks at its environment. Findings stop the start with their text in the
# journal, where otherwise the service would fail later with an import error, or run with wrong numbers.
# To be told and start all the same, write `ExecStartPre=-` in place of `ExecStartPre=`.
[Service]
# --quick imports nothing, needs no network and writes nothing; it runs as the unit's User=, under its Environment= and
# its sandbox, so it sees what the service will see. It comes after the unit's own ExecStartPre= lines.
# timeout ends a look that hangs (a dead network file system) after {deadline} s. TimeoutStartSec= stays the unit's own:
# systemd counts it anew for every ExecStartPre= and for the start itself, so this look takes nothing from it; a
# Type=oneshot unit has none at all. Where the unit sets it below {ceiling} s, give --deadline a smaller value.
ExecStartPre={command}
"""


def unit_name(unit: str) -> str:
    """The name without `.service`, validated. Raises UsageError for what is no name of a service."""
    name = unit.removesuffix(".service")
    suffix = name.rpartition(".")[2]
    if (
        not UNIT.fullmatch(name)
        or len(name) + len(".service") > LONGEST_UNIT
        or (suffix in OTHER_KINDS and "." in name)
    ):
        expected = "expected the name of a service, such as mmpose-service or worker@1.service"
        raise UsageError(f"{unit!r} names no service: {expected}", "see `systemctl list-units --type=service`")
    return name


def drop_in_path(unit: str) -> str:
    """Where the drop-in belongs."""
    return f"{FOLDER}/{unit_name(unit)}.service.d/{FILE}"


def drop_in(unit: str, mmdoctor: str, env: str, deadline: int) -> str:
    """The drop-in's text.

    `mmdoctor` is the absolute path of the command, `env` that of the service's environment, `deadline` the seconds that
    the look may take, 1 to 80. Raises UsageError for anything that systemd would refuse or read differently.
    """
    if not 1 <= deadline <= LONGEST_DEADLINE:
        raise UsageError(
            f"a deadline of {deadline} s: expected 1 to {LONGEST_DEADLINE}",
            "a quick check takes about a second; systemd itself ends each command of a start after 90 s",
        )
    for what, path in (("mmdoctor", mmdoctor), ("env", env)):
        if not path.startswith("/") or not path.isprintable():
            raise UsageError(f"{what} {path!r}: expected an absolute path on one line", "systemd takes no other")
    argv = (TIMEOUT, f"--kill-after={KILL_SECONDS}", str(deadline), mmdoctor, "check", "--quick", "--env", env)
    return TEMPLATE.format(
        path=drop_in_path(unit),
        unit=unit_name(unit),
        deadline=deadline,
        ceiling=deadline + KILL_SECONDS,
        command=" ".join(map(escape, argv)),
    )


def escape(word: str) -> str:
    """One word of an Exec line (systemd.service(5), "Command lines"): `%` begins a specifier, `$` a variable, and
    quotes and backslashes are C's."""
    word = word.replace("%", "%%").replace("$", "$$")
    if re.fullmatch(r"[\w@%+=:,./$-]+", word, re.ASCII):
        return word
    return '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'
