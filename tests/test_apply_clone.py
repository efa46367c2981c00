"""Clone, relocate and exchange on real trees: the original is never written through a shared file."""

from __future__ import annotations

import base64
import hashlib
import os
import subprocess
import venv
from pathlib import Path

import pytest

from mmdoctor.apply.clone import clone, exchange, relocate
from mmdoctor.apply.places import Places
from mmdoctor.errors import TryAgainError


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file() and not p.is_symlink()}


@pytest.fixture
def env(tmp_path: Path) -> Path:
    """A venv with a console script, as an installer writes it, and its RECORD."""
    path = tmp_path / "env"
    venv.create(path, with_pip=False, symlinks=True)
    site = next(path.glob("lib/python*/site-packages"))
    script = path / "bin" / "tool"
    script.write_text(f"#!{path}/bin/python\nimport sys\nprint(sys.prefix)\n")
    script.chmod(0o755)
    info = site / "tool-1.0.dist-info"
    info.mkdir()
    (info / "RECORD").write_text("../../../bin/tool,sha256=old,1\ntool-1.0.dist-info/RECORD,,\n")
    return path


def test_a_clone_shares_files_and_keeps_links(env: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    assert clone(env, copy) is True
    assert contents(copy) == contents(env)
    assert (copy / "bin" / "tool").stat().st_ino == (env / "bin" / "tool").stat().st_ino
    assert (copy / "bin" / "python").readlink() == (env / "bin" / "python").readlink()


def test_relocate_replaces_files_and_leaves_the_original(env: Path, tmp_path: Path) -> None:
    before = contents(env)
    copy, final = tmp_path / "copy", tmp_path / "final"
    clone(env, copy)
    rewritten = relocate(copy, env, final)
    assert "bin/tool" in rewritten
    assert contents(env) == before
    text = (copy / "bin" / "tool").read_bytes()
    assert text.startswith(f"#!{final}/bin/python".encode())
    record = next(copy.glob("lib/python*/site-packages/tool-1.0.dist-info/RECORD")).read_text().splitlines()[0]
    digest = base64.urlsafe_b64encode(hashlib.sha256(text).digest()).rstrip(b"=").decode()
    assert record == f"../../../bin/tool,sha256={digest},{len(text)}"
    copy.rename(final)
    assert subprocess.check_output([final / "bin" / "tool"], text=True).strip() == str(final)


def test_exchange_swaps_both_folders(tmp_path: Path) -> None:
    for name in ("left", "right"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "who").write_text(name)
    exchange(tmp_path / "left", tmp_path / "right")
    assert (tmp_path / "left" / "who").read_text() == "right"
    assert (tmp_path / "right" / "who").read_text() == "left"


def test_exchange_with_nothing_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "left").mkdir()
    with pytest.raises(OSError, match="No such file"):
        exchange(tmp_path / "left", tmp_path / "missing")
    assert (tmp_path / "left").is_dir()


def test_the_lock_names_its_holder(tmp_path: Path) -> None:
    places = Places(tmp_path / "env")
    with places.lock(), pytest.raises(TryAgainError, match=f"process {os.getpid()}"), places.lock():
        pass
    with Places(tmp_path / "env").lock():
        pass


def test_the_journal_keeps_its_order(tmp_path: Path) -> None:
    places = Places(tmp_path / "env")
    with places.lock():
        places.note("start", plan="p")
        places.note("done")
    events = [line.split('"event": "')[1].split('"')[0] for line in places.journal.read_text().splitlines()]
    assert events == ["start", "done"]
    assert places.new_run() != places.new_run()
