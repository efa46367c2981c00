"""What `check --annotations` takes for a large file, beside json.load of the same file: CPU seconds and peak memory.

    python benchmarks/annotations.py [--megabytes 200]

Each runs in a process of its own; the file is generated, with outlines, and whole.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
TAIL = "; u = resource.getrusage(resource.RUSAGE_SELF); print(u.ru_utime + u.ru_stime, u.ru_maxrss / 1000)"
PROGRAMS = {
    "json.load": "import json, resource, sys; json.load(open(sys.argv[1]))",
    "--annotations": "import resource, sys; from pathlib import Path; from mmdoctor.annotations import examine; "
    "examine(Path(sys.argv[1]))",
    "--write-fixed": "import resource, sys; from pathlib import Path; from mmdoctor.annotations import examine; "
    "examine(Path(sys.argv[1]), Path(sys.argv[1] + '.fixed'))",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=200)
    size = parser.parse_args().megabytes * 1_000_000
    sys.path.insert(0, str(ROOT))
    from tests.annotation_cases import write_large

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "large.json"
        count = write_large(path, size)
        print(f"{path.stat().st_size / 1e6:.0f} MB, {count} annotations")
        for name, program in PROGRAMS.items():
            argv = [sys.executable, "-c", program + TAIL, str(path)]
            done = subprocess.run(argv, capture_output=True, text=True, check=True)
            seconds, megabytes = map(float, done.stdout.split())
            print(f"{name:14} {seconds:6.1f} s CPU  {megabytes:6.0f} MB at most")


if __name__ == "__main__":
    main()
