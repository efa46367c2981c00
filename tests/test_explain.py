"""The known failures, row by row: each must match its examples and none of its look-alikes; and what holds for all."""

from __future__ import annotations

import json
import re
import string
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmdoctor.explain import explain
from mmdoctor.explain.matcher import Failure, fill, load, match
from mmdoctor.explain.normalise import plain
from mmdoctor.explain.versions import FLAGS, versions
from mmdoctor.model import Explanation

EXAMPLES = json.loads((Path(__file__).parent / "data" / "explain" / "examples.json").read_text(encoding="utf-8"))
FAILURES = load()
ROWS = {row.id: row for row in FAILURES.rows}
FAMILIES = {
    "mmcv-binary",
    "mmlab-packages",
    "source-build",
    "installer",
    "numpy",
    "torch-gpu",
    "system-library",
    "config-and-data",
    "running",
    "deployment",
    "no-failure",
}


def texts(kind: str) -> list[tuple[Failure, str]]:
    return [(ROWS[row], text) for row, both in EXAMPLES.items() for text in both[kind]]


def holds(row: Failure, text: str) -> bool:
    bare = plain(text)
    return match(row, bare, bare.lower(), versions(bare)) is not None


def causes(text: str) -> list[str]:
    return [cause.cause for cause in explain(text).causes]


# ------------------------------------------------------------------------------------------------------- the rows


def test_each_row_matches_its_examples() -> None:
    for row, text in texts("match"):
        assert holds(row, text), (row.id, text)
        named = causes(text)
        assert row.cause in named or (named and row.cause == "false-alarm-warning"), (row.id, text)


def test_no_row_matches_its_look_alikes() -> None:
    assert [(row.id, text) for row, text in texts("not") if holds(row, text)] == []


def test_every_row_has_examples_and_look_alikes() -> None:
    assert EXAMPLES.keys() == ROWS.keys()
    assert all(both["match"] and both["not"] for both in EXAMPLES.values())


def test_ids_are_unique() -> None:
    assert len(ROWS) == len(FAILURES.rows)


def test_every_cause_has_a_known_family_and_a_row() -> None:
    assert {repair.family for repair in FAILURES.causes.values()} == FAMILIES
    assert {row.cause for row in FAILURES.rows} == FAILURES.causes.keys()


def test_each_row_is_well_formed() -> None:
    for row in FAILURES.rows:
        well_formed(row)


def well_formed(row: Failure) -> None:
    for pattern in (*row.match, *row.without):
        re.compile(pattern, FLAGS)
    assert row.source, row.id
    assert all(row.source), row.id
    assert row.has, row.id
    assert all(fragment == fragment.lower() for fragment in row.has), row.id
    assert 0 < row.confidence < 1, row.id
    assert set(row.explains) <= FAILURES.causes.keys() - {row.cause}, row.id
    groups = {name for pattern in row.match for name in re.compile(pattern).groupindex}
    wanted = {name for _, name, _, _ in string.Formatter().parse(row.why) if name}
    derived = {"home"} if row.registered else set()
    assert wanted <= groups | derived | {name for alternative in row.when for name in alternative}, row.id
    assert "class_" in groups or not row.registered, row.id
    assert set(row.registered) <= {"nowhere", "old", "new", "here", "elsewhere"}, row.id


# -------------------------------------------------------------------------------------------------- any text at all


@given(
    st.one_of(st.text(), st.lists(st.sampled_from([t for b in EXAMPLES.values() for t in b["match"]])).map("\n".join))
)
def test_any_text_gets_a_sorted_answer(text: str) -> None:
    answer = explain(text)
    confidences = [cause.confidence for cause in answer.causes]
    assert all(0 <= confidence <= 1 for confidence in confidences)
    assert confidences == sorted(confidences, reverse=True)
    assert len(set(causes(text))) == len(answer.causes)
    assert all(cause.evidence for cause in answer.causes)
    assert msgspec.json.decode(msgspec.json.encode(answer), type=Explanation) == answer


@pytest.mark.parametrize(
    "text", ["", "\n", "hello", "numpy 1.26.4\ntorch 2.1.2", "Successfully installed mmpose-1.3.2"]
)
def test_nothing_known_gives_no_cause(text: str) -> None:
    assert causes(text) == []


# ------------------------------------------------------------------------------------------------------- normalising

LINE = "ModuleNotFoundError: No module named 'mmcv._ext'"


@pytest.mark.parametrize(
    "text",
    [
        f"\x1b[31;1m{LINE}\x1b[0m",
        f"Nov 20 12:00:01 host mmpose.service[123]: {LINE}",
        f"> > {LINE}",
        f"  │ {LINE}",
        f"  ╰─> {LINE}",
        f"pose-api-1  | {LINE}",
        f"#12 34.567 {LINE}",
        f"2026-11-20T12:00:01Z {LINE}",
        f"E   {LINE}",
        f"{LINE}\r\n",
        LINE.replace("'mmcv._ext'", "\u2018mmcv._ext\u2019"),
    ],
)
def test_wrappings_are_taken_off(text: str) -> None:
    assert plain(text).strip() == LINE


def test_python_prompt_is_no_quotation() -> None:
    assert plain(">>> import mmcv") == ">>> import mmcv"


def test_paths_lose_backslashes_and_user_names() -> None:
    bare = plain(r'File "C:\Users\somebody\env\Lib\site-packages\mmcv\ops\nms.py", line 28')
    assert bare == 'File "~/env/Lib/site-packages/mmcv/ops/nms.py", line 28'


