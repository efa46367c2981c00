"""A script that keeps jobs off a Slurm node whose environment is broken: its HealthCheckProgram and its Prolog."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from mmdoctor.errors import UsageError

FILE = "mmdoctor-slurm"
# slurm.conf(5): a Prolog is to end within MessageTimeout, 10 s by default; the HealthCheckProgram is killed after 60 s.
DEADLINE_SECONDS = 4

# Why it is sh and not Python: a Prolog that fails drains its node, and a Python that does not start any more would
# drain every node that has it.
TEMPLATE = Path(__file__).with_name("slurm.sh")


def script(mmdoctor: str, env: str, scontrol: str, *, cached: str, strict: bool = False, folder: str = ".") -> str:
    """The script's text.

    `mmdoctor` is the absolute path of the command, `env` that of the environment, `scontrol` Slurm's command, `cached`
    what `check --cached` is told (`1h`), `folder` where the script will lie. `strict`: where mmdoctor comes to no
    verdict the node is drained too. Raises UsageError for a path that Slurm or sh would read
    otherwise.
    """
    for what, path in (("mmdoctor", mmdoctor), ("env", env)):
        if not path.startswith("/") or not path.isprintable():
            raise UsageError(
                f"{what} {path!r}: expected an absolute path on one line", "Slurm sets no folder to start in"
            )
    settings = {
        "conf": "\n".join(f"#   {line}" for line in slurm_conf(Path(folder) / FILE)),
        "mmdoctor": shlex.quote(mmdoctor),
        "env": shlex.quote(env),
        "scontrol": shlex.quote(scontrol),
        "cached": shlex.quote(cached),
        "strict": "yes" if strict else "no",
        "deadline": str(DEADLINE_SECONDS),
        "outer": str(DEADLINE_SECONDS + 1),
    }
    text = TEMPLATE.read_text(encoding="utf-8")
    return re.sub(r"@(\w+)@", lambda found: settings.get(found[1], found[0]), text)


def slurm_conf(path: Path) -> tuple[str, ...]:
    """The lines of slurm.conf that use the script. CYCLE spreads the looks over the interval instead of starting them
    on all nodes at once (slurm.conf(5)); drained nodes have to be looked at too, so no state is left out."""
    return (
        f"HealthCheckProgram={path}",
        "HealthCheckInterval=300",
        "HealthCheckNodeState=ANY,CYCLE",
        f"Prolog={path}",
    )


def install(text: str, folder: Path) -> Path:
    """Write the script into a folder, whole and executable at once, since slurmd may start it at any moment; returns
    its path. Raises UsageError where it cannot be written."""
    path = folder / FILE
    draft = folder / f".{FILE}.part"
    try:
        draft.write_text(text, encoding="utf-8")
        draft.chmod(0o755)
        draft.replace(path)
    except OSError as error:
        raise UsageError(
            f"cannot write {path}: {error.strerror}", "name a folder that is there on each node"
        ) from error
    return path
