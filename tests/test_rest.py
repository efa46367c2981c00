"""The user's other packages beside the stack: settled by the real uv, from a folder of wheels, without any network."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from mmdoctor.matrix import load_recipe
from mmdoctor.matrix_model import Matrix
from mmdoctor.model import Change, Distribution, Facts, Plan, Request, Rest
from mmdoctor.plan import plan
from mmdoctor.probes.indexes import IndexConfig
from mmdoctor.resolve import resolve
from mmdoctor.rest import pins_in, settle
from mmdoctor.system import uv_program
from tests.conftest import Machine, on_target, packages
from tests.wheelhouse import wheel


@pytest.fixture
def facts(machine: Machine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Facts:
    """A healthy machine over which somebody installed NumPy 2; uv with a cache of its own."""
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    monkeypatch.delenv("UV_OFFLINE", raising=False)
    return on_target(packages(machine("healthy-cpu"), {"numpy": "2.2.6"}), executable=sys.executable)


def with_own(facts: Facts, *own: Distribution) -> Facts:
    return on_target(facts, distributions=(*facts.target.distributions, *own))


def own(name: str, version: str, *requires: str, **fields: Any) -> Distribution:
    return Distribution(name=name, version=version, folder="/srv/pose/env", requires=requires, **fields)


def asked(facts: Facts) -> Request:
    """The torch that is there, and NumPy 1: it is the other packages that have to give way."""
    pins = {"torch": (facts.target.version("torch") or "").split("+")[0], "numpy": "1.26.4"}
    return Request(recipe=load_recipe("rtmpose"), pins=pins)


def drafted(facts: Facts, matrix: Matrix) -> Plan:
    made = plan(facts, matrix, asked(facts), resolve(facts, matrix, asked(facts)))
    assert made.status == "plan", made.conflict
    return made


def settled(facts: Facts, matrix: Matrix, links: Path, **fields: Any) -> Rest:
    links.mkdir(exist_ok=True)
    config = IndexConfig(no_index=True, find_links=(str(links),))
    return settle(facts, drafted(facts, matrix), asked(facts), config, uv_program(), offline=False, **fields)


def test_what_cannot_stay_moves_what_cannot_move_is_forbidden_and_the_rest_stays(
    facts: Facts, matrix: Matrix, tmp_path: Path
) -> None:
    links = tmp_path / "links"
    wheel(links, "plotter", "1.0", ["numpy<2"])
    wheel(links, "plotter", "2.0", ["numpy>=2"])
    wheel(links, "lonely", "1.0", ["numpy>=2"])
    mine = (own("plotter", "2.0", "numpy>=2"), own("lonely", "1.0", "numpy>=2"), own("bystander", "1.0", "numpy"))
    rest = settled(with_own(facts, *mine), matrix, links)
    why = "its requirement numpy>=2 does not hold beside numpy 1.26.4"
    assert rest.moves == (Change(name="plotter", old="2.0", new="1.0", why=why),)
    assert len(rest.forbidden) == 1
    assert rest.forbidden[0].startswith("lonely 1.0 wants numpy>=2, the stack has numpy 1.26.4")
    assert rest.assumptions == ()


def test_nobody_is_asked_where_nothing_breaks(facts: Facts, matrix: Matrix) -> None:
    plan_ = drafted(facts, matrix)
    rest = settle(facts, plan_, asked(facts), IndexConfig(), "no-such-program", offline=False)
    assert rest == Rest()


def test_what_was_broken_before_says_nothing_about_the_plan(facts: Facts, matrix: Matrix, tmp_path: Path) -> None:
    mine = own("oldie", "1.0", "pyyaml<1", "not-there>3", "numpy<1.20")
    assert settled(with_own(facts, mine), matrix, tmp_path / "links") == Rest()


@pytest.mark.parametrize("fields", [{"record": "editable"}, {"direct": True}])
def test_what_came_from_a_folder_is_not_looked_for(
    fields: dict[str, Any], facts: Facts, matrix: Matrix, tmp_path: Path
) -> None:
    links = tmp_path / "links"
    wheel(links, "mine", "1.0", ["numpy<2"])
    rest = settled(with_own(facts, own("mine", "2.0", "numpy>=2", **fields)), matrix, links)
    assert rest.moves == ()
    assert "from a folder or an address" in rest.forbidden[0]
    assert "stays as it is" in rest.forbidden[0]


def test_what_a_moving_package_needs_moves_too(facts: Facts, matrix: Matrix, tmp_path: Path) -> None:
    links = tmp_path / "links"
    wheel(links, "plotter", "1.0", ["numpy<2", "helper<2"])
    wheel(links, "helper", "1.5")
    wheel(links, "helper", "2.5")
    mine = (own("plotter", "2.0", "numpy>=2", "helper>=2"), own("helper", "2.5"))
    rest = settled(with_own(facts, *mine), matrix, links)
    assert {(change.name, change.new) for change in rest.moves} == {("plotter", "1.0"), ("helper", "1.5")}
    assert {change.name: change.why for change in rest.moves}["helper"] == "wanted so by plotter"


def test_one_that_a_new_part_of_the_stack_forbids(facts: Facts, matrix: Matrix, tmp_path: Path) -> None:
    """mmpose is missing; what it brings wants another `helper` than a package that was installed from a folder."""
    links = tmp_path / "links"
    bare = packages(facts, {"mmpose": None})
    stack = drafted(bare, matrix).stack
    assert stack is not None
    wheel(links, "mmpose", stack.mmpose, ["helper>=2"])
    wheel(links, "helper", "2.5")
    free = settled(with_own(bare, own("helper", "1.5")), matrix, links)
    assert [(change.name, change.old, change.new) for change in free.moves] == [("helper", "1.5", "2.5")]
    held = settled(with_own(bare, own("helper", "1.5"), own("mine", "1.0", "helper<2", direct=True)), matrix, links)
    assert [(change.name, change.new) for change in held.moves] == [("helper", "2.5")]
    assert held.forbidden == ("mine 1.0 wants helper<2, the stack brings helper 2.5; it stays as it is",)


@pytest.mark.parametrize("offline", [True, False])
def test_without_network_it_is_an_assumption(offline: bool, facts: Facts, matrix: Matrix) -> None:
    config = IndexConfig(index_url="http://127.0.0.1:9/simple")  # the port that nobody listens on
    mine = with_own(facts, own("plotter", "2.0", "numpy>=2"))
    rest = settle(mine, drafted(mine, matrix), asked(mine), config, uv_program(), offline=offline)
    assert (rest.moves, rest.forbidden) == ((), ())
    assert "plotter 2.0 wants numpy>=2" in rest.assumptions[0]
    assert ("offline" if offline else "Connection refused") in rest.assumptions[0]


def test_a_machine_that_is_not_here_is_not_settled(facts: Facts, matrix: Matrix) -> None:
    pretended = replace(with_own(facts, own("plotter", "2.0", "numpy>=2")), pretended=("installed=…",))
    made = drafted(pretended, matrix)
    assert settle(pretended, made, asked(pretended), IndexConfig(), "no-such-program", offline=False) == Rest()


def test_the_plan_carries_it(facts: Facts, matrix: Matrix) -> None:
    move = Change(name="plotter", old="2.0", new="1.0", why="numpy")
    rest = Rest(moves=(move,), forbidden=("lonely stays",), assumptions=("not looked up",))
    for installer in ("uv", "pip"):
        request = replace(asked(facts), installer=installer)
        made = plan(facts, matrix, request, resolve(facts, matrix, request), rest)
        assert made.changes[-1] == move
        assert made.forbidden == ("lonely stays",)
        assert made.assumptions[-1] == "not looked up"
        assert made.constraints[-1] == "plotter==1.0"
        last = next(stage for stage in made.stages if stage.id == "openmmlab")
        assert any("plotter==1.0" in step.argv for step in last.steps)


def test_pins_are_read_and_stubs_are_none() -> None:
    lines = ("numpy==1.26.4    # via", "mmcv @ file:///x/mmcv-2.1.0-py3-none-any.whl", "jax==0.7.1  # via -r a.in, b")
    pins = pins_in("\n".join(lines) + "\n")
    assert {name: pin.version for name, pin in pins.items()} == {"numpy": "1.26.4", "jax": "0.7.1"}
    assert pins["jax"].via == ("b",)
