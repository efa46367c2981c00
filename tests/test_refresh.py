"""`matrix refresh` against recorded pages behind a server on the loopback, whole and with faults."""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Iterator
from typing import Any, Optional

import pytest
from msgspec.structs import replace

from mmdoctor.__main__ import _run
from mmdoctor.matrix import dump_matrix, load_matrix
from mmdoctor.matrix_lint import lint_matrix
from mmdoctor.matrix_model import Matrix
from mmdoctor.model import Difference, Reading
from mmdoctor.probes.indexes import IndexConfig
from mmdoctor.refresh import refresh
from mmdoctor.refresh.listing import listing, too_short
from mmdoctor.refresh.pages import File, Page, read_page
from mmdoctor.refresh.remote import declared
from tests.indexes import RECORDED, Indexes, links, served, without

TODAY = "2026-12-01"


@pytest.fixture
def indexes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Indexes]:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    with served() as running:
        yield running


def look(indexes: Indexes, matrix: Matrix, **config: Any) -> tuple[Matrix, dict[str, Difference], dict[str, Reading]]:
    settings = IndexConfig(**{"index_url": indexes.simple, **config})
    anew, differences, readings = refresh(matrix, settings, TODAY, lambda text: None)
    return anew, {d.row: d for d in differences}, {r.page: r for r in readings}


def missing(matrix: Matrix, table: str, **find: str) -> Matrix:
    """The matrix without the rows that have these values."""
    rows = getattr(matrix, table)
    kept = tuple(row for row in rows if not all(getattr(row, name) == value for name, value in find.items()))
    assert len(kept) < len(rows)
    return replace(matrix, **{table: kept})


def one(matrix: Matrix, table: str, **find: str) -> Any:
    (row,) = (r for r in getattr(matrix, table) if all(getattr(r, name) == value for name, value in find.items()))
    return row


def unlike(row: Any, other: Any) -> set[str]:
    """The fields in which two rows differ."""
    return {name for name in row.__struct_fields__ if getattr(row, name) != getattr(other, name)}


# ------------------------------------------------------------------------------------------------- what is found


def test_nothing_new(indexes):
    matrix = indexes.matrix()
    anew, differences, readings = look(indexes, matrix)
    assert differences == {}
    assert anew == matrix
    assert [name for name, reading in readings.items() if not reading.read] == []


def test_a_new_torch_is_found_as_its_row_was_measured(indexes):
    matrix = indexes.matrix()
    known = one(matrix, "torch", release="2.15.0")
    without_it = missing(missing(matrix, "torch", release="2.15.0"), "archs", torch="2.15.0")
    anew, differences, _ = look(indexes, without_it)
    found = one(anew, "torch", release="2.15.0")
    assert unlike(known, found) == {"download_mb", "source"}
    assert (found.download_mb, found.source) == (None, ("R1",))
    assert differences["torch 2.15.0"].kind == "new"
    assert any(
        "7.5, 8.0, 8.6, 9.0, 10.0, 12.0; its PTX is not in the wheel" in x for x in differences["torch 2.15.0"].look
    )
    assert anew.read_on == TODAY
    assert TODAY in anew.sources["R1"]
    assert lint_matrix(anew, dump_matrix(anew)) == ()


def test_a_torchvision_that_takes_a_range_goes_to_the_newest_torch_it_takes(indexes):
    matrix = indexes.matrix()
    rows = tuple(replace(row, torchvision=("0.29.1",)) if row.release == "2.15.0" else row for row in matrix.torch)
    rows = tuple(replace(row, torchvision=("0.29.1",)) if row.release == "2.14.1" else row for row in rows)
    anew, differences, _ = look(indexes, replace(matrix, torch=rows))
    assert one(anew, "torch", release="2.15.0").torchvision == ("0.29.1", "0.29.2")
    assert list(differences) == ["torch 2.15.0"]


def test_without_torchs_index_only_the_variants_of_pypis_wheels_are_known(indexes):
    indexes.faults["whl/torch/"] = "500"
    matrix = missing(missing(indexes.matrix(), "torch", release="2.15.0"), "archs", torch="2.15.0")
    anew, differences, readings = look(indexes, matrix)
    assert one(anew, "torch", release="2.15.0").variants == ("cu132",)
    assert "variants: only PyPI's own (cu132), torch's index did not answer" in differences["torch 2.15.0"].look
    assert not readings["torch's index"].read
    assert lint_matrix(anew, dump_matrix(anew)) == ()


