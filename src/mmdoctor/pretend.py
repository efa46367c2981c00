"""`--pretend KEY=VALUE`: facts of a machine that is not here, marked as pretended. Pure."""

from __future__ import annotations

import re
from typing import Any, Callable, Optional

from msgspec.structs import replace

from mmdoctor.errors import UsageError
from mmdoctor.model import Distribution, Facts, GpuDevice, Index, Target, Tool, Toolchain, TorchBuild, Unknown

VERSION = re.compile(r"^\d+(\.\d+)*(\+\w+)?$")
INSTALLED = re.compile(r"^[\w.+!-]+$")
GIGABYTE = 1024**3
GIGABYTES = re.compile(r"^\d+(\.\d+)?$")
PYTHON = re.compile(r"^\d+\.\d+(\.\d+)?$")
CAPABILITY = re.compile(r"^\d+\.\d$")
# With one of these it is another machine, and what is reachable from here says nothing about it.
MOVES_MACHINE = frozenset({"python", "os", "machine", "glibc", "driver", "gpu"})
# With one of these it has another toolchain, too; another Python may be on this machine.
MOVES_TOOLCHAIN = MOVES_MACHINE - {"python"}


def _wrong(key: str, value: str, expected: str) -> UsageError:
    return UsageError(f"--pretend {key}={value}: expected {expected}", hint="see `mmdoctor fix --help`")


def _version(key: str, value: str) -> str:
    if not VERSION.match(value):
        raise _wrong(key, value, "a version such as 3.10 or 535.104.05")
    return value


def _python_version(key: str, value: str) -> str:
    if not PYTHON.match(value):
        raise _wrong(key, value, "a version such as 3.10")
    return value


def _version_or_none(key: str, value: str) -> Optional[str]:
    return None if value == "none" else _version(key, value)


def _capabilities(key: str, value: str) -> tuple[str, ...]:
    capabilities = () if value == "none" else tuple(value.split(","))
    if not all(CAPABILITY.match(capability) for capability in capabilities):
        raise _wrong(key, value, "none, or compute capabilities such as 7.5 or 8.6,9.0")
    return capabilities


def _one_of(*choices: str) -> Callable[[str, str], str]:
    def read(key: str, value: str) -> str:
        if value not in choices:
            raise _wrong(key, value, " or ".join(choices))
        return value

    return read


def _bytes(key: str, value: str) -> int:
    if not GIGABYTES.match(value):
        raise _wrong(key, value, "gigabytes such as 16 or 7.5")
    return int(float(value) * GIGABYTE)


def _packages(key: str, value: str) -> dict[str, str]:
    packages: dict[str, str] = {}
    for text in filter(None, (part.strip() for part in value.split(","))):
        name, separator, version = text.partition("==")
        if not separator or not name or not INSTALLED.match(version):
            raise _wrong(key, value, "NAME==VERSION, separated by commas")
        packages[re.sub(r"[-_.]+", "-", name).lower()] = version
    return packages


def _python(facts: Facts, version: str) -> Facts:
    whole = version if version.count(".") > 1 else f"{version}.0"
    # Another interpreter is another environment: what is installed here says nothing about it.
    bare = Target(requested=facts.target.requested, state="absent", python=whole)
    return replace(facts, target=bare, imports=(), extension=None, pip_cache=None, smoke=(), wheels=())


def _host(field: str) -> Callable[[Facts, Any], Facts]:
    return lambda facts, value: replace(facts, host=replace(facts.host, **{field: value}))


def _memory(facts: Facts, size: int) -> Facts:
    return replace(facts, host=replace(facts.host, memory_total_bytes=size, memory_available_bytes=size))


def _driver(facts: Facts, driver: Optional[str]) -> Facts:
    return replace(facts, gpu=replace(facts.gpu, driver=driver, source="pretended", cuda_ceiling=None))


