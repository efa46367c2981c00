"""Times of `check`, `check --quick` and `fix` against what users run today, as ratios in one run.

    python benchmarks/speed.py --env DIR [--runs 7]

Each pair runs in turn (A B A B …) after one warm-up of each, so that a machine whose speed drifts still gives a fair
ratio. Printed are medians in seconds, and the median of the ratios pair by pair. Byte-compiling is on, as for users.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

IMPORTS = ("torch", "torchvision", "cv2", "xtcocotools._mask", "mmcv._ext", "mmcv.ops", "mmdet", "mmpose.apis")


def seconds(argv: list[str]) -> float:
    """The wall time of one run of a command, its start included; it must have an ordinary end (0 or 1)."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    start = time.perf_counter()
    done = subprocess.run(argv, capture_output=True, env=environment, check=False)
    elapsed = time.perf_counter() - start
    if done.returncode not in (0, 1):
        sys.exit(f"{argv} ended with {done.returncode}: {done.stderr.decode()[-500:]}")
    return elapsed


def paired(ours: list[str], theirs: list[str], runs: int) -> tuple[float, float, float]:
    """Medians of both commands, and of the ratio ours/theirs pair by pair."""
    seconds(ours), seconds(theirs)
    pairs = [(seconds(ours), seconds(theirs)) for _ in range(runs)]
    ratio = statistics.median(mine / other for mine, other in pairs)
    return statistics.median(mine for mine, _ in pairs), statistics.median(other for _, other in pairs), ratio


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", required=True, type=Path)
    parser.add_argument("--runs", type=int, default=7)
    options = parser.parse_args()
    python = str(options.env / "bin" / "python")
    doctor = [sys.executable, "-m", "mmdoctor"]
    target = ["--env", str(options.env)]
    check, quick, fix = [*doctor, "check", *target], [*doctor, "check", "--quick", *target], [*doctor, "fix", *target]
    single = {
        module: statistics.median(seconds([python, "-c", f"import {module}"]) for _ in range(3)) for module in IMPORTS
    }
    slowest = max(single, key=lambda module: single[module])
    print("single imports, s: " + ", ".join(f"{module} {value:.2f}" for module, value in single.items()))
    bare = [python, "-c", "import " + ", ".join(IMPORTS)]
    others = {
        "check": (check, {
            f"import {slowest} (the slowest single import)": [python, "-c", f"import {slowest}"],
            "a bare import of the same modules": bare,
            "torch.utils.collect_env": [python, "-m", "torch.utils.collect_env"],
        }),
        "check --quick": (quick, {"pip check": [python, "-m", "pip", "check"]}),
        "fix (plan only)": (fix, {"a bare import of the same modules": bare}),
    }  # fmt: skip
    for name, (ours, against) in others.items():
        for other, theirs in against.items():
            mine, its, ratio = paired(ours, theirs, options.runs)
            print(f"{name:16} {mine:6.2f} s   {other:48} {its:6.2f} s   ratio {ratio:.2f}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
