"""A compile by mmdoctor against plain `pip wheel --no-build-isolation` of the same source: wall time and wheel size.

    python benchmarks/builds.py --env DIR [--package mmcv==2.1.0] [--first ours|plain]

DIR is an environment with torch; it is cloned beside itself, never changed. Both compile in the clone, one after the
other, from empty folders, the source with the same fix-ups; what setup.py needs is installed for both. Ours includes
everything from the command to the proven wheel in the cache. CPU seconds stand beside the wall clock, which tells of
the machine's other work, too.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from mmdoctor.apply.clone import clone
from mmdoctor.builds import missing_tools
from mmdoctor.matrix import load_matrix
from mmdoctor.probes.indexes import user_config
from mmdoctor.probes.target import interpreter_of
from mmdoctor.system import uv_program
from mmdoctor.wheels.asking import build_asked, facts_for
from mmdoctor.wheels.build import unpack
from mmdoctor.wheels.fetch import fetch_sdist


class Took(NamedTuple):
    """Seconds of wall clock, and of CPU with all children."""

    wall: float
    cpu: float


def seconds(*argv: str, environment: dict[str, str]) -> Took:
    """What one command takes, which must succeed."""
    start, used = time.perf_counter(), _children()
    done = subprocess.run(argv, capture_output=True, text=True, env=environment, check=False)
    took = Took(time.perf_counter() - start, _children() - used)
    if done.returncode != 0:
        sys.exit(f"{argv} ended with {done.returncode}: {done.stdout[-1500:]}{done.stderr[-1500:]}")
    return took


def _children() -> float:
    times = os.times()
    return times.children_user + times.children_system


def main() -> None:
    """Run both and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", type=Path, required=True)
    parser.add_argument("--package", default="mmcv==2.1.0")
    parser.add_argument("--first", choices=("ours", "plain"), default="ours")
    asked = parser.parse_args()
    name, _, version = asked.package.partition("==")
    env = asked.env.absolute().with_name(f"bench-builds-{os.getpid()}")
    scratch = Path(tempfile.mkdtemp(prefix="mmdoctor-bench-", dir=env.parent))
    try:
        clone(asked.env, env)
        facts, matrix, python = facts_for(env, True), load_matrix(), str(interpreter_of(env))
        build = build_asked(matrix, facts, name, version, None)
        config, cache = user_config(os.environ, Path.home(), env), scratch / "cache"
        sdist = fetch_sdist(config, name, version, build.sdist_sha256, cache / "sdists", offline=False)
        tools = missing_tools(matrix, name, facts.target)
        if tools:
            seconds(uv_program(), "pip", "install", "--python", python, "pip", *tools, environment=dict(os.environ))
        source = unpack(sdist, build, scratch / "source")
        path = os.pathsep.join((str(Path(python).parent), os.environ.get("PATH", "")))
        plainly = (python, "-m", "pip", "wheel", "--no-build-isolation", "--no-deps", "--no-cache-dir")
        commands = {
            "ours": (
                (sys.executable, "-m", "mmdoctor", "wheels", "build", asked.package, "--env", str(env)),
                {**os.environ, "MMDOCTOR_CACHE": str(cache)},
            ),
            "plain": ((*plainly, "-w", str(scratch / "plain"), str(source)), {**os.environ, "PATH": path}),
        }
        order = sorted(commands, key=lambda who: who != asked.first)
        took = {}
        for who in order:
            took[who] = seconds(*commands[who][0], environment=commands[who][1])
            load = os.getloadavg()[0]
            print(
                f"{who}: {took[who].wall:.0f} s, {took[who].cpu:.0f} s of CPU, load {load:.1f} at the end", flush=True
            )
        [ours], [plain] = cache.glob("wheels/*/*/*.whl"), (scratch / "plain").glob("*.whl")
        sizes = {"ours": ours.stat().st_size, "plain": plain.stat().st_size}
        print(", ".join(f"{who} {size / 1e6:.2f} MB" for who, size in sizes.items()))
        wall, cpu = (mine / theirs for mine, theirs in zip(took["ours"], took["plain"]))
        print(f"ours / plain: {wall:.2f} of the time (wanted: at most 0.9), {cpu:.2f} of the CPU", end=", ")
        print(f"{sizes['ours'] / sizes['plain']:.2f} of the size (wanted: less than 1)")
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        shutil.rmtree(env, ignore_errors=True)


if __name__ == "__main__":
    main()