def test_a_new_variant_on_torchs_index(indexes):
    indexes.pages["whl/torch/"] += links(["torch-2.15.0%2Bcu135-cp312-cp312-win_amd64.whl"])
    indexes.pages["whl/torch/"] += links(["torch-2.15.0%2Brocm7.1-cp312-cp312-manylinux_2_28_x86_64.whl"])
    anew, differences, _ = look(indexes, indexes.matrix())
    assert one(anew, "torch", release="2.15.0").variants == ("cpu", "cu126", "cu130", "cu132", "cu134", "cu135")
    assert one(anew, "torch", release="2.15.0").source[-1] == "R1"
    assert list(differences) == ["torch 2.15.0"]


@pytest.mark.parametrize("fault", ["whole", "garbage", "404"])
def test_a_torch_whose_wheel_cannot_be_read_is_left_out(indexes, fault):
    for name in ("manylinux_2_28_x86_64", "manylinux_2_28_aarch64"):
        indexes.faults[f"files/torch-2.15.0-cp313-cp313-{name}.whl"] = fault
    matrix = missing(missing(indexes.matrix(), "torch", release="2.15.0"), "archs", torch="2.15.0")
    anew, differences, _ = look(indexes, matrix)
    assert differences["torch 2.15.0"].kind == "look"
    said = {"whole": "hands out no parts of a file", "garbage": "not a zip file", "404": "HTTP 404"}[fault]
    assert said in differences["torch 2.15.0"].look[0]
    assert anew == matrix


def test_new_numpy_series_and_release(indexes):
    matrix = missing(indexes.matrix(), "numpy", series="2.5")
    rows = tuple(replace(row, last="2.4.5", python=("3.11", "3.12")) for row in matrix.numpy)
    anew, differences, _ = look(indexes, replace(matrix, numpy=rows))
    assert [(row.series, row.last, row.abi) for row in anew.numpy] == [("2.4", "2.4.6", "2"), ("2.5", "2.5.5", "2")]
    assert one(anew, "numpy", series="2.5").python == ("3.12", "3.13", "3.14", "3.15")
    (last, _) = differences["numpy 2.4"].changes
    assert (last.field, last.old, last.new) == ("last", "2.4.5", "2.4.6")


def test_a_third_generation_of_numpy_is_not_made_up(indexes):
    indexes.pages["simple/numpy/"] += links(["numpy-3.0.0-cp313-cp313-manylinux_2_28_x86_64.whl"])
    anew, differences, _ = look(indexes, indexes.matrix())
    assert (differences["numpy 3.0"].kind, differences["numpy 3.0"].changes) == ("look", ())
    assert "a generation 3" in differences["numpy 3.0"].look[0]
    assert {row.series for row in anew.numpy} == {"2.4", "2.5"}


def test_new_binaries_are_found_as_their_rows_were_measured(indexes):
    new = {
        ("xtcocotools", "1.14.3"): {"source", "build_minutes"},
        ("pycocotools", "2.0.11"): {"source"},
        ("opencv-python", "5.0.0.93"): {"source"},
        ("opencv-python-headless", "5.0.0.93"): {"source"},
    }
    matrix = without_them = indexes.matrix()
    for package, version in new:
        without_them = missing(without_them, "binaries", package=package, version=version)
    anew, _, _ = look(indexes, without_them)
    for (package, version), other in new.items():
        known, found = (one(some, "binaries", package=package, version=version) for some in (matrix, anew))
        assert unlike(known, found) == other, package


def test_metadata_beside_the_wheel_is_read_instead_of_the_wheel(indexes):
    name = "torchvision-0.29.2-py3-none-manylinux_2_28_x86_64.whl"
    page = indexes.pages["simple/torchvision/"]
    indexes.pages["simple/torchvision/"] = re.sub(
        rf'(<a href="[^"]*{name}[^>]*)>', r'\1 data-core-metadata="true">', page
    )
    rows = tuple(
        replace(row, torchvision=row.torchvision[:1]) for row in indexes.matrix().torch if row.release != "2.15.0"
    )
    look(indexes, replace(indexes.matrix(), torch=rows))
    asked = [path for path, _ in indexes.asked]
    assert f"files/{name}.metadata" in asked
    assert f"files/{name}" not in asked


