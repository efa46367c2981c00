"""Export and import: a static index that pip's own rules read, and what is refused when a proof does not hold."""

from __future__ import annotations

import functools
import http.server
import io
import json
import re
import subprocess
import threading
import zipfile
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Callable, Optional
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from mmdoctor.errors import RefusedError, TryAgainError, UsageError
from mmdoctor.model import Imported
from mmdoctor.probes.indexes import IndexConfig
from mmdoctor.probes.offers import FOLDERS, probe_offers
from mmdoctor.wheels.cache import PROOF, BuildKey, Proof, admit, listed, proofs, sha256_of, take
from mmdoctor.wheels.exporting import bound, export, requires_python
from mmdoctor.wheels.importing import import_wheels, is_for
from tests.binaries import needs_gcc, shared, target
from tests.conftest import DATA
from tests.test_wheels_cache import KEY, PROVEN, aged, mmdoctor

CONFIG = IndexConfig()
XTC = replace(KEY, package="xtcocotools", version="1.14.3", torch="", numpy="2.4.6")
FATBIN = DATA / "fatbin" / "sm75-sm90-ptx120.fatbin"
SUB = "simple/torch-2.1.2-cu121-ops-cpu"


def archive(key: BuildKey, python: Optional[str] = ">=3.7", compiled: bool = True, salt: str = "") -> bytes:
    """A wheel with the metadata of `key` and a file that passes for a compiled module."""
    module = key.package.replace("-", "_")
    lines = ["Metadata-Version: 2.1", f"Name: {key.package}", f"Version: {key.version}"]
    lines += [f"Requires-Python: {python}"] if python else []
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as files:
        files.writestr(zipfile.ZipInfo(f"{module}/__init__.py"), f"# {salt}\n")
        if compiled:
            files.writestr(zipfile.ZipInfo(f"{module}/_ext.so"), "no real one")
        files.writestr(zipfile.ZipInfo(f"{module}-{key.version}.dist-info/METADATA"), "\n".join(lines) + "\n\n")
    return stream.getvalue()


def put(folder: Path, key: BuildKey = KEY, content: Optional[bytes] = None) -> Path:
    """A wheel of this key in a cache."""
    name = f"{key.package.replace('-', '_')}-{key.version}-{key.python_tag}-{key.python_tag}-linux_x86_64.whl"
    file = folder.parent / "made" / name
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(archive(key, salt=key.digest) if content is None else content)
    return admit(folder, file, key, 6.5, PROVEN)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """Two wheels with one file name, for two torches, and one that is bound to NumPy."""
    folder = tmp_path / "wheels"
    put(folder)
    put(folder, replace(KEY, torch="2.13.0+cu130", cuda="13.0", archs="9.0;12.0"))
    put(folder, XTC)
    return folder