def _gpu(facts: Facts, capabilities: tuple[str, ...]) -> Facts:
    devices = tuple(
        GpuDevice(name=f"GPU of compute capability {c}", compute_capability=c, memory_bytes=0) for c in capabilities
    )
    return replace(facts, gpu=replace(facts.gpu, devices=devices, reason=None if devices else "pretended"))


def _tool(name: str) -> Callable[[Facts, Optional[str]], Facts]:
    def change(facts: Facts, version: Optional[str]) -> Facts:
        tool = None if version is None else Tool(path=name, version=version)
        return replace(facts, toolchain=replace(facts.toolchain, **{name: tool}))

    return change


def _installed(facts: Facts, packages: dict[str, str]) -> Facts:
    distributions = tuple(Distribution(name=name, version=version) for name, version in sorted(packages.items()))
    torch: Optional[TorchBuild] = None
    if "torch" in packages:
        # Without a label it may be PyPI's CUDA wheel; `rules.torch_variant` knows which releases have one.
        digits = re.search(r"\+cu(\d+)(\d)$", packages["torch"])
        torch = TorchBuild(version=packages["torch"], cuda=f"{digits[1]}.{digits[2]}" if digits else None)
    target = Target(
        requested=facts.target.requested,
        state="present",
        prefix=facts.target.prefix,
        python=facts.target.python,
        distributions=distributions,
        torch=torch,
        torchvision_build=packages.get("torchvision"),
    )
    return replace(facts, target=target, imports=(), quick=True, extension=None, pip_cache=None, smoke=())


# Tools of which nobody knows whether they are there, nor their versions.
SOMEBODYS = Toolchain(
    nvcc=Tool(path="nvcc", version=Unknown(unknown="a pretended machine")),
    gcc=Tool(path="gcc", version=Unknown(unknown="a pretended machine")),
    ninja=None,
    cuda_home=None,
)

# How each value is read, and what it changes; in the order in which they are laid over the facts.
CHANGES: dict[str, tuple[Callable[[str, str], Any], Callable[[Facts, Any], Facts]]] = {
    "python": (_python_version, _python),
    "os": (_one_of("linux", "windows", "macos"), _host("os")),
    "machine": (_one_of("x86_64", "aarch64", "arm64"), _host("machine")),
    "glibc": (_version, _host("glibc")),
    "ram_gb": (_bytes, _memory),
    "driver": (_version_or_none, _driver),
    "gpu": (_capabilities, _gpu),
    "nvcc": (_version_or_none, _tool("nvcc")),
    "gcc": (_version_or_none, _tool("gcc")),
    "installed": (_packages, _installed),
}


def read(settings: tuple[str, ...]) -> dict[str, Any]:
    """`KEY=VALUE` settings as values by key; UsageError for an unknown key or a value it cannot have."""
    values: dict[str, Any] = {}
    for setting in settings:
        key, separator, value = setting.partition("=")
        if key not in CHANGES or not separator:
            raise UsageError(f"--pretend {setting}: expected one of {', '.join(f'{key}=…' for key in CHANGES)}")
        values[key] = CHANGES[key][0](key, value)
    return values


def pretend(facts: Facts, settings: tuple[str, ...]) -> Facts:
    """Facts with `KEY=VALUE` settings laid over them, which are named in `pretended`; UsageError as `read`.

    The network of a machine that is not here is unknown: its indexes become an assumption.
    """
    values = read(settings)
    if MOVES_TOOLCHAIN & values.keys():
        facts = replace(facts, toolchain=SOMEBODYS)
    for key, (_, change) in CHANGES.items():
        if key in values:
            facts = change(facts, values[key])
    if MOVES_MACHINE & values.keys():
        away = Unknown(unknown="a pretended machine")
        indexes = tuple(Index(name=i.name, url=i.url, reachable=away) for i in facts.indexes)
        # Nor is anything known of that system's libraries.
        facts = replace(facts, host=replace(facts.host, libgl=away), indexes=indexes, wheels=())
    return replace(facts, pretended=settings)
