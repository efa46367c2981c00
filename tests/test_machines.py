"""Machines that people have, in `machines/`, and what an expert would tell each of them (`machines/expected.yaml`)."""

from __future__ import annotations

from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any, Callable

import msgspec
import pytest
import yaml
from packaging.specifiers import SpecifierSet

from mmdoctor.matrix import load_recipe, recipe_names
from mmdoctor.matrix_model import Matrix
from mmdoctor.model import Facts, Request, Resolution, Stack
from mmdoctor.resolve import resolve
from tests import oracle
from tests.oracle_parts import Parts

Answer = Callable[[str], tuple[Facts, Request, Resolution]]
FOLDER = Path(__file__).parent / "machines"
EXPECTED: dict[str, dict[str, Any]] = yaml.safe_load((FOLDER / "expected.yaml").read_text(encoding="utf-8"))
FILES = sorted(file.stem for file in FOLDER.glob("*.json"))
KEYS = {
    "why",
    "machine",
    "recipe",
    "pins",
    "torch_variants",
    "no_build",
    "refused",
    "stack",
    "changes",
    "idle",
    "says",
    "rejected",
}


def facts_of(name: str) -> Facts:
    return msgspec.json.decode((FOLDER / f"{name}.json").read_bytes(), type=Facts)


def asked(row: dict[str, Any]) -> Request:
    return Request(
        recipe=load_recipe(row.get("recipe", "rtmpose")),
        pins=row.get("pins", {}),
        torch_variants=tuple(row.get("torch_variants", ())),
        allow_build=not row.get("no_build"),
    )


@pytest.fixture(scope="module")
def answer(matrix: Matrix) -> Answer:
    """What is asked for a row of `EXPECTED`, and the resolver's answer; each is asked once."""

    @cache
    def answered(name: str) -> tuple[Facts, Request, Resolution]:
        row = EXPECTED[name]
        facts, request = facts_of(row.get("machine", name)), asked(row)
        return facts, request, resolve(facts, matrix, request)

    return answered


def parts(stack: Stack) -> dict[str, str]:
    """The parts of a stack by name, as `expected.yaml` writes them."""
    place = "index" if stack.torch.index.startswith("http") else stack.torch.index
    found = {
        "torch": f"{stack.torch.version} {stack.torch.variant} {place}",
        "torchvision": stack.torchvision,
        stack.mmcv.name: f"{stack.mmcv.version} {stack.mmcv.artefact.kind}",
        "mmengine": stack.mmengine,
        "mmdet": stack.mmdet,
        "mmpose": stack.mmpose,
        "numpy": stack.numpy,
        "xtcocotools": f"{stack.xtcocotools.version} {stack.xtcocotools.artefact.kind}",
        stack.opencv.name: stack.opencv.version,
        "setuptools": stack.setuptools,
    }
    return {name: text for name, text in found.items() if text is not None}


def fits(part: str, wanted: str) -> bool:
    """Whether `2.1.2 cu121 pypi` is what `>=2.1 cu121|cu118 pypi` asks for."""
    version, *words = part.split()
    text, *allowed = wanted.split()
    same = len(words) == len(allowed) and all(one in some.split("|") for one, some in zip(words, allowed))
    return same and SpecifierSet(text).contains(version)


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_each_machine_gets_what_an_expert_would_tell_it(name: str, answer: Answer) -> None:
    row = EXPECTED[name]
    facts, _, resolution = answer(name)
    if "refused" in row:
        assert resolution.stack is None, parts(resolution.stack) if resolution.stack else None
        assert resolution.conflict is not None
        assert [word for word in row["refused"] if word not in resolution.conflict] == [], resolution.conflict
        return
    assert resolution.stack is not None, resolution.conflict
    found, wanted = parts(resolution.stack), row["stack"]
    others = {} if "torchvision" in wanted else {"torchvision"}
    assert found.keys() - wanted.keys() <= set(others)
    assert {n: found.get(n) for n, text in wanted.items() if not fits(found.get(n, "0"), text)} == {}, row["why"]
    assert {c.name: c.new for c in resolution.changes if c.old} == row["changes"], row["why"]
    assert (bool(facts.gpu.devices) and resolution.stack.torch.variant == "cpu") == row.get("idle", False)
    assert [word for word in row.get("says", ()) if not any(word in text for text in resolution.assumptions)] == []
    assert set(row.get("rejected", ())) <= {rejection.fact for rejection in resolution.rejected}


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_the_oracle_agrees_on_each_machine(name: str, answer: Answer, matrix: Matrix) -> None:
    facts, request, resolution = answer(name)
    board, stack = Parts(facts, matrix, request), resolution.stack
    least = oracle.cheapest(board).whole
    assert (least is None) == (stack is None)
    if stack is not None and least is not None:
        assert oracle.judge(board, stack).weight == least.weight


@pytest.mark.parametrize("name", FILES)
def test_the_files_are_facts_and_name_nobody(name: str) -> None:
    facts = facts_of(name)
    assert facts.pretended == ()
    assert facts.target.python
    text = (FOLDER / f"{name}.json").read_text(encoding="utf-8")
    assert not [word for word in ("/home/", "/Users/", "GPU-", "@") if word in text]


def test_nothing_is_forgotten() -> None:
    assert all(set(row) <= KEYS and row["why"] for row in EXPECTED.values())
    assert {row.get("machine", name) for name, row in EXPECTED.items()} == set(FILES)
    assert len(FILES) >= 40


def test_the_machines_are_those_that_people_have() -> None:
    """The GPUs, drivers, systems, Pythons and recipes for which the resolver has to have an answer."""
    machines = [facts_of(name) for name in FILES]
    capabilities = {device.compute_capability for facts in machines for device in facts.gpu.devices}
    assert capabilities >= {"3.7", "6.1", "7.0", "7.5", "8.0", "8.6", "8.7", "8.9", "9.0", "10.0", "12.0"}
    assert {facts.target.python.split(".")[1] for facts in machines} >= {str(minor) for minor in range(7, 15)}
    systems = {(facts.host.os, facts.host.machine) for facts in machines}
    assert systems >= {("linux", "aarch64"), ("macos", "arm64"), ("macos", "x86_64"), ("windows", "x86_64")}
    assert {facts.host.glibc for facts in machines} >= {"2.17", "2.28", "2.31", "2.39", None}
    assert {facts.target.kind for facts in machines} >= {"venv", "conda"}
    assert any(facts.host.wsl for facts in machines)
    assert any(len(facts.gpu.devices) > 1 for facts in machines)
    assert {row.get("recipe", "rtmpose") for row in EXPECTED.values()} == set(recipe_names())
    outcomes = Counter(
        "refused" if "refused" in row else "idle" if "idle" in row else "stack" for row in EXPECTED.values()
    )
    assert outcomes["refused"] >= 6
    assert outcomes["stack"] >= 30
