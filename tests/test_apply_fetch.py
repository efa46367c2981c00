"""Lock, fetch and verify before anything changes: the real uv, small wheels, an index on the loopback."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from packaging.requirements import Requirement

from mmdoctor.apply.failure import failure, first_error
from mmdoctor.apply.fetch import asked_of, fetch
from mmdoctor.apply.stages import Settings
from mmdoctor.errors import ApplyError, TryAgainError
from mmdoctor.matrix import load_recipe
from mmdoctor.matrix_model import Matrix
from mmdoctor.model import (
    Artefact,
    BinaryChoice,
    Bound,
    Build,
    Change,
    Cost,
    Distribution,
    MmcvChoice,
    OpencvChoice,
    Plan,
    Proven,
    Request,
    Stack,
    Stage,
    Step,
    Target,
    TorchChoice,
)
from mmdoctor.plan import UNDER_CONSTRAINTS, UV, plan
from mmdoctor.probes.indexes import IndexConfig
from mmdoctor.probes.question import interpreter_of
from mmdoctor.probes.target import probe_target
from mmdoctor.resolve import resolve
from mmdoctor.rest import KNOWN_REQUIRES
from mmdoctor.system import NOT_STARTED, Completed, uv_program
from mmdoctor.wheels.cache import BuildKey, admit, proofs
from tests.conftest import Machine, new_environment
from tests.wheelhouse import index, wheel


class Told:
    """A listener that keeps what it is told."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def info(self, text: str) -> None:
        self.said.append(text)

    def line(self, text: str) -> None:
        self.said.append(text)

    def stage(self, number: int, total: int, title: str) -> None: ...

    def step(self, command: str, why: str) -> None: ...

    def progress(self, done: int, total: int, left: float) -> None: ...

    def done(self, seconds: float) -> None: ...


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run's folder, with a blank in its path; uv asks once and has a cache of its own."""
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    for name in ("UV_OFFLINE", "UV_FIND_LINKS", "UV_DEFAULT_INDEX", "UV_INDEX"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "a run"
    folder.mkdir()
    return folder


@pytest.fixture
def env(tmp_path: Path) -> Target:
    """A small environment with one old package in it."""
    place = tmp_path / "env"
    uv("venv", "--quiet", "--python", sys.executable, str(place))
    links = tmp_path / "old"
    wheel(links, "alpha", "1.0")
    uv("pip", "install", "--quiet", "--python", str(place), "--no-index", "--find-links", str(links), "alpha==1.0")
    return probe_target(place, is_env=True)


@pytest.fixture
def links(tmp_path: Path) -> Path:
    folder = tmp_path / "links"
    wheel(folder, "alpha", "1.0")
    wheel(folder, "alpha", "2.0", ["beta"])
    wheel(folder, "beta", "1.0")
    wheel(folder, "beta", "1.5")
    return folder


def uv(*words: str, variables: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **(variables or {})}
    environment.pop("VIRTUAL_ENV", None)
    return subprocess.run([uv_program(), *words], env=environment, capture_output=True, text=True, check=False)


def planned(env: Target, *words: str, constraints: tuple[str, ...] = (), **fields: Any) -> Plan:
    step = Step(argv=(*UV, *UNDER_CONSTRAINTS, *words), why="a test")
    values: dict[str, Any] = {
        "status": "plan",
        "recipe": "rtmpose",
        "target": env.requested,
        "bound": Bound(host="", python=env.python, state=env.state, distributions={}),
        "new_environment": False,
        "stack": None,
        "changes": (Change(name="alpha", old="1.0", new="2.0"),),
        "constraints": constraints,
        "stages": (Stage(id="openmmlab", title="packages", steps=(step,)),),
        "rejected": (),
        "assumptions": (),
        "cost": Cost(download_bytes=0, build_minutes=0.0),
    }
    return Plan(**{**values, **fields})


def settings(tmp_path: Path, **config: Any) -> Settings:
    cache = tmp_path / "mmdoctor"
    return Settings(cache=cache, wheels=cache / "wheels", uv=uv_program(), config=IndexConfig(**config))


def installed(env: Target) -> dict[str, str]:
    return {d.name: d.version for d in probe_target(Path(env.prefix), is_env=True).distributions}


# ------------------------------------------------------------------------------------------------------- what works


@pytest.mark.parametrize("fault", ["", "none"])
def test_the_stages_install_what_was_locked_and_ask_no_network(
    fault: str, run: Path, env: Target, links: Path, tmp_path: Path
) -> None:
    """Also from an index that states no hashes."""
    told = Told()
    with index(links, fault) as address:
        made = planned(env, "alpha==2.0", constraints=("alpha==2.0",))
        variables = fetch(made, env, settings(tmp_path, index_url=address), run, told)
    assert installed(env) == {"alpha": "1.0"}
    assert variables["UV_OFFLINE"] == "1"
    lock = (run / "lock.txt").read_text(encoding="utf-8")
    assert lock.count("--hash=sha256:") == 2
    assert (run / "constraints.txt").read_text(encoding="utf-8").split() == ["alpha==2.0", "beta==1.5"]
    assert "2 packages locked, fetched and verified" in told.said[-1]
    assert not (run / "fetch").exists()
    # The index is gone; the variables alone hold beta, for a step that names no constraints.
    done = uv("pip", "install", "--python", env.prefix, "--default-index", address, "alpha==2.0", variables=variables)
    assert done.returncode == 0, done.stderr
    assert installed(env) == {"alpha": "2.0", "beta": "1.5"}


def test_what_is_installed_stays_also_where_no_index_has_it(
    run: Path, env: Target, links: Path, tmp_path: Path
) -> None:
    (links / "alpha-1.0-py3-none-any.whl").unlink()
    (links / "beta-1.5-py3-none-any.whl").unlink()
    wheel(links, "gamma", "1.0", ["alpha<2", "beta"])
    with index(links) as address:
        made = planned(env, "gamma==1.0", changes=(), constraints=("gamma==1.0",))
        fetch(made, env, settings(tmp_path, index_url=address), run, Told())
    lock = (run / "lock.txt").read_text(encoding="utf-8")
    assert "alpha" not in lock
    assert "gamma==1.0" in lock
    assert "beta==1.0" in lock


def test_what_is_installed_gives_way_where_it_must(run: Path, env: Target, links: Path, tmp_path: Path) -> None:
    """alpha is no part of the plan, and stands in the way of what is."""
    wheel(links, "gamma", "1.0", ["alpha>=2"])
    with index(links) as address:
        made = planned(env, "gamma==1.0", changes=(), constraints=("gamma==1.0",))
        fetch(made, env, settings(tmp_path, index_url=address), run, Told())
    assert "alpha==2.0" in (run / "lock.txt").read_text(encoding="utf-8")


def test_a_labelled_build_in_the_users_links_is_not_the_indexs_own(
    run: Path, env: Target, links: Path, tmp_path: Path
) -> None:
    """`==1.0` takes 1.0+cpu, too, which has no hash in a plain folder; the plan says `===1.0`."""
    wheel(tmp_path / "theirs", "torch", "1.0+cpu")
    wheel(links, "torch", "1.0")
    torch = (Change(name="torch", old=None, new="1.0"),)
    with index(links) as address:
        where = settings(tmp_path, index_url=address, find_links=(str(tmp_path / "theirs"),))
        made = planned(env, "torch===1.0", changes=torch, constraints=("torch==1.0",))
        fetch(made, env, where, run, Told())
    assert "torch==1.0 \\\n" in (run / "lock.txt").read_text(encoding="utf-8")


def test_a_new_environment_is_locked_for_its_own_interpreter(run: Path, links: Path, tmp_path: Path) -> None:
    place = tmp_path / "new"
    venv = Step(argv=("uv", "venv", "--python", sys.executable, "{env}"), why="new")
    install = Step(argv=(*UV, "alpha==2.0"), why="packages")
    stages = (Stage(id="environment", title="new", steps=(venv,)), Stage(id="torch", title="t", steps=(install,)))
    absent = Target(requested=str(place), state="absent", python="3.11.7")
    made = planned(absent, "alpha==2.0", stages=stages, new_environment=True)
    variables = fetch(made, absent, settings(tmp_path, no_index=True, find_links=(str(links),)), run, Told())
    assert not place.exists()
    uv("venv", "--quiet", "--python", sys.executable, str(place), variables=variables)
    python = str(interpreter_of(place))
    where = ("--no-index", "--find-links", str(links))
    done = uv("pip", "install", "--python", python, *where, "alpha==2.0", variables=variables)
    assert done.returncode == 0, done.stderr


def test_pips_own_steps_are_left_to_pip(run: Path, machine: Machine, matrix: Matrix, tmp_path: Path) -> None:
    facts = new_environment(machine("healthy-cpu"))
    request = Request(recipe=load_recipe("rtmpose"), installer="pip")
    made = plan(facts, matrix, request, resolve(facts, matrix, request))
    assert fetch(made, facts.target, settings(tmp_path), run, Told()) == {}
    assert list(run.iterdir()) == []


def test_a_plans_own_words_are_understood(machine: Machine, matrix: Matrix) -> None:
    """Every option of the real plans is known: none of their values is taken for a requirement."""
    for name in ("rtmpose", "padel-service", "hoof-training", "mmpose-0x"):
        facts = new_environment(machine("healthy-cpu"), "3.9.18" if name == "mmpose-0x" else "3.10.13", True)
        request = Request(recipe=load_recipe(name))
        made = plan(facts, matrix, request, resolve(facts, matrix, request))
        assert made.status == "plan", (name, made.conflict)
        asked = asked_of(made)
        assert {text.split("==")[0] for text in made.constraints} <= {
            text.split("==")[0] for text in (*asked.requirements, *(f"{build.package}==" for build in asked.builds))
        }
        assert not [text for text in asked.requirements if "/" in text or text.startswith("unsafe")]


# -------------------------------------------------------------------------------------------------------- what fails


@pytest.mark.parametrize(
    ("fault", "kind", "words"),
    [
        ("503", TryAgainError, "503 Service Unavailable"),
        ("short", ApplyError, "Failed to read from zip file"),
        ("page", ApplyError, "lists no file of alpha"),
        ("hash", ApplyError, "expected sha256:0000"),
        ("half", ApplyError, "Failed to read from zip file"),
    ],
)
def test_a_bad_index_shows_before_anything_changes(
    fault: str, kind: type[Exception], words: str, run: Path, env: Target, links: Path, tmp_path: Path
) -> None:
    with index(links, fault) as address, pytest.raises(kind) as caught:
        fetch(planned(env, "alpha==2.0"), env, settings(tmp_path, index_url=address), run, Told())
    assert type(caught.value) is kind
    assert "stage fetch" in caught.value.what  # type: ignore[attr-defined]
    assert words in caught.value.what  # type: ignore[attr-defined]
    assert str(run / "fetch.log") in caught.value.hint  # type: ignore[attr-defined]
    assert (run / "fetch.log").read_text(encoding="utf-8")
    assert installed(env) == {"alpha": "1.0"}
    assert not (run / "fetch").exists()


def test_no_network(run: Path, env: Target, tmp_path: Path) -> None:
    config = {"index_url": "http://127.0.0.1:9/simple"}  # the port that nobody listens on
    with pytest.raises(TryAgainError, match="Connection refused"):
        fetch(planned(env, "alpha==2.0"), env, settings(tmp_path, **config), run, Told())


def test_offline_says_what_would_help(run: Path, env: Target, tmp_path: Path) -> None:
    chosen = settings(tmp_path)
    offline = Settings(cache=chosen.cache, wheels=chosen.wheels, offline=True, uv=chosen.uv, config=chosen.config)
    with pytest.raises(TryAgainError) as caught:
        fetch(planned(env, "alpha==2.0"), env, offline, run, Told())
    assert "without --offline" in (caught.value.hint or "")


def stack_with(kind: Any) -> Stack:
    artefact = Artefact(kind=kind, source="", reason="")
    return Stack(
        python="3.11.7",
        torch=TorchChoice(version="2.1.2", variant="cpu", index="pypi"),
        torchvision=None,
        mmcv=MmcvChoice(name="mmcv", version="2.1.0", artefact=artefact),
        mmengine=None,
        mmdet=None,
        mmpose="1.3.2",
        numpy="1.26.4",
        xtcocotools=BinaryChoice(version="1.14.3", artefact=artefact),
        opencv=OpencvChoice(name="opencv-python", version="4.11.0.86"),
        setuptools="69.5.1",
        evidence="tested",
    )


KEY = BuildKey(
    package="mmcv", version="2.1.0", sdist_sha256="", fixups="", torch="2.1.2", numpy="", cuda="", archs="",
    python_tag="cp311", glibc="2.36", compiler="", flags="",
)  # fmt: skip


def test_a_damaged_wheel_leaves_the_cache(run: Path, env: Target, links: Path, tmp_path: Path) -> None:
    chosen = settings(tmp_path, no_index=True, find_links=(str(links),))
    kept = admit(chosen.wheels, wheel(tmp_path, "mmcv", "2.1.0"), KEY, 1.0, Proven(modules=(), imports=()))
    kept.write_bytes(kept.read_bytes()[:-100])
    build = Build(package="mmcv", version="2.1.0", sdist_sha256=None, minutes=1.0, fixups=(), env={})
    step = Step(argv=(*UV, "{wheel}"), why="cached", build=build)
    stages = (Stage(id="mmcv", title="mmcv", steps=(step, Step(argv=(*UV, "alpha==2.0"), why="more"))),)
    told = Told()
    with pytest.raises(ApplyError, match="damaged or gone"):
        fetch(planned(env, "alpha", stages=stages, stack=stack_with("cached")), env, chosen, run, told)
    assert "not the file that was proven" in told.said[0]
    assert proofs(chosen.wheels) == ()


def test_a_cached_wheel_wants_no_sdist(run: Path, env: Target, links: Path, tmp_path: Path) -> None:
    """As on a host without network, where it was imported."""
    for text in KNOWN_REQUIRES["mmcv"]:
        wheel(links, Requirement(text).name, "99.0")
    chosen = settings(tmp_path, no_index=True, find_links=(str(links),))
    admit(chosen.wheels, wheel(tmp_path, "mmcv", "2.1.0"), KEY, 1.0, Proven(modules=(), imports=()))
    build = Build(package="mmcv", version="2.1.0", sdist_sha256="0" * 64, minutes=1.0, fixups=(), env={})
    step = Step(argv=(*UV, "{wheel}"), why="cached", build=build)
    stages = (Stage(id="mmcv", title="mmcv", steps=(step, Step(argv=(*UV, "alpha==2.0"), why="more"))),)
    plan = planned(env, "alpha", stages=stages, stack=stack_with("cached"))
    assert "UV_OFFLINE" in fetch(plan, env, chosen, run, Told())
    with pytest.raises(TryAgainError, match=r"no index gave mmcv-2\.1\.0"):
        fetch(replace(plan, stack=stack_with("build")), env, chosen, run, Told())


# ----------------------------------------------------------------------------------------------- a failure in words


def ended(stdout: str, returncode: int = 1, **fields: Any) -> Completed:
    values = {"returncode": returncode, "stdout": stdout, "stderr": "", "timed_out": False, "duration_ms": 5000.0}
    return Completed(**{**values, **fields})


BUILD = """\
Resolved 1 package in 767ms
error: Failed to build `xcc @ file:///srv/xcc`
  cause: The build backend returned an error
  cause: Call to `setuptools.build_meta:__legacy__.build_wheel` failed (exit status: 1)

         [stdout]
         building 'xcc' extension

         [stderr]
         gcc: fatal error: Killed signal terminated program cc1plus
         compilation terminated.
         error: Command '['/usr/bin/gcc', '-c', 'x.c']' returned non-zero exit status 1.

hint: Build failures usually indicate a problem with the package or the build environment
"""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (BUILD, "Failed to build `xcc @ file:///srv/xcc`: gcc: fatal error: Killed signal terminated program cc1plus"),
        ("  × No solution found:\n  ├─▶ because\n  ╰─▶ of this\n", "No solution found:: of this"),
        (
            "Collecting alpha\nERROR: No matching distribution found for alpha\n",
            "No matching distribution found for alpha",
        ),
        ("one\nModuleNotFoundError: No module named 'torch'\nlast", "ModuleNotFoundError: No module named 'torch'"),
        ("error: Failed to fetch: https://me:secret@index.example/", "Failed to fetch: https://***@index.example/"),
        ("", "no word about why"),
    ],
)
def test_the_first_real_error(text: str, said: str) -> None:
    assert first_error(text) == said


