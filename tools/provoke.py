"""Provokes faults of the stack for real and records what a user would see of them.

    python tools/provoke.py --env ENVIRONMENT [--wheels FOLDER] [--scratch FOLDER] [NAME ...]

Each file of tests/data/explain/logs/ has a head, an empty line, and the log. The lines of the head that begin with `$ `
are the bash script that makes the fault; this tool runs it and writes what it printed below the head. It runs in an
empty folder with these variables: $ENV, a hard-linked copy of ENVIRONMENT (a healthy one: torch 2.1, mmcv 2.1, mmdet
3.2, mmpose 1.3, NumPy 1.26), made only where the script names it; $NEW, the path for an environment of its
own; $WHEELS, the folder of a torch without CUDA; $UV and $PYTHON. Without a NAME all that have a script are made anew.
Paths and addresses of this machine are replaced by neutral ones. A script that prints nothing is an error: the fault
did not come about.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

LOGS = Path(__file__).parents[1] / "tests" / "data" / "explain" / "logs"
SECONDS = 540
LINES = 120  # what somebody would paste; the middle of a longer log is left out
PASSED_ON = ("LANG", "UV_CACHE_DIR", "PIP_CERT", "SSL_CERT_FILE", "http_proxy", "https_proxy", "no_proxy")


def head_of(path: Path) -> tuple[list[str], str]:
    """The lines of the head, and the log below it."""
    head, _, log = path.read_text(encoding="utf-8").partition("\n\n")
    return head.splitlines(), log


def neutral(text: str, places: dict[str, str]) -> str:
    """The text with this machine's folders and loopback ports replaced."""
    for place, name in sorted(places.items(), key=lambda pair: -len(pair[0])):
        text = text.replace(place, name)
    text = re.sub(r"(127\.0\.0\.1|localhost):\d{5}", r"\1:8080", text)
    return re.sub(r"\bpid[ =]\d+|(?<=/tmp/)(tmp|pip-[\w-]+-)\w{8}", lambda m: f"{m[1] or 'pid '}00000000", text)


def shortened(text: str) -> str:
    lines = [line.rstrip() for line in text.replace("\0", "").rstrip().splitlines()]
    return "\n".join(lines if len(lines) <= LINES else [*lines[: LINES // 2], "...", *lines[-LINES // 2 :]]) + "\n"


def provoke(script: str, env: Path, wheels: Path, scratch: Path) -> str:
    """What the script prints, both streams together, neutral."""
    shutil.rmtree(scratch, ignore_errors=True)
    work, home, copy = scratch / "work", scratch / "home", scratch / "env"
    work.mkdir(parents=True)
    home.mkdir()
    if "$ENV" in script:
        subprocess.run(["cp", "-al", str(env), str(copy)], check=True)
    passed = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    bin_of_ours = Path(sys.executable).parent
    settings = {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "UV_CACHE_DIR": str(Path.home() / ".cache" / "uv"),
        **passed,
        "HOME": str(home),
        "TMPDIR": str(scratch),
        "ENV": str(copy),
        "NEW": str(scratch / "new"),
        "WHEELS": str(wheels),
        "UV": str(bin_of_ours / "uv"),
        "PYTHON": str(Path(os.path.realpath(sys.executable))),
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_NO_COLOR": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    done = subprocess.run(
        ["/bin/bash", "-c", script],
        cwd=work,
        env=settings,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        timeout=SECONDS,
        check=False,
    )
    places = {
        str(work): "/srv/project",
        str(home): "/home/user",
        str(copy): "/opt/venv",
        str(scratch / "new"): "/opt/new",
        str(scratch): "/tmp",
        str(env): "/opt/venv",
        str(wheels): "/opt/wheels",
        settings["UV_CACHE_DIR"]: "/home/user/.cache/uv",
        str(Path(settings["PYTHON"]).parents[1]): "/usr",
        str(bin_of_ours): "/usr/bin",
    }
    shutil.rmtree(scratch, ignore_errors=True)
    return shortened(neutral(done.stdout.decode("utf-8", "replace"), places))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", type=Path, required=True)
    parser.add_argument("--wheels", type=Path, default=Path("wheels"))
    parser.add_argument("--scratch", type=Path, default=Path("/tmp/provoke"))
    parser.add_argument("names", nargs="*", metavar="NAME")
    options = parser.parse_args()
    empty = []
    for path in sorted(LOGS.glob("*.txt")):
        head, _ = head_of(path)
        script = "\n".join(line[2:] for line in head if line.startswith("$ "))
        if not script or (options.names and path.stem not in options.names):
            continue
        log = provoke(script, options.env.resolve(), options.wheels.resolve(), options.scratch)
        print(f"{path.stem}: {len(log.splitlines())} lines", flush=True)
        if log.strip():
            path.write_text("\n".join(head) + "\n\n" + log, encoding="utf-8")
        else:
            empty.append(path.stem)
    for name in empty:
        print(f"{name}: nothing was printed, so there was no fault", file=sys.stderr)
    return 1 if empty else 0


if __name__ == "__main__":
    sys.exit(main())