def test_new_openmmlab_releases_want_a_look(indexes):
    new = {
        "mmpose 1.4.0": "mmpose-1.4.0-py2.py3-none-any.whl",
        "mmdet 3.4.0": "mmdet-3.4.0-py3-none-any.whl",
        "mmengine 0.11.0": "mmengine-0.11.0-py3-none-any.whl",
        "mmcv 2.3.0": "mmcv-2.3.0.tar.gz",
        "mmcv-full 1.8.0": "mmcv-full-1.8.0.tar.gz",
    }
    for row, name in new.items():
        indexes.pages[f"simple/{row.split()[0]}/"] += links([name])
    matrix = indexes.matrix()
    anew, differences, _ = look(indexes, matrix)
    assert differences.keys() == new.keys()
    assert {difference.kind for difference in differences.values()} == {"look"}
    assert anew == matrix


def test_prereleases_yanked_and_old_releases_are_not_new(indexes):
    yanked = '<a href="/files/mmpose-1.4.0.tar.gz" data-yanked="broken">mmpose-1.4.0.tar.gz</a>\n'
    indexes.pages["simple/mmpose/"] += (
        links(["mmpose-1.4.0rc1.tar.gz", "mmpose-0.8.0.tar.gz", "mmpose-1.4.0.exe"]) + yanked
    )
    assert look(indexes, indexes.matrix())[1] == {}


def test_a_yanked_release_is_marked_and_stays(indexes):
    page = indexes.pages["simple/mmdet/"]
    indexes.pages["simple/mmdet/"] = re.sub(r'(<a href="[^"]*mmdet-3\.3\.0[^>]*)>', r'\1 data-yanked="a bug">', page)
    anew, differences, _ = look(indexes, indexes.matrix())
    assert one(anew, "openmmlab", project="mmdet", version="3.3.0").withdrawn == "yanked: a bug"
    assert [(c.field, c.new) for c in differences["mmdet 3.3.0"].changes] == [("withdrawn", "yanked: a bug")]
    assert lint_matrix(anew, dump_matrix(anew)) == ()
    indexes.pages["simple/mmdet/"] = page
    assert one(look(indexes, anew)[0], "openmmlab", project="mmdet", version="3.3.0").withdrawn is None


def test_wheels_that_are_gone_are_said_and_kept(indexes):
    indexes.pages["simple/torch/"] = without(indexes.pages["simple/torch/"], r"torch-2\.13\.0-cp310-cp310-win_amd64")
    matrix = indexes.matrix()
    anew, differences, _ = look(indexes, matrix)
    assert differences["torch 2.13.0"].look == ("python_windows: no wheel any more for Python 3.10",)
    assert anew == matrix


def test_mmcv_wheels(indexes):
    page = "mmcv/cu121/torch2.1.0/index.html"
    indexes.pages[page] += links(
        ["mmcv-2.1.0-cp312-cp312-manylinux1_x86_64.whl", "mmcv-2.3.0-cp310-cp310-win_amd64.whl"]
    )
    indexes.pages["mmcv/cu126/torch2.13.0/index.html"] = links(["mmcv-2.2.0-cp312-cp312-manylinux_2_28_x86_64.whl"])
    anew, differences, readings = look(indexes, indexes.matrix())
    linux = one(anew, "mmcv_wheels", os="linux", variant="cu121")
    assert linux.python["2.1.0"] == ("3.8", "3.9", "3.10", "3.11", "3.12")
    assert differences["mmcv_wheels mmcv windows 2.1 cu121"].look == ("2.3.0 is there and has no row in mmcv",)
    new = one(anew, "mmcv_wheels", torch="2.13")
    assert (new.os, new.variant, new.versions, new.python) == ("linux", "cu126", ("2.2.0",), {"2.2.0": ("3.12",)})
    assert readings["openmmlab cu130 torch 2.13"].read, "that there is no page is an answer"
    assert lint_matrix(anew, dump_matrix(anew)) == ()