def test_a_failure_names_stage_cause_remedy_and_log() -> None:
    error = failure("mmcv", ended(BUILD), Path("mmcv.log"))
    assert isinstance(error, ApplyError)
    assert error.what.startswith("stage mmcv: Failed to build")
    assert error.hint is not None
    assert error.hint.startswith("The compiler ran out of memory. Build with fewer jobs")
    assert error.hint.endswith("The log: mmcv.log")


def test_a_failure_without_words() -> None:
    late = failure("torch", ended("", timed_out=True), Path("a.log"))
    assert late.what == "stage torch: the command did not end within 5 s"
    missing = failure("torch", ended("", NOT_STARTED, stderr="No such file or directory: 'uv'"), Path("a.log"))
    assert "could not be started: No such file" in missing.what
    killed = failure("torch", ended("Downloading torch", -9), Path("a.log"))
    assert killed.what == "stage torch: the command was ended by SIGKILL: Downloading torch"


def test_an_installed_package_that_is_no_version_is_no_hindrance(
    run: Path, env: Target, links: Path, tmp_path: Path
) -> None:
    odd = Distribution(name="alpha", version="unknown", folder=env.site_packages)
    target = Target(**{**{f: getattr(env, f) for f in env.__struct_fields__}, "distributions": (odd,)})
    with index(links) as address:
        fetch(planned(env, "alpha==2.0"), target, settings(tmp_path, index_url=address), run, Told())
    assert "alpha==2.0" in (run / "constraints.txt").read_text(encoding="utf-8")
