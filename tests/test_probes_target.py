"""Real interpreters of bare venvs, made sick on purpose: each becomes a finding within its deadline."""

from __future__ import annotations

import ast
import json
import os
import py_compile
import shutil
import subprocess
import sys
import sysconfig
import time
import venv
from pathlib import Path
from typing import Callable, Optional, Union

import msgspec
import pytest

import mmdoctor
from mmdoctor.checks import diagnose
from mmdoctor.matrix import load_matrix
from mmdoctor.model import Breakage, Retry
from mmdoctor.probes import broken
from mmdoctor.probes.collect import collect
from mmdoctor.probes.extension import read_extension
from mmdoctor.probes.imports import FORKS, probe_imports, probe_retries, steps_for, surroundings
from mmdoctor.probes.target import probe_target
from tests.conftest import command

Make = Callable[..., Path]
TORCH = """
__version__ = "1.0"
class version:
    cuda = None
class cuda:
    is_available = staticmethod(lambda: False)
"""
CRASH = "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """A venv with hand-made packages: module name → source; and a sitecustomize."""

    def build(packages: Optional[dict[str, str]] = None, sitecustomize: str = "") -> Path:
        env = tmp_path / "env"
        venv.create(env, with_pip=False, symlinks=True)
        site = next(env.glob("lib/python*/site-packages"))
        for name, source in (packages or {}).items():
            (site / name).mkdir()
            (site / name / "__init__.py").write_text(source)
            info = site / f"{name}-1.0.dist-info"
            info.mkdir()
            (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
            (info / "RECORD").write_text(f"{name}/__init__.py,,\n{name}-1.0.dist-info/METADATA,,\n")
        if sitecustomize:
            (site / "sitecustomize.py").write_text(sitecustomize)
        return env

    return build


def site_packages(env: Path) -> Path:
    return next(env.glob("lib/python*/site-packages"))


def put(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def check(env: Path, *options: str) -> tuple[int, dict[str, dict[str, object]], str]:
    done = command("check", "--env", str(env), "--format", "json", *options)
    findings = {finding["id"]: finding for finding in json.loads(done.stdout)["findings"]}
    return done.returncode, findings, done.stderr


def test_a_bare_venv_answers(make: Make) -> None:
    target = probe_target(make({"torch": "__version__ = '1.0'"}), is_env=True)
    assert target.state == "present"
    assert target.kind == "venv"
    assert target.python == ".".join(map(str, sys.version_info[:3]))
    assert target.version("torch") == "1.0"
    assert steps_for(target) == ("torch",)


@pytest.mark.parametrize("script", sorted(Path(mmdoctor.__file__).parent.rglob("inside_*.py")), ids=lambda p: p.name)
def test_what_runs_in_the_target_is_python_3_7(script: Path) -> None:
    ast.parse(script.read_text(), feature_version=(3, 7))


def test_missing_files_and_leftovers_are_seen(make: Make) -> None:
    env = make({"mmdet": ""})
    site = next(env.glob("lib/python*/site-packages"))
    (site / "mmdet" / "__init__.py").unlink()
    (site / "~umpy").mkdir()
    target = probe_target(env, is_env=True)
    assert target.distributions[0].missing_files == ("mmdet/__init__.py",)
    assert target.distributions[0].info == "mmdet-1.0.dist-info"
    assert target.leftovers == (str(site / "~umpy"),)
    assert target.modules == ()


def test_files_without_their_end_are_seen_and_edited_ones_are_not(make: Make) -> None:
    env = make({"mmcv": "# by hand"})
    site = site_packages(env)
    library = Path(msgspec._core.__file__).read_bytes()
    sizes = {"whole.so": library, "cut.so": library[: len(library) // 2], "empty.py": b"", "short.txt": b"short"}
    for name, content in sizes.items():
        (site / "mmcv" / name).write_bytes(content)
    lines = [f"mmcv/{name},sha256=x,{len(library)}\n" for name in sizes]
    put(site / "mmcv-1.0.dist-info" / "RECORD", "".join(["mmcv/__init__.py,sha256=x,900\n", *lines]))
    target = probe_target(env, is_env=True)
    assert target.distributions[0].damaged_files == ("mmcv/cut.so", "mmcv/empty.py")
    quick = probe_target(env, is_env=True, quick=True).distributions[0]  # asks the size of compiled files alone
    assert quick.damaged_files == ("mmcv/cut.so",)
    assert target.modules == ("mmcv",)


@pytest.mark.parametrize(
    ("content", "problem"), [(1.0, None), (0.5, "cut-off"), (0.0, "cut-off"), (b"MZ not of this system", "foreign")]
)
def test_an_extension_says_why_no_linker_takes_it(
    tmp_path: Path, content: Union[float, bytes], problem: Optional[str]
) -> None:
    library = Path(msgspec._core.__file__).read_bytes()
    file = tmp_path / "_ext.so"
    file.write_bytes(content if isinstance(content, bytes) else library[: int(len(library) * content)])
    found = read_extension(file)
    assert found.problem == problem
    assert bool(found.needed) == (problem is None)


def test_an_extension_that_is_not_there_or_not_ours_to_read(tmp_path: Path) -> None:
    assert read_extension(tmp_path / "gone.so").problem == "unreadable"


def test_a_crash_names_the_packages_it_went_through(make: Make) -> None:
    env = make({"torch": "import numpy", "numpy": f"def fall():\n    {CRASH}\nfall()"})
    result = probe_imports(str(env / "bin" / "python"), ("torch",), 20.0)[0]
    assert (result.status, result.signal, result.packages) == ("crash", 11, ("torch", "numpy"))
    assert result.message == "the interpreter died of signal 11"


def test_damaged_bytecode_names_its_file(make: Make) -> None:
    env = make({"torch": f"import numpy{TORCH}", "numpy": "whole = 1"})
    file = Path(py_compile.compile(str(site_packages(env) / "numpy" / "__init__.py")) or "")
    file.write_bytes(file.read_bytes()[:30])
    result = probe_imports(str(env / "bin" / "python"), ("torch",), 20.0)[0]
    assert (result.error, result.packages) == ("EOFError", ("torch", "numpy"))
    assert result.data == {"bytecode": str(file)}


def test_a_binary_that_does_not_load_is_its_packages_fault(make: Make) -> None:
    """The error's name is `_ext` and not `mmcv._ext`, and no frame of mmcv is in the traceback."""
    env = make({"torch": "", "mmcv": ""})
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    put(site_packages(env) / "mmcv" / f"_ext{suffix}", "no library")
    result = probe_imports(str(env / "bin" / "python"), ("mmcv._ext",), 20.0)[0]
    assert (result.error, result.packages, result.data) == ("ImportError", ("mmcv",), {})


