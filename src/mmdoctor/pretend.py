"""`--pretend KEY=VALUE`: facts of a machine that is not here, marked as pretended. Pure."""

from __future__ import annotations

import re
from typing import Callable, Optional

import msgspec

from mmdoctor.errors import UsageError
from mmdoctor.model import Distribution, Facts, GpuDevice, Index, Tool, TorchBuild, Unknown

VERSION = re.compile(r"^\d+(\.\d+)*(\+\w+)?$")
SYSTEMS = ("linux", "windows", "macos")
MACHINES = ("x86_64", "aarch64", "arm64")
GIGABYTE = 1024**3
# Whose answer about the network is not the other machine's.
MOVES_MACHINE = frozenset({"python", "os", "machine", "glibc", "driver", "gpu"})


def _wrong(key: str, value: str, expected: str) -> UsageError:
    return UsageError(f"--pretend {key}={value}: expected {expected}", hint="see `mmdoctor fix --help`")


def _version(key: str, value: str) -> str:
    if not VERSION.match(value):
        raise _wrong(key, value, "a version such as 3.10 or 535.104.05")
    return value


def _one_of(key: str, value: str, choices: tuple[str, ...]) -> str:
    if value not in choices:
        raise _wrong(key, value, " or ".join(choices))
    return value


def _python(facts: Facts, value: str) -> Facts:
    version = _version("python", value)
    whole = version if version.count(".") > 1 else f"{version}.0"
    target = facts.target
    # Another interpreter is another environment: what is installed here says nothing about it.
    bare = msgspec.structs.replace(target, python=whole, state="absent", distributions=(), torch=None, base_prefix="")
    return msgspec.structs.replace(facts, target=bare, imports=(), wheels=())


def _host(field: str, read: Callable[[str], object]) -> Callable[[Facts, str], Facts]:
    def change(facts: Facts, value: str) -> Facts:
        return msgspec.structs.replace(facts, host=msgspec.structs.replace(facts.host, **{field: read(value)}))

    return change


def _driver(facts: Facts, value: str) -> Facts:
    driver = None if value == "none" else _version("driver", value)
    return msgspec.structs.replace(facts, gpu=msgspec.structs.replace(facts.gpu, driver=driver, source="pretended"))


def _gpu(facts: Facts, value: str) -> Facts:
    capabilities = [] if value == "none" else value.split(",")
    devices = tuple(
        GpuDevice(name=f"GPU of compute capability {c}", compute_capability=_version("gpu", c), memory_bytes=0)
        for c in capabilities
    )
    reason = None if devices else "pretended"
    return msgspec.structs.replace(facts, gpu=msgspec.structs.replace(facts.gpu, devices=devices, reason=reason))


def _tool(name: str) -> Callable[[Facts, str], Facts]:
    def change(facts: Facts, value: str) -> Facts:
        tool = None if value == "none" else Tool(path=name, version=_version(name, value))
        return msgspec.structs.replace(facts, toolchain=msgspec.structs.replace(facts.toolchain, **{name: tool}))

    return change


def _installed(facts: Facts, value: str) -> Facts:
    packages: dict[str, str] = {}
    for text in filter(None, (part.strip() for part in value.split(","))):
        name, separator, version = text.partition("==")
        if not separator or not version:
            raise _wrong("installed", value, "NAME==VERSION, separated by commas")
        packages[re.sub(r"[-_.]+", "-", name).lower()] = version
    distributions = tuple(Distribution(name=name, version=version) for name, version in sorted(packages.items()))
    torch: Optional[TorchBuild] = None
    if "torch" in packages:
        digits = re.search(r"\+cu(\d+)(\d)$", packages["torch"])
        torch = TorchBuild(version=packages["torch"], cuda=f"{digits[1]}.{digits[2]}" if digits else None)
    target = msgspec.structs.replace(
        facts.target,
        state="present",
        problem=None,
        distributions=distributions,
        torch=torch,
        torchvision_build=packages.get("torchvision"),
        leftovers=(),
        shadowed=(),
    )
    return msgspec.structs.replace(facts, target=target, imports=(), quick=True, extension=None)


CHANGES: dict[str, Callable[[Facts, str], Facts]] = {
    "python": _python,
    "os": _host("os", lambda value: _one_of("os", value, SYSTEMS)),
    "machine": _host("machine", lambda value: _one_of("machine", value, MACHINES)),
    "glibc": _host("glibc", lambda value: _version("glibc", value)),
    "ram_gb": _host("memory_total_bytes", lambda value: int(float(_version("ram_gb", value)) * GIGABYTE)),
    "driver": _driver,
    "gpu": _gpu,
    "nvcc": _tool("nvcc"),
    "gcc": _tool("gcc"),
    "installed": _installed,
}


def pretend(facts: Facts, settings: tuple[str, ...]) -> Facts:
    """Facts with `KEY=VALUE` settings laid over them; UsageError for an unknown key or a value it cannot have.

    The network of a machine that is not here is unknown: its indexes become an assumption.
    """
    chosen: dict[str, str] = {}
    for setting in settings:
        key, separator, value = setting.partition("=")
        if key not in CHANGES or not separator:
            raise UsageError(f"--pretend {setting}: expected one of {', '.join(f'{key}=…' for key in CHANGES)}")
        chosen[key] = value
    for key in sorted(chosen, key=lambda key: list(CHANGES).index(key)):
        facts = CHANGES[key](facts, chosen[key])
    if MOVES_MACHINE & chosen.keys():
        away = Unknown(unknown="a pretended machine")
        indexes = tuple(Index(name=i.name, url=i.url, reachable=away) for i in facts.indexes)
        facts = msgspec.structs.replace(facts, indexes=indexes, wheels=())
    return msgspec.structs.replace(facts, pretended=tuple(f"{key}={value}" for key, value in chosen.items()))