@pytest.fixture
def serve() -> Iterator[Callable[[Path], str]]:
    """`http.server` on the loopback for a folder; yields its address."""
    servers = []

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    def start(folder: Path) -> str:
        handler = functools.partial(Quiet, directory=str(folder))
        servers.append(http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler))
        threading.Thread(target=servers[-1].serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


class Anchors(HTMLParser):
    """The links of a page as PEP 503 means them: text, address, attributes."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.found: list[tuple[str, str, dict[str, Optional[str]]]] = []
        self.inside: Optional[dict[str, Optional[str]]] = None
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, Optional[str]]]) -> None:
        if tag == "a":
            self.inside = dict(attrs)

    def handle_data(self, data: str) -> None:
        if self.inside is not None:
            self.found.append((data, str(self.inside["href"]), self.inside))
            self.inside = None


# ------------------------------------------------------------------------------------------------------------- export


def test_the_folder_is_an_index_by_the_book(cache: Path, tmp_path: Path) -> None:
    """PEP 503: normalised names, one anchor per project with a slash at its end; one per file with its name as text,
    its hash in the fragment, Requires-Python in an attribute."""
    put(cache, replace(KEY, package="mmcv-full", version="1.7.2"))
    exported = export(cache, tmp_path / "out", ())
    assert [index.path for index in exported.indexes] == [
        "simple/numpy-2.4.6",
        SUB,
        "simple/torch-2.13.0-cu130-ops-9.0-12.0",
    ]
    page = tmp_path / "out" / SUB / "index.html"
    assert [(text, href) for text, href, _ in Anchors(page).found] == [("mmcv", "mmcv/"), ("mmcv-full", "mmcv-full/")]
    for index in exported.indexes:
        for project, files in index.wheels.items():
            page = tmp_path / "out" / index.path / project / "index.html"
            anchors = Anchors(page).found
            assert [text for text, _, _ in anchors] == list(files)
            for text, href, attributes in anchors:
                address, fragment = urldefrag(urljoin(page.as_uri(), href))
                file = Path(unquote(urlsplit(address).path))
                assert (file.name, f"sha256={sha256_of(file)}") == (text, fragment)
                assert attributes["data-requires-python"] == ">=3.7"


def test_wheels_of_one_name_do_not_meet(cache: Path, tmp_path: Path) -> None:
    exported = export(cache, tmp_path / "out", ("mmcv==2.1.0",))
    assert len(exported.added) == 2
    first, second = (Anchors(tmp_path / "out" / index.path / "mmcv" / "index.html").found for index in exported.indexes)
    assert [text for text, _, _ in first] == [text for text, _, _ in second]
    assert [href for _, href, _ in first] != [href for _, href, _ in second]


def test_of_the_same_for_the_same_the_oldest_glibc_is_listed(tmp_path: Path) -> None:
    for glibc in ("2.36", "2.28", "2.9"):
        put(tmp_path / "wheels", replace(KEY, glibc=glibc))
    exported = export(tmp_path / "wheels", tmp_path / "out", ())
    [(_, href, _)] = Anchors(tmp_path / "out" / SUB / "mmcv" / "index.html").found
    assert replace(KEY, glibc="2.9").entry in href
    assert len(exported.added) == 3
    assert len(import_wheels(str(tmp_path / "out"), tmp_path / "other", CONFIG).added) == 3


def test_exporting_again_adds_and_takes_nothing_away(cache: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export(cache, out, ("xtcocotools",))
    before = (out / "simple" / "numpy-2.4.6" / "xtcocotools" / "index.html").read_text(encoding="utf-8")
    exported = export(cache, out, ())
    assert (len(exported.added), len(exported.there)) == (2, 1)
    assert len(exported.indexes) == 3
    assert (out / "simple" / "numpy-2.4.6" / "xtcocotools" / "index.html").read_text(encoding="utf-8") == before
    assert not list(out.glob("**/*.part"))
    assert not list(out.glob("draft-*"))


def test_pages_follow_what_is_there(cache: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export(cache, out, ())
    aged(out / XTC.entry, 100)
    assert mmdoctor("prune", "--wheels", str(out), "--yes") == 0
    assert len(list((out / "simple").glob("*/index.html"))) == 2
    assert not (out / "simple" / "numpy-2.4.6" / "xtcocotools" / "index.html").exists()
    assert "numpy-2.4.6" not in (out / "index.html").read_text(encoding="utf-8")


def test_a_damaged_wheel_is_left_out(cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wheel = next(wheel for wheel, proof in proofs(cache) if proof.key == XTC)
    wheel.write_bytes(wheel.read_bytes()[:-1])
    assert mmdoctor("export", str(tmp_path / "out"), "--wheels", str(cache), "--format", "json") == 4
    exported = json.loads(capsys.readouterr().out)
    assert exported["damaged"] == [XTC.entry]
    assert len(exported["added"]) == 2
    assert "xtcocotools" not in (tmp_path / "out" / "index.html").read_text(encoding="utf-8")


def test_what_is_not_there_is_said(cache: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no wheel of mmcv==9 .*") as said:
        export(cache, tmp_path / "out", ("mmcv==9",))
    assert said.value.hint == "there are mmcv==2.1.0, xtcocotools==1.14.3"
    with pytest.raises(RefusedError, match="there is no wheel in"):
        export(tmp_path / "empty", tmp_path / "out", ())
    (tmp_path / "file").write_text("")
    with pytest.raises(RefusedError, match=r"cannot write .*file: Not a directory"):
        export(cache, tmp_path / "file", ())


def test_where_it_came_from_is_not_handed_on(cache: Path, tmp_path: Path) -> None:
    export(cache, tmp_path / "out", ())
    import_wheels(str(tmp_path / "out"), tmp_path / "second", CONFIG)
    assert str(tmp_path) in str(listed(tmp_path / "second").wheels[0].origin)
    export(tmp_path / "second", tmp_path / "third", ())
    assert {proof.origin for _, proof in proofs(tmp_path / "third")} == {""}
    assert {proof.built for _, proof in proofs(tmp_path / "third")} == {proof.built for _, proof in proofs(cache)}


def test_what_python_a_wheel_wants(tmp_path: Path) -> None:
    file = tmp_path / "a.whl"
    for content, wants in ((archive(KEY), ">=3.7"), (archive(KEY, python=None), ""), (b"no archive", "")):
        file.write_bytes(content)
        assert requires_python(file) == wants


versions = st.from_regex(r"[0-9]{1,2}\.[0-9]{1,2}\.[0-9](\+(cpu|cu1[0-9]{2}|rocm6\.[0-9]))?", fullmatch=True)
archs = st.lists(st.sampled_from(["7.5", "8.6", "9.0", "9.0a", "12.0"]), unique=True).map(";".join)
keys = st.builds(
    replace,
    st.sampled_from([KEY, XTC, replace(KEY, package="onedl-mmcv", version="2.3.6")]),
    torch=versions | st.just(""),
    numpy=st.just("") | versions,
    archs=archs | archs.map(lambda text: f"{text}+PTX" if text else ""),
    glibc=st.sampled_from(["2.17", "2.31", "2.36"]),
    python_tag=st.sampled_from(["cp39", "cp311", "cp313"]),
)


@given(keys, keys)
def test_an_indexs_name_says_what_its_wheels_are_bound_to(one: BuildKey, other: BuildKey) -> None:
    (first, words), (second, others) = bound(one), bound(other)
    same = (one.torch, one.numpy, one.torch and one.archs) == (other.torch, other.numpy, other.torch and other.archs)
    assert (first == second) is same
    assert (words == others) is same
    assert re.fullmatch(r"[A-Za-z0-9._-]+", first)
    assert FOLDERS.search(f"/simple/{first}/mmcv/") is None  # an address would say nothing of the ops


@given(st.lists(keys, min_size=1, max_size=4, unique_by=lambda key: key.entry))
def test_what_goes_out_comes_in_again(tmp_path_factory: pytest.TempPathFactory, some: list[BuildKey]) -> None:
    folder = tmp_path_factory.mktemp("round")
    some = [replace(key, archs="") for key in some]
    for key in some:
        put(folder / "wheels", key)
    export(folder / "wheels", folder / "out", ())
    imported = import_wheels(str(folder / "out"), folder / "cache", CONFIG)
    assert imported.refused == ()

    def content(place: Path) -> dict[str, tuple[str, Proof]]:
        return {p.key.entry: (sha256_of(wheel), replace(p, origin="")) for wheel, p in proofs(place)}

    assert content(folder / "cache") == content(folder / "out") == content(folder / "wheels")
    assert set(content(folder / "cache")) == {key.entry for key in some}


# ------------------------------------------------------------------------------------------------------------- import


@pytest.mark.parametrize("how", ["folder", "file", "http", "page"])
def test_from_a_folder_and_from_its_address(
    cache: Path, tmp_path: Path, serve: Callable[[Path], str], how: str
) -> None:
    out = tmp_path / "out"
    export(cache, out, ())
    source = {"folder": str(out), "file": out.as_uri()}.get(how) or serve(out)
    imported = import_wheels(f"{source}/index.html" if how == "page" else source, tmp_path / "mine", CONFIG)
    assert (len(imported.added), imported.there) == (2, ())
    assert "no CUDA code" in imported.refused[0].why or "foreign" in imported.refused[0].why  # it is no real module
    assert take(tmp_path / "mine", KEY) is not None
    again = import_wheels(source, tmp_path / "mine", CONFIG)
    assert (again.added, set(again.there)) == ((), set(imported.added))


def test_a_dry_run_writes_nothing(cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    export(cache, tmp_path / "out", ("xtcocotools",))
    arguments = ("import", str(tmp_path / "out"), "--wheels", str(tmp_path / "mine"), "--dry-run")
    assert mmdoctor(*arguments) == 0
    assert "would import xtcocotools-1.14.3/" in capsys.readouterr().out
    assert not (tmp_path / "mine").exists()


def edited(**fields: Any) -> Callable[[Path], None]:
    """Change the proof of an entry, as somebody would in an editor."""

    def edit(entry: Path) -> None:
        proof = json.loads((entry / PROOF).read_text(encoding="utf-8"))
        for name, value in fields.items():
            (proof["key"] if name in proof["key"] else proof)[name] = value
        (entry / PROOF).write_text(json.dumps(proof), encoding="utf-8")

    return edit


def refiled(**fields: str) -> Callable[[Path], None]:
    """Change the key and give the entry its name."""

    def edit(entry: Path) -> None:
        edited(**fields)(entry)
        key = msgspec.json.decode((entry / PROOF).read_bytes(), type=Proof).key
        place = entry.parents[1] / key.entry
        place.parent.mkdir(exist_ok=True)
        entry.rename(place)

    return edit


def flipped(entry: Path) -> None:
    wheel = next(entry.glob("*.whl"))
    content = bytearray(wheel.read_bytes())
    content[len(content) // 2] ^= 1
    wheel.write_bytes(content)


def cut(entry: Path) -> None:
    (entry / PROOF).write_bytes((entry / PROOF).read_bytes()[:100])


def without_wheel(entry: Path) -> None:
    next(entry.glob("*.whl")).unlink()


def another_wheel(entry: Path) -> None:
    """Somebody else's binary, with its own hash in the proof."""
    wheel = next(entry.glob("*.whl"))
    wheel.write_bytes(archive(replace(KEY, version="2.2.0")))
    edited(wheel_sha256=sha256_of(wheel))(entry)


def without_ops(entry: Path) -> None:
    wheel = next(entry.glob("*.whl"))
    wheel.write_bytes(archive(KEY, compiled=False))
    edited(wheel_sha256=sha256_of(wheel))(entry)


def no_archive(entry: Path) -> None:
    wheel = next(entry.glob("*.whl"))
    wheel.write_bytes(b"<html>Please log in</html>")
    edited(wheel_sha256=sha256_of(wheel))(entry)


def huge(entry: Path) -> None:
    (entry / PROOF).write_bytes(b" " * 2_000_000)


@pytest.mark.parametrize(
    ("harm", "why"),
    [
        (flipped, "is not the file that was proven"),
        (edited(wheel_sha256="0" * 64), "is not the file that was proven"),
        (edited(torch="2.6.0+cpu"), "its proof was changed: the key in it belongs to mmcv-2.1.0/"),
        (edited(numpy="2.4.6"), "its proof was changed"),
        (edited(version="2.2.0"), "its proof was changed"),
        (edited(package="../../mmcv"), "its proof was changed"),
        (refiled(version="2.2.0"), "its proof is for mmcv 2.2.0, cp311, and names mmcv-2.1.0-"),
        (refiled(python_tag="cp313"), "its proof is for mmcv 2.1.0, cp313, and names"),
        (refiled(archs="9.0", cuda="13.0"), "a compiled module that is foreign"),
        (edited(wheel="../../../mmcv-2.1.0-cp311-cp311-linux_x86_64.whl"), "which is no wheel"),
        (edited(wheel="mmcv.whl"), "which is no wheel"),
        (edited(schema_version="2"), "its proof is of version 2, and this mmdoctor reads 1"),
        (cut, "its proof does not read"),
        (huge, "its proof is longer than 1 MB"),
        (edited(minutes="many"), "its proof does not read: Expected `float`"),
        (without_wheel, "cannot be read"),
        (another_wheel, "has no mmcv-2.1.0.dist-info/METADATA"),
        (without_ops, "holds no compiled module"),
        (no_archive, "is no whole wheel"),
    ],
)
@pytest.mark.parametrize("over", ["folder", "http"])
def test_what_is_tampered_with_is_refused_and_the_rest_taken(
    tmp_path: Path, serve: Callable[[Path], str], harm: Callable[[Path], None], why: str, over: str
) -> None:
    out, mine = tmp_path / "out", tmp_path / "mine"
    for key in (KEY, XTC):
        put(out, key)
    harm(out / KEY.entry)
    if over == "http":  # pages that name each entry, as an exporter wrote them before somebody changed the files
        links = [f'<a href="{path.relative_to(out).as_posix()}">x</a>' for path in out.glob(f"*/*/{PROOF}")]
        (out / "index.html").write_text("".join(links), encoding="utf-8")
    imported = import_wheels(serve(out) if over == "http" else str(out), mine, CONFIG)
    assert imported.added == (XTC.entry,)
    [refused] = imported.refused
    assert why in refused.why
    assert [proof.key for _, proof in proofs(mine)] == [XTC]
    assert [path.name for path in mine.iterdir()] == ["xtcocotools-1.14.3"]


def test_refusals_are_the_exit_status(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(tmp_path / "out")
    flipped(tmp_path / "out" / KEY.entry)
    arguments = ("import", str(tmp_path / "out"), "--wheels", str(tmp_path / "mine"))
    assert mmdoctor(*arguments) == 4
    said = capsys.readouterr().out
    assert f"refused {KEY.entry}: mmcv-2.1.0-cp311-cp311-linux_x86_64.whl is not the file" in said
    assert mmdoctor(*arguments, "--format", "json") == 4
    imported = msgspec.json.decode(capsys.readouterr().out, type=Imported)
    assert (imported.added, len(imported.refused)) == ((), 1)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("import", "{here}", "--env", "{here}/none"), "is no environment to prove wheels in"),
        (("import", "{here}/none"), "there is no folder"),
        (("list", "--wheels", "{here}/file"), "is no folder"),
        (("export", "{here}/out", "mmcv", "--wheels", "{here}/file"), "is no folder"),
    ],
)
def test_what_the_command_line_has_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], said: str
) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    assert mmdoctor(*(word.format(here=tmp_path) for word in arguments)) == 2
    assert said in capsys.readouterr().err


