"""A COCO keypoint file that breaks no rule of mmdoctor's, and for each rule the smallest change that breaks it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Callable

File = dict[str, Any]
NAMES = [f"point-{number}" for number in range(17)]


def annotation(number: int, image: int, x: int, y: int, w: int, h: int) -> File:
    """An instance whose 17 labelled keypoints lie in its box."""
    points = [value for k in range(17) for value in (x + (k * 7 % 17) * w // 17, y + k * h // 17, 2)]
    common = {"id": number, "image_id": image, "category_id": 1, "iscrowd": 0, "num_keypoints": 17}
    return {**common, "bbox": [x, y, w, h], "area": w * h // 2, "keypoints": points}


def whole() -> File:
    """Three images, four instances, as MMPose wants them."""
    return {
        "images": [{"id": n, "file_name": f"{n}.jpg", "width": 640, "height": 480} for n in (1, 2, 3)],
        "annotations": [
            annotation(11, 1, 20, 30, 100, 200),
            annotation(12, 1, 300, 100, 150, 250),
            annotation(13, 2, 50, 60, 80, 60),
            annotation(14, 3, 350, 10, 220, 400),
        ],
        "categories": [{"id": 1, "name": "person", "keypoints": NAMES, "skeleton": [[1, 2], [2, 17]]}],
    }


def put(key: str, **fields: Any) -> Callable[[File], Any]:
    """Other values in the first element of a list."""
    return lambda file: file[key][0].update(fields)


def drop(key: str, field: str) -> Callable[[File], Any]:
    """The first element of a list without a field."""
    return lambda file: file[key][0].pop(field)


def each(key: str, change: Callable[[File], Any]) -> Callable[[File], Any]:
    """A change of every element of a list."""
    return lambda file: [change(element) for element in file[key]]


def as_text_ids(file: File) -> None:
    each("images", lambda image: image.update(id=str(image["id"])))(file)
    each("annotations", lambda one: one.update(image_id=str(one["image_id"])))(file)


def as_corners(one: File) -> None:
    x, y, w, h = one["bbox"]
    one["bbox"] = [x, y, x + w, y + h]


def as_parts(one: File) -> None:
    one["keypoints"] = [v if n % 3 == 2 else v / (640, 480)[n % 3] for n, v in enumerate(one["keypoints"])]


def second_category(file: File) -> None:
    file["categories"].append({"id": 2, "name": "hand", "keypoints": NAMES[:5]})
    last = file["annotations"][-1]
    last.update(category_id=2, keypoints=last["keypoints"][:15], num_keypoints=5)


def odd_visibility(file: File) -> None:
    file["annotations"][0]["keypoints"][2] = -1
    file["annotations"][0]["num_keypoints"] = 16


def one_less(file: File) -> None:
    first = file["annotations"][0]
    first.update(keypoints=first["keypoints"][:48], num_keypoints=16)


def point(x: float) -> Callable[[File], Any]:
    return lambda file: file["annotations"][0]["keypoints"].__setitem__(0, x)


def swapped(file: File) -> None:
    """One upright image that is described as lying; its instances reach below 480."""
    file["images"][2].update(width=640, height=480)
    file["annotations"][3] = annotation(14, 3, 200, 10, 220, 600)


CASES: dict[str, Callable[[File], Any]] = {
    "ANN002": lambda file: file.pop("categories"),
    "ANN003": point(float("nan")),
    "ANN010": drop("images", "width"),
    "ANN011": as_text_ids,
    "ANN012": lambda file: file["images"].append({"id": 1, "file_name": "9.jpg", "width": 100, "height": 100}),
    "ANN013": put("images", width=0),
    "ANN014": put("images", file_name="/data/1.jpg"),
    "ANN015": lambda file: file["images"][1].update(file_name="1.jpg"),
    "ANN016": swapped,
    "ANN020": drop("categories", "id"),
    "ANN021": drop("categories", "keypoints"),
    "ANN022": put("categories", skeleton=[[0, 1]]),
    "ANN023": second_category,
    "ANN030": drop("annotations", "id"),
    "ANN031": put("annotations", id=-1),
    "ANN032": lambda file: file["annotations"][3].update(id=11),
    "ANN033": put("annotations", image_id=99),
    "ANN034": put("annotations", category_id=7),
    "ANN040": drop("annotations", "bbox"),
    "ANN041": put("annotations", bbox=[120, 230, -100, -200]),
    "ANN042": put("annotations", bbox=[700, 30, 100, 200]),
    "ANN043": put("annotations", bbox=[-20, 30, 140, 200]),
    "ANN044": each("annotations", as_corners),
    "ANN045": drop("annotations", "area"),
    "ANN046": put("annotations", area=0),
    "ANN047": drop("annotations", "iscrowd"),
    "ANN048": put("annotations", iscrowd="0"),
    "ANN050": drop("annotations", "keypoints"),
    "ANN051": lambda file: put("annotations", keypoints=file["annotations"][0]["keypoints"][:48], num_keypoints=16)(
        file
    ),
    "ANN052": odd_visibility,
    "ANN053": point(-50),
    "ANN054": each("annotations", as_parts),
    "ANN055": drop("annotations", "num_keypoints"),
    "ANN056": put("annotations", num_keypoints=0),
    "ANN057": put("annotations", num_keypoints=3),
    "ANN058": put("annotations", segmentation="none"),
}


def write_large(path: Path, size: int) -> int:
    """A whole file of about `size` bytes in COCO's own order of keys, with outlines; how many annotations it has."""
    bodies = []
    for n in range(100):
        one = annotation(0, 0, n, 2 * n, 100 + n, 150)
        outline = [[round(n + 0.37 * k, 2) for k in range(60)]]
        fields = {key: value for key, value in one.items() if key not in ("id", "image_id")}
        bodies.append(json.dumps({"segmentation": outline, **fields})[:-1])
    count = size // (sum(map(len, bodies)) // len(bodies) + 70)
    with path.open("w", encoding="utf-8") as file:
        file.write('{"info": {}, "licenses": [], "images": [')
        image = '{{"file_name": "{0:012}.jpg", "height": 480, "width": 640, "id": {0}}}'
        file.writelines((", " if n else "") + image.format(n) for n in range(count // 3 + 1))
        file.write('], "annotations": [')
        for n in range(count):
            file.write(f'{", " if n else ""}{bodies[n % 100]}, "image_id": {n // 3}, "id": {n * 7 % 10000019 + 1}}}')
        file.write(f'], "categories": {json.dumps(whole()["categories"])}}}')
    return count


def text_of(rule: str) -> bytes:
    """The file that breaks a rule; the whole one for an empty code."""
    file = whole()
    CASES.get(rule, lambda _: None)(file)
    encoded = json.dumps(file).encode()
    return b"\xef\xbb\xbf" + encoded if rule == "ANN001" else encoded