def test_a_folder_on_pythonpath_shadows(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    env = make({"mmcv": ""})
    (tmp_path / "work" / "mmcv").mkdir(parents=True)
    (tmp_path / "work" / "mmcv" / "__init__.py").write_text("")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "work"))
    assert probe_target(env, is_env=True).shadowed == (f"mmcv: {tmp_path / 'work' / 'mmcv'}",)


def test_a_file_of_the_working_directory_is_not_taken_for_ours(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    env = make({"mmcv": ""})
    put(tmp_path / "here" / "json.py", "raise RuntimeError('not this one')")
    put(tmp_path / "path" / "site.py", "")
    put(tmp_path / "path" / "test" / "__init__.py", "")
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "path"))
    target = probe_target(env, is_env=True)
    assert target.state == "present"
    assert target.shadowed == ()
    assert target.shadowed_stdlib == (
        f"json: {tmp_path / 'here' / 'json.py'}",
        f"site: {tmp_path / 'path' / 'site.py'}",
    )


@pytest.mark.parametrize(
    ("code", "how"),
    [
        ("import time; time.sleep(60)", "does not end within 1 s"),
        (CRASH, "kills it with signal 11"),
        ("import os; os._exit(0)", "ends it with 0"),
        ("import sys; sys.exit('no')", "ends it with 1"),
    ],
    ids=["hangs", "crashes", "exits", "raises SystemExit"],
)
@pytest.mark.parametrize("name", ["sitecustomize.py", "a.pth"])
def test_a_start_up_file_that_ends_the_interpreter_is_named(
    make: Make, monkeypatch: pytest.MonkeyPatch, name: str, code: str, how: str
) -> None:
    monkeypatch.setattr(broken, "BARE_DEADLINE_SECONDS", 1.0)
    env = make({"torch": ""})
    file = put(site_packages(env) / name, code + "\n")
    put(site_packages(env) / "innocent.pth", "import os\n")
    target = probe_target(env, is_env=True, deadline=2.0)
    assert target.state == "broken"
    assert target.breakage == Breakage(kind="startup", culprit=str(file))
    assert str(target.problem).endswith(f"; {file} {how}")


