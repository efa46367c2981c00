"""What stands inside a wheel of an index, read by HTTP ranges: of torch's 600 MB about 13 are fetched."""

from __future__ import annotations

import io
import re
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from email.parser import HeaderParser
from http.client import HTTPException
from typing import IO, TYPE_CHECKING, Any, Literal, Optional, cast

from mmdoctor import rules
from mmdoctor.errors import UndeterminedError
from mmdoctor.model import Value
from mmdoctor.probes.extension import numpy_generation
from mmdoctor.probes.indexes import IndexConfig, open_url, redact, why_not
from mmdoctor.refresh.pages import SILENCE_SECONDS, File

if TYPE_CHECKING:
    from packaging.requirements import Requirement

Generation = Literal["1", "2"]
BUFFER = 1 << 18
MEMBER_BYTES = 256 << 20  # torch's libtorch_python.so is 34 MB
MODULES_BYTES = 48 << 20  # OpenCV's cv2 is 31 MB, packed
PARTIAL = 206
METADATA = re.compile(r".*\.dist-info/METADATA")
CXX = {"201402": 14, "201703": 17, "202002": 20, "202302": 23}
# c10::Error takes a std::string: its mangled name says of which of the two C++ ABIs.
OLD_ABI = b"_ZN3c105ErrorC1ENS_14SourceLocationESs"
NEW_ABI = b"_ZN3c105ErrorC1ENS_14SourceLocationENSt7__cxx11"


class TorchInside(Value, frozen=True, kw_only=True):
    """What the files of a torch wheel say of it; None is not found out. `cuda` is None of a CPU build as well."""

    cuda: Optional[str]
    setuptools: Optional[str]
    cuda_aarch64: Optional[str] = None
    numpy: Optional[Generation] = None
    cxx_std: Optional[int] = None
    cxx11_abi: Optional[bool] = None
    weights_only: Optional[bool] = None
    glibc: Optional[str] = None
    sass: tuple[str, ...] = ()


class BinaryInside(Value, frozen=True, kw_only=True):
    """What a wheel that is bound to NumPy says: the range that it declares, by Python, and the generation of the C API
    that it was built for (None: too large to fetch, or it does not say)."""

    ranges: dict[str, Optional[str]]
    built_on: Optional[Generation]


class _Parts(io.RawIOBase):
    """A file of an index, read part by part."""

    def __init__(self, url: str, config: IndexConfig) -> None:
        self._url, self._config, self._at = url, config, 0
        self._size = self._ask(0, 1)[1]

    def _ask(self, start: int, count: int) -> tuple[bytes, int]:
        """(bytes, size of the whole file)."""
        span = {"Range": f"bytes={start}-{start + count - 1}"}
        with open_url(self._url, self._config, span, self._config.timeout or SILENCE_SECONDS) as answer:
            told: Any = answer  # an answer over HTTP: with a status and headers
            whole = told.headers.get("Content-Range", "").rpartition("/")[2]
            if told.status != PARTIAL or not whole.isdigit():
                raise ValueError("the server hands out no parts of a file")
            data = answer.read(count + 1)
        if len(data) != count:
            raise ValueError(f"the server gave {len(data)} bytes for {count}")
        return data, int(whole)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def readinto(self, buffer: Any) -> int:
        count = min(len(buffer), self._size - self._at)
        if count > 0:
            buffer[:count] = self._ask(self._at, count)[0]
            self._at += count
        return max(count, 0)


@contextmanager
def _opened(file: File, config: IndexConfig) -> Iterator[zipfile.ZipFile]:
    """The wheel as an archive; UndeterminedError for whatever keeps it from being read."""
    try:
        with zipfile.ZipFile(cast("IO[bytes]", io.BufferedReader(_Parts(file.url, config), BUFFER))) as archive:
            yield archive
    except (OSError, HTTPException, ValueError, zipfile.BadZipFile, zlib.error, KeyError) as error:
        raise UndeterminedError(f"{redact(file.url)}: {why_not(file.url, config, error)}") from error


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    """A member's bytes, empty where there is none of that name."""
    found = next((info for info in archive.infolist() if info.filename == name), None)
    if found is None:
        return b""
    if found.file_size > MEMBER_BYTES:
        raise ValueError(f"{name} is larger than {MEMBER_BYTES >> 20} MB")
    return archive.read(found)


def _requires(archive: zipfile.ZipFile) -> tuple[Requirement, ...]:
    name = next((name for name in archive.namelist() if METADATA.fullmatch(name)), None)
    if name is None:
        raise ValueError("it holds no METADATA")
    return _requirements(_member(archive, name))


def _requirements(metadata: bytes) -> tuple[Requirement, ...]:
    from packaging.requirements import Requirement

    headers = HeaderParser().parsestr(metadata.decode("utf-8", "replace"))
    return tuple(map(Requirement, headers.get_all("Requires-Dist", ())))


