"""The resolver against the oracle, on generated machines: every answer is legal, and none is cheaper.

150 machines here, 3,000 under the marker `evidence`. A machine is its number: `tests.generated.machine(N, matrix)`.
"""

from __future__ import annotations

import random
import sys
import time
from collections import Counter
from typing import Any, Optional

import pytest
from msgspec.structs import replace

from mmdoctor.candidates.situation import Situation
from mmdoctor.matrix_model import Matrix
from mmdoctor.model import Facts, Request, Resolution, Unknown
from mmdoctor.resolve import cheapest, resolve
from tests import oracle
from tests.generated import machine
from tests.oracle_parts import Parts, series, sort_key

FAST, REAL = 60, 3000
EVERY = 3  # one in so many gets a constraint more
WITHDRAWN = 5  # one in so many is asked of a matrix in which releases are withdrawn


def marked(matrix: Matrix, chance: random.Random) -> Matrix:
    """A matrix of which PyPI withdrew a quarter of the releases."""

    def some(rows: Any) -> Any:
        return tuple(replace(row, withdrawn="yanked: a bug") if chance.random() < 0.25 else row for row in rows)

    names = ("torch", "mmcv", "openmmlab", "binaries")
    return replace(matrix, **{name: some(getattr(matrix, name)) for name in names})


def thinned(matrix: Matrix, python: str, chance: random.Random) -> Matrix:
    """A matrix so small that its stacks can be walked one by one."""

    def some(rows: Any, kind: Any, count: int) -> tuple[Any, ...]:
        kinds: dict[Any, list[Any]] = {}
        for row in rows:
            kinds.setdefault(kind(row), []).append(row)
        return tuple(row for group in kinds.values() for row in chance.sample(group, min(count, len(group))))

    recent = [row for row in matrix.openmmlab if sort_key(row.version) >= sort_key(RECENT.get(row.project, "0"))]
    return replace(
        matrix,
        torch=some([row for row in matrix.torch if series(python) in row.python], lambda row: row.numpy, 2),
        openmmlab=some(recent, lambda row: row.project, 2),
        numpy=some([row for row in matrix.numpy if series(python) in row.python], lambda row: row.abi, 2),
        binaries=some(matrix.binaries, lambda row: row.package, 3),
        mmcv=some(matrix.mmcv, lambda row: row.package, 3),
    )


RECENT = {"mmpose": "1.2.0", "mmdet": "3.1.0", "mmengine": "0.8.0"}


def test_the_oracles_short_way_finds_the_least_of_the_product(matrix: Matrix) -> None:
    """What the oracle leaves out is never in the least whole: against every whole of small matrices, one by one."""
    walked = found = 0
    for number in range(80):
        facts, request = machine(number, matrix)
        small = thinned(matrix, facts.target.python, random.Random(number))
        parts = Parts(facts, small, replace(request, pins={}, torch_variants=()))
        short = oracle.cheapest(parts)
        if not 0 < short.stacks < 15_000:
            continue
        weights = [whole.weight for whole in oracle.every(parts)]
        assert short.whole is not None
        assert (len(weights), min(weights)) == (short.stacks, short.whole.weight), number
        walked, found = walked + len(weights), found + 1
    assert found >= 12
    assert walked >= 5_000


def assert_exact(number: int, matrix: Matrix, counts: Counter[str]) -> Optional[tuple[Parts, oracle.Least]]:
    """The resolver's answer is in the product of the legal parts, and its least; without one the product is empty."""
    facts, request = machine(number, matrix)
    parts = Parts(facts, matrix, request)
    least = oracle.cheapest(parts)
    counts["compared"] += least.compared
    counts["stacks"] += least.stacks
    if least.whole is None and number % EVERY:  # the words of a conflict take longer than finding it
        assert cheapest(Situation(facts, matrix, request)) is None, f"machine {number}: there is no legal stack"
        counts["unsatisfiable"] += 1
        return None
    resolution = resolve(facts, matrix, request)
    if least.whole is None:
        assert resolution.stack is None, (
            f"machine {number}: there is no legal stack, and the resolver has {resolution.stack}"
        )
        assert resolution.conflict, f"machine {number}: no stack and no word why"
        counts["unsatisfiable"] += 1
        return None
    assert resolution.stack is not None, f"machine {number}: {least.whole} is legal, and the resolver has none"
    assert weight_of(number, parts, resolution) == least.whole.weight, f"machine {number}: {least.whole} is cheaper"
    counts["satisfied"] += 1
    counts[f"evidence {resolution.stack.evidence}"] += 1
    counts[f"mmcv {resolution.stack.mmcv.artefact.kind}"] += 1
    return parts, least


