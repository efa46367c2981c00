"""What a second environment with the same stack costs: mmcv from the wheel cache, an empty folder to the proven smoke.

    python benchmarks/second.py --env DIR [--runs 3]

DIR is an environment that `fix --apply` made, on the disk of the caches; the others are made beside it and removed.
Beside the repair, from the command to the proven environment, stands the bare way with warm caches: `uv venv`, one
`uv pip install` of the very same distributions (named exactly, not resolved, mmcv's wheel by its address) and the
bare smoke (`mmdoctor bench`: both reference models in that environment, no other look).
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

from mmdoctor.system import uv_program

ENVIRONMENT = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
STACK = ("torch", "mmcv", "mmpose", "numpy")
MMDOCTOR = (sys.executable, "-m", "mmdoctor")


def seconds(*argv: str) -> float:
    """The wall time of one command, which must end well."""
    start = time.perf_counter()
    done = subprocess.run(argv, capture_output=True, env=ENVIRONMENT, check=False)
    elapsed = time.perf_counter() - start
    if done.returncode != 0:
        sys.exit(f"{argv} ended with {done.returncode}: {done.stdout.decode()[-800:]}{done.stderr.decode()[-800:]}")
    return elapsed


def removed(env: Path) -> None:
    """Take an environment and what mmdoctor keeps beside it away."""
    for folder in (env, env.parent / f".{env.name}.mmdoctor"):
        shutil.rmtree(folder, ignore_errors=True)


def distributions(env: Path) -> list[str]:
    """The distributions of an environment as requirements: by version, what came from a file by its address."""
    argv = (uv_program(), "pip", "freeze", "--quiet", "--python", str(env))
    return subprocess.check_output(argv, text=True).splitlines()


def version_of(name: str, env: Path) -> str:
    """The public version of a distribution that is installed there."""
    found = next((env / "lib").glob(f"python3*/site-packages/{name}-*.dist-info"), None)
    if found is None:
        sys.exit(f"{env} has no {name}: name an environment that `mmdoctor fix --apply` made")
    return found.name[: -len(".dist-info")].partition("-")[2].partition("+")[0]


def bare(env: Path, python: str, wanted: list[str]) -> tuple[float, float]:
    """The seconds of the bare install into an empty folder, and of the smoke there."""
    made = seconds(uv_program(), "venv", "--python", python, str(env))
    install = (uv_program(), "pip", "install", "--python", str(env / "bin" / "python"), "--no-deps", *wanted)
    return made + seconds(*install), seconds(*MMDOCTOR, "bench", "--env", str(env))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", required=True, type=Path)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    first = options.env.absolute()
    second = first.with_name("bench-second")
    python = str((first / "bin" / "python").resolve())
    pins = [word for name in STACK for word in ("--pin", f"{name}=={version_of(name, first)}")]
    fix = (*MMDOCTOR, "fix", "--env", str(second), "--python", python, *pins, "--apply", "--yes")
    ratios = []
    for number in range(options.runs + 1):  # the first one warms the caches
        removed(second)
        ours = seconds(*fix)
        same = distributions(second)
        if not any(line.startswith("mmcv @ file:") for line in same):
            sys.exit("mmcv did not come from the wheel cache: nothing is shown")
        removed(second)
        install, smoke = bare(second, python, same)
        ratio = ours / (install + smoke)
        ratios += [ratio] if number else []
        print(
            f"empty folder to proven {ours:.1f} s; bare venv and install {install:.1f} s + bare smoke {smoke:.1f} s; "
            f"ratio {ratio:.2f}{'' if number else ' (warm-up)'}; {len(same)} distributions, "
            f"load {os.getloadavg()[0]:.1f}",
            flush=True,
        )
    removed(second)
    print(f"median ratio of {options.runs}: {statistics.median(ratios):.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
