"""What is kept of a file while it goes by: which ids there are, the images' sizes, how often each rule is broken."""

from __future__ import annotations

from array import array
from typing import Any, Optional

from mmdoctor.annotations.rules import Rule

EXAMPLES = 3
LONGEST = 160  # characters of an example
OUTSIDE, OUTSIDE_EXCHANGED, USED = 1, 2, 4


class Ids:
    """Whole numbers that were met, 256 to a page. Measured by tracemalloc over 200,000: 0.5 bytes each where they count
    up, 5 spread as COCO's person ids are, 130 for random 62-bit numbers; a set takes 70 to 78."""

    def __init__(self) -> None:
        self._pages: dict[int, int] = {}
        self.highest = 0

    def add(self, number: int) -> bool:
        """Whether it is new."""
        page, bit = number >> 8, 1 << (number & 255)
        held = self._pages.get(page, 0)
        if held & bit:
            return False
        self._pages[page] = held | bit
        self.highest = max(self.highest, number)
        return True


class Images:
    """The images by id, with their sizes; 0 where a size is not known. 126 bytes each (measured as in Ids)."""

    def __init__(self) -> None:
        self._places: dict[Any, int] = {}
        self._widths = array("d")
        self._heights = array("d")
        self._notes = bytearray()

    def add(self, number: Any, width: float, height: float) -> bool:
        """Whether the id is new; of two, the later counts, as for MMPose."""
        new = number not in self._places
        self._places[number] = len(self._notes)
        self._widths.append(width)
        self._heights.append(height)
        self._notes.append(0)
        return new

    def find(self, number: Any) -> Optional[int]:
        """Where an id's image is held."""
        return self._places.get(number) if isinstance(number, (int, float, str)) else None

    def size(self, place: int) -> tuple[float, float]:
        """Width and height in pixels."""
        return self._widths[place], self._heights[place]

    def note(self, place: int, what: int) -> None:
        """Remember of an image that it has an instance (USED), and one far outside it as described, or as described
        with width and height exchanged."""
        self._notes[place] |= what

    def unused(self) -> int:
        """How many images have no annotation."""
        return sum(not self._notes[place] & USED for place in self._places.values())

    def exchanged(self) -> list[Any]:
        """The ids of images with instances that are inside only with width and height exchanged."""
        both = OUTSIDE | OUTSIDE_EXCHANGED
        return [number for number, place in self._places.items() if self._notes[place] & both == OUTSIDE]

    def __len__(self) -> int:
        return len(self._places)


def shown(text: str) -> str:
    """What a file says, fit for a report: short, and without half surrogate pairs, which json reads from `\\ud800`."""
    short = text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
    return short.encode("utf-8", "replace").decode("utf-8")


class Broken:
    """How often each rule is broken, of how many, and the first places."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.examples: dict[str, list[str]] = {}

    def add(self, rule: Rule, where: str, what: object = "", count: int = 1) -> None:
        """One more place: `where` names it, `what` is said of it, shortened."""
        self.counts[rule.id] = self.counts.get(rule.id, 0) + count
        examples = self.examples.setdefault(rule.id, [])
        if len(examples) < EXAMPLES:
            said = str(what)
            examples.append(shown(f"{where}: {said}" if said else where))
