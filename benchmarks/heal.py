"""What a repair that cannot hurt costs: the clone against `cp -al`, and "somebody upgraded NumPy to 2" healed.

    python benchmarks/heal.py --env DIR [--runs 3]

DIR is a proven environment on a file system with hard links; it is cloned beside itself, never changed. The repair runs
from the command to the proven environment in place, with warm caches; beside it the bare `uv pip install` of the same
change and the bare smoke (`mmdoctor bench`: both reference models in the same environment, no other look).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

from mmdoctor.apply.clone import clone
from mmdoctor.apply.recover import own_bytes
from mmdoctor.system import uv_program

ENVIRONMENT = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}


def seconds(*argv: str, status: int = 0) -> float:
    """The wall time of one command, which must end with `status`."""
    start = time.perf_counter()
    done = subprocess.run(argv, capture_output=True, env=ENVIRONMENT, check=False)
    elapsed = time.perf_counter() - start
    if done.returncode != status:
        sys.exit(f"{argv} ended with {done.returncode}: {done.stdout.decode()[-800:]}{done.stderr.decode()[-800:]}")
    return elapsed


def removed(env: Path) -> None:
    """Take an environment and what mmdoctor keeps beside it away."""
    for folder in (env, env.parent / f".{env.name}.mmdoctor"):
        shutil.rmtree(folder, ignore_errors=True)


def clones(env: Path, runs: int) -> None:
    """The clone alone: its time beside `cp -al`, and the room it takes."""
    copy, ours, theirs = env.with_name("bench-clone"), [], []
    for _ in range(runs):
        start = time.perf_counter()
        made = clone(env, copy)
        ours.append(time.perf_counter() - start)
        room = own_bytes(copy)
        shutil.rmtree(copy)
        theirs.append(seconds("cp", "-al", str(env), str(copy)))
        shutil.rmtree(copy)
    mine, its = statistics.median(ours), statistics.median(theirs)
    print(f"clone of {made.files} files: {mine:.2f} s, {room / 1e6:.0f} MB of its own; cp -al {its:.2f} s", flush=True)


def heal(env: Path, runs: int) -> None:
    """The repair against the bare install and the bare smoke, in turn."""
    patient, ratios = env.with_name("bench-heal"), []
    python = str(patient / "bin" / "python")
    listed = json.loads(subprocess.check_output([uv_program(), "pip", "list", "--python", str(env), "--format=json"]))
    sound = next(entry["version"] for entry in listed if entry["name"] == "numpy")
    install = (uv_program(), "pip", "install", "--python", python)
    for _ in range(runs + 1):  # the first one warms the caches
        removed(patient)
        clone(env, patient)
        seconds(*install, "numpy==2.2.6")
        ours = seconds(sys.executable, "-m", "mmdoctor", "fix", "--env", str(patient), "--apply", "--yes")
        removed(patient)
        clone(env, patient)
        seconds(*install, "numpy==2.2.6")
        bare = seconds(*install, f"numpy=={sound}")
        smoke = seconds(sys.executable, "-m", "mmdoctor", "bench", "--env", str(patient))
        ratios.append(ours / (bare + smoke))
        print(
            f"healed {ours:.1f} s; bare install {bare:.2f} s + bare smoke {smoke:.1f} s; ratio {ratios[-1]:.2f}",
            flush=True,
        )
    removed(patient)
    print(f"median ratio of {runs} after one warm-up: {statistics.median(ratios[1:]):.2f}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", required=True, type=Path)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    clones(options.env.absolute(), max(options.runs, 3))
    heal(options.env.absolute(), options.runs)
    return 0


if __name__ == "__main__":
    sys.exit(main())
