"""The wheel cache: what a key binds, what a proof holds, that no entry is ever seen half, and what prune takes away."""

from __future__ import annotations

import hashlib
import io
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any, Callable, Optional

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from mmdoctor.__main__ import main
from mmdoctor.errors import RefusedError, TryAgainError
from mmdoctor.locks import locked
from mmdoctor.model import OpCheck, Proven, ProvenModule, Pruned
from mmdoctor.system import Child
from mmdoctor.wheels import cache
from mmdoctor.wheels.cache import (
    PROOF,
    USED,
    BuildKey,
    Proof,
    admit,
    cached_wheels,
    draft,
    listed,
    proofs,
    said,
    sha256_of,
    store,
    strays,
    take,
)
from mmdoctor.wheels.prune import BUILD_DAYS, DAY, LEASE_SECONDS, Policy, removals, remove
from tests.conftest import BUILD_KEY

FILE = "mmcv-2.1.0-cp311-cp311-linux_x86_64.whl"
KEY = replace(BUILD_KEY, flags="MMCV_WITH_OPS=1")
PROVEN = Proven(modules=(), imports=("mmcv._ext",))
# As mmdoctor 0.1 wrote it, to the letter.
EARLIER = """{
 "schema_version": "1",
 "key": {
  "package": "mmcv",
  "version": "2.1.0",
  "sdist_sha256": "d387bcab66b467479b6660310e23746cfc79c6e57acf04094680adb499a5cd3f",
  "fixups": "",
  "torch": "2.1.2+cu121",
  "numpy": "",
  "cuda": "",
  "archs": "",
  "python_tag": "cp311",
  "glibc": "2.36",
  "compiler": "12.2.0",
  "flags": "CFLAGS=-g0 CXXFLAGS=-g0 MMCV_WITH_OPS=1"
 },
 "wheel": "mmcv-2.1.0-cp311-cp311-linux_x86_64.whl",
 "wheel_sha256": "ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73",
 "minutes": 9.11,
 "shown": [
  "import torch",
  "import mmcv._ext"
 ]
}"""


