"""What a build's key takes from its target, fix-ups on a real archive, and fetching from a real local index."""

from __future__ import annotations

import functools
import hashlib
import http.server
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from mmdoctor.errors import ApplyError, TryAgainError
from mmdoctor.model import Build, Fixup
from mmdoctor.probes.indexes import IndexConfig
from mmdoctor.wheels.build import build_key, unpack
from mmdoctor.wheels.fetch import fetch_sdist, links
from tests.conftest import Machine

FIXUP = Fixup(id="cxx20", file="setup.py", replace={"c++17": "c++20"}, reason="torch 2.14 headers need C++20")


@pytest.fixture
def sdist(tmp_path: Path) -> Path:
    source = tmp_path / "made" / "thing-1.0"
    source.mkdir(parents=True)
    (source / "setup.py").write_text("flags = ['-std=c++17']\n")
    path = tmp_path / "thing-1.0.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        archive.add(source, arcname="thing-1.0")
    return path


@pytest.fixture
def index(tmp_path: Path, sdist: Path) -> Iterator[str]:
    """A static PEP 503 index with one package, served on loopback."""
    root = tmp_path / "index"
    (root / "thing").mkdir(parents=True)
    (root / "thing" / sdist.name).write_bytes(sdist.read_bytes())
    (root / "thing" / "index.html").write_text(f'<a href="{sdist.name}#sha256=x">{sdist.name}</a>')

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(root)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("package", ["mmcv", "mmcv-full", "onedl-mmcv"])
def test_every_mmcv_is_bound_to_torch_and_not_to_numpy(machine: Machine, package: str) -> None:
    facts = machine("healthy-cpu")
    asked = msgspec.structs.replace(build(FIXUP), package=package)
    key = build_key(asked, facts.target, facts.host, "12.2.0", "0" * 64)
    assert (key.torch, key.numpy) == ("2.1.2+cu121", "")
    other = build_key(
        msgspec.structs.replace(asked, package="xtcocotools"), facts.target, facts.host, "12.2.0", "0" * 64
    )
    assert (other.torch, other.numpy) == ("", facts.target.version("numpy"))


def build(fixup: Fixup) -> Build:
    return Build(package="thing", version="1.0", sdist_sha256=None, minutes=1, fixups=(fixup,), env={})


def test_a_fixup_is_applied_once_and_a_killed_build_goes_on(tmp_path: Path, sdist: Path) -> None:
    source = unpack(sdist, build(FIXUP), tmp_path / "work")
    assert (source / "setup.py").read_text() == "flags = ['-std=c++20']\n"
    (source / "half-done.o").write_text("")
    assert unpack(sdist, build(FIXUP), tmp_path / "work") == source
    assert (source / "half-done.o").exists()


def test_a_fixup_that_does_not_fit_is_said(tmp_path: Path, sdist: Path) -> None:
    stale = msgspec.structs.replace(FIXUP, replace={"c++14": "c++20"})
    with pytest.raises(ApplyError, match=r"fix-up cxx20 no longer fits thing 1\.0: setup\.py has no 'c\+\+14'"):
        unpack(sdist, build(stale), tmp_path / "work")


def test_fetch_by_hash(tmp_path: Path, sdist: Path, index: str) -> None:
    right = hashlib.sha256(sdist.read_bytes()).hexdigest()
    config = IndexConfig(index_url=index)
    fetched = fetch_sdist(config, "thing", "1.0", right, tmp_path / "kept", offline=False)
    assert fetched.read_bytes() == sdist.read_bytes()
    assert fetch_sdist(IndexConfig(), "thing", "1.0", right, tmp_path / "kept", offline=True) == fetched


@pytest.mark.parametrize("file", ["some-thing-1.0.tar.gz", "some_thing-1.0.tar.gz"])
def test_fetch_knows_both_spellings_of_a_name(tmp_path: Path, sdist: Path, index: str, file: str) -> None:
    """PEP 625 came after mmcv-full-1.7.2.tar.gz and before onedl_mmcv-2.3.6.tar.gz."""
    folder = tmp_path / "index" / "some-thing"
    folder.mkdir()
    (folder / file).write_bytes(sdist.read_bytes())
    (folder / "index.html").write_text(f'<a href="{file}">{file}</a>')
    config = IndexConfig(index_url=index)
    fetched = fetch_sdist(config, "some-thing", "1.0", None, tmp_path / "kept", offline=False)
    assert fetched.name == file
    assert fetch_sdist(IndexConfig(), "some-thing", "1.0", None, tmp_path / "kept", offline=True) == fetched


def test_fetch_refuses_another_file(tmp_path: Path, index: str) -> None:
    with pytest.raises(ApplyError, match="expected 000000"):
        fetch_sdist(IndexConfig(index_url=index), "thing", "1.0", "0" * 64, tmp_path / "kept", offline=False)
    assert not list((tmp_path / "kept").iterdir())


def test_fetch_says_what_each_index_said(tmp_path: Path, index: str) -> None:
    with pytest.raises(TryAgainError, match=r"thing/ does not list it"):
        fetch_sdist(IndexConfig(index_url=index), "thing", "2.0", None, tmp_path / "kept", offline=False)
    with pytest.raises(TryAgainError, match="--offline forbids"):
        fetch_sdist(IndexConfig(index_url=index), "thing", "2.0", None, tmp_path / "kept", offline=True)


def test_fetch_heeds_no_index(tmp_path: Path, index: str) -> None:
    config = IndexConfig(index_url=index, no_index=True)
    with pytest.raises(TryAgainError, match="no-index"):
        fetch_sdist(config, "thing", "1.0", None, tmp_path / "kept", offline=False)


def test_links_of_an_index_page() -> None:
    page = '<a href="../../files/a-1.0.tar.gz#sha256=0">a</a><a href="https://x.org/b%2B1.whl">b</a>'
    found = dict(links(page, "https://i.org/simple/a/"))
    assert found == {"a-1.0.tar.gz": "https://i.org/files/a-1.0.tar.gz#sha256=0", "b+1.whl": "https://x.org/b%2B1.whl"}