def test_mmcv_wheels_that_are_gone(indexes):
    page = "mmcv/cu121/torch2.1.0/index.html"
    indexes.pages[page] = without(indexes.pages[page], "mmcv-2.1.0.*win")
    matrix = indexes.matrix()
    anew, differences, _ = look(indexes, matrix)
    assert differences["mmcv_wheels mmcv windows 2.1 cu121"].look == ("versions: 2.1.0 no longer there",)
    assert anew == matrix


def test_a_page_that_the_matrix_knows_and_that_is_not_there_is_not_read(indexes):
    del indexes.pages["mmcv/cu121/torch2.1.0/index.html"]
    _, differences, readings = look(indexes, indexes.matrix())
    assert readings["openmmlab cu121 torch 2.1"].tried[0].said == "there is no such page"
    assert differences == {}


# ------------------------------------------------------------------------------------------------------- faults

FAULTS = {
    "404": "there is no such page",
    "500": "HTTP 500 (Internal Server Error)",
    "403": "HTTP 403 (Forbidden)",
    "half-json": "its JSON is broken",
    "login": "it lists no file",
    "empty": "it lists no file",
    "cut": "it is cut off",
    "half": "too short to go by",
    "broken-gzip": "its compressed text is broken",
    "slow": "timed out",
    "odd-link": "a link on its page is none",
}


def test_pages_with_faults_are_named_and_the_others_stand(indexes):
    """Each fault on a page of its own, the one of half a page where there is much to miss."""
    small = ("mmcv", "mmcv-full", "mmdet", "mmengine", "mmpose", "opencv-python", "opencv-python-headless")
    pages = [*small, "torchvision", "xtcocotools", "pycocotools"]
    faults = {"half": "torch", **dict(zip((f for f in FAULTS if f != "half"), pages))}
    assert len(faults) == len(FAULTS)
    indexes.faults = {f"simple/{package}/": fault for fault, package in faults.items()}
    matrix = missing(indexes.matrix(), "numpy", series="2.5")
    anew, differences, readings = look(indexes, missing(matrix, "torch", release="2.15.0"), timeout=2.0)
    for fault, package in faults.items():
        reading = readings[f"PyPI {package}"]
        assert not reading.read, fault
        assert FAULTS[fault] in str(reading.tried[0].said), fault
    assert differences["numpy 2.5"].kind == "new"
    assert [row.release for row in anew.torch] == ["2.13.0", "2.14.0", "2.14.1"]


@pytest.mark.parametrize("fault", ["json", "gzip", "redirect"])
def test_other_ways_to_serve_a_page(indexes, fault):
    for path in list(indexes.pages):
        if path.startswith("simple/"):
            indexes.faults[path] = fault
    _, differences, readings = look(indexes, indexes.matrix())
    assert differences == {}
    assert all(reading.read for reading in readings.values())


def test_json_and_html_say_the_same(indexes):
    url = f"{indexes.simple}/opencv-python/"
    html = read_page(url, IndexConfig())
    indexes.faults["simple/opencv-python/"] = "json"
    assert read_page(url, IndexConfig()) == html
    assert len(html.files) == 36


def test_a_short_page_takes_nothing_away(indexes):
    indexes.pages["simple/pycocotools/"] = without(indexes.pages["simple/pycocotools/"], "pycocotools-2.0.(8|9|10)")
    matrix = indexes.matrix()
    anew, differences, readings = look(indexes, matrix)
    assert re.fullmatch(
        r"it has \d+ of the \d+ wheels .* too short to go by", str(readings["PyPI pycocotools"].tried[0].said)
    )
    assert (anew, differences) == (matrix, {})


@pytest.mark.parametrize(("gone", "short"), [(1, False), (2, True)])
def test_one_release_in_ten_may_be_gone(gone, short):
    page = Page(url="u", files=tuple(File(name=f"mmdet-3.{n}.0.tar.gz", url="f") for n in range(gone, 10)))
    said = too_short(listing(page, "mmdet", ()), {(f"3.{n}.0", "", "") for n in range(10)})
    assert (said is not None) is short


