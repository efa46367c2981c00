"""The toolchain probe: parsers on the tools' own words, and which tool a build would take."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from mmdoctor.model import Tool, Unknown
from mmdoctor.probes import toolchain

DATA = Path(__file__).parent / "data" / "toolchain"
NOWHERE = Path("/nonexistent/cuda")
posix = pytest.mark.skipif(sys.platform == "win32", reason="the tools of this test are shell scripts")


def text(name: str) -> str:
    return (DATA / f"{name}.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize(("name", "version"), [("nvcc-12.1", "12.1.105"), ("nvcc-10.1", "10.1.243")])
def test_nvcc(name: str, version: str) -> None:
    assert toolchain.parse_nvcc(text(name)) == version


@pytest.mark.parametrize(
    ("name", "version"), [("gcc-ubuntu", "11.4.0"), ("gcc-redhat", "8.5.0"), ("gcc-conda", "12.3.0")]
)
def test_gcc(name: str, version: str) -> None:
    assert toolchain.parse_gcc(text(name)) == version


def test_clang_is_not_taken_for_gcc() -> None:
    seen = toolchain.parse_gcc(text("clang"))
    assert isinstance(seen, Unknown)
    assert "Ubuntu clang version 14.0.0" in seen.unknown


@pytest.mark.parametrize(
    ("said", "version"), [("1.11.1\n", "1.11.1"), ("1.11.1.git.kitware.jobserver-1\n", "1.11.1"), ("1.10.0", "1.10.0")]
)
def test_ninja(said: str, version: str) -> None:
    assert toolchain.parse_ninja(said) == version


@pytest.mark.parametrize("parse", [toolchain.parse_nvcc, toolchain.parse_gcc, toolchain.parse_ninja])
def test_nonsense_is_unknown(parse: object) -> None:
    assert callable(parse)
    assert isinstance(parse("no such thing\n"), Unknown)
    assert isinstance(parse(""), Unknown)


def script(folder: Path, name: str, body: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


def nvcc(home: Path, release: str = "12.1") -> Path:
    return script(home / "bin", "nvcc", f"/bin/cat '{DATA}/nvcc-{release}.txt'")


@posix
def test_nothing_is_there(tmp_path: Path) -> None:
    seen = toolchain.probe_toolchain({"PATH": str(tmp_path)}, NOWHERE)
    assert (seen.nvcc, seen.gcc, seen.ninja, seen.cuda_home) == (None, None, None, None)


@posix
def test_cuda_home_wins_over_path(tmp_path: Path) -> None:
    told, on_path = nvcc(tmp_path / "cuda-12.1"), nvcc(tmp_path / "cuda-10.1", "10.1")
    seen = toolchain.probe_toolchain({"CUDA_HOME": str(tmp_path / "cuda-12.1"), "PATH": str(on_path.parent)}, NOWHERE)
    assert seen.nvcc == Tool(path=str(told), version="12.1.105")
    assert seen.cuda_home == str(tmp_path / "cuda-12.1")


@posix
def test_cuda_path_is_read_when_cuda_home_is_empty(tmp_path: Path) -> None:
    nvcc(tmp_path / "cuda")
    seen = toolchain.probe_toolchain({"CUDA_HOME": "", "CUDA_PATH": str(tmp_path / "cuda"), "PATH": ""}, NOWHERE)
    assert seen.nvcc is not None


@posix
@pytest.mark.parametrize("told", ["/nonexistent", "/usr/local/cuda:/usr/local/cuda-12.1"])
def test_a_wrong_cuda_home_is_what_the_build_gets(told: str, tmp_path: Path) -> None:
    on_path = nvcc(tmp_path / "cuda")
    seen = toolchain.probe_toolchain({"CUDA_HOME": told, "PATH": str(on_path.parent)}, NOWHERE)
    assert (seen.nvcc, seen.cuda_home) == (None, told)


@posix
def test_nvcc_on_path_gives_the_home_then_the_default(tmp_path: Path) -> None:
    nvcc(tmp_path / "on-path")
    nvcc(tmp_path / "default", "10.1")
    found = toolchain.probe_toolchain({"PATH": str(tmp_path / "on-path/bin")}, tmp_path / "default")
    assert found.cuda_home == str(tmp_path / "on-path")
    fallen_back = toolchain.probe_toolchain({"PATH": ""}, tmp_path / "default")
    assert fallen_back.nvcc is not None
    assert fallen_back.nvcc.version == "10.1.243"


@posix
def test_an_nvcc_that_only_starts_another_leads_to_its_home(tmp_path: Path) -> None:
    real = tmp_path / "cuda-12.1"
    dryrun = f'case "$*" in *--dryrun*) echo "#$ _SPACE_= " >&2; echo "#$ _HERE_={real}/bin" >&2; exit;; esac'
    script(real / "bin", "nvcc", f"{dryrun}; /bin/cat '{DATA}/nvcc-12.1.txt'")
    script(tmp_path / "bin", "nvcc", f'exec {real}/bin/nvcc "$@"')
    (real / "include").mkdir()
    (real / "include" / "cuda_runtime.h").write_text("")
    seen = toolchain.probe_toolchain({"PATH": str(tmp_path / "bin")}, NOWHERE)
    assert seen.nvcc == Tool(path=str(real / "bin" / "nvcc"), version="12.1.105")
    assert (seen.cuda_home, seen.cuda_headers) == (str(real), False)
    (real / "include" / "cusparse.h").write_text("")
    assert toolchain.probe_toolchain({"PATH": str(real / "bin")}, NOWHERE).cuda_headers


@posix
def test_cxx_with_launcher_and_options(tmp_path: Path) -> None:
    script(tmp_path, "c++", f"/bin/cat '{DATA}/gcc-redhat.txt'")
    script(tmp_path, "ccache", f'[ "$1 $2" = "my-g++ -m64" ] && /bin/cat "{DATA}/gcc-conda.txt"')
    assert toolchain.probe_toolchain({"PATH": str(tmp_path)}, NOWHERE).gcc == Tool(
        path=str(tmp_path / "c++"), version="8.5.0"
    )
    env = {"PATH": str(tmp_path), "CXX": "ccache my-g++ -m64"}
    assert toolchain.probe_toolchain(env, NOWHERE).gcc == Tool(path=str(tmp_path / "ccache"), version="12.3.0")


@posix
def test_a_tool_that_fails_is_there_with_an_unknown_version(tmp_path: Path) -> None:
    script(tmp_path, "ninja", "echo broken >&2; exit 3")
    seen = toolchain.probe_toolchain({"PATH": str(tmp_path)}, NOWHERE).ninja
    assert seen == Tool(path=str(tmp_path / "ninja"), version=Unknown(unknown="broken"))


def test_an_unreadable_cxx_is_said() -> None:
    seen = toolchain.probe_toolchain({"PATH": "", "CXX": "'g++"}, NOWHERE).gcc
    assert seen is not None
    assert isinstance(seen.version, Unknown)
    assert "CXX" in seen.version.unknown
