"""Files of annotations: each rule is found where it is broken and nowhere else; what is no COCO file is named."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mmdoctor.annotations import examine, reading
from mmdoctor.annotations.counting import Ids
from mmdoctor.annotations.reading import Fault, places
from mmdoctor.annotations.rules import RULES, WHOLE
from mmdoctor.errors import UsageError
from mmdoctor.lang import recognised
from mmdoctor.model import Finding
from mmdoctor.report import encode
from tests.annotation_cases import CASES, put, text_of, whole


def roots(path: Path) -> dict[str, Finding]:
    """The findings that are not ok and that no other explains, by code."""
    return {f.id: f for f in examine(path)[1] if f.status != "ok" and not f.caused_by}


def written(path: Path, file: Any) -> Path:
    path.write_text(json.dumps(file), encoding="utf-8")
    return path


def test_a_whole_file_breaks_no_rule(tmp_path: Path) -> None:
    file, findings = examine(written(tmp_path / "a.json", whole()))
    assert [f.id for f in findings] == [rule.id for rule in RULES]
    assert {f.status for f in findings} == {"ok"}
    assert (file.images, file.unused, file.annotations, file.categories, file.keypoints) == (3, 0, 4, 1, 17)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_each_rule_is_found_alone(rule: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(text_of(rule.id))
    found = roots(path)
    assert set(found) == {rule.id}
    finding = found[rule.id]
    assert finding.status == rule.status
    assert rule.seen in finding.evidence[-1]
    assert finding.fix.summary.startswith(rule.fix)


def test_each_rule_has_its_chinese() -> None:
    """Titles and what to do; the reasons are English."""
    for rule in RULES:
        fix = f"{rule.fix}; or let --write-fixed do it: {rule.derived}" if rule.derived else rule.fix
        for said in (rule.title, rule.fix, fix):
            assert recognised(said) != said
            assert rule.fix not in recognised(said)


def test_severity_follows_from_what_was_seen() -> None:
    """What raises, or loses an instance, or lowers AP, is a failure; no warning does that. ANN016 alters one box, and
    the weight of -1 (ANN052) is the reason that its AP differs."""
    for rule in RULES:
        harmful = "raises" in rule.seen or not rule.seen.startswith("4 instances") or "AP 0.876" not in rule.seen
        if rule.status == "warn":
            assert not harmful or rule.id == "ANN052", rule.id
        else:
            assert harmful or rule.id == "ANN044", rule.id  # all crops too large: WHOLE's boxes are not
    assert WHOLE.endswith("AP 0.876")


def test_codes_are_in_order_and_cases_for_all() -> None:
    codes = [rule.id for rule in RULES]
    assert codes == sorted(set(codes))
    assert {*CASES, "ANN001"} == set(codes)


def test_thousands_of_faults_are_one_finding(tmp_path: Path) -> None:
    file = whole()
    first = file["annotations"][0]
    file["annotations"] = [{**first, "id": n, "area": None} for n in range(5000)]
    finding = roots(written(tmp_path / "a.json", file))["ANN045"]
    assert "5000 of 5000 annotations" in finding.detail
    assert finding.evidence[:4] == (
        "annotations[0] (id 0)",
        "annotations[1] (id 1)",
        "annotations[2] (id 2)",
        "and 4997 more",
    )


@pytest.mark.parametrize("order", [("annotations", "images", "categories"), ("categories", "annotations", "images")])
def test_the_order_of_the_lists_does_not_matter(order: tuple[str, ...], tmp_path: Path) -> None:
    file = whole()
    put("annotations", bbox=[-20, 30, 140, 200])(file)
    path = written(tmp_path / "a.json", {key: file[key] for key in order})
    assert set(roots(path)) == {"ANN043"}
    assert examine(path)[0].annotations == 4


NOT_COCO = {
    "labelme": ('{"version": "5", "shapes": [{"label": "a", "points": []}], "imagePath": "a.jpg"}', "LabelMe"),
    "via": ('{"_via_settings": {}, "_via_img_metadata": {}}', "VIA"),
    "results": ('[{"image_id": 1, "category_id": 1, "keypoints": [1], "score": 0.5}]', "results"),
    "mpii": ('[{"joints_vis": [1], "joints": [[1, 2]], "image": "a.jpg"}]', "MPII"),
    "openpose": ('{"people": [{"pose_keypoints_2d": [1]}]}', "OpenPose"),
    "annotations alone": ('[{"id": 1, "image_id": 1, "bbox": [1, 2, 3, 4]}]', "bare list"),
    "something else": ('{"a": 1}', "none of them"),
    "a number": ("12", "none of them"),
    "an empty list": ("[]", "none of them"),
}


@pytest.mark.parametrize("name", NOT_COCO)
def test_json_that_is_not_coco_is_named(name: str, tmp_path: Path) -> None:
    text, word = NOT_COCO[name]
    path = tmp_path / "a.json"
    path.write_text(text)
    finding = roots(path)["ANN002"]
    assert word in " ".join(finding.evidence)


WHOLE_TEXT = json.dumps(whole())
NOT_JSON = {
    "empty": (b"", "ends here"),
    "truncated": (WHOLE_TEXT[:-60].encode(), "ends here"),
    "in a number": (WHOLE_TEXT[: WHOLE_TEXT.index("640") + 1].encode(), "ends here"),
    "gzip": (gzip.compress(WHOLE_TEXT.encode()), "gzip"),
    "utf-16": (WHOLE_TEXT.encode("utf-16"), "UTF-16"),
    "latin-1": (WHOLE_TEXT.replace("person", "persön").encode("latin-1"), "not UTF-8: byte 0xf6"),
    "xml": (b"<?xml version='1.0'?><annotations></annotations>", "XML"),
    "yolo": (b"0 0.5 0.5 0.2 0.2 0.1 0.1 2\n0 0.1 0.2 0.3 0.4 0.5 0.6 2\n", "YOLO"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS"),
    "comma": (b'{"images": [{"id": 1,}]}', "line 1, byte 2"),
    "second line": (b'{"images": [],\n "annotations": [1 2]}', "line 2, byte 34"),
    "two documents": (b'{"images": []} {"images": []}', "more follows"),
    "deep": (b'{"images": ' + b"[" * 100_000, "nested too deeply"),
}


@pytest.mark.parametrize("name", NOT_JSON)
def test_what_is_no_json_is_said_with_its_place(name: str, tmp_path: Path) -> None:
    content, words = NOT_JSON[name]
    path = tmp_path / "a.json"
    path.write_bytes(content)
    findings = examine(path)[1]
    assert [f.id for f in findings] == ["ANN001"]
    assert words in " ".join(findings[0].evidence)


def test_a_file_that_cannot_be_read_is_the_callers_mistake(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing.json"):
        with pytest.raises(UsageError, match="cannot read"):
            examine(path)


@pytest.mark.parametrize(
    ("change", "codes"),
    [
        (put("images", id=1.0), set()),
        (put("images", width=640.0), set()),
        (put("annotations", category_id="1"), {"ANN034"}),
        (put("annotations", image_id="1"), {"ANN033"}),
        (put("annotations", id="11"), {"ANN031"}),
        (put("annotations", id=1 << 63), {"ANN031"}),
        (put("annotations", iscrowd=None), {"ANN048"}),
        (put("annotations", iscrowd=True), set()),
        (put("annotations", bbox=[1, 2, 3]), {"ANN041"}),
        (put("annotations", bbox=[1, 2, 3, "4"]), {"ANN041"}),
        (put("annotations", keypoints=[[1, 2, 2]] * 17), {"ANN051"}),
        (put("annotations", area=float("inf")), {"ANN003"}),
        (put("annotations", area=10**400), {"ANN003"}),
        (put("annotations", image_id=[1]), {"ANN033"}),
        (put("annotations", segmentation={"counts": [1], "size": [1, 1]}), set()),
        (lambda file: file["annotations"].append(7), {"ANN002"}),
        (lambda file: file.update(annotations={}), {"ANN002"}),
        (lambda file: file.update(annotations=[]), {"ANN002"}),
        (lambda file: file["categories"].append({"id": 2, "name": "dog"}), {"ANN021"}),
        # CrowdPose counts visible keypoints alone
        (lambda file: file["annotations"][0]["keypoints"].__setitem__(2, 1), set()),
        (
            lambda file: (
                file["annotations"][0]["keypoints"].__setitem__(2, 1),
                put("annotations", num_keypoints=16)(file),
            ),
            set(),
        ),
    ],
)
def test_look_alikes(change: Any, codes: set[str], tmp_path: Path) -> None:
    file = whole()
    change(file)
    assert set(roots(written(tmp_path / "a.json", file))) == codes


def test_large_boxes_at_the_corner_are_no_pairs_of_corners(tmp_path: Path) -> None:
    """Nearly full-frame animals: width and height exceed x and y, some leave the image by a rounding."""
    file = whole()
    file["annotations"] = [{**file["annotations"][0], "id": n, "bbox": [4, 3, 640, 480], "area": 9} for n in range(20)]
    assert set(roots(written(tmp_path / "a.json", file))) == {"ANN043"}


def test_what_no_report_could_hold_is_still_reported(tmp_path: Path) -> None:
    """Half a surrogate pair in a name, and an id without end."""
    file = whole()
    file["images"][0]["file_name"] = "/\ud800.jpg"
    file["annotations"][0].update(id="x" * 10_000, area=None)
    path, out = written(tmp_path / "a.json", file), tmp_path / "out.json"
    held, findings = examine(path, out)
    assert {f.id for f in findings if f.status != "ok"} == {"ANN014", "ANN031"}
    assert all(len(line) < 200 for f in findings for line in f.evidence)
    assert encode(held)


def test_ids_are_known_again() -> None:
    ids = Ids()
    numbers = [0, 255, 256, 900_100_000_001, 1 << 62]
    assert [ids.add(number) for number in numbers] == [True] * 5
    assert [ids.add(number) for number in numbers] == [False] * 5
    assert ids.highest == 1 << 62


# ---------------------------------------------------------------------------------------------------- the reader

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=12)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)
OBJECTS = st.dictionaries(st.sampled_from(["id", "},{", "\\", '"', "é", "bbox"]), VALUES, max_size=4)
DOCUMENTS = st.dictionaries(
    st.sampled_from(["images", "annotations", "info", "名"]), st.lists(OBJECTS | VALUES, max_size=8) | VALUES
)
LAYOUTS = st.sampled_from([{}, {"indent": 1}, {"separators": (",", ":")}, {"ensure_ascii": False}, {"indent": "\t"}])


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """A window of a few elements, so that small files have as many seams as large ones."""
    monkeypatch.setattr(reading, "WINDOW", 48)
    monkeypatch.setattr(reading, "SLICE", 20)


def read(path: Path) -> dict[str, Any]:
    """The file put together again from its places; each must be what stands at its bytes."""
    content, whole_file = path.read_bytes(), {}
    for key, number, start, raw in places(path):
        assert content[start : start + len(raw)] == raw
        if number is None:
            whole_file[key] = json.loads(raw)
        elif number == -1:
            whole_file[key] = []  # of a key that stands twice, json too keeps the last
        else:
            assert number == len(whole_file[key])
            whole_file[key].append(json.loads(raw))
    return whole_file


@given(document=DOCUMENTS, layout=LAYOUTS)
def test_the_places_are_the_file(document: dict[str, Any], layout: Any, narrow: None, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps(document, **layout), encoding="utf-8", errors="surrogatepass")
    assume(not any(0xD800 <= ord(character) < 0xE000 for character in path.read_text("utf-8", "surrogatepass")))
    assert read(path) == document


@given(data=st.data(), layout=LAYOUTS)
def test_it_reads_what_json_reads_and_refuses_what_it_refuses(
    data: st.DataObject, layout: Any, narrow: None, tmp_path: Path
) -> None:
    content = bytearray(json.dumps(data.draw(DOCUMENTS), **layout).encode("utf-8", "replace"))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(1, len(content)))
        content[at : at + data.draw(st.integers(0, 2))] = data.draw(
            st.sampled_from(
                [b"", b",", b'"', b"]", b"}", b"{", b"NaN", b"\xff", b"0", b"\\", b"-", b"\n", b"\x0c", b"1e999"]
            )
        )
    path = tmp_path / "a.json"
    path.write_bytes(bytes(content))
    try:
        expected = json.loads(content.decode("utf-8"))
    except ValueError:
        expected = None
    if expected is None:
        with pytest.raises(Fault) as raised:
            read(path)
        assert 0 <= raised.value.at <= len(content)
    else:
        assert repr(read(path)) == repr(expected)  # NaN is not equal to itself
