"""Plans as scripts, requirements and Dockerfiles: golden files, the shell's own judgement, and the helpers run."""

from __future__ import annotations

import functools
import hashlib
import http.server
import re
import shlex
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from msgspec.structs import replace

from mmdoctor.builds import nvcc_wheels
from mmdoctor.emit import EMITTERS
from mmdoctor.emit.commands import SHELL_NAMES, building, helpers, line
from mmdoctor.errors import UsageError
from mmdoctor.matrix_model import Matrix
from mmdoctor.model import Build, Fixup, Plan, Step
from mmdoctor.pretend import pretend
from tests.conftest import Machine, golden, new_environment
from tests.test_plan import HOOF, planned

SUFFIX = {"script": "sh", "requirements": "txt", "dockerfile": "Dockerfile"}


@pytest.fixture
def plans(machine: Machine, matrix: Matrix) -> dict[str, Plan]:
    return {
        "build": planned(new_environment(machine("healthy-cpu"), "3.13.1", True), matrix),
        "wheel": planned(pretend(machine("healthy-cpu"), HOOF), matrix, "hoof-training"),
    }


def shell(text: str, *arguments: str, check: bool = True, **fields: object) -> subprocess.CompletedProcess[str]:
    argv = ["bash", *arguments]
    return subprocess.run(argv, input=text, capture_output=True, text=True, check=check, timeout=60, **fields)  # type: ignore[call-overload,no-any-return]


@pytest.mark.parametrize("name", ["build", "wheel"])
@pytest.mark.parametrize("kind", sorted(EMITTERS))
def test_golden(kind: str, name: str, plans: dict[str, Plan]) -> None:
    golden(f"emit/{name}.{SUFFIX[kind]}", EMITTERS[kind](plans[name]))


def test_every_kind_has_golden_files() -> None:
    assert set(EMITTERS) == set(SUFFIX)


def test_no_placeholder_is_left(plans: dict[str, Plan], machine: Machine, matrix: Matrix) -> None:
    everything = [*plans.values(), planned(machine("natural-breakage"), matrix)]
    for made in everything:
        for kind in ("script", "requirements") if not made.new_environment else EMITTERS:
            assert not re.findall(r"(?<!\$)\{(?:python|env|constraints|overrides|wheel)\}", EMITTERS[kind](made))


def test_the_shell_parses_every_script(plans: dict[str, Plan], machine: Machine, matrix: Matrix) -> None:
    for made in (
        *plans.values(),
        planned(machine("natural-breakage"), matrix),
        planned(machine("healthy-cpu"), matrix),
    ):
        shell(EMITTERS["script"](made), "-n")


def test_the_shell_parses_every_run_of_the_dockerfiles(plans: dict[str, Plan]) -> None:
    for made in plans.values():
        text = EMITTERS["dockerfile"](made).replace("\\\n", "")
        runs = [row.removeprefix("RUN ") for row in text.splitlines() if row.startswith("RUN ")]
        assert len(runs) >= len(made.stages)
        for command in runs:
            shell(command, "-n")
        known = ("#", "FROM ", "RUN ", "ENV ")
        assert all(row.startswith(known) for row in text.splitlines())


def test_words_that_the_shell_would_read_are_quoted() -> None:
    said = line(("uv", "pip", "install", "mmpose>=1.3,<2", "a b", "$HOME"), SHELL_NAMES)
    assert said == "uv pip install 'mmpose>=1.3,<2' 'a b' '$HOME'"


def test_a_path_below_the_environment_is_filled_and_quoted() -> None:
    assert line(("rm", "-rf", "{env}/lib/~a b", "{env}"), SHELL_NAMES) == 'rm -rf "$env"/\'lib/~a b\' "$env"'


def test_a_comment_stays_a_comment(plans: dict[str, Plan]) -> None:
    made = replace(plans["wheel"], assumptions=("an index said:\nrm -rf /",), reasons=("one\r\ntwo",))
    for kind in EMITTERS:
        text = EMITTERS[kind](made)
        assert "# an index said: rm -rf /" in text
        assert "# one two" in text


def test_a_script_for_an_existing_environment_wants_its_name(machine: Machine, matrix: Matrix) -> None:
    text = EMITTERS["script"](planned(machine("natural-breakage"), matrix))
    done = shell(text, "-s", check=False)
    assert done.returncode != 0
    assert "usage: bash THIS_FILE ENVIRONMENT" in done.stderr


def test_a_script_names_no_folder_of_the_machine_it_was_planned_on(machine: Machine, matrix: Matrix) -> None:
    facts = new_environment(machine("healthy-cpu"))
    facts = replace(facts, target=replace(facts.target, base_prefix="/home/someone/python"))
    text = EMITTERS["script"](planned(facts, matrix))
    assert "/home/someone" not in text
    assert "/srv/pose" not in text
    assert 'uv venv --python 3.11 --seed "$env"' in text


def test_a_plan_for_pip_needs_no_uv(machine: Machine, matrix: Matrix) -> None:
    for python, reachable in (("3.13.1", True), ("3.11.7", True)):
        made = planned(new_environment(machine("healthy-cpu"), python, reachable), matrix, installer="pip")
        for kind in ("script", "dockerfile"):
            text = EMITTERS[kind](made)
            assert not re.search(r"\buv\b", text.replace("UV_LINK_MODE", ""))
            assert "-m venv" in text
        shell(EMITTERS["script"](made), "-n")