def test_a_host_that_does_not_answer_is_asked_once(indexes):
    closed = replace(indexes.matrix(), openmmlab_index="http://127.0.0.1:9/{variant}/torch{torch}/index.html")
    _, _, readings = look(indexes, closed)
    said = {reading.tried[0].said for name, reading in readings.items() if name.startswith("openmmlab")}
    assert said == {"the connection is refused"}


@pytest.mark.parametrize("address", ["http://[::1/simple", "ftp://there/simple", "nonsense", "file:///nowhere/simple"])
def test_an_address_that_is_none_is_named(indexes, address):
    _, differences, readings = look(indexes, indexes.matrix(), index_url=address)
    assert differences == {}
    assert readings["PyPI torch"].tried[0].said


def test_an_empty_matrix_finds_no_news(indexes):
    tables = ("torch", "archs", "mmcv", "mmcv_wheels", "openmmlab", "numpy", "binaries")
    matrix = replace(indexes.matrix(), **dict.fromkeys(tables, ()))
    anew, differences, _ = look(indexes, matrix)
    assert (anew, differences) == (matrix, {})


# -------------------------------------------------------------------------------------------- the user's own indexes


def test_a_further_index_stands_in_where_the_first_has_no_whole_page(indexes):
    indexes.pages["mirror/torch/"] = indexes.pages["simple/torch/"]
    indexes.faults["simple/torch/"] = "500"
    _, differences, readings = look(indexes, indexes.matrix(), extra_index_urls=(f"{indexes.base}/mirror",))
    assert [tried.said for tried in readings["PyPI torch"].tried] == [FAULTS["500"], None]
    assert differences == {}


def test_a_mirror_of_torchs_index_stands_in(indexes):
    indexes.pages["mirror/pytorch/whl/torch/"] = indexes.pages.pop("whl/torch/")
    mirror = f"{indexes.base}/mirror/pytorch/whl/cu121"
    _, differences, readings = look(indexes, indexes.matrix(), extra_index_urls=(mirror,))
    assert (readings["torch's index"].read, differences) == (True, {})


def test_a_mirror_of_openmmlabs_page_among_find_links_stands_in(indexes):
    page = "cu121/torch2.1.0/index.html"
    indexes.pages[f"mirror/dist/{page}"] = indexes.pages.pop(f"mmcv/{page}")
    _, differences, readings = look(indexes, indexes.matrix(), find_links=(f"{indexes.base}/mirror/dist/{page}",))
    assert (readings["openmmlab cu121 torch 2.1"].read, differences) == (True, {})


def test_credentials_are_sent_to_the_index_alone_and_never_shown(indexes):
    secret = indexes.simple.replace("http://", "http://anna:s3cret@")
    indexes.faults["simple/numpy/"] = "redirect"
    indexes.faults["simple/torch/"] = "500"
    _, differences, readings = look(indexes, indexes.matrix(), index_url=secret)
    sent = {path: headers.get("Authorization") for path, headers in indexes.asked}
    assert sent["simple/mmcv/"] == "Basic " + base64.b64encode(b"anna:s3cret").decode()
    assert sent["moved/simple/numpy/"] is None
    assert sent["whl/torch/"] is None
    assert "s3cret" not in repr((differences, readings))


def test_pip_told_no_index(indexes):
    _, differences, readings = look(indexes, indexes.matrix(), no_index=True)
    assert differences == {}
    assert [r for name, r in readings.items() if name.startswith("PyPI") and (r.read or r.tried)] == []


def test_offline_only_local_folders_are_read(indexes, tmp_path):
    for name, page in indexes.pages.items():
        if name.startswith("simple/"):
            folder = tmp_path / name
            folder.mkdir(parents=True)
            (folder / "index.html").write_text(page, encoding="utf-8")
    config = IndexConfig(index_url=(tmp_path / "simple").as_uri())
    matrix = missing(indexes.matrix(), "numpy", series="2.5")
    _, differences, readings = refresh(matrix, config, TODAY, lambda text: None, offline=True)
    assert [d.row for d in differences] == ["numpy 2.5"]
    assert {r.tried[0].said for r in readings if not r.read} == {"--offline"}
    assert indexes.asked == []


# --------------------------------------------------------------------------------------------------------- pieces