def made(folder: Path, content: bytes = b"content", name: str = FILE) -> Path:
    """A file that passes for a freshly compiled wheel."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)
    return folder / name


def put(folder: Path, content: bytes = b"content", **fields: str) -> Path:
    """A wheel in a cache, under KEY with other fields."""
    key = replace(KEY, **fields)
    name = f"{key.package}-{key.version}-{key.python_tag}-{key.python_tag}-linux_x86_64.whl"
    return admit(folder, made(folder.parent / "made", content, name), key, 6.5, PROVEN)


def aged(path: Path, days: float) -> None:
    """As if nobody had touched it for so long, nor anything below it."""
    then = time.time() - days * DAY
    for one in (path, *path.rglob("*")):
        os.utime(one, (then, then))


# ---------------------------------------------------------------------------------------------------------- the key


@pytest.mark.parametrize("field", BuildKey.__struct_fields__)
def test_whatever_the_binary_depends_on_changes_the_key(field: str) -> None:
    assert replace(KEY, **{field: "other"}).entry != KEY.entry


@pytest.mark.parametrize(
    ("change", "serves"),
    [
        ({}, True),
        ({"compiler": "13.1.0"}, True),
        ({"glibc": "2.39"}, True),
        ({"glibc": "2.28"}, False),
        ({"torch": "2.1.1+cu121"}, False),
        ({"torch": "2.1.2+cpu"}, False),
        ({"python_tag": "cp310"}, False),
        ({"archs": "9.0", "cuda": "12.1"}, False),
    ],
    ids=str,
)
def test_a_wheel_serves_where_what_it_is_bound_to_is_the_same(change: dict[str, str], serves: bool) -> None:
    assert KEY.serves(replace(KEY, **change)) is serves


def test_a_field_that_is_added_leaves_earlier_digests_alone() -> None:
    class Later(BuildKey, frozen=True, kw_only=True, omit_defaults=True):
        linker: str = ""

    fields = {name: getattr(KEY, name) for name in BuildKey.__struct_fields__}
    assert Later(**fields).digest == KEY.digest
    assert Later(**fields, linker="mold").digest != KEY.digest


def test_the_proofs_of_before_are_read(tmp_path: Path) -> None:
    entry = tmp_path / "mmcv-2.1.0" / "3722998f1d8d4279"
    made(entry)
    (entry / PROOF).write_text(EARLIER, encoding="utf-8")
    assert take(tmp_path, replace(KEY, glibc="2.38")) == entry / FILE
    [wheel] = listed(tmp_path).wheels
    assert (wheel.sound, wheel.minutes, wheel.shown) == (True, 9.11, ("import torch", "import mmcv._ext"))
    assert wheel.built == cache.stamp((entry / PROOF).stat().st_mtime)


# -------------------------------------------------------------------------------------------------------- one entry


def test_a_wheel_enters_whole_with_its_proof(tmp_path: Path) -> None:
    kept = admit(tmp_path / "cache", made(tmp_path), KEY, 6.5, PROVEN)
    assert kept.read_bytes() == b"content"
    [(path, proof)] = proofs(tmp_path / "cache")
    assert path == kept
    assert proof.key == KEY
    assert proof.wheel_sha256 == hashlib.sha256(b"content").hexdigest()
    [cached] = cached_wheels(tmp_path / "cache")
    assert (cached.torch, cached.numpy) == ("2.1.2+cu121", None)


def test_what_a_proof_shows_in_words() -> None:
    module = ProvenModule(file="mmcv/_ext.so", needed=("libc10.so",), symbols=312, archs=("9.0", "12.0"))
    op = OpCheck(op="nms", ok=True, max_abs_error=0.0, tolerance=1e-5)
    proven = Proven(modules=(module,), imports=("mmcv._ext",), ops=(op, op), devices=("cpu", "cuda"))
    proof = Proof(key=KEY, wheel=FILE, wheel_sha256="0", minutes=1, proven=proven)
    assert said(proof) == ("312 symbols resolve", "import mmcv._ext", "2 ops on cpu, cuda", "code for 9.0, 12.0")
    assert said(replace(proof, proven=None, shown=("import x",))) == ("import x",)


def unreadable(entry: Path) -> None:
    (entry / PROOF).write_text("{", encoding="utf-8")


def for_another_torch(entry: Path) -> None:
    proof = msgspec.json.decode((entry / PROOF).read_bytes(), type=Proof)
    changed = replace(proof, key=replace(proof.key, torch="2.6.0+cpu"))
    (entry / PROOF).write_bytes(msgspec.json.encode(changed))


def pointing_elsewhere(entry: Path) -> None:
    (entry / FILE).rename(entry.parent / FILE)
    proof = msgspec.json.decode((entry / PROOF).read_bytes(), type=Proof)
    (entry / PROOF).write_bytes(msgspec.json.encode(replace(proof, wheel=f"../{FILE}")))


@pytest.mark.parametrize("harm", [unreadable, for_another_torch, pointing_elsewhere])
def test_a_wheel_without_its_proof_is_none(tmp_path: Path, harm: Callable[[Path], None]) -> None:
    entry = put(tmp_path / "cache").parent
    harm(entry)
    assert proofs(tmp_path / "cache") == ()
    assert take(tmp_path / "cache", replace(KEY, torch="2.6.0+cpu")) is None
    assert strays(tmp_path / "cache") == (entry,)


def test_a_damaged_wheel_is_named_and_never_handed_out(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    kept = put(folder)
    assert take(folder, KEY) == kept
    kept.write_bytes(b"Content")
    assert take(folder, KEY) is None
    assert [wheel.sound for wheel in listed(folder).wheels] == [False]
    again = put(folder, b"compiled again")
    assert again == kept
    assert take(folder, KEY) == again
    assert again.read_bytes() == b"compiled again"


def test_a_damaged_wheel_that_cannot_be_dropped_is_not_planned_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, damaged = put(tmp_path / "team"), put(tmp_path / "team", torch="2.6.0+cpu")
    damaged.write_bytes(b"damaged")
    assert len(cached_wheels(tmp_path / "team")) == 2
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # as for everybody but root
    assert [wheel.path for wheel in cached_wheels(tmp_path / "team")] == [str(whole)]


def test_a_use_is_remembered_where_it_can_be(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    kept = put(folder)
    assert listed(folder).wheels[0].used is None
    kept.parent.chmod(0o555)
    (kept.parent / USED).mkdir()  # root writes where others may not
    assert take(folder, KEY) == kept
    (kept.parent / USED).rmdir()
    kept.parent.chmod(0o755)
    take(folder, KEY)
    assert listed(folder).wheels[0].used is not None


def test_of_several_the_first_that_serves_is_taken(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    put(folder, b"too new", glibc="2.39")
    put(folder, b"another torch", torch="2.6.0+cpu")
    kept = put(folder, b"this", glibc="2.31", compiler="10.2.1")
    assert take(folder, KEY) == kept


# ---------------------------------------------------------------------------------------------- several at once, kills


def test_two_that_admit_the_same_at_once_leave_one_whole_entry(tmp_path: Path) -> None:
    folder, wheel = tmp_path / "cache", made(tmp_path)
    places: list[Path] = []
    threads = [threading.Thread(target=lambda: places.append(admit(folder, wheel, KEY, 1.0, PROVEN))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    [(path, proof)] = proofs(folder)
    assert places == [path] * 8
    assert sha256_of(path) == proof.wheel_sha256
    assert [entry.name for entry in folder.iterdir()] == ["mmcv-2.1.0"]


def test_the_entry_that_is_in_use_stays_when_the_same_is_admitted(tmp_path: Path) -> None:
    first = put(tmp_path / "cache").stat().st_ino
    assert put(tmp_path / "cache").stat().st_ino == first


@pytest.mark.parametrize("written", [(), (FILE,), (FILE, PROOF)])
def test_a_kill_while_an_entry_is_made_leaves_nothing_to_see(tmp_path: Path, written: tuple[str, ...]) -> None:
    folder = tmp_path / "cache"
    left = folder / "draft-0"
    left.mkdir(parents=True)
    for name in written:
        (left / name).write_bytes(b"half")
    assert proofs(folder) == ()
    assert strays(folder) == ()
    kept = put(folder)
    assert [path for path, _ in proofs(folder)] == [kept]
    assert [one.kind for one in removals(folder, None, Policy(), time.time()).removals] == []
    aged(left, 1.1)
    pruned = removals(folder, None, Policy(), time.time())
    assert [(one.kind, one.name) for one in pruned.removals] == [("draft", "draft-0")]
    remove(pruned)
    assert not left.exists()
    assert take(folder, KEY) == kept


ADMITTING = """
import pathlib, sys
import msgspec
from mmdoctor.model import Proven
from mmdoctor.wheels.cache import BuildKey, admit, drop
folder, wheel = map(pathlib.Path, sys.argv[1:3])
key, proven = msgspec.json.decode(sys.argv[3], type=BuildKey), Proven(modules=(), imports=())
print("begun", flush=True)
while True:
    drop(admit(folder, wheel, key, 1.0, proven).parent, folder)
