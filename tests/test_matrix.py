"""The compatibility matrix and the recipes: their form, their meaning, and the errors of a file that is wrong."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmdoctor.errors import DataError, UsageError
from mmdoctor.matrix import dump_matrix, load_matrix, load_recipe, recipe_names
from mmdoctor.matrix_lint import KEYS, PYTHONS, lint_matrix, located
from mmdoctor.matrix_model import DriverRow, Matrix, MmcvWheelRow, OpenmmlabRow, TorchRow

FILE = Path(__file__).parents[1] / "compat_matrix.yaml"
BAD = Path(__file__).parent / "data" / "matrix"


@pytest.fixture(scope="module")
def text() -> str:
    return FILE.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def matrix() -> Matrix:
    return load_matrix()


# --------------------------------------------------------------------------------------------------------------- form


def test_round_trip_byte_for_byte(text, matrix):
    assert dump_matrix(matrix) == text


def test_lint_is_clean(text, matrix):
    assert lint_matrix(matrix, text) == ()


def test_every_version_is_quoted(text):
    assert re.findall(r"[\[:,] *\d+\.\d+\.\d+", re.sub(r'"[^"]*"', '""', text)) == []


@pytest.mark.parametrize("file", sorted(BAD.glob("*.yaml")), ids=lambda file: file.stem)
def test_bad_file_is_refused_with_file_line_and_path(file, monkeypatch):
    monkeypatch.chdir(BAD)
    with pytest.raises(DataError) as caught:
        load_recipe(file.name) if file.name.startswith("recipe-") else load_matrix(Path(file.name))
    assert caught.value.what + "\n" == file.with_suffix(".error.txt").read_text(encoding="utf-8")


def test_every_bad_file_has_its_message():
    assert {f.stem for f in BAD.glob("*.yaml")} == {f.name.removesuffix(".error.txt") for f in BAD.glob("*.error.txt")}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("read_on: 2026-13-45", r"\$\.read_on: expected text, got a date"),
        ("? [1, 2]\n: 3", "odd.yaml:1: not YAML: a key that is no text"),
        ("&a [*a]", "not YAML: maximum recursion"),
        ("a: &a [*a]", "not YAML: maximum recursion"),
        ("a: !!python/name:os.system", "not YAML|no such key"),
        ("a: b\n---\nc: d", "not YAML: but found another document"),
        ("a: \x07", "not YAML"),
    ],
)
def test_odd_yaml_is_a_data_error(tmp_path, content, message):
    file = tmp_path / "odd.yaml"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        load_matrix(file)


def test_missing_file(tmp_path):
    with pytest.raises(DataError, match=r"nowhere\.yaml: cannot be read: No such file"):
        load_matrix(tmp_path / "nowhere.yaml")


def test_file_that_is_not_text(tmp_path):
    (tmp_path / "m.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="it is not UTF-8 text"):
        load_matrix(tmp_path / "m.yaml")


WORDS = st.text(st.characters(categories=("L", "N", "P", "S", "Zs")), max_size=12)


def values(kind: Any) -> st.SearchStrategy[Any]:
    """Any value of a field's type."""
    inner = get_args(kind)
    if get_origin(kind) is Union:
        return st.one_of(*(values(option) for option in inner))
    if get_origin(kind) is Literal:
        return st.sampled_from(inner)
    if get_origin(kind) is tuple:
        return st.lists(values(inner[0]), max_size=3).map(tuple)
    if get_origin(kind) is dict:
        return st.dictionaries(WORDS, values(inner[1]), max_size=3)
    simple = {
        str: WORDS,
        bool: st.booleans(),
        int: st.integers(0, 9999),
        float: st.integers(0, 99).map(lambda n: n / 10),
        type(None): st.none(),
    }
    return simple[kind]


@pytest.mark.parametrize("table", KEYS)
def test_any_row_survives_dump_and_load(table, tmp_path_factory):
    empty = Matrix(
        schema_version="1",
        read_on="",
        sources={},
        torch_index="",
        openmmlab_index="",
        **dict.fromkeys(KEYS, ()),  # type: ignore[arg-type]
    )
    kind = get_args(get_type_hints(Matrix)[table])[0]
    rows = st.builds(kind, **{name: values(hint) for name, hint in get_type_hints(kind).items()})
    file = tmp_path_factory.mktemp("rows") / "matrix.yaml"

    @given(st.lists(rows, max_size=2).map(tuple))
    def survives(some):
        matrix = msgspec.structs.replace(empty, **{table: some})
        file.write_text(dump_matrix(matrix), encoding="utf-8")
        assert load_matrix(file) == matrix

    survives()