def test_an_image_needs_a_plan_from_nothing(machine: Machine, matrix: Matrix) -> None:
    with pytest.raises(UsageError, match="an image starts from nothing") as caught:
        EMITTERS["dockerfile"](planned(machine("natural-breakage"), matrix))
    assert caught.value.hint is not None
    assert "--pretend python=3.11" in caught.value.hint


def test_requirements_of_a_healthy_environment_are_its_pins(machine: Machine, matrix: Matrix) -> None:
    rows = EMITTERS["requirements"](planned(machine("healthy-cpu"), matrix)).splitlines()
    assert {"torch==2.1.2", "mmcv==2.1.0", "xtcocotools==1.14.3", "numpy==1.26.4"} <= set(rows)


def test_requirements_never_let_pip_build_mmcv_isolated(plans: dict[str, Plan]) -> None:
    rows = EMITTERS["requirements"](plans["build"]).splitlines()
    assert not [row for row in rows if row.startswith(("mmcv", "xtcocotools"))]
    assert [row.split()[-1] for row in rows if row.startswith("#   pip install")] == [
        "mmcv==2.1.0",
        "xtcocotools==1.14.3",
    ]


# ------------------------------------------------------------------------------------- what the emitted lines really do


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def sdist(tmp_path: Path) -> Path:
    """An index page's folder with a small sdist."""
    source = tmp_path / "thing-1.0"
    source.mkdir()
    (source / "setup.py").write_text("std = '-std=c++14'\nend = 1\n")
    folder = tmp_path / "index" / "thing"
    folder.mkdir(parents=True)
    subprocess.run(["tar", "-czf", folder / "thing-1.0.tar.gz", "-C", tmp_path, "thing-1.0"], check=True)
    return folder / "thing-1.0.tar.gz"


def test_the_source_is_fetched_by_hash_and_changed(sdist: Path, tmp_path: Path) -> None:
    digest = hashlib.sha256(sdist.read_bytes()).hexdigest()
    fixup = Fixup(
        id="two", file="setup.py", replace={"'-std=c++14'\nend": '"$HOME 50%"\n\nend', "= 1": "= 'ü'"}, reason=""
    )
    handler = functools.partial(Quiet, directory=str(sdist.parents[1]))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        index = f"http://127.0.0.1:{server.server_port}"
        done = run_building(tmp_path, index, digest, fixup)
        assert done.returncode == 0, done.stderr
        changed = (tmp_path / "work" / "thing-1.0" / "setup.py").read_text(encoding="utf-8")
        assert changed == "std = \"$HOME 50%\"\n\nend = 'ü'\n"

        assert "is not the file that was tested" in run_building(tmp_path, index, "0" * 64, fixup).stderr
        other = replace(fixup, replace={"-std=c++99": ""})
        assert "a fix-up does not fit setup.py" in run_building(tmp_path, index, digest, other).stderr
        server.shutdown()


def test_a_script_brings_nvcc_along(machine: Machine, matrix: Matrix, tmp_path: Path) -> None:
    """CUDA ops where no nvcc is: its wheels beside the source, joined with what torch's own wheels brought."""
    facts = pretend(machine("healthy-cpu"), ("python=3.11", "gpu=9.0", "driver=580.65.06", "nvcc=none", "gcc=12.2.0"))
    script = EMITTERS["script"](planned(new_environment(facts), matrix, pins={"torch": "2.14.1"}))
    wheels = shlex.join(nvcc_wheels(matrix.cuda_wheels[0]))
    at = script.splitlines().index(f'"$python" -m pip install -q --no-deps --target "$work/cuda" {wheels}')
    joining = script.splitlines()[at + 1 : at + 3]
    assert 'CUDA_HOME="$work/cuda/nvidia/cu13" MMCV_WITH_OPS=1' in script

    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "env"], check=True)
    [packages] = (tmp_path / "env").glob("lib/python3*/site-packages")
    home, brought = tmp_path / "cuda" / "nvidia" / "cu13", packages / "nvidia" / "cu13"
    theirs = (brought / "include" / "cublas.h", brought / "lib" / "a")
    for file in (home / "bin" / "nvcc", home / "include" / "crt.h", *theirs):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    shell("\n".join(["set -eu", f'work="{tmp_path}"', f'python="{tmp_path}/env/bin/python"', *joining]))
    held = {str(path.relative_to(home)) for path in home.rglob("*")}
    assert held >= {"bin/nvcc", "include/crt.h", "include/cublas.h", "lib/a", "lib64", "lib/libcudart.so"}
    assert (home / "lib64" / "a").exists()


def run_building(tmp_path: Path, index: str, digest: str, fixup: Fixup) -> subprocess.CompletedProcess[str]:
    """The lines up to the compile, run."""
    build = Build(package="thing", version="1.0", sdist_sha256=digest, minutes=1, fixups=(fixup,), env={})
    step = Step(argv=("uv", "{wheel}"), why="a test", build=build)
    lines = list(building(step, build, {"{python}": sys.executable}))
    first = [text for text in lines if not text.startswith("uv pip install") and " -m pip wheel " not in text][:-1]
    (tmp_path / "work").mkdir(exist_ok=True)
    text = "\n".join(["set -eu", f'work="{tmp_path}/work"', *helpers(), *first])
    return shell(text, check=False, env={"PIP_INDEX_URL": index, "PATH": "/usr/bin:/bin", "PYTHONUTF8": "1"})