def test_what_is_no_exported_folder(tmp_path: Path, serve: Callable[[Path], str]) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="there is no folder"):
        import_wheels(str(tmp_path / "none"), tmp_path / "mine", CONFIG)
    with pytest.raises(UsageError, match="holds no wheel with a proof"):
        import_wheels(str(tmp_path / "empty"), tmp_path / "mine", CONFIG)
    address = serve(tmp_path / "empty")
    with pytest.raises(TryAgainError, match=r"index\.html cannot be read: HTTP 404"):
        import_wheels(address, tmp_path / "mine", CONFIG)
    secret = address.replace("//", "//me:secret@")
    with pytest.raises(TryAgainError) as said:
        import_wheels(secret, tmp_path / "mine", CONFIG)
    assert "secret" not in said.value.what
    (tmp_path / "empty" / "index.html").write_text("<p>Hello</p>", encoding="utf-8")
    with pytest.raises(UsageError, match="holds no wheel with a proof"):
        import_wheels(address, tmp_path / "mine", CONFIG)


@needs_gcc
def test_the_cuda_code_that_a_key_promises_is_looked_for(tmp_path: Path) -> None:
    """A wheel with machine code for 7.5 and 9.0, as the proof says, or says too much."""
    module = shared(tmp_path / "_ext.so")
    subprocess.run(["objcopy", "--add-section", f".nv_fatbin={FATBIN}", str(module)], check=True)
    stream = io.BytesIO(archive(KEY, compiled=False))
    with zipfile.ZipFile(stream, "a") as files:
        files.write(module, "mmcv/_ext.so")
    for archs in ("7.5;9.0", "9.0", "8.6;9.0"):
        put(tmp_path / "out", replace(KEY, torch="2.13.0+cu130", cuda="13.0", archs=archs), stream.getvalue())
    imported = import_wheels(str(tmp_path / "out"), tmp_path / "mine", CONFIG)
    assert {proof.key.archs for _, proof in proofs(tmp_path / "mine")} == {"7.5;9.0", "9.0"}
    [refused] = imported.refused
    assert "holds no CUDA code for 8.6, as its proof says; it holds 7.5, 9.0" in refused.why