"""


def test_kills_leave_whole_entries_or_none(tmp_path: Path) -> None:
    folder, wheel = tmp_path / "cache", made(tmp_path, os.urandom(500_000))
    argv = (sys.executable, "-c", ADMITTING, str(folder), str(wheel), msgspec.json.encode(KEY).decode())
    for number in range(4):
        with Child(argv) as child:
            assert child.readline(60) == "begun"
            time.sleep(0.05 + 0.017 * number)
            os.kill(child.pid, signal.SIGKILL)
            assert child.wait() == -signal.SIGKILL
        assert all(sha256_of(path) == proof.wheel_sha256 for path, proof in proofs(folder))
        assert strays(folder) == ()
    for left in folder.glob("draft-*"):
        aged(left, 2)
    remove(pruned(folder))
    assert not list(folder.glob("draft-*"))


def test_an_entry_is_there_from_one_moment_to_the_next(tmp_path: Path) -> None:
    """Whoever looks while entries come and go sees whole ones, or none."""
    folder, wheel, done = tmp_path / "cache", made(tmp_path, b"x" * 100_000), threading.Event()
    halves: list[Path] = []

    def look() -> None:
        while not done.is_set():
            halves.extend(path for path in strays(folder) if path.exists() and path in strays(folder))

    looking = threading.Thread(target=look)
    looking.start()
    for _ in range(50):
        entry = admit(folder, wheel, KEY, 1.0, PROVEN).parent
        cache.drop(entry, folder)
    done.set()
    looking.join()
    assert halves == []


def test_a_cache_that_cannot_be_written_is_no_half_entry(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    folder.write_text("a file")
    with pytest.raises(RefusedError, match=r"cannot write .*cache: Not a directory"):
        admit(folder, made(tmp_path), KEY, 1.0, PROVEN)


def test_store_says_whether_it_was_new(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    proof = Proof(key=KEY, wheel=FILE, wheel_sha256=hashlib.sha256(b"content").hexdigest(), minutes=1.0)
    for new in (True, False):
        with draft(folder) as place:
            made(place)
            assert store(folder, place, proof) == (folder / KEY.entry / FILE, new)


# ------------------------------------------------------------------------------------------------------------- prune


def pruned(folder: Path, rest: Optional[Path] = None, days: float = 90.0, **fields: Any) -> Pruned:
    return removals(folder, rest, Policy(days=days, **fields), time.time())


def gone(found: Pruned) -> dict[str, str]:
    return {one.name: one.why for one in found.removals}


def test_what_was_not_used_for_long_goes(tmp_path: Path) -> None:
    folder = tmp_path / "wheels"
    old, used = put(folder), put(folder, torch="2.6.0+cpu")
    aged(old.parent, 100)
    aged(used.parent, 100)
    take(folder, replace(KEY, torch="2.6.0+cpu"))
    found = pruned(folder)
    assert gone(found) == {"mmcv 2.1.0 cp311 for 2.1.2+cu121": "not used for 100 days"}
    assert (found.kept, found.done, old.exists()) == (1, False, True)
    assert remove(found).done
    assert [path for path, _ in proofs(folder)] == [used]
    assert not old.parent.exists()


def test_a_limit_takes_the_longest_unused_first_and_keep_wins(tmp_path: Path) -> None:
    folder = tmp_path / "wheels"
    for number, torch in enumerate(("2.1.2+cpu", "2.2.0+cpu", "2.3.0+cpu", "2.4.0+cpu")):
        aged(put(folder, b"x" * 1000, torch=torch).parent, 10 - number)
    assert [one.name[-9:] for one in pruned(folder, bytes=2500).removals] == ["2.1.2+cpu", "2.2.0+cpu"]
    assert [one.name[-9:] for one in pruned(folder, bytes=2500, keep=3).removals] == ["2.1.2+cpu"]
    assert pruned(folder, days=0, keep=4).removals == ()
    assert len(pruned(folder, days=0).removals) == 4
    assert pruned(folder, bytes=4000).removals == ()


def test_what_may_be_in_use_stays(tmp_path: Path) -> None:
    folder = tmp_path / "wheels"
    kept = put(folder)
    found = pruned(folder, days=0)
    assert (found.removals, found.in_use) == ((), ("mmcv 2.1.0",))
    aged(kept.parent, (LEASE_SECONDS + 60) / DAY)
    assert len(pruned(folder, days=0).removals) == 1


def test_damaged_wheels_and_strays_go_at_once(tmp_path: Path) -> None:
    folder = tmp_path / "wheels"
    damaged, stray = put(folder), put(folder, torch="2.6.0+cpu")
    damaged.write_bytes(b"damaged")
    unreadable(stray.parent)
    for entry in (damaged.parent, stray.parent):
        aged(entry, 0.1)
    whys = {"mmcv 2.1.0 cp311 for 2.1.2+cu121": "damaged: not the file that was proven"}
    assert gone(pruned(folder)) == {**whys, stray.parent.name: "no proof, or a changed one"}
    remove(pruned(folder))
    assert not damaged.exists()
    assert not stray.parent.exists()


def test_what_no_wheel_needs_goes_with_them(tmp_path: Path) -> None:
    rest = tmp_path / "cache"
    sdists, build = rest / "sdists", rest / "build"
    needed = made(sdists, b"needed", "mmcv-2.1.0.tar.gz")
    made(sdists, b"not needed", "mmcv-2.0.0.tar.gz")
    made(build / "mmcv-2.1.0-0" / "src", b"", "old.o")
    made(build / "mmcv-2.1.0-1" / "src", b"", "new.o")
    put(rest / "wheels", sdist_sha256=sha256_of(needed))
    assert pruned(rest / "wheels", rest).removals == ()
    aged(sdists, 100)
    aged(build / "mmcv-2.1.0-0", BUILD_DAYS + 1)
    aged(build / "mmcv-2.1.0-1", BUILD_DAYS + 1)
    os.utime(build / "mmcv-2.1.0-1" / "src" / "new.o")  # a compile that is at work
    found = pruned(rest / "wheels", rest)
    assert gone(found) == {
        "mmcv-2.1.0-0": "a build that was not finished; untouched for 8 days",
        "mmcv-2.0.0.tar.gz": "no wheel here was made from it",
    }
    assert pruned(rest / "wheels").removals == ()  # another folder's cache has no part in it
    remove(found)
    left = (path.name for path in (*sdists.iterdir(), *build.iterdir()) if path.suffix != ".lock")
    assert sorted(left) == ["mmcv-2.1.0-1", "mmcv-2.1.0.tar.gz"]


def test_a_build_that_runs_stays(tmp_path: Path) -> None:
    rest = tmp_path / "cache"
    build = rest / "build"
    made(build / "mmcv-2.1.0-0" / "src", b"", "half.o")
    made(build, b"", "mmcv-2.1.0-0.log")
    made(build, b"", "mmcv-2.1.0-1.log")
    with locked(build / "mmcv-2.1.0-0.lock", "the build", "another mmdoctor"):
        aged(build, BUILD_DAYS + 1)
        found = pruned(rest / "wheels", rest)
        assert gone(found) == {"mmcv-2.1.0-1.log": "a build's log; untouched for 8 days"}
        assert found.in_use == ("mmcv-2.1.0-0", "mmcv-2.1.0-0.log")
    found = pruned(rest / "wheels", rest)
    assert list(gone(found)) == ["mmcv-2.1.0-0", "mmcv-2.1.0-0.log", "mmcv-2.1.0-1.log"]
    with locked(build / "mmcv-2.1.0-0.lock", "the build", "another mmdoctor"), pytest.raises(TryAgainError):
        remove(found)  # it was begun while the user was asked
    assert (build / "mmcv-2.1.0-0" / "src" / "half.o").exists()
    remove(found)
    assert {path.suffix for path in build.iterdir()} == {".lock"}


@given(
    ages=st.lists(st.integers(1, 200), min_size=1, max_size=6),
    days=st.integers(0, 200),
    room=st.none() | st.integers(0, 6),
    keep=st.integers(0, 6),
)
def test_prune_keeps_what_it_says(
    tmp_path_factory: pytest.TempPathFactory, ages: list[int], days: int, room: Optional[int], keep: int
) -> None:
    folder = tmp_path_factory.mktemp("wheels")
    age = {}
    for number, old in enumerate(ages):
        entry = put(folder / "wheels", b"x" * 1000, torch=f"2.{number}.0+cpu").parent
        aged(entry, old)
        age[str(entry)] = old
    found = pruned(folder / "wheels", days=days, bytes=None if room is None else room * 1000, keep=keep)
    went = {one.path for one in found.removals}
    stays = [old for entry, old in age.items() if entry not in went]
    assert len(stays) >= min(keep, len(ages))
    assert found.kept == len(stays)
    assert all(old < days for old in sorted(stays)[keep:])
    if room is not None:
        assert len(stays) <= max(room, keep)
    assert min((age[entry] for entry in went), default=200) >= max(stays, default=0)  # the longest unused ones


# ------------------------------------------------------------------------------------------------------ the commands


def mmdoctor(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["wheels", *arguments])
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_list_as_text_and_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "wheels"
    put(folder, b"x" * 1_500_000)
    put(folder, package="xtcocotools", version="1.14.3", torch="", numpy="2.4.6")
    cuda = put(folder, torch="2.13.0+cu130", cuda="13.0", archs="9.0;12.0")
    assert mmdoctor("list", "--wheels", str(folder)) == 0
    text = capsys.readouterr().out
    for words in ("torch 2.1.2+cu121", "numpy 2.4.6", "CUDA 13.0: 9.0;12.0", "1.5", "≥2.36", "import mmcv._ext"):
        assert words in text
    cuda.write_bytes(b"damaged")
    assert mmdoctor("list", "--wheels", str(folder), "--format", "json") == 1
    listing = json.loads(capsys.readouterr().out)
    sound = {wheel["torch"]: wheel["sound"] for wheel in listing["wheels"]}
    assert sound == {"2.1.2+cu121": True, None: True, "2.13.0+cu130": False}
    assert mmdoctor("list", "--wheels", str(folder)) == 1
    assert f"{cuda}: it is not the file that was proven" in capsys.readouterr().out


def test_an_empty_cache_is_no_fault(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert mmdoctor("list", "--wheels", str(tmp_path / "none")) == 0
    assert "none is empty" in capsys.readouterr().out
    assert mmdoctor("prune", "--wheels", str(tmp_path / "none"), "--yes") == 0
    assert "nothing to remove" in capsys.readouterr().out


def test_prune_asks_and_deletes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "wheels"
    kept = put(folder)
    aged(kept.parent, 100)
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))  # no terminal
    assert mmdoctor("prune", "--wheels", str(folder)) == 4
    assert "--yes" in capsys.readouterr().err
    assert mmdoctor("prune", "--wheels", str(folder), "--dry-run") == 0
    assert "would go: 1" in capsys.readouterr().out
    assert kept.exists()
    assert mmdoctor("prune", "--wheels", str(folder), "--yes", "--format", "json") == 0
    assert json.loads(capsys.readouterr().out)["removals"][0]["bytes"] == len(b"content")
    assert not kept.exists()


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [("--older-than", "90", "an age like"), ("--older-than", "old", "an age like"), ("--larger-than", "5", "a size")],
)
def test_what_is_no_age_and_no_size(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str, value: str, said: str
) -> None:
    assert mmdoctor("prune", "--wheels", str(tmp_path), option, value) == 2
    assert said in capsys.readouterr().err