def test_credentials_stay_out() -> None:
    assert "secret" not in plain("Looking in indexes: https://user:secret@pypi.example/simple")


# --------------------------------------------------------------------------------------------------------- versions


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("torch              2.1.2+cu121\nnumpy   1.26.4", {"torch": "2.1.2+cu121", "numpy": "1.26.4", "cuda": "12.1"}),
        ("pip install numpy==1.21.6", {"numpy": "1.21.6"}),
        ("Downloading mmcv-2.1.0-cp310-cp310-manylinux1_x86_64.whl", {"mmcv": "2.1.0", "python": "3.10"}),
        ("PyTorch: 2.1.2+cu118\nNVCC: Cuda compilation tools, release 11.8", {"torch": "2.1.2+cu118", "nvcc": "11.8"}),
        ("('Python', '3.10.11 (main)'), ('PyTorch', '2.0.0+cu118')", {"python": "3.10.11", "torch": "2.0.0+cu118"}),
        ("/e/lib/python3.8/site-packages/mmcv/__init__.py", {"python": "3.8"}),
        ("https://download.openmmlab.com/mmcv/dist/cu121/torch2.1.0/index.html", {"torch": "2.1.0", "cuda": "12.1"}),
        ("Driver Version: 535.104.05", {"driver": "535.104.05"}),
        ("openxlab 0.1.0 requires x, but you have setuptools 69.2.0 which is incompatible.", {"setuptools": "69.2.0"}),
    ],
)
def test_versions_are_read(text: str, seen: dict[str, str]) -> None:
    found = explain(text).versions
    assert {name: found.get(name) for name in seen} == seen


def test_a_range_is_no_version() -> None:
    assert versions("mmcv>=2.0.0rc4, <2.2.0") == {}


# ---------------------------------------------------------------------------------------------------------- ranking


def test_two_sure_answers_are_not_sure() -> None:
    answer = explain("ImportError: libGL.so.1: cannot open shared object file\nErrno 28] No space left on device")
    assert len(answer.causes) == 2
    assert answer.causes[0].confidence < 0.8


def test_noise_is_silent_beside_a_cause() -> None:
    assert causes(f"UserWarning: pkg_resources is deprecated as an API.\n{LINE}")[0] == "mmcv-ext-missing"
    assert "false-alarm-warning" not in causes(f"UserWarning: pkg_resources is deprecated as an API.\n{LINE}")


def test_consequence_stands_behind_its_cause() -> None:
    named = causes("Skip building ext ops due to the absence of torch.\nNo module named 'mmcv._ext'")
    assert named[0] == "build-isolation-no-torch"
    assert "mmcv-ext-missing" in named


@pytest.mark.parametrize(
    ("kind", "expected", "got", "cause"),
    [
        ("dtype", 96, 88, "numpy2-abi"),
        ("dtype", 88, 96, "numpy-dtype-size"),
        ("ndarray", 88, 80, "numpy-dtype-size"),
        ("ndarray", 96, 88, "numpy-dtype-size"),
        ("ndarray", 96, 80, "numpy-dtype-size"),
    ],
)
def test_numpy_sizes(kind: str, expected: int, got: int, cause: str) -> None:
    text = f"ValueError: numpy.{kind} size changed, may indicate binary incompatibility. "
    answer = explain(text + f"Expected {expected} from C header, got {got} from PyObject")
    assert answer.causes[0].cause == cause
    assert answer.causes[0].confidence >= 0.8


def test_placeholders_are_filled_from_the_text() -> None:
    cause = explain("MMCV==2.2.0 is used but incompatible. Please install mmcv>=2.0.0rc4, <2.2.0.").causes[0]
    assert "2.2.0 lies outside" in cause.why
    assert "{" not in cause.why + cause.fix.summary
    assert fill("torch=={torch}", {}) is None


def test_an_import_typed_at_a_shell_is_no_isolated_build() -> None:
    said = "Traceback (most recent call last):\n  File \"<string>\", line {}, in <module>\nNo module named 'torch'"
    assert causes(said.format(1)) == ["wrong-interpreter"]
    assert causes(said.format(36))[0] == "build-isolation-no-torch"


def test_a_retry_before_a_success_is_no_failure() -> None:
    retry = (
        "WARNING: Retrying (Retry(total=4)) after connection broken by 'NewConnectionError: Name or service not known'"
    )
    assert causes(f"{retry}\nSuccessfully installed mmpose-1.3.2\n") == []
    assert causes(f"{retry}\nERROR: No matching distribution found for mmpose") != []


def test_what_to_paste_next_is_said_until_the_answer_is_sure() -> None:
    bare = explain(LINE)
    assert len(bare.paste) == 2
    assert len(explain(f"Traceback (most recent call last):\n{LINE}\nmmcv 2.1.0").paste) == 0
    assert "error" in explain("ERROR: Failed building wheel for mmcv").paste[0]
    assert explain("nothing of this kind").causes == ()
    assert explain("nothing of this kind").paste


def test_commands_fit_the_versions_seen() -> None:
    said = "torchvision 0.16.2 requires torch==2.1.2, but you have torch 2.5.1 which is incompatible."
    assert "pip install 'torch==2.1.2' 'torchvision==0.16.2'" in explain(said).causes[0].fix.commands
