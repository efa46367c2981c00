"""Holds the values of a COCO keypoint file against the rules, one by one, as they come from the disk."""

from __future__ import annotations

import json
import math
from typing import Any, Optional, Union

import msgspec
from msgspec import UNSET, Struct

from mmdoctor.annotations import rules
from mmdoctor.annotations.counting import OUTSIDE, OUTSIDE_EXCHANGED, USED, Broken, Ids, Images
from mmdoctor.annotations.reading import Place

LISTS = ("images", "annotations", "categories")
NUMBERS = {int, float}
LEVELS = {0, 1, 2}
SLACK = 1.0  # pixels: boxes and sizes get rounded
FAR = 0.1  # of the image's side: no rounding
# How sure a suspicion about all boxes has to be: this share fits, and at least that one (and two) cannot be otherwise.
AGREE, IMPOSSIBLE = 0.95, 0.2


class Image(Struct, gc=False):
    """What is looked at of an image."""

    id: Any = None
    file_name: Any = None
    width: Any = None
    height: Any = None


class Category(Struct, gc=False):
    """What is looked at of a category."""

    id: Any = None
    name: Any = None
    keypoints: Any = UNSET
    skeleton: Any = UNSET


class Annotation(Struct, gc=False):
    """What is looked at of an annotation. A null is the same as nothing: to MMPose it is worse."""

    id: Any = None
    image_id: Any = None
    category_id: Any = None
    bbox: Any = None
    area: Any = None
    iscrowd: Any = UNSET
    num_keypoints: Any = None
    keypoints: Any = None
    segmentation: msgspec.Raw = msgspec.Raw(b"")


Points = tuple[list[float], list[float]]  # x and y of the labelled keypoints
NO_POINTS: Points = ([], [])
Element = Union[Image, Category, Annotation]
KINDS: dict[str, type[Element]] = {"images": Image, "annotations": Annotation, "categories": Category}
DECODERS = {key: msgspec.json.Decoder(kind) for key, kind in KINDS.items()}


def decoded(key: str, raw: bytes) -> tuple[Optional[Element], bool]:
    """An element, None where it is no object, and whether all its numbers are finite."""
    try:
        return DECODERS[key].decode(raw), True
    except (msgspec.DecodeError, UnicodeDecodeError):
        fields = json.loads(raw)  # NaN, Infinity, 1e999, half a surrogate pair: json takes them
    if not isinstance(fields, dict):
        return None, _finite(fields)
    known = {name: fields[name] for name in KINDS[key].__struct_fields__ if name in fields}
    if "segmentation" in known:
        known["segmentation"] = msgspec.Raw(json.dumps(known["segmentation"]).encode())
    return KINDS[key](**known), _finite(fields)


def _finite(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, dict):
        return all(map(_finite, value.values()))
    return not isinstance(value, list) or all(map(_finite, value))


def is_number(value: Any) -> bool:
    """A finite number, no truth value."""
    return type(value) in NUMBERS and math.isfinite(value)


def is_whole(value: Any) -> bool:
    """1 and 1.0, no text, no truth value."""
    return type(value) is int or (type(value) is float and value.is_integer())


def are_numbers(value: Any, length: Optional[int] = None) -> bool:
    """A list of numbers, of a length."""
    fits = isinstance(value, list) and (length is None or len(value) == length)
    return fits and set(map(type, value)) <= NUMBERS


def are_keypoints(value: Any) -> bool:
    """x, y and visibility of at least one keypoint, as one list of numbers."""
    return are_numbers(value) and len(value) > 0 and len(value) % 3 == 0


def is_box(value: Any) -> bool:
    """Four numbers, the last two positive."""
    return are_numbers(value, 4) and value[2] > 0 and value[3] > 0


def labelled(keypoints: list[float]) -> int:
    """How many keypoints have a visibility above 0."""
    return sum(level > 0 for level in keypoints[2::3])


