"""What a source build would use: the CUDA toolkit, the C++ compiler and ninja, found the way torch finds them."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Optional

from mmdoctor import system
from mmdoctor.model import Text, Tool, Toolchain, Unknown

TOOL_SECONDS = 10.0
DEFAULT_CUDA = Path("/usr/local/cuda")


def probe_toolchain(env: Mapping[str, str], default_cuda: Path = DEFAULT_CUDA) -> Toolchain:
    """Look for the tools that a build started under `env` would use.

    CUDA's home follows torch's rule (torch/utils/cpp_extension.py, `_find_cuda_home`): CUDA_HOME, else CUDA_PATH, else
    two folders above the `nvcc` on PATH, else /usr/local/cuda. A build asks the nvcc in there and no other, so a home
    that names a wrong place leaves `nvcc` None although PATH may have one. Where the nvcc on PATH only starts another,
    which torch does not see, the home is that one's.
    """
    path = env.get("PATH", "")
    home = _cuda_home(env, path, default_cuda)
    nvcc = system.which(str(home / "bin" / "nvcc")) if home else None
    return Toolchain(
        nvcc=_tool([nvcc], ["--version"], parse_nvcc, env) if nvcc else None,
        gcc=_compiler(env, path),
        ninja=_named("ninja", parse_ninja, env, path),
        cuda_home=str(home) if home else None,
        cuda_headers=home is None or _headers(home, "cusparse.h"),
    )


def _cuda_home(env: Mapping[str, str], path: str, default: Path) -> Optional[Path]:
    told = env.get("CUDA_HOME") or env.get("CUDA_PATH")
    if told:
        return Path(told)
    nvcc = system.which("nvcc", path)
    if nvcc:
        home = Path(nvcc).parent.parent
        return home if _headers(home, "cuda_runtime.h") else _behind(nvcc, env) or home
    return default if default.exists() else None


def _headers(home: Path, name: str) -> bool:
    """Whether a toolkit has this header, in `include` or where conda's have theirs."""
    return any((place / name).exists() for place in (home / "include", *home.glob("targets/*/include")))


def _behind(nvcc: str, env: Mapping[str, str]) -> Optional[Path]:
    """The toolkit of an nvcc that is a script on PATH which starts the real one, as that one says."""
    argv = [nvcc, "--dryrun", "-x", "cu", "-c", os.devnull]
    answer = system.run(argv, deadline=TOOL_SECONDS, env={**env, "LC_ALL": "C"}, merge=True)
    found = re.search(r"^#\$ _HERE_=(.+)$", answer.stdout, re.MULTILINE)
    return Path(found[1]).parent if found else None


def _compiler(env: Mapping[str, str], path: str) -> Optional[Tool]:
    # torch compiles with $CXX, which may carry a launcher and options ("ccache g++ -m64"), else with c++.
    try:
        told = shlex.split(env.get("CXX", ""))
    except ValueError as error:
        return Tool(path=env["CXX"], version=Unknown(unknown=f"CXX is not a command: {error}"))
    program = system.which(told[0] if told else "c++", path)
    if program is None:
        return None
    return _tool([program, *told[1:]], ["--version"], parse_gcc, env)


def _named(name: str, parse: Callable[[str], Text], env: Mapping[str, str], path: str) -> Optional[Tool]:
    program = system.which(name, path)
    return _tool([program], ["--version"], parse, env) if program else None


def _tool(argv: list[str], ask: list[str], parse: Callable[[str], Text], env: Mapping[str, str]) -> Tool:
    answer = system.run([*argv, *ask], deadline=TOOL_SECONDS, env={**env, "LC_ALL": "C"})
    if answer.ok:
        version = parse(answer.stdout)
    elif answer.timed_out:
        version = Unknown(unknown=f"no answer within {TOOL_SECONDS:.0f} s")
    else:
        version = Unknown(unknown=answer.stderr.strip() or f"exit {answer.returncode}")
    return Tool(path=argv[0], version=version)


def parse_nvcc(text: str) -> Text:
    """The toolkit's full version (`12.1.105`) in the answer of `nvcc --version`."""
    found = re.search(r"\brelease (\d+\.\d+)(?:, V(\d+\.\d+\.\d+))?", text)
    return (found[2] or found[1]) if found else _strange(text)


def parse_gcc(text: str) -> Text:
    """gcc's version in the answer of `c++ --version` (under LC_ALL=C), Unknown for another compiler.

    The first line is: name, vendor in brackets, version, at times a date and the vendor once more. `-dumpfullversion`
    would be shorter, but does not say whether it is gcc that answers.
    """
    found = re.match(r"\S+ \(.*?\) (\d+\.\d+(?:\.\d+)?)\b", text)
    return found[1] if found and "Free Software Foundation" in text else _strange(text, "not gcc")


def parse_ninja(text: str) -> Text:
    """ninja's version, without what a distributor appended (`1.11.1.git.kitware.jobserver-1`)."""
    found = re.match(r"\d+(\.\d+)+", text)
    return found[0] if found else _strange(text)


def _strange(text: str, what: str = "an answer without a version") -> Unknown:
    first = (text.strip().splitlines() or [""])[0]
    return Unknown(unknown=f"{what}: {first!r}")
