"""The systemd of this machine: what it says of a service, and writing and taking away the files of the hook."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from typing import Optional

from mmdoctor.errors import RefusedError, UndeterminedError, UsageError
from mmdoctor.hooks.systemd import (
    CONDITION_SINCE,
    FOLDER,
    MARK,
    READY,
    Hook,
    Service,
    drop_in_path,
    healing_path,
    look_command,
    unit_name,
)
from mmdoctor.system import Completed, read, run

BOOTED = "/run/systemd/system"  # sd_booted(3)
SECONDS = 20.0
PROPERTIES = (
    "LoadState",
    "DropInPaths",
    "User",
    "DynamicUser",
    "Restart",
    "RestartUSec",
    "RestartSteps",
    "RestartMaxDelayUSec",
    "TimeoutStartUSec",
    "StartLimitBurst",
    "StartLimitIntervalUSec",
    "NotifyAccess",
    "RuntimeDirectory",
    "SuccessExitStatus",
)
# systemd.time(7); a month and a year as systemd itself counts them.
UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1, "min": 60, "h": 3600, "d": 86400, "w": 604800, "month": 2629800, "y": 31557600}


def booted() -> bool:
    """Whether systemd runs this machine; it does not where an image is built."""
    return Path(BOOTED).is_dir()


def systemctl(*arguments: str) -> Completed:
    """systemctl's answer, within 20 s. Raises UndeterminedError where it cannot be asked."""
    done = run(("systemctl", "--no-pager", *arguments), deadline=SECONDS, env={**os.environ, "LC_ALL": "C"})
    if done.timed_out or done.returncode < 0 or (not done.ok and "connect to bus" in done.stderr):
        said = done.stderr.strip() or "no answer"
        raise UndeterminedError(f"systemd does not answer: {said}", "see `systemctl is-system-running`")
    return done


def shown_as(unit: str) -> str:
    """The unit to ask systemd about: of a template, an instance that nobody has."""
    name = unit_name(unit)
    return f"{name}mmdoctor.service" if name.endswith("@") else f"{name}.service"


def properties(unit: str) -> dict[str, str]:
    """`systemctl show` of a service."""
    shown = systemctl("show", shown_as(unit), f"--property={','.join(PROPERTIES)}")
    return dict(line.split("=", 1) for line in shown.stdout.splitlines() if "=" in line)


def seen(unit: str) -> Optional[Service]:
    """What systemd says of a service without our drop-in; None where it has no such unit."""
    found = properties(unit)
    state = found.get("LoadState")
    if state == "not-found":
        return None
    if state != "loaded":
        raise RefusedError(f"systemd cannot load {unit}: {state}", f"systemctl status {unit}")
    return service_of(found, systemctl("cat", shown_as(unit)).stdout)


def service_of(found: Mapping[str, str], text: str) -> Service:
    """The service, from its properties as `systemctl show` has them and its text as `systemctl cat` has it, with what
    our own drop-in says left out."""
    ours = text.partition(f"\n{MARK}")[2].partition("\n# /")[0]
    # Since 254 a pause may grow, up to a longest one.
    pause = "RestartUSec" if found.get("RestartSteps", "0") == "0" else "RestartMaxDelayUSec"
    directories = found.get("RuntimeDirectory", "").split()
    return Service(
        user=found.get("User", ""),
        dynamic_user=found.get("DynamicUser") == "yes",
        permissions_start_only=bool(re.search(r"(?mi)^PermissionsStartOnly\s*=\s*(1|yes|true|on|y|t)\s*$", text)),
        restart=found.get("Restart", "no"),
        restart_seconds=seconds(found.get(pause, "100ms")) or 0.0,
        start_seconds=seconds(found.get("TimeoutStartUSec", "1min 30s")),
        burst=int(found.get("StartLimitBurst", "5")),
        interval=10.0 if "StartLimitIntervalSec=" in ours else seconds(found.get("StartLimitIntervalUSec", "10s")),
        notify_access="none" if "NotifyAccess=" in ours else found.get("NotifyAccess", "none"),
        runtime_directories=tuple(name for name in directories if not name.startswith("mmdoctor-")),
        success=tuple(found.get("SuccessExitStatus", "").split()),
    )


def seconds(span: str) -> Optional[float]:
    """A time span of systemd (`1min 30s`) in seconds, None for infinity. Raises UndeterminedError for another form."""
    if span == "infinity":
        return None
    parts = re.findall(r"([0-9.]+)([a-z]*)", span)
    if not parts or "".join(number + unit for number, unit in parts) != span.replace(" ", ""):
        raise UndeterminedError(f"systemd says a time that mmdoctor cannot read: {span!r}", "please report it")
    return sum(float(number) * UNITS[unit or "s"] for number, unit in parts)


def not_there(unit: str) -> str:
    """A sentence about a unit that systemd does not have, with the ones of nearly that name."""
    listed = systemctl("list-unit-files", "--type=service", "--no-legend", "--plain").stdout
    names = [line.split()[0].removesuffix(".service") for line in listed.splitlines() if line.strip()]
    near = get_close_matches(unit_name(unit), names, n=3, cutoff=0.5)
    return f"systemd has no {unit_name(unit)}.service" + (f"; there is {', '.join(near)}" if near else "")