# ------------------------------------------------------------------------------------------------------------ meaning


def changed(matrix: Matrix, table: str, find: dict[str, str], **fields: Any) -> Matrix:
    """The matrix with other fields in the one row that has these values."""
    rows = getattr(matrix, table)
    hits = [i for i, row in enumerate(rows) if all(getattr(row, name) == value for name, value in find.items())]
    assert len(hits) == 1
    new = msgspec.structs.replace(rows[hits[0]], **fields)
    return msgspec.structs.replace(matrix, **{table: (*rows[: hits[0]], new, *rows[hits[0] + 1 :])})


@pytest.fixture(scope="module")
def lean(matrix: Matrix) -> Matrix:
    """The shipped matrix without most rows of its long tables: as clean, and linted in a quarter of the time."""
    short = {
        "archs": tuple(row for row in matrix.archs if row.torch in ("2.1.2", "2.15.0")),
        "mmcv_wheels": tuple(row for row in matrix.mmcv_wheels if row.torch in ("2.1", "2.5")),
        "openmmlab": tuple(row for row in matrix.openmmlab if row.version in ("1.3.2", "3.2.0", "3.3.0", "0.10.7")),
        "binaries": tuple(row for row in matrix.binaries if "python" not in row.package or "headless" in row.package),
        "stacks": tuple(row for row in matrix.stacks if row.numpy == "1.21.6"),
    }
    rows = [row for name in KEYS for row in short.get(name, getattr(matrix, name))]
    used = {source for row in rows for source in getattr(row, "source", ())}
    sources = {name: said for name, said in matrix.sources.items() if name in used}
    few = msgspec.structs.replace(matrix, sources=sources, **short)
    assert lint_matrix(few, dump_matrix(few)) == ()
    return few


WHEEL = {"package": "mmcv", "os": "linux", "torch": "2.1", "variant": "cu121"}
FAULTS = [
    ("torch", {"release": "2.1.2"}, {"source": ("T99",)}, "torch 2.1.2: source 'T99' is not in the table of sources"),
    ("torch", {"release": "2.1.2"}, {"source": ()}, "torch 2.1.2: has no source"),
    ("torch", {"release": "2.1.2"}, {"glibc": "two"}, "torch 2.1.2: glibc: 'two' is not a version"),
    ("torch", {"release": "2.1.2"}, {"setuptools": "82"}, "torch 2.1.2: setuptools: '82' is not a version range"),
    ("torch", {"release": "2.1.2"}, {"release": "2.1.1"}, "torch 2.1.1: is there twice"),
    ("torch", {"release": "2.1.2"}, {"release": "2.0.2"}, "torch 2.0.2: belongs before torch 2.1.1"),
    (
        "torch",
        {"release": "2.1.2"},
        {"torchvision": ("0.16.1",)},
        "torch 2.1.2: torchvision 0.16.1 belongs to torch 2.1.1",
    ),
    (
        "torch",
        {"release": "2.1.2"},
        {"variants": ("cuda12",)},
        "torch 2.1.2: 'cuda12' is no variant; expected cpu or cu and digits",
    ),
    (
        "torch",
        {"release": "2.1.2"},
        {"pypi_cuda": "12.9"},
        "torch 2.1.2: the PyPI wheel's CUDA 12.9 is not among its variants",
    ),
    (
        "archs",
        {"torch": "2.1.2", "variant": "cu121", "platform": "windows"},
        {"variant": "cu122"},
        "archs windows 2.1.2 cu122: there is no such torch release and variant",
    ),
    ("drivers", {"cuda_major": "13"}, {"linux": "520"}, "drivers 13: linux 520 is older than 525.60.13 of CUDA 12"),
    ("drivers", {"cuda_major": "13"}, {"windows": "520"}, "drivers 13: windows 520 is older than 528.33 of CUDA 12"),
    (
        "gpus",
        {"compute_capability": "8.6"},
        {"arch": "sm_89"},
        "gpus 8.6: arch sm_89 is not that of its compute capability",
    ),
    (
        "gpus",
        {"compute_capability": "8.6"},
        {"runs_on_sass_of": ("8.0",)},
        "gpus 8.6: does not run its own machine code",
    ),
    ("numpy", {"series": "2.0"}, {"abi": "1"}, "numpy 2.0: 2.0.2 and API 1 are not of this series"),
    ("mmcv_wheels", WHEEL, {"variant": "cu122"}, "mmcv_wheels mmcv linux 2.1 cu122: torch 2.1 has no variant cu122"),
    (
        "mmcv_wheels",
        WHEEL,
        {"versions": ("2.1.0", "2.3.0")},
        "mmcv_wheels mmcv linux 2.1 cu121: 2.3.0 has no row in mmcv",
    ),
    (
        "mmcv_wheels",
        WHEEL,
        {"versions": ("2.2.0",)},
        "mmcv_wheels mmcv linux 2.1 cu121: python names 2.1.0, which is not in versions",
    ),
    (
        "openmmlab",
        {"project": "mmdet", "version": "3.3.0"},
        {"mmcv": "2.0 to 2.2"},
        "openmmlab mmdet 3.3.0: mmcv: '2.0 to 2.2' is not a version range",
    ),
    (
        "openmmlab",
        {"project": "mmdet", "version": "3.3.0"},
        {"mmcv": None},
        "openmmlab mmdet 3.3.0: mmcv and mmcv_package go together",
    ),
    (
        "openmmlab",
        {"project": "mmdet", "version": "3.3.0"},
        {"requires": ("a b",)},
        "openmmlab mmdet 3.3.0: requires: 'a b' is not a requirement",
    ),
    ("tools", {"torch": ">=2.5"}, {"torch": ">=2.6"}, "torch 2.5.1: 0 rows of tools apply, expected one"),
    ("tools", {"torch": ">=2.5"}, {"setuptools_pin": "82.0.0"}, "tools >=2.5: the pin 82.0.0 is outside >=77.0.3,<81"),
    ("fixups", {"id": "cxx20"}, {"versions": ">=9"}, "fixups cxx20 mmcv: no row has such a version"),
    ("fixups", {"id": "cxx20"}, {"file": None}, "fixups cxx20 mmcv: file and replace go together"),
    (
        "stacks",
        {"torch": "2.0.1", "numpy": "1.21.6"},
        {"torchvision": "0.16.2"},
        "torchvision 0.16.2 is not that of torch 2.0.1",
    ),
    ("stacks", {"torch": "2.0.1", "numpy": "1.21.6"}, {"build": "cu124"}, "torch 2.0.1 has no variant cu124"),
    ("stacks", {"torch": "2.0.1", "numpy": "1.21.6"}, {"python": "3.13"}, "torch 2.0.1 has no wheel for Python 3.13"),
    ("stacks", {"torch": "2.0.1", "numpy": "1.21.6"}, {"mmpose": "1.9.9"}, "mmpose 1.9.9 has no row"),
    ("stacks", {"torch": "2.0.1", "numpy": "1.21.6"}, {"opencv": "opencv-python==9.9"}, "opencv-python 9.9 has no row"),
]


