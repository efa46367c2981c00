"""What is refused before anything is changed, with the obstacle and its remedy; rights as another user has them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from mmdoctor.apply.places import Places
from mmdoctor.apply.preflight import preflight, refuse_early
from mmdoctor.errors import RefusedError
from mmdoctor.matrix import load_recipe
from mmdoctor.matrix_model import Matrix
from mmdoctor.model import Cost, Facts, Plan, Request
from mmdoctor.plan import plan, stale
from mmdoctor.resolve import resolve
from tests.conftest import Machine, distribution, on_host, on_target, packages

NOBODY = 65534
needs_root = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0 or shutil.which("setpriv") is None,
    reason="becoming another user needs root and setpriv",
)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that every user may look into, in contrast to pytest's own."""
    path = Path(tempfile.mkdtemp(prefix="mmdoctor-test-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


def seen(machine: Machine, env: Path) -> Facts:
    """A recorded machine whose environment is a real folder here."""
    facts = machine("natural-breakage")
    site = env / "lib" / "python3.11" / "site-packages"
    return on_target(facts, requested=str(env), prefix=str(env), site_packages=str(site))


def planned(facts: Facts, matrix: Matrix) -> Plan:
    request = Request(recipe=load_recipe("rtmpose"))
    return plan(facts, matrix, request, resolve(facts, matrix, request))


def an_env(folder: Path) -> Path:
    env = folder / "env"
    venv.create(env, with_pip=False, symlinks=True)
    return env


def ready(env: Path) -> Places:
    places = Places(env)
    places.state.mkdir(exist_ok=True)
    return places


def test_nothing_in_the_way(machine: Machine, matrix: Matrix, folder: Path) -> None:
    env = an_env(folder)
    facts = seen(machine, env)
    small = replace(planned(facts, matrix), cost=Cost(download_bytes=0, build_minutes=0.0), stages=())
    refuse_early(small, facts, Places(env))
    found = preflight(small, facts, ready(env), folder / "cache", folder / "wheels")
    assert found.linkable
    assert found.users == ()


def test_a_full_disk_names_the_room_that_is_needed(machine: Machine, matrix: Matrix, folder: Path) -> None:
    env = an_env(folder)
    facts = seen(machine, env)
    huge = replace(planned(facts, matrix), cost=Cost(download_bytes=10**15, build_minutes=0.0))
    with pytest.raises(RefusedError, match="GB free") as refused:
        preflight(huge, facts, ready(env), folder / "cache", folder / "wheels")
    assert "uv's cache" in refused.value.what
    assert "UV_CACHE_DIR" in str(refused.value.hint)


def test_a_wheel_cache_that_takes_no_wheel_stops_a_compile_alone(
    machine: Machine, matrix: Matrix, folder: Path
) -> None:
    env, file = an_env(folder), folder / "wheels"
    file.touch()
    facts = seen(machine, env)
    for minutes, told in ((0.0, ""), (6.5, "wheels is no folder")):
        made = replace(planned(facts, matrix), cost=Cost(download_bytes=0, build_minutes=minutes), stages=())
        with pytest.raises(RefusedError, match=told) if told else nullcontext():
            preflight(made, facts, ready(env), folder / "cache", file)


def test_little_memory_is_warned_of(machine: Machine, matrix: Matrix, folder: Path) -> None:
    env = an_env(folder)
    facts = on_host(seen(machine, env), memory_available_bytes=300_000_000)
    made = replace(planned(facts, matrix), cost=Cost(download_bytes=0, build_minutes=0.0))
    assert any(
        "memory" in warning
        for warning in preflight(made, facts, ready(env), folder / "cache", folder / "wheels").warnings
    )


def test_the_systems_own_python_is_refused(machine: Machine, matrix: Matrix, folder: Path) -> None:
    env = an_env(folder)
    facts = on_target(seen(machine, env), kind="system", externally_managed=True)
    with pytest.raises(RefusedError, match="PEP 668"):
        refuse_early(planned(facts, matrix), facts, Places(env))


def test_a_pretended_machine_is_refused(machine: Machine, matrix: Matrix, folder: Path) -> None:
    facts = seen(machine, an_env(folder))
    made = replace(planned(facts, matrix), pretended=("gpu=7.5",))
    with pytest.raises(RefusedError, match="pretended"):
        refuse_early(made, facts, Places(folder / "env"))


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is a mount point on Linux")
def test_a_mount_point_is_refused(machine: Machine, matrix: Matrix, folder: Path) -> None:
    facts = seen(machine, an_env(folder))
    with pytest.raises(RefusedError, match="mount point"):
        refuse_early(planned(facts, matrix), facts, Places(Path("/proc")))


# As another user: a process of its own reads the plan and the facts, and tries.
TRY = """
import sys
from pathlib import Path
import msgspec
from mmdoctor.apply.places import Places
from mmdoctor.apply.preflight import preflight, refuse_early
from mmdoctor.errors import RefusedError
from mmdoctor.model import Facts, Plan
folder = Path(sys.argv[1])
plan = msgspec.json.decode((folder / "plan.json").read_bytes(), type=Plan)
facts = msgspec.json.decode((folder / "facts.json").read_bytes(), type=Facts)
places = Places(folder / "home" / "env")
try:
    refuse_early(plan, facts, places)
    places.state.mkdir(exist_ok=True)
    preflight(plan, facts, places, folder / "home" / "cache", folder / "home" / "wheels")
except RefusedError as error:
    print(error.what, "|", error.hint)
"""


def as_nobody(machine: Machine, matrix: Matrix, folder: Path, env: Path, home: str = "") -> str:
    facts = seen(machine, env)
    made = replace(planned(facts, matrix), cost=Cost(download_bytes=0, build_minutes=0.0), stages=())
    (folder / "facts.json").write_bytes(msgspec.json.encode(facts))
    (folder / "plan.json").write_bytes(msgspec.json.encode(made))
    become = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
    done = subprocess.run(
        [*become, sys.executable, "-c", TRY, str(folder)],
        env={**os.environ, "HOME": home or str(folder / "home"), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def owned(folder: Path) -> Path:
    """An environment in a home of nobody's own."""
    home = folder / "home"
    home.mkdir()
    env = an_env(home)
    for path in (home, *home.rglob("*")):
        os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
    return env


@needs_root
def test_the_owner_may(machine: Machine, matrix: Matrix, folder: Path) -> None:
    assert as_nobody(machine, matrix, folder, owned(folder)) == ""


@needs_root
def test_a_parent_that_is_not_writable_is_named(machine: Machine, matrix: Matrix, folder: Path) -> None:
    env = owned(folder)
    os.chown(env.parent, 0, 0)
    said = as_nobody(machine, matrix, folder, env)
    assert f"{env.parent} is not writable" in said
    assert "run it as root" in said


@needs_root
def test_what_a_sudo_pip_left_is_named_with_the_chown(machine: Machine, matrix: Matrix, folder: Path) -> None:
    env = owned(folder)
    site = next(env.glob("lib/python*/site-packages"))
    (site / "left_by_root.py").write_text("")
    facts_site = env / "lib" / "python3.11" / "site-packages"
    if facts_site != site:
        pytest.skip("the recorded machine has Python 3.11")
    said = as_nobody(machine, matrix, folder, env)
    assert "left_by_root.py (root)" in said
    assert f"chown -R nobody {env}" in said


@needs_root
def test_a_read_only_environment_is_named(machine: Machine, matrix: Matrix, folder: Path) -> None:
    env = owned(folder)
    env.chmod(0o555)
    assert f"chmod u+w {env}" in as_nobody(machine, matrix, folder, env)


@needs_root
def test_the_home_of_somebody_else_is_named(machine: Machine, matrix: Matrix, folder: Path) -> None:
    other = folder / "other"
    other.mkdir(mode=0o700)
    said = as_nobody(machine, matrix, folder, owned(folder), home=str(other))
    assert "the cache" in said
    assert "sudo -H" in said


# ------------------------------------------------------------------------------------------------------- a stale plan


def test_a_plan_that_holds_is_not_stale(machine: Machine, matrix: Matrix) -> None:
    facts = machine("natural-breakage")
    assert stale(planned(facts, matrix), facts) == ()


def test_a_stale_plan_says_what_changed(machine: Machine, matrix: Matrix) -> None:
    facts = machine("natural-breakage")
    made = planned(facts, matrix)
    assert stale(made, packages(facts, {"numpy": "2.2.6"})) == ("numpy 2.4.6 is gone", "numpy 2.2.6 is new")
    assert stale(made, packages(facts, {"rich": None, "attrs": "1.0"}))[-1] == "attrs 1.0 is new"
    assert stale(made, distribution(facts, "torch", digest="other")) == ("torch 2.13.0+cpu was installed again",)
    assert stale(made, on_host(facts, identity="other")) == ("it was made for another machine",)
    assert "with Python 3.11.7, now present with 3.12.1" in stale(made, on_target(facts, python="3.12.1"))[0]