def test_a_wheel_that_does_not_work_here_is_refused(tmp_path: Path) -> None:
    """With a target what is for it is proven anew; what is for another torch is not."""
    site = tmp_path / "site"
    here = target(site)
    other = replace(KEY, torch="2.6.0+cpu")
    for key in (replace(KEY, torch="2.1.2+cpu"), other):
        put(tmp_path / "out", key)
    imported = import_wheels(str(tmp_path / "out"), tmp_path / "mine", CONFIG, here)
    assert (imported.added, imported.proven) == ((other.entry,), ())
    assert "mmcv 2.1.0: mmcv/_ext.so is foreign" in imported.refused[0].why
    assert is_for(replace(KEY, torch="2.1.2+cpu"), here)
    assert not is_for(replace(KEY, torch="2.1.2+cpu", python_tag="cp310"), here)
    assert is_for(replace(XTC, numpy="1.26.4"), here)
    assert not is_for(XTC, here)


def test_an_import_leaves_the_wheel_that_is_in_use(cache: Path, tmp_path: Path) -> None:
    export(cache, tmp_path / "out", ())
    before = {path: path.stat().st_ino for path, _ in proofs(cache)}
    assert import_wheels(str(tmp_path / "out"), cache, CONFIG).added == ()
    assert {path: path.stat().st_ino for path, _ in proofs(cache)} == before