@pytest.mark.parametrize(
    ("requires", "python", "expected"),
    [
        (["numpy<2.0; python_version < '3.9'", "numpy>=2; python_version >= '3.9'"], "3.8", "<2.0"),
        (["numpy<2.0; python_version < '3.9'", "numpy>=2; python_version >= '3.9'"], "3.12", ">=2"),
        (["numpy>=1.17; python_version >= '3.7'", "numpy>=1.23.5; python_version >= '3.11'"], "3.12", ">=1.23.5"),
        (["numpy>=1.21,<3"], "3.12", ">=1.21,<3"),
        (["numpy"], "3.12", None),
        (["numpy>=2; extra == 'fast'", "scipy"], "3.12", None),
        (["numpy>=2; sys_platform == 'win32'"], "3.12", None),
    ],
)
def test_declared(requires, python, expected):
    from packaging.requirements import Requirement

    assert declared(tuple(map(Requirement, requires)), "numpy", python) == expected


@pytest.mark.parametrize(
    ("name", "fields", "pythons"),
    [
        ("p-1-cp311-cp311-manylinux_2_28_x86_64.whl", {"python"}, ("3.11",)),
        ("p-1-cp36-cp36m-manylinux1_x86_64.whl", {"python"}, ("3.6",)),
        ("p-1-cp311-abi3-win_amd64.whl", {"python_windows"}, ("3.11", "3.12")),
        ("p-1-cp311-cp311-macosx_11_0_universal2.whl", {"python_macos_arm64", "python_macos_x86_64"}, ("3.11",)),
        ("p-1-cp311-cp311-manylinux2014_aarch64.manylinux_2_17_aarch64.whl", {"python_aarch64"}, ("3.11",)),
        ("p-1-cp313-cp313t-manylinux_2_28_x86_64.whl", set(), ()),
        ("p-1-pp310-pypy310_pp73-manylinux_2_28_x86_64.whl", set(), ()),
        ("p-1-cp311-cp311-musllinux_1_2_x86_64.whl", set(), ()),
        ("p-1-cp311-cp311-win32.whl", set(), ()),
        ("p-1.tar.gz", set(), ()),
        ("p-1.win32-py2.4.exe", set(), ()),
        ("another-1-cp311-cp311-win_amd64.whl", set(), ()),
    ],
)
def test_what_a_wheel_is_for(name, fields, pythons):
    found = listing(Page(url="u", files=(File(name=name, url="f"),)), "p", ("3.10", "3.11", "3.12")).wheels
    assert {field for wheel in found for field in wheel.fields} == fields
    assert tuple(python for wheel in found for python in wheel.pythons) == pythons


# --------------------------------------------------------------------------------------------------- the command