@pytest.mark.parametrize(("table", "find", "fields", "message"), FAULTS, ids=[fault[3] for fault in FAULTS])
def test_lint_names_the_row(lean, table, find, fields, message):
    wrong = changed(lean, table, find, **fields)
    faults = lint_matrix(wrong, dump_matrix(wrong))
    assert any(fault.endswith(message) for fault in faults), faults


LINES = [
    ("torch", {"release": "2.1.2"}, {"glibc": "two"}, "torch 2.1.2: glibc: 'two' is not a version"),
    ("torch", {"release": "2.1.2"}, {"python": ("3.9", "3.8")}, "torch 2.1.2: python: 3.9, 3.8 is not in order"),
    ("torch", {"release": "2.1.2"}, {"python": ("3.8", "3.8")}, "torch 2.1.2: python: 3.8 twice"),
    (
        "torch",
        {"release": "2.1.2"},
        {"variants": ("cu121", "cpu")},
        "torch 2.1.2: variants: cu121, cpu is not in order",
    ),
    ("torch", {"release": "2.1.2"}, {"source": ("T1", "T1")}, "torch 2.1.2: source 'T1' twice"),
    (
        "torch",
        {"release": "2.15.0"},
        {"torchvision": ("0.28.1",)},
        "torchvision 0.28.1 is older than 0.29.2 of torch 2.14.1",
    ),
    ("torch", {"release": "2.15.0"}, {"cxx_std": 17}, "torch 2.15.0: cxx_std 17 goes back behind 20 of torch 2.14.1"),
    ("torch", {"release": "2.15.0"}, {"numpy": "1"}, "torch 2.15.0: numpy 1 goes back behind 2 of torch 2.14.1"),
    (
        "torch",
        {"release": "2.15.0"},
        {"weights_only": False},
        "weights_only False goes back behind True of torch 2.14.1",
    ),
    ("torch", {"release": "2.15.0"}, {"cxx11_abi": False}, "cxx11_abi False goes back behind True of torch 2.14.1"),
    ("torch", {"release": "2.15.0"}, dict.fromkeys(PYTHONS, ()), "torch 2.15.0: has no wheel at all"),
    (
        "torch",
        {"release": "2.15.0"},
        {"pypi_cuda_aarch64": "13.9"},
        "torch 2.15.0: the PyPI wheel's CUDA 13.9 is not among its variants",
    ),
    ("mmcv", {"package": "mmcv", "version": "2.1.0"}, {"sdist_sha256": "d387"}, "'d387' is not 64 hexadecimal digits"),
    ("mmcv_wheels", {**WHEEL}, {"versions": ("2.2.0", "2.1.0")}, "versions: 2.2.0, 2.1.0 is not in order"),
    ("mmcv_wheels", {**WHEEL}, {"python": {"2.1.0": ("3.11", "3.8")}}, "python: 3.11, 3.8 is not in order"),
    ("numpy", {"series": "2.5"}, {"last": "2.4.9"}, "numpy 2.5: 2.4.9 and API 2 are not of this series"),
    (
        "binaries",
        {"package": "xtcocotools", "version": "1.14.3"},
        {"python": ("3.8", "3.7")},
        "3.8, 3.7 is not in order",
    ),
]