def weight_of(number: int, parts: Parts, resolution: Resolution) -> oracle.Weight:
    """What the answer weighs by the oracle's scales; its own account of changes, download and minutes has to agree."""
    assert resolution.stack is not None
    try:
        whole = oracle.judge(parts, resolution.stack)
    except oracle.IllegalError as error:
        raise AssertionError(f"machine {number}: {error}: {resolution.stack}") from error
    moved = sum(change.old is not None for change in resolution.changes) + others_that_move(parts, resolution)
    said = (moved, resolution.cost.build_minutes)
    assert said == (whole.weight.changes, whole.weight.minutes), f"machine {number}"
    assert resolution.cost.download_bytes == whole.megabytes * 1_000_000, f"machine {number}"
    return whole.weight


def others_that_move(parts: Parts, resolution: Resolution) -> int:
    """The requirements of the user's other packages that will be met by moving those: `rest.py` names them later."""
    stack = resolution.stack
    assert stack is not None
    chosen = {
        "torch": stack.torch.version,
        "torchvision": stack.torchvision,
        "numpy": stack.numpy,
        "setuptools": stack.setuptools,
        stack.opencv.name: stack.opencv.version,
    }
    return sum(parts.others(name, version).changes for name, version in chosen.items())


def tighter(chance: random.Random, parts: Parts, least: oracle.Least) -> tuple[Facts, Request]:
    """The same question with one constraint more: a version of those that could be chosen, or less machine."""
    facts, request = parts.facts, parts.request
    torch = chance.choice(parts.torches())
    assert least.whole is not None
    lab = chance.choice(parts.labs(*least.whole.mmcv[:2]))
    numeric = chance.choice(parts.numerics(torch.row.numpy, lab.xtcocotools))
    pins = {
        "torch": f"{torch.row.release}+{torch.variant}",
        "torchvision": torch.torchvision,
        least.whole.mmcv.family.mmcv: least.whole.mmcv.version,
        "mmpose": lab.mmpose,
        "numpy": numeric.numpy,
        parts.flavour: numeric.opencv,
        "xtcocotools": numeric.xtcocotools,
        "setuptools": least.whole.tools.setuptools,
        **{name: version for name, version in (("mmdet", lab.mmdet), ("mmengine", lab.mmengine)) if version},
    }
    name = chance.choice(sorted(set(pins) - set(request.pins)))
    silenced = replace(
        facts, indexes=tuple(replace(index, reachable=False, reason="no answer") for index in facts.indexes)
    )
    # Elsewhere than on Linux nobody looks for a compiler: one that is not seen is no constraint, an old one is.
    nothing = replace(facts.toolchain, looked=True, gcc=None, nvcc=None)
    bare = replace(facts, toolchain=nothing) if facts.host.os == "linux" else facts
    return chance.choice(
        (
            *[(facts, replace(request, pins={**request.pins, name: pins[name]}))] * 4,
            (facts, replace(request, allow_build=False)),
            (facts, replace(request, torch_variants=request.torch_variants or (torch.variant,))),
            (silenced, request),
            (bare, request),
            (replace(facts, wheels=()), request),
        )
    )