def requirements(file: File, config: IndexConfig) -> tuple[Requirement, ...]:
    """What a wheel requires: from the METADATA beside it where the index has it (PEP 658), else from within it.

    Raises UndeterminedError where neither can be read.
    """
    if not file.metadata:
        with _opened(file, config) as archive:
            return _requires(archive)
    url = f"{file.url}.metadata"
    try:
        with open_url(url, config, seconds=config.timeout or SILENCE_SECONDS) as answer:
            return _requirements(answer.read(MEMBER_BYTES))
    except (OSError, HTTPException, ValueError) as error:
        raise UndeterminedError(f"{redact(url)}: {why_not(url, config, error)}") from error


def declared(requires: tuple[Requirement, ...], name: str, python: str) -> Optional[str]:
    """The range that is declared of a package on this Python (Linux, no extra), its floor first; None without one."""
    environment = {"python_version": python, "python_full_version": f"{python}.0", "platform_system": "Linux"}
    environment |= {"sys_platform": "linux", "os_name": "posix", "platform_machine": "x86_64", "extra": ""}
    clauses = {
        clause
        for requirement in requires
        if requirement.name == name and (requirement.marker is None or requirement.marker.evaluate(environment))
        for clause in requirement.specifier
    }
    floors = {clause for clause in clauses if clause.operator == ">="}
    highest = sorted(floors, key=lambda clause: rules.order(clause.version))[-1:]
    return ",".join(map(str, (*highest, *sorted(clauses - floors, key=str)))) or None


def build_cuda(file: File, config: IndexConfig) -> Optional[str]:
    """The CUDA that a torch wheel was built for, None of a CPU build. Raises UndeterminedError."""
    with _opened(file, config) as archive:
        return _cuda(archive)


def _cuda(archive: zipfile.ZipFile) -> Optional[str]:
    text = _member(archive, "torch/version.py").decode("utf-8", "replace")
    found = re.search(r"^cuda\b.*=\s*(?:None|'([\d.]+)')\s*$", text, re.MULTILINE)
    if found is None:
        raise ValueError("torch/version.py does not name its CUDA")
    return found[1]


def torch_inside(file: File, config: IndexConfig) -> TorchInside:
    """What a Linux wheel of torch says of itself, read from seven of its files. Raises UndeterminedError."""
    with _opened(file, config) as archive:
        python_binding = _member(archive, "torch/lib/libtorch_python.so")
        c10 = _member(archive, "torch/lib/libc10.so")
        header = _member(archive, "torch/include/torch/csrc/api/include/torch/all.h").decode("utf-8", "replace")
        loading = _member(archive, "torch/serialization.py")
        standard = re.search(r"__cplusplus < (\d{6})L", header)
        setuptools = [r for r in _requires(archive) if r.name == "setuptools" and r.marker is None]
        return TorchInside(
            cuda=_cuda(archive),
            setuptools=str(setuptools[0].specifier) or None if setuptools else None,
            numpy=numpy_generation(python_binding),
            cxx_std=CXX.get(standard[1]) if standard else None,
            cxx11_abi=True if NEW_ABI in c10 else False if OLD_ABI in c10 else None,
            # torch 2.6 turned the default of torch.load around, with this function
            weights_only=b"def _default_to_weights_only" in loading if loading else None,
            glibc=_glibc(python_binding + c10),
            sass=_machine_code(python_binding),
        )


def binary_inside(file: File, pythons: tuple[str, ...], config: IndexConfig) -> BinaryInside:
    """What the wheel of a package that is bound to NumPy says. Raises UndeterminedError."""
    with _opened(file, config) as archive:
        requires = _requires(archive)
        modules = [info for info in archive.infolist() if info.filename.endswith((".so", ".pyd"))]
        large = sum(info.compress_size for info in modules) > MODULES_BYTES
        found = set() if large else {numpy_generation(_member(archive, info.filename)) for info in modules} - {None}
    ranges = {python: declared(requires, "numpy", python) for python in pythons}
    return BinaryInside(ranges=ranges, built_on=found.pop() if len(found) == 1 else None)


def _machine_code(binary: bytes) -> tuple[str, ...]:
    """The compute capabilities in the list of architectures that torch was compiled for (`sm_75 sm_80 …`)."""
    found = max(re.findall(rb"sm_\d+[af]?(?: sm_\d+[af]?)*", binary), key=len, default=b"").decode()
    return tuple(f"{digits[:-1]}.{digits[-1]}" for digits in re.findall(r"sm_(\d+)", found))


def _glibc(binary: bytes) -> Optional[str]:
    """The newest C library that a symbol asks for: tags of old torch wheels promise less (source T2)."""
    found = {f"2.{minor.decode()}" for minor in re.findall(rb"GLIBC_2\.(\d+)", binary)}
    return rules.newest(found)