def refuse_without_rights() -> None:
    """UsageError where this user may not write below /etc/systemd/system."""
    if not os.access(FOLDER, os.W_OK):
        raise not_allowed(Path(FOLDER), PermissionError(errno.EACCES, os.strerror(errno.EACCES)))


def refuse_an_older_one(hook: Hook) -> None:
    """RefusedError where this systemd is too old for the mode."""
    version = re.match(r"systemd (\d+)", systemctl("--version").stdout)
    if hook.mode == "condition" and version and int(version[1]) < CONDITION_SINCE:
        raise RefusedError(
            f"ExecCondition= came with systemd {CONDITION_SINCE}, and this is {version[1]}, which ignores it: the "
            "service would start unlooked at",
            "--mode gate",
        )


def looked_as(user: str, hook: Hook, deadline: int) -> Completed:
    """The look as `user` takes it, without the unit's sandbox. Raises UsageError where that user cannot run it."""
    become = () if user in ("", "root") else ("runuser", "-u", user, "--")
    done = run((*become, *look_command(hook, deadline), "--format", "journal"), deadline=deadline + SECONDS)
    if done.returncode not in (0, 1, 3) or not done.stdout:
        said = (done.stderr.strip() or f"exit status {done.returncode}").splitlines()[0]
        raise UsageError(
            f"{user or 'root'}, as whom {hook.unit} runs, cannot take the look: {said}",
            "install mmdoctor where every user may run it, such as a venv below /opt",
        )
    return done


def install(hook: Hook, files: Mapping[str, str], root: Path = Path("/")) -> None:
    """Write the files, each whole or not at all, and take away what an earlier hook of the unit has besides.

    Raises RefusedError for a file there that mmdoctor did not write, UsageError where it may not write.
    """
    ours = (healing_path(hook.unit), drop_in_path(hook.unit))
    for name in ours:
        refuse_a_foreign(root / name.lstrip("/"))
    for name, text in files.items():
        write(root / name.lstrip("/"), text)
    for name in ours:
        if name not in files:
            (root / name.lstrip("/")).unlink(missing_ok=True)


def remove(unit: str, root: Path = Path("/")) -> list[str]:
    """Take away what the hook wrote, and the folder of drop-ins where nothing else is in it: the files that are gone.

    Raises as `install` does.
    """
    files = [root / name.lstrip("/") for name in (drop_in_path(unit), healing_path(unit))]
    for file in files:
        refuse_a_foreign(file)
    present = [file for file in files if file.exists()]
    for ready in ready_files(unit, files[0], root):
        ready.unlink(missing_ok=True)
        with suppress(OSError):  # the service's own folder, or its program wrote there, too
            if ready.parent.name.startswith("mmdoctor-"):
                ready.parent.rmdir()
    for file in present:
        try:
            file.unlink()
        except OSError as error:
            raise not_allowed(file, error) from error
    with suppress(OSError):  # not empty: somebody's other drop-ins
        files[0].parent.rmdir()
    return [str(file) for file in present]


def ready_files(unit: str, drop_in: Path, root: Path) -> list[Path]:
    """The readiness files of a unit, or of a template's instances, that a running service still has."""
    name = unit_name(unit)
    own = (root / "run").glob(f"mmdoctor-{name}{'*' if name.endswith('@') else ''}/{READY}")
    theirs = re.search(rf"--ready /(run/\S+/{READY})$", read(drop_in) or "", re.MULTILINE)
    return [*own, *([root / theirs[1]] if theirs else [])]


def refuse_a_foreign(file: Path) -> None:
    """RefusedError for a file that is there and that mmdoctor did not write."""
    try:
        first = file.read_text(encoding="utf-8", errors="replace").partition("\n")[0]
    except FileNotFoundError:
        return
    except OSError as error:
        raise not_allowed(file, error) from error
    if first != MARK:
        raise RefusedError(f"{file} is there, and mmdoctor did not write it", "look at it, and move it away")


def not_allowed(file: Path, error: OSError) -> UsageError:
    """What to say where a file below /etc cannot be written."""
    hint = "as root: sudo mmdoctor hook systemd …; or --print, and put it there" if os.geteuid() else None
    return UsageError(f"cannot write {file}: {error.strerror}", hint)


def write(file: Path, text: str) -> None:
    """A file for everybody to read, whole or not at all, on the disk before it has its name."""
    draft = file.with_name(f".{file.name}.part")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with draft.open("w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        draft.chmod(0o644)
        draft.replace(file)
    except OSError as error:
        raise not_allowed(file, error) from error


def reload(unit: str) -> None:
    """`systemctl daemon-reload`. Raises UndeterminedError where it fails."""
    done = systemctl("daemon-reload")
    if not done.ok:
        raise UndeterminedError(f"systemctl daemon-reload failed: {done.stderr.strip()}", f"then restart {unit}")


def in_force(unit: str) -> bool:
    """Whether systemd reads the drop-in."""
    found = properties(unit)
    return found.get("LoadState") == "loaded" and drop_in_path(unit) in found.get("DropInPaths", "").split()
