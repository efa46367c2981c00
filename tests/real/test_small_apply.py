"""The apply on small real environments: what is right after the swap, what is refused, what a resume does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Optional

import pytest
from msgspec.structs import replace

from mmdoctor.apply.clone import clone
from mmdoctor.apply.journal import Journal
from mmdoctor.apply.places import Places
from mmdoctor.apply.recover import rollback
from mmdoctor.apply.runner import Outcome, Prove, apply, to_resume
from mmdoctor.apply.stages import Settings
from mmdoctor.errors import ApplyError, MMDoctorError, RefusedError, TryAgainError
from mmdoctor.matrix import load_matrix
from mmdoctor.matrix_model import Matrix
from mmdoctor.model import Plan, Stage, Step
from mmdoctor.probes.collect import collect
from mmdoctor.probes.indexes import user_config
from mmdoctor.probes.target import probe_target
from mmdoctor.report.progress import Log
from mmdoctor.system import uv_program
from tests.real.conftest import run, uv
from tests.real.kills.small import NEW, OLD, Proof, plan_for, small_proof
from tests.real.kills.test_kills import digest

pytestmark = pytest.mark.essential


class Small:
    """A small environment at the old versions."""

    def __init__(self, folder: Path, prefix: Optional[Path] = None) -> None:
        self.env, self.cache = prefix or folder / "env", folder / "cache"
        if prefix is None:
            uv("venv", "--quiet", "--python", sys.executable, str(self.env))
        pins = [f"{name}=={version}" for name, version in OLD.items()]
        uv("pip", "install", "--quiet", "--compile-bytecode", "--python", str(self.python), *pins)

    @property
    def python(self) -> Path:
        return self.env / "bin" / "python"

    @property
    def site(self) -> Path:
        return next(self.env.glob("lib/python*/site-packages"))

    def apply(self, plan: Optional[Plan] = None, prove: Prove = small_proof, **named: bool) -> Outcome:
        target = probe_target(self.env, is_env=True)
        facts = collect(target, self.env, quick=True)
        config = user_config(os.environ, Path.home(), self.env)
        settings = Settings(cache=self.cache, wheels=self.cache / "wheels", uv=uv_program(), config=config)
        return apply(plan or plan_for(self.env), facts, load_matrix(), settings, Log(sys.stderr), prove=prove, **named)

    def versions(self) -> dict[str, str]:
        found = probe_target(self.env, is_env=True)
        return {name: found.version(name) or "" for name in NEW}


@pytest.fixture
def small(tmp_path: Path) -> Small:
    return Small(tmp_path)


def also(plan: Plan, *argv: str) -> Plan:
    """The plan with one more command at its end."""
    step = Step(argv=argv, why="what the test wants to happen there")
    return replace(plan, stages=(*plan.stages, Stage(id="more", title="one more", steps=(step,))))


def test_all_that_names_the_path_is_right_after_the_swap(small: Small, tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (project / "pyproject.toml").write_text(
        '[project]\nname = "mine"\nversion = "1"\n[project.scripts]\nmine-says = "mine:main"\n'
    )
    (project / "mine.py").write_text("import sys\ndef main():\n    print(sys.prefix)\n")
    uv("pip", "install", "--quiet", "--python", str(small.python), "--editable", str(project))
    (small.site / "extra.pth").write_text(str(tmp_path / "project") + "\n")
    before = digest(small.env)

    outcome = small.apply()

    assert small.versions() == NEW
    assert digest(outcome_of(small)) == before  # the old one, bit for bit, is what rollback brings back
    assert run(str(small.env / "bin" / "mine-says")).strip() == str(small.env)
    assert run(str(small.env / "bin" / "pygmentize"), "-V").startswith("Pygments version 2.18.0")
    shebang = (small.env / "bin" / "pygmentize").read_text().splitlines()[0]
    assert shebang == f"#!{small.python}"
    for path in small.env.rglob("*"):
        if path.is_file() and path.suffix != ".pyc":
            assert b".env.mmdoctor" not in path.read_bytes(), path
    where = "import pygments; print(pygments.__file__, pygments.format.__code__.co_filename)"
    assert set(run(str(small.python), "-c", where).split()) == {str(small.site / "pygments" / "__init__.py")}
    assert outcome.atomic
    assert outcome.moved == ()
    rollback(Places(small.env))
    assert digest(small.env) == before


def outcome_of(small: Small) -> Path:
    return Places(small.env).kept()[0]


def test_a_path_with_blanks_and_commas(tmp_path: Path) -> None:
    folder = tmp_path / "my envs, old"
    folder.mkdir()
    small = Small(folder)
    small.apply()
    assert small.versions() == NEW
    assert run(str(small.env / "bin" / "pygmentize"), "-V").startswith("Pygments version 2.18.0")


def test_who_writes_to_the_original_meanwhile_is_not_lost(small: Small) -> None:
    theirs = small.site / "their_new_module.py"
    plan = also(plan_for(small.env), str(small.python), "-c", f"open({str(theirs)!r}, 'w').write('x = 1')")
    with pytest.raises(ApplyError, match=r"changed by somebody else.*their_new_module\.py"):
        small.apply(plan)
    assert theirs.exists()
    assert small.versions() == {**OLD, "idna": ""}


def test_a_step_that_writes_through_a_shared_file_is_caught(small: Small) -> None:
    inside = "import colorama, os; open(colorama.__file__, 'a').write('# here')"
    stages = (Stage(id="more", title="t", steps=(Step(argv=("{python}", "-c", inside), why="a bad installer"),)),)
    with pytest.raises(ApplyError, match=r"changed by somebody else.*colorama/__init__\.py"):
        small.apply(replace(plan_for(small.env), stages=stages), prove=lambda env, matrix, settings: seen(env))


def seen(env: Path) -> Proof:
    return Proof(facts=collect(probe_target(env, is_env=True), env, quick=True), findings=())


def test_a_stale_plan_says_what_changed(small: Small) -> None:
    plan = plan_for(small.env)
    uv("pip", "install", "--quiet", "--python", str(small.python), "six==1.15.0")
    before = digest(small.env)
    with pytest.raises(RefusedError, match=r"stale: six 1\.16\.0 is gone; six 1\.15\.0 is new"):
        small.apply(plan)
    assert digest(small.env) == before


def test_a_proof_that_fails_leaves_the_old_one_and_resume_goes_on(small: Small) -> None:
    def never(env: Path, matrix: Matrix, settings: Settings) -> Proof:
        raise ApplyError("not today")

    before = digest(small.env)
    with pytest.raises(ApplyError, match="not today"):
        small.apply(prove=never)
    assert digest(small.env) == before
    assert not Places(small.env).next.exists()
    plan, _ = to_resume(small.env)
    small.apply(plan, resume=True)
    assert small.versions() == NEW
    with pytest.raises(RefusedError, match="no interrupted run"):
        to_resume(small.env)


def killed_in_the_proof(small: Small) -> None:
    """A process of its own applies, and dies after both stages were done."""

    def killed(env: Path, matrix: Matrix, settings: Settings) -> Proof:
        os._exit(9)

    child = os.fork()
    if child == 0:
        small.apply(prove=killed)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9


def test_resume_takes_up_the_clone_between_stages(small: Small) -> None:
    killed_in_the_proof(small)
    places = Places(small.env)
    inode = places.next.stat().st_ino
    plan, _ = to_resume(small.env)
    small.apply(plan, resume=True)
    assert small.versions() == NEW
    assert small.env.stat().st_ino == inode  # the very clone, nothing installed again
    events = [event["event"] for event in Journal(places.journal).events()]
    assert events.count("stage") == 2


def test_resume_does_not_trust_a_clone_of_what_has_changed_since(small: Small) -> None:
    killed_in_the_proof(small)
    (small.site / "theirs.py").write_text("x = 1\n")
    plan, _ = to_resume(small.env)
    small.apply(plan, resume=True)
    assert small.versions() == NEW
    assert (small.site / "theirs.py").exists()


def test_a_network_that_is_not_there_changes_nothing(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    monkeypatch.setenv("UV_CACHE_DIR", str(small.cache / "uv"))
    monkeypatch.setenv("UV_NO_INDEX", "false")
    before = digest(small.env)
    with pytest.raises(TryAgainError) as failed:
        small.apply()
    assert isinstance(failed.value, MMDoctorError)
    assert failed.value.exit_code == 75
    assert "fetch" in failed.value.what
    assert digest(small.env) == before
    assert not Places(small.env).next.exists()


def test_sigterm_drops_the_clone_and_a_second_one_stops_at_once(small: Small, tmp_path: Path) -> None:
    program = (
        "import sys; from mmdoctor.__main__ import main; import mmdoctor.cli\n"
        "import click\n"
        "from tests.real.kills import small\n"
        "@mmdoctor.cli.cli.command('apply-small')\n"
        "def _run(): small.main()\n"
        "sys.argv[:] = ['small', *sys.argv[2:]]; main(['apply-small'])\n"
    )
    sleeper = tmp_path / "sleep.py"
    sleeper.write_text(program)
    before = digest(small.env)
    for signals in (1, 2):
        argv = [sys.executable, str(sleeper), "-", str(small.env), str(small.cache)]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
        child = subprocess.Popen(argv, env=environment, stderr=subprocess.PIPE, text=True)
        places = Places(small.env)
        deadline = time.monotonic() + 20
        while not places.next.exists():
            assert child.poll() is None, child.stderr.read() if child.stderr else ""
            assert time.monotonic() < deadline
            time.sleep(0.005)
        for _ in range(signals):
            child.send_signal(signal.SIGTERM)
        _, said = child.communicate(timeout=20)
        assert child.returncode == 130, said
        assert digest(small.env) == before
        assert "Traceback" not in said


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can work in somebody else's environment")
def test_what_root_repairs_stays_its_owners(small: Small) -> None:
    nobody = 65534
    for path in (small.env, *small.env.rglob("*")):
        os.chown(path, nobody, nobody, follow_symlinks=False)
    small.apply()
    assert {path.lstat().st_uid for path in (small.env, *small.env.rglob("*"))} == {nobody}
    state = Places(small.env).state
    assert {path.lstat().st_uid for path in (state, *state.glob("*"), *state.glob("runs/*/*"))} == {nobody}


@pytest.mark.skipif(Path(sys.base_prefix) in (Path("/usr"), Path("/usr/local")), reason="the system's own Python")
def test_a_prefix_of_its_own_as_conda_makes_them(tmp_path: Path) -> None:
    """No venv but a whole interpreter with its history, whose scripts hold its path."""
    prefix = tmp_path / "conda"
    clone(Path(sys.base_prefix), prefix)
    (prefix / "conda-meta").mkdir()
    (prefix / "conda-meta" / "history").write_text("==> 2026-01-01 00:00:00 <==\n")
    (prefix / "conda-meta" / "link").symlink_to(prefix / "conda-meta" / "history")
    small = Small(tmp_path, prefix)
    before = digest(prefix)
    small.apply()
    assert small.versions() == NEW
    assert (prefix / "bin" / "pygmentize").read_text().splitlines()[0].startswith(f"#!{prefix}/bin/python")
    assert (prefix / "conda-meta" / "link").resolve() == prefix / "conda-meta" / "history"
    assert digest(outcome_of(small)) == before
