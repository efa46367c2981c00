"""Clone and relocate on real trees: the original is never written through a shared file."""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import subprocess
import venv
from collections.abc import Callable
from pathlib import Path

import pytest

from mmdoctor.apply.clone import can_link, clone, differences, hand_over, manifest, relocate


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
    cloned = clone(env, copy)
    assert cloned.copied == 0
    assert cloned.files == len(contents(env))
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


def test_what_installers_write_in_place_is_not_shared(env: Path, tmp_path: Path) -> None:
    site = next(env.glob("lib/python*/site-packages"))
    (site / "easy-install.pth").write_text("/srv/project\n")
    copy = tmp_path / "copy"
    clone(env, copy)
    with (copy / site.relative_to(env) / "easy-install.pth").open("a") as stream:
        stream.write("/srv/other\n")
    assert (site / "easy-install.pth").read_text() == "/srv/project\n"


def test_an_absolute_link_into_the_environment_stays_inside(env: Path, tmp_path: Path) -> None:
    (env / "share").mkdir()
    (env / "share" / "data").symlink_to(env / "bin" / "tool")
    (env / "share" / "elsewhere").symlink_to("/usr/share/doc")
    copy = tmp_path / "copy"
    clone(env, copy)
    assert (copy / "share" / "data").resolve() == (copy / "bin" / "tool").resolve()
    assert (copy / "share" / "elsewhere").readlink() == Path("/usr/share/doc")


def test_modes_are_kept(env: Path, tmp_path: Path) -> None:
    (env / "private").mkdir(mode=0o700)
    (env / "private" / "key").write_text("k")
    (env / "private" / "key").chmod(0o600)
    clone(env, tmp_path / "copy")
    assert (tmp_path / "copy" / "private").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "copy" / "private" / "key").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("deed", "seen"),
    [
        (lambda tool: tool.write_text("other"), True),
        (lambda tool: tool.unlink(), True),
        (lambda tool: tool.chmod(0o700), True),
        (lambda tool: (tool.parent / "new").write_text(""), True),
        (lambda tool: (tool.parent / "m.cpython-311.pyc").write_text(""), False),
        (lambda tool: os.link(tool, tool.parent.parent.parent / "link"), False),
    ],
)
def test_a_manifest_shows_who_wrote_to_the_original(env: Path, deed: Callable[[Path], object], seen: bool) -> None:
    before = manifest(env)
    os.utime(env / "bin" / "tool", ns=(1, 1))
    before = manifest(env)
    deed(env / "bin" / "tool")
    assert bool(differences(before, manifest(env))) is seen


def test_what_root_adds_is_handed_to_the_owner(env: Path, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give files away")
    nobody = 65534
    for path in (env, *env.rglob("*")):
        os.chown(path, nobody, nobody, follow_symlinks=False)
    copy = tmp_path / "copy"
    clone(env, copy)
    assert (copy / "bin" / "tool").stat().st_uid == nobody
    (copy / "bin" / "added").write_text("")
    shared = frozenset(path.lstat().st_ino for path in env.rglob("*"))
    assert hand_over(copy, shared) == 1
    assert (copy / "bin" / "added").stat().st_uid == nobody


def test_another_file_system_gets_a_copy(env: Path) -> None:
    memory = Path("/dev/shm")
    if not memory.is_dir() or memory.stat().st_dev == env.stat().st_dev:
        pytest.skip("there is no other file system here")
    copy = memory / f"mmdoctor-test-{os.getpid()}"
    try:
        cloned = clone(env, copy)
        assert cloned.copied > 0
        assert cloned.copied_bytes > 0
        assert contents(copy) == contents(env)
        assert not can_link(env, copy)
    finally:
        shutil.rmtree(copy)