@pytest.mark.parametrize(("table", "find", "fields", "message"), LINES, ids=[fault[3] for fault in LINES])
def test_lint_names_file_and_line(lean, table, find, fields, message):
    wrong = changed(lean, table, find, **fields)
    text = dump_matrix(wrong)
    (fault,) = (f for f in located(lint_matrix(wrong, text), wrong, text, "m.yaml") if f.endswith(message))
    file, line, _ = fault.split(":", 2)
    row = text.splitlines()[int(line) - 1]
    assert file == "m.yaml"
    assert row.startswith("- {")
    key = {**find, **fields}[KEYS[table][-1]] if KEYS[table][-1] in find else next(iter(find.values()))
    assert f'"{key}"' in row


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"read_on": "20.11.2026"}, "read_on: '20.11.2026' is not a date as in 2026-11-20"),
        ({"torch_index": "https://download.pytorch.org/whl"}, "torch_index: expected an address with {variant}"),
        (
            {"openmmlab_index": "/mnt/{variant}/{torch}"},
            "openmmlab_index: expected an address with {torch} and {variant}",
        ),
    ],
)
def test_lint_of_the_head(lean, fields, message):
    wrong = msgspec.structs.replace(lean, **fields)
    text = dump_matrix(wrong)
    (fault,) = located(lint_matrix(wrong, text), wrong, text, "m.yaml")
    _, line, said = fault.split(":", 2)
    assert said.strip() == message
    assert text.splitlines()[int(line) - 1].startswith(next(iter(fields)))


def test_lint_of_sources_out_of_order(matrix):
    wrong = msgspec.structs.replace(matrix, sources=dict(reversed(matrix.sources.items())))
    text = dump_matrix(wrong)
    (fault,) = located(lint_matrix(wrong, text), wrong, text, "m.yaml")
    assert fault == f"m.yaml:{text.splitlines().index('sources:') + 1}: sources: not in order"


def test_lint_of_another_form_names_its_line(matrix, text):
    other = text.replace('read_on: "', 'read_on:  "')
    (fault,) = located(lint_matrix(matrix, other), matrix, other, "m.yaml")
    assert fault.startswith("m.yaml:5: line 5 is not in canonical form; expected: read_on: ")


def test_lint_of_a_source_that_nothing_uses(matrix):
    wrong = msgspec.structs.replace(matrix, sources={**matrix.sources, "Z1": "a book"})
    assert lint_matrix(wrong, dump_matrix(wrong)) == ("sources Z1: no row uses it",)


def test_lint_of_a_file_in_another_form(matrix, text):
    written = f'read_on: "{matrix.read_on}"'
    (fault,) = lint_matrix(matrix, text.replace(written, written.replace('"', "'")))
    assert fault == f"line 5 is not in canonical form; expected: {written}"
    (fault,) = lint_matrix(matrix, text + "# more\n")
    assert fault == f"line {text.count(chr(10)) + 1} is not in canonical form; expected: "


# -------------------------------------------------------------------------------------------------------------- facts


def torch(matrix: Matrix, release: str) -> TorchRow:
    return next(row for row in matrix.torch if row.release == release)


def wheels(matrix: Matrix, **find: str) -> tuple[MmcvWheelRow, ...]:
    return tuple(r for r in matrix.mmcv_wheels if all(getattr(r, name) == value for name, value in find.items()))


def openmmlab(matrix: Matrix, project: str, version: str) -> OpenmmlabRow:
    return next(row for row in matrix.openmmlab if (row.project, row.version) == (project, version))