# ------------------------------------------------------------------------------------ an exported folder among sources


def offers(**where: Any) -> list[tuple[Optional[str], str, Optional[str]]]:
    config = IndexConfig(**where)
    return [(w.torch, w.archs, w.says) for place in probe_offers(config, offline=False) for w in place.wheels]


@pytest.mark.parametrize("over", ["http", "file"])
def test_an_exported_folder_is_known_by_its_proofs(
    cache: Path, tmp_path: Path, serve: Callable[[Path], str], over: str
) -> None:
    out = tmp_path / "out"
    cuda = "simple/torch-2.13.0-cu130-ops-9.0-12.0"
    export(cache, out, ())
    address = serve(out) if over == "http" else out.as_uri()
    cpu = ("2.1.2+cu121", "", "its proof")
    assert offers(extra_index_urls=(f"{address}/{SUB}",)) == [cpu]
    assert offers(find_links=(f"{address}/{SUB}/mmcv/index.html",)) == [cpu]
    assert offers(find_links=(str(out / KEY.entry),)) == [cpu]
    assert offers(extra_index_urls=(f"{address}/{cuda}/",)) == [("2.13.0+cu130", "9.0;12.0", "its proof")]
    edited(torch="2.6.0+cpu")(out / KEY.entry)
    assert offers(extra_index_urls=(f"{address}/{SUB}",)) == [(None, "", None)]


def test_the_folder_itself_is_a_cache(cache: Path, tmp_path: Path) -> None:
    """`fix --wheels DIR` takes wheels from it."""
    export(cache, tmp_path / "out", ())
    assert take(tmp_path / "out", KEY) == tmp_path / "out" / KEY.entry / "mmcv-2.1.0-cp311-cp311-linux_x86_64.whl"
    assert [w.torch for w in listed(tmp_path / "out").wheels] == [w.torch for w in listed(cache).wheels]
