"""What the resolver takes: loading the matrix, one machine, three thousand machines in one process.

    python benchmarks/resolve.py [--machines 3000] [--runs 5]

The recorded machines are `tests/machines/*.json`. The many are these as they are and in new environments on every
Python: first as a fleet asks, for the default recipe; then for every recipe, half of them with --no-build, so that half
have no stack and are told what excludes what, with two ways out.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator
from itertools import cycle, islice, product
from pathlib import Path

import msgspec

from mmdoctor.holds import in_new_environment
from mmdoctor.matrix import load_matrix, load_recipe, recipe_names
from mmdoctor.model import Facts, Request
from mmdoctor.resolve import resolve

FOLDER = Path(__file__).parents[1] / "tests" / "machines"
PYTHONS = ("3.8.10", "3.9.2", "3.10.12", "3.11.7", "3.12.3", "3.13.5")


def recorded() -> list[Facts]:
    """The recorded machines; files that hold none are left out."""
    found = []
    for file in sorted(FOLDER.glob("*.json")):
        try:
            found.append(msgspec.json.decode(file.read_bytes(), type=Facts))
        except msgspec.DecodeError:
            continue
    return found


def fleet(machines: list[Facts]) -> Iterator[tuple[Facts, Request]]:
    """Machines that ask for the default recipe, without end, the same each time."""
    request = Request(recipe=load_recipe("rtmpose"))
    for python in cycle((None, *PYTHONS)):
        for facts in machines:
            yield (facts if python is None else in_new_environment(facts, python)), request


def questions(machines: list[Facts]) -> Iterator[tuple[Facts, Request]]:
    """Machines with requests, without end, the same each time."""
    recipes = [load_recipe(name) for name in recipe_names()]
    kinds = [(recipe, build, python) for recipe, build, python in product(recipes, (True, False), (None, *PYTHONS))]
    for facts, (recipe, build, python) in zip(cycle(machines), cycle(kinds)):
        here = facts if python is None else in_new_environment(facts, python)
        yield here, Request(recipe=recipe, allow_build=build)


def milliseconds(function: object, *arguments: object) -> tuple[float, object]:
    """The CPU time of one call, and what it gave."""
    start = time.process_time()
    given = function(*arguments)  # type: ignore[operator]
    return 1000 * (time.process_time() - start), given


def loop() -> None:
    """A million additions: what this machine does with plain Python."""
    total = 0
    for number in range(1_000_000):
        total += number


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--machines", type=int, default=3000)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    plain = statistics.median(milliseconds(loop)[0] for _ in range(options.runs))
    loads = [milliseconds(load_matrix)[0] for _ in range(options.runs)]
    matrix, machines, recipe = load_matrix(), recorded(), load_recipe("rtmpose")
    print(f"a million additions: {plain:.0f} ms")
    print(f"matrix, loaded: first {loads[0]:.1f} ms, median {statistics.median(loads):.1f} ms")
    asked = Request(recipe=recipe)
    once = [min(milliseconds(resolve, facts, matrix, asked)[0] for _ in range(options.runs)) for facts in machines]
    print(f"one machine, of {len(machines)} recorded: median {statistics.median(once):.1f} ms, most {max(once):.1f} ms")
    for kind, asking in (("the default recipe", fleet), ("every recipe, half without compiling", questions)):
        spent, satisfied = 0.0, 0
        for facts, request in islice(asking(machines), options.machines):
            taken, resolution = milliseconds(resolve, facts, matrix, request)
            spent += taken
            satisfied += resolution.stack is not None  # type: ignore[attr-defined]
        rest, each = options.machines - satisfied, spent / options.machines
        said = f"{options.machines} machines, {kind} ({rest} without a stack)"
        print(f"{said}: {spent / 1000:.1f} s, {each:.1f} ms each; a million additions {milliseconds(loop)[0]:.0f} ms")


if __name__ == "__main__":
    main()