class Judge:
    """Takes the values of one file, then says which rules are broken."""

    def __init__(self) -> None:
        self.fault = False  # the file stopped being JSON
        self.broken = Broken()
        self.images = Images()
        self.counts = dict.fromkeys(LISTS, 0)
        self.ids = Ids()
        self.category_ids: list[Any] = []
        self.keypoint_names: dict[Any, int] = {}
        self._names: set[int] = set()
        self._skeletons: list[tuple[str, Any, Any]] = []
        # (category, how many keypoints if they can be read) → how many annotations, the first of them
        self._lengths: dict[tuple[Any, Optional[int]], tuple[int, str]] = {}
        self._boxes = self._far_out = self._as_corners = 0
        self._largest = 0.0
        self._with_labels = 0

    def take(self, place: Place) -> None:
        """One element of one of the three lists."""
        element, finite = decoded(place.key, place.raw)
        self.counts[place.key] += 1
        where = f"{place.key}[{place.number}]"
        if not finite:
            self.broken.add(rules.FINITE, where)
        if isinstance(element, Annotation):
            try:
                self._annotation(element, place, finite)
            except OverflowError:  # a whole number of more than 308 digits
                self.broken.add(rules.FINITE, where, "a number too large for a float")
        elif isinstance(element, Image):
            self._image(element, where)
        elif isinstance(element, Category):
            self._category(element, where)
        else:
            self.broken.add(rules.SHAPE, where, "not an object")

    # ------------------------------------------------------------------------------------------ images, categories

    def _image(self, image: Image, where: str) -> None:
        add = self.broken.add
        where = f"{where} (id {image.id})"
        gone = [field for field in Image.__struct_fields__ if getattr(image, field) is None]
        if gone:
            add(rules.IMAGE_FIELDS, where, f"no {', '.join(gone)}")
        sides = [getattr(image, field) for field in ("width", "height") if field not in gone]
        if not all(is_whole(side) and side > 0 for side in sides):
            add(rules.IMAGE_SIZE, where, f"width {image.width!r}, height {image.height!r}")
        self._file_name(image.file_name, where)
        if image.id is None:
            return
        if not is_whole(image.id):
            add(rules.IMAGE_IDS, where, repr(image.id))
        width, height = ((side if is_number(side) and side > 0 else 0) for side in (image.width, image.height))
        if isinstance(image.id, (int, float, str)) and not self.images.add(image.id, width, height):
            add(rules.IMAGE_UNIQUE, where)

    def _file_name(self, name: Any, where: str) -> None:
        if name is None:
            return
        if not isinstance(name, str):
            self.broken.add(rules.IMAGE_FIELDS, where, f"file_name is no text: {name!r}")
            return
        if name.startswith("/") or "\\" in name or name[1:3] == ":/":
            self.broken.add(rules.IMAGE_PATH, where, name)
        digest = hash(name)
        if digest in self._names:
            self.broken.add(rules.IMAGE_NAMES, where, name)
        self._names.add(digest)

    def _category(self, category: Category, where: str) -> None:
        add = self.broken.add
        where = f"{where} (id {category.id}, {category.name})"
        if not is_whole(category.id) or category.id in self.category_ids:
            again = category.id in self.category_ids
            add(rules.CATEGORY_IDS, where, "stands twice" if again else f"id {category.id!r}")
        self.category_ids.append(category.id)
        names = category.keypoints
        if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
            add(rules.CATEGORY_KEYPOINTS, where, "none" if names is UNSET else names)
            return
        if len(set(names)) < len(names):
            add(rules.CATEGORY_KEYPOINTS, where, f"the same name twice: {', '.join(names)}")
        if isinstance(category.id, (int, float, str)):
            self.keypoint_names[category.id] = len(names)
        if category.skeleton is UNSET:
            return
        links = category.skeleton
        pairs = isinstance(links, list) and all(are_numbers(pair, 2) for pair in links)
        if not pairs or not all(1 <= end <= len(names) for pair in links for end in pair):
            wrong = links if not pairs else [p for p in links if not all(1 <= end <= len(names) for end in p)]
            add(rules.CATEGORY_SKELETON, where, f"{wrong} of {len(names)} keypoints")

    # ------------------------------------------------------------------------------------------------ annotations

    def _annotation(self, one: Annotation, place: Place, finite: bool) -> None:
        add = self.broken.add
        where = f"annotations[{place.number}] (id {one.id})"
        if one.id is None or one.image_id is None or one.category_id is None:
            gone = [field for field in ("id", "image_id", "category_id") if getattr(one, field) is None]
            add(rules.FIELDS, where, f"no {', '.join(gone)}")
        if one.id is not None:
            self._id(one.id, where)
        image = self.images.find(one.image_id)
        if image is not None:
            self.images.note(image, USED)
        elif one.image_id is not None:
            add(rules.IMAGE_KNOWN, where, f"image_id {one.image_id!r}")
        crowd = one.iscrowd
        if crowd is UNSET:
            add(rules.CROWD, where)
        elif crowd not in (0, 1):
            add(rules.CROWD_VALUE, where, f"iscrowd {crowd!r}")
        if bytes(one.segmentation)[:1] not in (b"", b"[", b"{"):
            add(rules.SEGMENTATION, where, bytes(one.segmentation)[:60].decode("utf-8", "replace"))
        if one.area is None:
            add(rules.AREA, where)
        elif finite and not (is_number(one.area) and one.area > 0):
            add(rules.AREA_POSITIVE, where, f"area {one.area!r}")
        keypoints = self._keypoints(one, where, finite)
        if one.bbox is None:
            add(rules.BOX, where)
        elif finite and not is_box(one.bbox):
            add(rules.BOX_FORM, where, one.bbox)
        size = (0.0, 0.0) if image is None else self.images.size(image)
        if image is not None and min(size) > 0 and finite:
            self._extent(one.bbox, keypoints, image, size, where)

    def _id(self, number: Any, where: str) -> None:
        if not is_whole(number) or not 0 <= number < 1 << 63:
            self.broken.add(rules.IDS, where, f"id {number!r}")
        elif not self.ids.add(int(number)):
            self.broken.add(rules.UNIQUE, where)

    def _keypoints(self, one: Annotation, where: str, finite: bool) -> Points:
        """The labelled points, none where the keypoints cannot be read."""
        add, keypoints = self.broken.add, one.keypoints
        if one.num_keypoints is None:
            add(rules.COUNT, where)
        readable = finite and are_keypoints(keypoints)
        category = one.category_id if isinstance(one.category_id, (int, float, str)) else None
        key = (category, len(keypoints) // 3 if readable else None)
        count, first = self._lengths.get(key, (0, where))
        self._lengths[key] = (count + 1, first)
        if keypoints is None:
            add(rules.KEYPOINTS, where)
            return NO_POINTS
        if not readable:
            if finite:
                length = f"{len(keypoints)} values" if isinstance(keypoints, list) else "no list"
                add(rules.KEYPOINTS_FORM, where, f"{length}: {keypoints}")
            return NO_POINTS
        levels = keypoints[2::3]
        if not set(levels) <= LEVELS:
            odd = next(level for level in levels if level not in LEVELS)
            add(rules.VISIBILITY, where, f"visibility {odd}")
        xs, ys = keypoints[::3], keypoints[1::3]
        if min(levels) <= 0:
            xs = [x for x, level in zip(xs, levels) if level > 0]
            ys = [y for y, level in zip(ys, levels) if level > 0]
        if one.num_keypoints is not None and one.num_keypoints != len(xs):
            said = f"num_keypoints {one.num_keypoints!r}, labelled {len(xs)}"
            if one.num_keypoints == 0:
                add(rules.COUNT_ZERO, where, said)
            elif one.num_keypoints != levels.count(2):
                add(rules.COUNT_RIGHT, where, said)
        if xs:
            self._with_labels += 1
            far = (max(xs), max(ys))
            self._largest = max(self._largest, *far)
        return xs, ys

    def _extent(self, box: Any, points: Points, image: int, size: tuple[float, float], where: str) -> None:
        """What box and points say in an image of this size."""
        width, height = size
        xs, ys = points
        far_x = far_y = 0.0
        if xs:
            far_x, far_y = max(xs), max(ys)
            if min(xs) < -SLACK or min(ys) < -SLACK or far_x > width + SLACK or far_y > height + SLACK:
                out = [p for p in zip(xs, ys) if not all(-SLACK <= c <= s + SLACK for c, s in zip(p, size))]
                self.broken.add(rules.KEYPOINTS_INSIDE, where, f"{out} in {width:g} x {height:g}")
        if is_box(box):
            x, y, w, h = box
            far_x, far_y = max(far_x, x + w), max(far_y, y + h)
            self._box_in(box, size, where)
            self._boxes += 1
            self._far_out += x + w > width * (1 + FAR) or y + h > height * (1 + FAR)
            # `w` and `h` are read as the second corner here
            if x < w <= width + SLACK and y < h <= height + SLACK:
                held = sum(x - SLACK <= px <= w + SLACK and y - SLACK <= py <= h + SLACK for px, py in zip(xs, ys))
                self._as_corners += held >= len(xs) * (1 - FAR)
        if far_x > width * (1 + FAR) or far_y > height * (1 + FAR):
            self.images.note(image, OUTSIDE)
        if far_x > height + SLACK or far_y > width + SLACK:
            self.images.note(image, OUTSIDE_EXCHANGED)

    def _box_in(self, box: list[float], size: tuple[float, float], where: str) -> None:
        """MMPose cuts both corners to 0 … side - 1, and passes over what then has no extent."""
        (x, y, w, h), (width, height) = box, size
        if 0 <= x < width - 1 and 0 <= y < height - 1 and x + w <= width + SLACK and y + h <= height + SLACK:
            return
        cut = False
        for start, length, side in zip(box[:2], box[2:], size):
            low, high = (min(max(value, 0), side - 1) for value in (start, start + length))
            if high <= low:
                self.broken.add(rules.BOX_OUTSIDE, where, f"{box} in {width:g} x {height:g}")
                return
            cut = cut or start < -SLACK or start + length > side + SLACK
        if cut:
            self.broken.add(rules.BOX_INSIDE, where, f"{box} in {width:g} x {height:g}")

    # ------------------------------------------------------------------------------------------------- at the end

    def close(self) -> None:
        """The rules about the file as a whole, once all of it went by."""
        add = self.broken.add
        exchanged = self.images.exchanged()
        for number in exchanged:
            add(rules.IMAGE_SWAPPED, f"image id {number}")
        if self._far_out >= max(2, self._boxes * IMPOSSIBLE) and self._as_corners >= self._boxes * AGREE:
            said = f"{self._as_corners} of {self._boxes} fit as corners, {self._far_out} leave their image as they are"
            add(rules.BOX_CORNERS, "all boxes", said, count=self._as_corners)
        if self._with_labels and 0 < self._largest <= 1:
            add(rules.PIXELS, "all keypoints", f"the largest coordinate is {self._largest:g}", count=self._with_labels)
        known = set(filter(lambda number: isinstance(number, (int, float, str)), self.category_ids))
        expected = self._expected()
        for (category, length), (count, first) in self._lengths.items():
            if category is not None and category not in known:
                add(rules.CATEGORY_KNOWN, first, f"category_id {category!r}", count)
            elif length not in (None, expected.get(category)):
                add(rules.KEYPOINTS_FORM, first, f"{length} keypoints, expected {expected[category]}", count)
        counts = {expected[category] for category, _ in self._lengths if category in known and category in expected}
        if len(counts) > 1:
            add(rules.CATEGORY_COUNTS, "categories", f"{', '.join(map(str, sorted(counts)))} keypoints", len(counts))

    def _expected(self) -> dict[Any, int]:
        """How many keypoints each category has: as many as it names, else as most of its annotations have."""
        expected: dict[Any, tuple[int, int]] = {}
        for (category, length), (count, _) in self._lengths.items():
            if length is not None and count > expected.get(category, (0, 0))[0]:
                expected[category] = (count, length)
        return {**{category: length for category, (_, length) in expected.items()}, **self.keypoint_names}

    def keypoints(self) -> Optional[int]:
        """How many keypoints the file's categories have, None where they differ or nothing says it."""
        counts = set(self._expected().values())
        return counts.pop() if len(counts) == 1 else None
