"""What the matrix has for a machine: torch releases with their builds and wheels, measured stacks, and what is left out
by which fact. Pure; what fits is asked of the resolver's own candidates."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from msgspec.structs import replace

from mmdoctor import rules
from mmdoctor.candidates.situation import Situation
from mmdoctor.candidates.torch import torch_candidates
from mmdoctor.matrix_model import Matrix, StackRow, TorchRow
from mmdoctor.model import (
    Facts,
    Gpu,
    Host,
    LeftOut,
    MatrixList,
    Recipe,
    Rejection,
    Request,
    StackLine,
    Target,
    Toolchain,
    TorchLine,
    Unknown,
)

ANY = Recipe(name="any", title="whatever there is", source="", python=">=3.6")
NOT_SAID = Unknown(unknown="not said")
IDLE = "a CPU build leaves the GPU idle"
Builds = dict[tuple[str, str], set[str]]  # (release, variant) → Pythons


def anybody() -> Facts:
    """A machine of which nothing is known but that it runs Linux on x86_64; `pretend` lays over it what is."""
    return Facts(
        mmdoctor="",
        host=Host(
            os="linux",
            os_name="linux",
            machine="x86_64",
            glibc=NOT_SAID,
            cpu_count=1,
            memory_total_bytes=0,
            memory_available_bytes=0,
            disk_free_bytes=NOT_SAID,
            container=None,
            wsl=False,
            libgl=NOT_SAID,
        ),
        gpu=Gpu(driver=NOT_SAID, source=None, cuda_ceiling=None, devices=(), reason="not said"),
        toolchain=Toolchain(looked=False, nvcc=None, gcc=None, ninja=None, cuda_home=None),
        target=Target(requested="a pretended environment", state="absent"),
    )


def matrix_list(matrix: Matrix, facts: Facts) -> MatrixList:
    """What runs on the machine of these facts, newest first. Without a Python in them, on any that the matrix knows."""
    own = facts.target.python
    pythons = (own,) if own else tuple(f"{python}.0" for python in known_pythons(matrix))
    builds: Builds = {}
    rejected: dict[tuple[str, str], Rejection] = {}
    for python in pythons:
        target = replace(facts.target, python=python)
        world = Situation(replace(facts, target=target), matrix, Request(recipe=ANY))
        for candidate in torch_candidates(world):
            choice = candidate.choice
            if choice.variant == "cpu" and facts.gpu.devices:
                name = f"torch {choice.version}+cpu"
                world.reject(name, "gpu-idle", "a CUDA build", "cpu", IDLE)
            else:
                builds.setdefault((choice.version, choice.variant), set()).add(rules.minor(python))
        rejected = {**world.rejected, **rejected}
    lines = [_line(matrix, facts, row, builds) for row in reversed(matrix.torch)]
    stacks = tuple(row for row in reversed(matrix.stacks) if _measured_here(row, facts, builds))
    return MatrixList(
        machine=_machine(facts),
        pretended=facts.pretended,
        read_on=matrix.read_on,
        torch=tuple(line for line in lines if line.builds),
        stacks=tuple(map(_stack, stacks)),
        left_out=(*_left_out(rejected.values(), builds), *_other_stacks(matrix, stacks)),
    )


def known_pythons(matrix: Matrix) -> tuple[str, ...]:
    """The CPython minors that some torch has a wheel for."""
    return tuple(sorted({python for row in matrix.torch for python in row.python}, key=rules.order))


def _line(matrix: Matrix, facts: Facts, row: TorchRow, builds: Builds) -> TorchLine:
    mine = {variant: pythons for (release, variant), pythons in builds.items() if release == row.release}
    pythons = sorted({python for found in mine.values() for python in found}, key=rules.order)
    outcomes = [s.outcome for s in matrix.stacks if s.torch == row.release and _measured_here(s, facts, builds)]
    return TorchLine(
        release=row.release,
        torchvision=row.torchvision,
        python=tuple(pythons),
        builds=tuple(variant for variant in row.variants if variant in mine),
        pypi=rules.pypi_variant(row, facts.host),
        numpy=row.numpy,
        mmcv_wheels=_wheels(matrix, facts, row, mine),
        evidence="measured" if outcomes else "documented",
        works=outcomes.count("works"),
        broken=outcomes.count("broken"),
        withdrawn=row.withdrawn,
    )


def _wheels(matrix: Matrix, facts: Facts, row: TorchRow, mine: dict[str, set[str]]) -> dict[str, tuple[str, ...]]:
    """The mmcv releases with a wheel for one of the builds and Pythons, oldest first."""
    found: dict[str, tuple[str, ...]] = {}
    for package in sorted({wheel.package for wheel in matrix.mmcv_wheels}):
        versions = [
            built.version
            for built in reversed(rules.mmcv_rows(matrix, package))
            if any(
                rules.mmcv_wheel(matrix, package, built.version, facts.host, variant, row.release, python)
                for variant, pythons in mine.items()
                for python in pythons
            )
        ]
        if versions:
            found[package] = tuple(versions)
    return found


def _measured_here(row: StackRow, facts: Facts, builds: Builds) -> bool:
    """Whether a measured stack is of this kind of machine: all of them are of Linux on x86_64."""
    platform = (facts.host.os, facts.host.machine) == ("linux", "x86_64")
    return platform and row.python in builds.get((row.torch, row.build), ())


def _stack(row: StackRow) -> StackLine:
    return StackLine(
        id=row.id,
        torch=f"{row.torch}+{row.build}",
        python=row.python,
        mmcv=f"{row.mmcv_package} {row.mmcv}" if row.mmcv_package != "mmcv" else row.mmcv,
        mmcv_artefact=row.mmcv_artefact,
        mmdet=row.mmdet,
        mmpose=row.mmpose,
        numpy=row.numpy,
        xtcocotools=row.xtcocotools,
        xtcocotools_artefact=row.xtcocotools_artefact,
        opencv=row.opencv,
        outcome=row.outcome,
        date=row.date,
    )


def _left_out(rejected: Iterable[Rejection], builds: Builds) -> Iterator[LeftOut]:
    """By fact, what runs on no Python that is asked about."""
    fitting = {f"torch {release}" for release, _ in builds} | {f"torch {r}+{variant}" for r, variant in builds}
    groups: dict[tuple[str, str], list[Rejection]] = {}
    seen = set()
    # Another fact than Python says more, where no Python was named.
    for one in sorted(rejected, key=lambda one: one.fact == "python"):
        if one.candidate.startswith("torch ") and one.candidate not in fitting and one.candidate not in seen:
            seen.add(one.candidate)
            groups.setdefault((one.fact, "builds" if "+" in one.candidate else "releases"), []).append(one)
    for (fact, of), found in groups.items():
        newest = max(found, key=lambda one: rules.order(one.candidate.removeprefix("torch ")))
        unlock = {one.unlock for one in found if one.unlock}
        yield LeftOut(
            fact=fact,
            of=of,  # type: ignore[arg-type]
            count=len(found),
            newest=newest.candidate,
            why=newest.why,
            unlock=tuple(sorted(unlock, key=_numbers)),
        )


def _numbers(text: str) -> tuple[list[int], str]:
    """Orders `Python 3.9` before `Python 3.10`, and drivers by their version."""
    return [int(number) for number in re.findall(r"\d+", text)], text


def _other_stacks(matrix: Matrix, shown: tuple[StackRow, ...]) -> Iterator[LeftOut]:
    others = [row for row in matrix.stacks if row not in shown]
    if others:
        row = others[-1]
        name = f"torch {row.torch}+{row.build} on Python {row.python}"
        why = "measured with a Python or a build of torch that is left out"
        yield LeftOut(fact="stack", of="stacks", count=len(others), newest=name, why=why)


def _machine(facts: Facts) -> str:
    host, gpu = facts.host, facts.gpu
    said = [f"{host.os} {host.machine}"]
    said += [f"glibc {host.glibc}"] if isinstance(host.glibc, str) else []
    said += [f"Python {rules.minor(facts.target.python)}" if facts.target.python else "any Python"]
    said += [f"GPU {', '.join(device.compute_capability for device in gpu.devices)}"] if gpu.devices else []
    said += [f"driver {gpu.driver}"] if isinstance(gpu.driver, str) else []
    return ", ".join(said)