@pytest.fixture
def command(indexes, tmp_path, monkeypatch, capsys):
    """Runs `mmdoctor matrix refresh` against the recorded indexes; answers with exit code, stdout and stderr."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    for name in [name for name in os.environ if name.startswith(("PIP_", "UV_")) and name != "PIP_CONFIG_FILE"]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_INDEX_URL", indexes.simple)

    def run(*arguments: str, matrix: Optional[Matrix] = None) -> tuple[int, str, str]:
        file = tmp_path / "matrix.yaml"
        if matrix is not None:
            file.write_text(dump_matrix(matrix), encoding="utf-8")
        code = _run(["matrix", "refresh", "--matrix", str(file), *arguments])
        return (code, *capsys.readouterr())

    return run


def test_exit_0_when_the_matrix_is_as_the_indexes_say(indexes, command, tmp_path):
    code, out, _ = command("--write", matrix=indexes.matrix())
    assert (code, "nothing new" in out) == (0, True)
    assert (tmp_path / "matrix.yaml").read_text(encoding="utf-8") == dump_matrix(indexes.matrix())


def test_exit_1_without_write_and_0_with_it(indexes, command, tmp_path):
    file = tmp_path / "matrix.yaml"
    code, out, err = command(matrix=missing(indexes.matrix(), "numpy", series="2.5"))
    before = file.read_text(encoding="utf-8")
    assert (code, "numpy 2.5" in out, "--write" in out) == (1, True, True)
    assert "reading" in err
    code, out, _ = command("--write")
    assert (code, "written" in out) == (0, True)
    after = file.read_text(encoding="utf-8")
    assert after != before
    assert dump_matrix(load_matrix(file)) == after
    assert lint_matrix(load_matrix(file), after) == ()
    assert one(load_matrix(file), "numpy", series="2.5").source == ("R1",)
    assert command()[0] == 0
    assert [path.name for path in tmp_path.iterdir()] == ["matrix.yaml"]


def test_exit_1_with_write_while_something_wants_a_look(indexes, command):
    indexes.pages["simple/mmpose/"] += links(["mmpose-1.4.0.tar.gz"])
    code, out, _ = command("--write", matrix=indexes.matrix())
    assert (code, "look: needs_mmdet" in out, "written" in out) == (1, True, False)


def test_exit_75_when_a_page_could_not_be_read_and_nothing_is_new(indexes, command):
    indexes.faults["simple/torch/"] = "503"
    code, out, _ = command(matrix=indexes.matrix())
    assert code == 75
    assert "PyPI torch: 127.0.0.1" in re.sub(r"\s+", " ", out)


def test_exit_75_when_no_index_answers(indexes, command, tmp_path):
    matrix = replace(
        indexes.matrix(),
        torch_index="http://127.0.0.1:9/{variant}",
        openmmlab_index="http://127.0.0.1:9/{variant}{torch}",
    )
    indexes.faults = dict.fromkeys(indexes.pages, "500")
    code, out, err = command("--write", matrix=matrix)
    assert (code, out) == (75, "")
    assert "no index could be read" in err
    assert (tmp_path / "matrix.yaml").read_text(encoding="utf-8") == dump_matrix(matrix)


def test_json(indexes, command):
    code, out, _ = command("--format", "json", matrix=missing(indexes.matrix(), "numpy", series="2.5"))
    said = json.loads(out)
    (difference,) = said["differences"]
    assert (code, difference["table"], difference["kind"], said["written"]) == (1, "numpy", "new", False)
    assert {"field": "python", "old": None, "new": ["3.12", "3.13", "3.14", "3.15"]} in difference["changes"]


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_matrix_that_cannot_be_written_is_said_before_anything_is_read(indexes, command, tmp_path):
    command(matrix=indexes.matrix())
    (tmp_path / "matrix.yaml").chmod(0o444)
    indexes.asked.clear()
    code, _, err = command("--write")
    assert (code, indexes.asked) == (2, [])
    assert "cannot be written" in err


def test_the_matrix_of_an_installed_mmdoctor_is_not_written(indexes, tmp_path, capsys):
    file = tmp_path / "site-packages" / "mmdoctor" / "data" / "compat_matrix.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(dump_matrix(indexes.matrix()), encoding="utf-8")
    assert _run(["matrix", "refresh", "--matrix", str(file), "--write"]) == 2
    assert "installed mmdoctor" in capsys.readouterr().err
    assert indexes.asked == []


def test_a_matrix_that_changed_meanwhile_is_not_overwritten(indexes, command, tmp_path):
    file = tmp_path / "matrix.yaml"
    matrix = missing(indexes.matrix(), "numpy", series="2.5")
    other = dump_matrix(replace(matrix, read_on="2026-11-30"))
    indexes.on_ask = lambda path: file.write_text(other, encoding="utf-8") if path == "simple/numpy/" else None
    code, _, err = command("--write", matrix=matrix)
    assert (code, "changed meanwhile" in err) == (75, True)
    assert load_matrix(file).read_on == "2026-11-30"


def test_an_outcome_that_lint_refuses_is_not_written(indexes, command, tmp_path):
    matrix = missing(indexes.matrix(), "numpy", series="2.5")
    faulty = replace(matrix, numpy=tuple(replace(row, source=()) for row in matrix.numpy))
    code, _, err = command("--write", matrix=faulty)
    assert (code, "numpy 2.4: has no source" in err) == (4, True)
    assert load_matrix(tmp_path / "matrix.yaml") == faulty


def test_the_recorded_matrix_is_sound():
    file = RECORDED / "matrix.yaml"
    assert lint_matrix(load_matrix(file), file.read_text(encoding="utf-8")) == ()