def test_what_start_up_files_raise_miss_and_touch_is_seen(make: Make) -> None:
    env = make({"numpy": ""}, sitecustomize="import numpy  # and torch some day\nraise RuntimeError('stray')\n")
    folder = site_packages(env)
    put(folder / "raises.pth", "import os\nimport no_such_module\n")
    put(folder / "gone.pth", f"# a checkout\n{folder}/../checkout\n{folder}\n")
    put(folder / "usercustomize.py", "")
    found = {Path(file.path).name: file for file in probe_target(env, is_env=True).startup}
    assert found["raises.pth"].problem == "line 2 raises ModuleNotFoundError: No module named 'no_such_module'"
    assert found["gone.pth"].missing == (f"{folder}/../checkout",)
    assert found["sitecustomize.py"].problem == "raises RuntimeError: stray"
    assert found["sitecustomize.py"].stack == ("numpy",)
    assert "usercustomize.py" not in found  # a venv does not look at it
    assert probe_target(env, is_env=True).at_start == ("numpy",)


@pytest.mark.parametrize(
    ("name", "value"), [("PYTHONHOME", "/nonexistent"), ("LD_PRELOAD", "{tmp}/exits.so")], ids=lambda text: text[:10]
)
def test_a_variable_that_keeps_it_from_starting_is_named(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    compiler = shutil.which("cc")
    if name == "LD_PRELOAD":
        if compiler is None:
            pytest.skip("needs a C compiler to make a library")
        source = put(tmp_path / "exits.c", "#include <unistd.h>\n__attribute__((constructor)) void go(void){_exit(9);}")
        argv = [compiler, "-shared", "-fPIC", str(source), "-o", str(tmp_path / "exits.so")]
        subprocess.run(argv, check=True, timeout=60)
    env = make()
    monkeypatch.setenv(name, value.format(tmp=tmp_path))
    target = probe_target(env, is_env=True)
    assert target.breakage == Breakage(kind="variable", culprit=name)
    assert str(target.problem).endswith(f"; without {name} it answers")


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A folder of interpreters as pyenv keeps them: 3.X.1 and 3.X.10 of our own minor version, by links."""
    minor = f"3.{sys.version_info.minor}"
    for patch in ("1", "10"):
        folder = tmp_path / "versions" / f"{minor}.{patch}" / "bin"
        folder.mkdir(parents=True)
        (folder / f"python{minor}").symlink_to(Path(sys.executable).resolve())
    return tmp_path / "versions"


def test_a_dead_link_says_what_it_was_and_what_would_do(make: Make, base: Path) -> None:
    minor = f"3.{sys.version_info.minor}"
    env = make()
    python = env / "bin" / "python"
    python.unlink()
    python.symlink_to(base / f"{minor}.7" / "bin" / f"python{minor}")
    target = probe_target(env, is_env=True)
    assert f"{minor}.7/bin/python{minor}, which is gone; it was Python {minor}." in str(target.problem)
    others = tuple(str(base / f"{minor}.{patch}" / "bin" / f"python{minor}") for patch in ("1", "10"))
    culprit = str(base / f"{minor}.7" / "bin" / f"python{minor}")
    assert target.breakage == Breakage(kind="gone", culprit=culprit, others=others)


def test_an_environment_without_interpreter_says_what_it_was(make: Make) -> None:
    env = make()
    for file in (env / "bin").glob("python*"):
        file.unlink()
    target = probe_target(env, is_env=True)
    assert target.state == "broken"
    assert target.breakage is not None
    assert target.breakage.kind == "gone"
    assert target.breakage.culprit.startswith(str(Path(sys.base_prefix) / "bin" / "python3."))


def test_a_base_of_another_minor_version_is_not_the_packages_python(make: Make) -> None:
    env = make({"torch": "", "mmcv": ""})
    site_packages(env).parent.rename(env / "lib" / "python3.6")
    target = probe_target(env, is_env=True)
    assert target.state == "broken"
    assert target.breakage is not None
    assert (target.breakage.kind, target.breakage.culprit) == ("python", "3.6")
    assert "the packages are for 3.6" in str(target.problem)


@pytest.mark.skipif(os.name != "posix", reason="Windows knows no right to run a file")
def test_an_interpreter_that_may_not_be_run_is_named(make: Make, tmp_path: Path) -> None:
    env = make()
    base = tmp_path / "python3"
    shutil.copy(sys.executable, base)
    base.chmod(0o644)  # without any x, root may not either
    (env / "bin" / "python").unlink()
    (env / "bin" / "python").symlink_to(base)
    target = probe_target(env, is_env=True)
    assert target.breakage == Breakage(kind="permission", culprit=str(base))


def test_an_installer_wrote_here_lately(make: Make) -> None:
    env = make()
    assert probe_target(env, is_env=True).installed_at is None
    (site_packages(env) / "torch-1.0.dist-info").mkdir()
    os.utime(next(site_packages(env).glob("*.dist-info")), (2e9, 2e9))
    assert probe_target(env, is_env=True).installed_at == 2e9


def test_what_fails_only_here_is_tried_without_its_surroundings(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    env = make({"mmengine": "import random; random.Random", "mmdet": "import mmengine", "mmpose": "import absent"})
    put(tmp_path / "here" / "random.py", "")
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.delenv("PYTHONPATH", raising=False)
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    target = probe_target(env, is_env=True)
    results = probe_imports(target.executable, ("mmengine", "mmdet", "mmpose"))
    assert [result.status for result in results] == ["error", "error", "error"]
    around = surroundings(target, os.environ)
    assert [one.name for one in around] == ["LD_LIBRARY_PATH", "the working directory"]
    retries = probe_retries(target.executable, results, around)
    assert retries == (Retry(without="the working directory", healed=("mmengine", "mmdet")),)
    monkeypatch.chdir(tmp_path)
    assert probe_retries(target.executable, results[-1:], around) == ()


def test_start_up_files_are_surroundings_too(make: Make) -> None:
    env = make({"numpy": "kind = 1", "cv2": "import numpy; numpy.kind"}, "import numpy; del numpy.kind")
    target = probe_target(env, is_env=True)
    results = probe_imports(target.executable, ("cv2",))
    assert results[0].status == "error"
    retries = probe_retries(target.executable, results, surroundings(target, os.environ))
    assert retries == (Retry(without="the start-up files", healed=("cv2",)),)


def test_a_folder_without_interpreter_is_broken_an_empty_one_absent(tmp_path: Path) -> None:
    assert probe_target(tmp_path, is_env=True).state == "absent"
    (tmp_path / "file").write_text("")
    assert probe_target(tmp_path, is_env=True).state == "broken"


@pytest.mark.parametrize("likely_broken", [False, True])
def test_no_failure_colours_the_next_verdict(make: Make, likely_broken: bool) -> None:
    loads = "open(__file__ + '.loads', 'a').write('x')"
    sources = {
        "torch": f"{TORCH}\n{loads}",
        "torchvision": "import half; raise RuntimeError('operator torchvision::nms does not exist')",
        "cv2": "import torch, os; os._exit(0)",
        "mmengine": "import torch, sys; assert 'half' not in sys.modules",
        "mmcv": "import torch, os; os._exit(3)",
        "mmdet": CRASH,
        "mmpose": "import sys; assert 'torchvision' not in sys.modules",
    }
    env = make({**sources, "half": ""})
    found = probe_imports(str(env / "bin" / "python"), tuple(sources), likely_broken=likely_broken)
    results = {result.module: result for result in found}
    assert list(results) == list(sources)
    assert [r.status for r in results.values()] == ["ok", "error", "crash", "ok", "crash", "crash", "ok"]
    assert results["torchvision"].packages == ("torchvision",)
    assert results["cv2"].message == "the interpreter ended with status 0"
    assert results["mmcv"].message == "the interpreter ended with status 3"
    assert (results["mmdet"].signal, results["mmdet"].packages) == (11, ("mmdet",))


@pytest.mark.skipif(not FORKS, reason="without forks each failure costs a process")
def test_torch_stays_loaded_behind_a_failure(make: Make) -> None:
    loads = "open(__file__ + '.loads', 'a').write('x')"
    fails = "import torch; raise ImportError('no')"
    env = make({"torch": f"{TORCH}\n{loads}", **dict.fromkeys(("torchvision", "mmengine", "mmdet", "mmpose"), fails)})
    steps = ("torch", "torchvision", "mmengine", "mmdet", "mmpose")
    for likely_broken in (False, True):  # straight, then in forks; in two lanes of forks
        for counted in env.rglob("*.loads"):
            counted.unlink()
        results = probe_imports(str(env / "bin" / "python"), steps, likely_broken=likely_broken)
        assert [result.status for result in results] == ["ok", *["error"] * 4]
        assert sum(len(counted.read_text()) for counted in env.rglob("*.loads")) == 2


def test_what_imports_torch_is_skipped_when_torch_hangs(make: Make) -> None:
    env = make({"torch": "import time; time.sleep(60)", "cv2": "", "mmdet": "import torch"})
    start = time.monotonic()
    results = probe_imports(str(env / "bin" / "python"), ("torch", "cv2", "mmdet"), deadline=1.0)
    assert [result.status for result in results] == ["timeout", "ok", "skipped"]
    assert time.monotonic() - start < 15


@pytest.mark.skipif(not Path("/proc").exists(), reason="looks for left processes in /proc")
def test_a_killed_import_leaves_no_process(make: Make) -> None:
    child = "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(77)'])"
    env = make({"torch": f"import subprocess, sys, time; {child}; time.sleep(60)"})
    probe_imports(str(env / "bin" / "python"), ("torch",), deadline=1.0)
    time.sleep(0.2)
    lines = [_read(path) for path in Path("/proc").glob("[0-9]*/cmdline")]
    assert [line for line in lines if str(env).encode() in line and b"sleep(77)" in line] == []


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


@pytest.mark.parametrize(
    ("packages", "sitecustomize", "finding", "cause"),
    [
        ({"torch": CRASH}, "", "TRC001", "torch-install-broken"),
        ({}, CRASH, "ENV001", "startup-file-broken"),
    ],
    ids=["segfault-at-torch", "crash-at-start"],
)
def test_check_makes_it_a_finding(
    make: Make, packages: dict[str, str], sitecustomize: str, finding: str, cause: str
) -> None:
    status, findings, stderr = check(make(packages, sitecustomize))
    assert status == 1
    assert findings[finding]["status"] == "fail"
    assert findings[finding]["cause"] == cause
    assert "Traceback" not in stderr


def test_a_hook_that_hangs_at_torch_is_a_finding_about_torch(make: Make) -> None:
    hook = (
        "import sys, time\n"
        "class Hang:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'torch':\n"
        "            time.sleep(60)\n"
        "sys.meta_path.insert(0, Hang())\n"
    )
    env = make({"torch": "", "mmdet": "import torch"}, hook)
    facts = collect(probe_target(env, is_env=True), env, import_deadline=2)
    findings = {finding.id: finding for finding in diagnose(facts, load_matrix())}
    assert "hangs" in findings["TRC001"].detail
    assert (findings["TRC001"].status, findings["TRC001"].cause) == ("fail", "torch-install-broken")
    assert findings["MML002"].status == "skip"
    assert findings["MML002"].caused_by == ("TRC001",)


def test_check_of_nothing(tmp_path: Path) -> None:
    status, findings, stderr = check(tmp_path / "nowhere")
    assert status == 1
    assert list(findings) == ["ENV001"]
    assert "Traceback" not in stderr
    assert not os.path.lexists(tmp_path / "nowhere")
