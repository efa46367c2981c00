"""What a gate costs: `check --quick` and `check --cached`, whole processes, against the environment's own `pip check`.

    python benchmarks/gates.py --env DIR [--runs 15] [--assert]

The three run in turn (A B C A B C …) after one warm-up of each, so that a machine whose speed drifts still gives fair
ratios. Printed are medians: wall time, CPU time with all children, and the ratios to `pip check` round by round. With
--assert the exit status is 1 where a ratio of the wall times is above what the gates promise. Byte-compiling is on, as
for users; the verdicts are kept in a folder of their own.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

PROMISED = {"check --quick": 0.6, "check --cached": 0.3}


class Cost(NamedTuple):
    """Seconds."""

    wall: float
    cpu: float


def cost(argv: list[str], environment: dict[str, str]) -> Cost:
    """One run of a command, its start included; it must have an ordinary end (0 or 1)."""
    start = time.perf_counter()
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=said, env=environment)
        _, status, used = os.wait4(process.pid, 0)
        elapsed = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode not in (0, 1):
            said.seek(0)
            sys.exit(f"{argv} ended with {process.returncode}: {said.read().decode()[-500:]}")
    return Cost(elapsed, used.ru_utime + used.ru_stime)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", required=True, type=Path)
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--assert", action="store_true", dest="promised")
    options = parser.parse_args()
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    script = Path(sys.executable).with_name("mmdoctor")
    doctor = [str(script)] if script.exists() else [sys.executable, "-m", "mmdoctor"]
    target = ["--env", str(options.env)]
    commands = {
        "pip check": [str(options.env / "bin" / "python"), "-m", "pip", "check"],
        "check --quick": [*doctor, "check", "--quick", *target],
        "check --cached": [*doctor, "check", "--cached", "1d", *target],
        "python -c pass": [sys.executable, "-c", "pass"],
    }
    with tempfile.TemporaryDirectory() as cache:
        environment["MMDOCTOR_CACHE"] = cache
        for argv in (*commands.values(), commands["check --cached"]):
            cost(argv, environment)
        rounds = [{name: cost(argv, environment) for name, argv in commands.items()} for _ in range(options.runs)]
    kept = True
    for name in commands:
        wall, cpu = (statistics.median(one[name][part] for one in rounds) for part in (0, 1))
        ratios = [[one[name][part] / one["pip check"][part] for one in rounds] for part in (0, 1)]
        ratio, of_cpu = map(statistics.median, ratios)
        print(f"{name:15} {wall * 1000:6.0f} ms  {cpu * 1000:6.0f} ms CPU   × pip check: {ratio:.2f}, CPU {of_cpu:.2f}")
        kept = kept and ratio <= PROMISED.get(name, ratio)
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores, {options.runs} rounds")
    return 0 if kept or not options.promised else 1


if __name__ == "__main__":
    sys.exit(main())