def test_torch_facts(matrix):
    assert torch(matrix, "2.1.2").torchvision == ("0.16.2",)
    assert torch(matrix, "2.1.2").download_mb == 2688  # torch 670, cudnn 732, cublas 411, …
    assert torch(matrix, "2.14.1").cxx_std == 20
    assert next(row.release for row in matrix.torch if row.weights_only) == "2.6.0"
    assert next(row.release for row in matrix.torch if row.numpy == "2") == "2.3.0"
    assert len(matrix.torch) == 40


def test_wheel_facts(matrix):
    (row,) = wheels(matrix, package="mmcv", os="linux", variant="cu121", torch="2.1")
    assert "2.1.0" in row.versions
    assert row.python["2.1.0"] == ("3.8", "3.9", "3.10", "3.11")
    own = {row.torch for row in matrix.mmcv_wheels if row.package != "onedl-mmcv"}
    assert own & {"2.5", "2.6", "2.7", "2.14"} == set()
    assert {"2.5", "2.8", "2.10"} < {row.torch for row in matrix.mmcv_wheels} - own
    assert all("2.1.0" not in row.versions for row in matrix.mmcv_wheels if row.torch in ("2.2", "2.3", "2.4"))


def test_openmmlab_facts(matrix):
    assert openmmlab(matrix, "mmdet", "3.3.0").mmcv == ">=2.0.0rc4,<2.2.0"
    assert openmmlab(matrix, "mmpose", "1.3.2").mmcv == ">=2.0.0rc4,<=3.0.0"
    assert openmmlab(matrix, "mmpose", "1.3.2").mim["mmdet"] == ">=3.0.0,<3.3.0"
    needing = [row.version for row in matrix.openmmlab if row.needs_mmdet]
    assert needing == ["1.3.0", "1.3.1", "1.3.2"]
    assert openmmlab(matrix, "mmengine", "0.10.7").pkg_resources


def test_numpy_facts(matrix):
    assert {row.built_on for row in matrix.binaries if row.package == "xtcocotools"} == {"1"}
    built_on = {row.version: row.built_on for row in matrix.binaries if row.package == "opencv-python"}
    assert (built_on["4.10.0.82"], built_on["4.10.0.84"]) == ("1", "2")
    xtcocotools = next(row for row in matrix.binaries if (row.package, row.version) == ("xtcocotools", "1.14.3"))
    assert xtcocotools.python == ("3.7", "3.8", "3.9", "3.10", "3.11")
    assert xtcocotools.python_aarch64 == ()
    assert re.fullmatch("[0-9a-f]{64}", str(xtcocotools.sdist_sha256))


def test_machine_facts(matrix):
    assert DriverRow(cuda_major="12", linux="525.60.13", windows="528.33", source=("C2", "C6", "C7")) in matrix.drivers
    rtx = next(row for row in matrix.gpus if row.compute_capability == "8.9")
    assert rtx.runs_on_sass_of == ("8.0", "8.6", "8.9")
    blackwell = {row.torch for row in matrix.archs if "12.0" in row.sass and row.platform == "linux_x86_64"}
    assert "2.7.0" in blackwell
    assert "2.6.0" not in blackwell


# ------------------------------------------------------------------------------------------------------------ recipes


def test_recipe_names():
    assert recipe_names() == (
        "barnhand-horse",
        "hoof-training",
        "mmpose-0x",
        "padel-service",
        "pose-service",
        "rtmpose",
    )


@pytest.mark.parametrize("name", recipe_names())
def test_recipe_loads(name):
    recipe = load_recipe(name)
    assert recipe.name == name
    assert recipe.opencv is None or recipe.opencv in recipe.packages
    assert ("mmcv-full" in recipe.packages) == (recipe.family == "mmpose-0")


def test_recipe_facts():
    padel = load_recipe("padel-service")
    assert (padel.unit, padel.env) == ("mmpose-service", "/opt/padel/mmpose/venv")
    assert padel.packages["numpy"] == "==1.21.6"
    hoof = load_recipe("hoof-training")
    assert (hoof.torch_variant, hoof.driver, hoof.python) == ("cu121", ">=535", "==3.10.*")
    assert load_recipe("pose-service").extra == ("fastapi==0.111.0",)


def test_recipe_from_a_file():
    assert load_recipe(str(FILE.parent / "recipes" / "rtmpose.yaml")) == load_recipe("rtmpose")


def test_unknown_recipe_lists_the_names():
    with pytest.raises(UsageError) as caught:
        load_recipe("rtmpse")
    assert caught.value.what == "there is no recipe 'rtmpse'"
    assert "barnhand-horse, hoof-training, mmpose-0x" in str(caught.value.hint)