def assert_monotone(number: int, matrix: Matrix, parts: Parts, least: oracle.Least, counts: Counter[str]) -> None:
    """With one constraint more nothing gets cheaper."""
    facts, request = tighter(random.Random(number), parts, least)
    resolution = resolve(facts, matrix, request)
    counts["tightened"] += 1
    if resolution.stack is None:
        counts["tightened to nothing"] += 1
        return
    held = weight_of(number, Parts(facts, matrix, request), resolution)
    assert least.whole is not None
    assert held >= least.whole.weight, f"machine {number}: {request.pins}"
    counts["tightened and dearer"] += held > least.whole.weight


def walk(numbers: range, matrix: Matrix) -> Counter[str]:
    counts: Counter[str] = Counter()
    fewer = marked(matrix, random.Random(numbers.start))
    for number in numbers:
        asked = matrix if number % WITHDRAWN else fewer
        found = assert_exact(number, asked, counts)
        if found is not None and number % EVERY == 0:
            assert_monotone(number, asked, *found, counts)
    return counts


def test_the_resolver_is_exact(matrix: Matrix) -> None:
    counts = walk(range(FAST), matrix)
    assert min(counts["satisfied"], counts["unsatisfiable"]) >= FAST // 6
    assert counts["tightened"] >= FAST // 20


@pytest.mark.evidence
def test_the_resolver_is_exact_on_thousands(matrix: Matrix, capsys: pytest.CaptureFixture[str]) -> None:
    begun = time.monotonic()
    counts = walk(range(FAST, FAST + REAL), matrix)
    with capsys.disabled():
        sys.stdout.write(f"\n{REAL} machines in {time.monotonic() - begun:.0f} s: ")
        sys.stdout.write(", ".join(f"{name} {count:,}" for name, count in sorted(counts.items())) + "\n")
    assert counts["satisfied"] + counts["unsatisfiable"] == REAL
    assert min(counts["satisfied"], counts["unsatisfiable"]) >= REAL // 6
    assert counts["tightened and dearer"] >= REAL // 30


def test_the_order_of_rows_decides_nothing(matrix: Matrix) -> None:
    """Ties are broken by versions and places, never by where a row stands in the file."""
    chance = random.Random(0)
    rows = {name: getattr(matrix, name) for name in Matrix.__struct_fields__}
    other = Matrix(**{k: tuple(chance.sample(v, len(v))) if isinstance(v, tuple) else v for k, v in rows.items()})
    for number in range(12):
        facts, request = machine(number, matrix)
        one, two = (resolve(facts, some, request) for some in (matrix, other))
        assert (one.stack, one.changes, one.cost) == (two.stack, two.changes, two.cost), number


def test_the_machines_are_wide(matrix: Matrix) -> None:
    """Nothing of what the resolver looks at is always the same."""
    seen: dict[str, set[Any]] = {}
    for number in range(150):
        facts, request = machine(number, matrix)
        looks = {
            "platform": (facts.host.os, facts.host.machine),
            "glibc": str(facts.host.glibc),
            "python": facts.target.python,
            "gpus": len(facts.gpu.devices),
            "driver seen": isinstance(facts.gpu.driver, Unknown),
            "nvcc": facts.toolchain.nvcc is None,
            "gcc": facts.toolchain.gcc is None,
            "installed": bool(facts.target.distributions),
            "damaged": any(d.missing_files for d in facts.target.distributions),
            "twice": len({d.name for d in facts.target.distributions}) < len(facts.target.distributions),
            "imports": bool(facts.imports),
            "silent": any(index.reachable is False for index in facts.indexes),
            "cached": bool(facts.wheels),
            "recipe": request.recipe.name,
            "pins": len(request.pins),
            "variants": bool(request.torch_variants),
            "no build": request.allow_build,
        }
        for name, value in looks.items():
            seen.setdefault(name, set()).add(value)
    counts = {name: len(values) for name, values in seen.items()}
    assert all(count >= 2 for count in counts.values()), counts
    assert (counts["platform"], counts["python"], counts["recipe"]) >= (6, 8, 6), counts
