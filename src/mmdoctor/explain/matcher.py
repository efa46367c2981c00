"""Text in, causes out: normalise, read the versions, try every row of `failures.json`, rank.

The rows hold the knowledge, this module none. A row is tried only when one of its literal fragments occurs, so that
an unrelated text costs no regular expression (compiling them all would take longer than the rest of the program).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Optional

import msgspec

from mmdoctor.errors import DataError
from mmdoctor.model import Cause, CommandFix, Explanation, Value

DATA = Path(__file__).with_name("failures.json")
FLAGS = re.IGNORECASE | re.MULTILINE
SURE = 0.8  # from here on an answer is meant to be right; see `rank`
UNSURE = 0.79
EVIDENCE_LINES = 3
EVIDENCE_WIDTH = 300


class Repair(Value, frozen=True, kw_only=True):
    """What every failure of one cause shares: its family, its name, and what has to be changed."""

    family: str
    title: str
    fix: CommandFix


class Failure(Value, frozen=True, kw_only=True):
    """One known failure. It holds when all of this does:

    `has` one of these fragments occurs (lower case, compared without case); `match` every pattern is found; `without`
    no pattern is found; `when` is empty, or in one of its alternatives every version named is known and lies in the
    range. Named groups of `match` count as versions and fill `{placeholders}`. `explains` names causes that are mere
    consequences when this row holds; `fix` replaces the cause's own where the repair differs.
    """

    id: str
    cause: str
    confidence: float
    has: tuple[str, ...]
    match: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    when: tuple[dict[str, str], ...] = ()
    explains: tuple[str, ...] = ()
    why: str
    fix: Optional[CommandFix] = None
    source: tuple[str, ...]


class Failures(Value, frozen=True, kw_only=True):
    """`failures.json`, whole."""

    causes: dict[str, Repair]
    rows: tuple[Failure, ...]


@lru_cache(maxsize=1)
def load() -> Failures:
    """The known failures. Raises DataError when the data file is missing or not of the expected form."""
    try:
        return msgspec.json.decode(DATA.read_bytes(), type=Failures)
    except (OSError, msgspec.MsgspecError) as error:
        raise DataError(f"{DATA.name}: {error}", "the installation is damaged: reinstall mmdoctor") from error


# ------------------------------------------------------------------------------------------------------ normalise

_SUBSTITUTIONS: tuple[tuple[str, str], ...] = (
    (r"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|\][^\x07\n]*\x07|[@-_])", ""),  # ANSI
    (r"\r\n?", "\n"),
    (r"\\n(?=[ '\"-])", "\n"),  # collect_env prints the repr of a dict, line ends included
    (r"[\u2018\u2019\u00b4]", "'"),
    (r"[\u201c\u201d]", '"'),
    (r"^(?!>>> )(?:> ?)+(?=\S)", ""),
    (r"^[A-Z][a-z]{2} +\d{1,2} \d\d:\d\d:\d\d \S+ [^\s:\[]+(?:\[\d+\])?: ", ""),  # journal
    (r"^[\w.-]+[-_]\d+ +\| ", ""),  # docker compose
    (r"^\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d\S*[ \t]+", ""),
    (r"^(?:#\d+ )?\d+\.\d{2,3} +", ""),  # docker build
    (r"^E {3,}", ""),  # pytest
    (r"^[ \t]*[\u2500-\u257f\u00d7]+>?[ \t]?", ""),  # pip's gutters
    (r"[ \t\u00a0]+", " "),
    (r"^ | $", ""),
    (r"\\+", "/"),
    (r"(?:[A-Z]:)?/(?:home|Users)/[^/\s'\"]+/", "~/"),  # also keeps user names out of the evidence
    (r"//[^/\s@]+@", "//***@"),
)


@lru_cache(maxsize=1)
def _substitutions() -> tuple[tuple[re.Pattern[str], str], ...]:
    return tuple((re.compile(pattern, re.MULTILINE), new) for pattern, new in _SUBSTITUTIONS)


def normalise(text: str) -> str:
    """The text without colours, log prefixes, quoting, gutters, user names and runs of blanks; slashes forward."""
    for pattern, new in _substitutions():
        text = pattern.sub(new, text)
    return text


# ------------------------------------------------------------------------------------------------------- versions

_NAMES = (
    "torch|pytorch|torchvision|torchaudio|triton|mmcv|mmcv[-_]full|mmcv[-_]lite|mmengine|mmdet|mmpose|mmpretrain|mmcls|mmseg"
    "|mmsegmentation|mmaction2|mmdet3d|mmrotate|mmdeploy|numpy|xtcocotools|pycocotools|mmpycocotools|chumpy|cython"
    "|scipy|matplotlib|pillow|yapf|transformers|opencv[-_]python(?:[-_](?:headless|contrib))*|onnxruntime"
    "|onnxruntime[-_]gpu|setuptools|pip|openmim|openxlab"
)
_VERSION = r"v?(?P<version>\d+(?:\.\d+)+(?:(?:rc|a|b|\.?post|\.?dev)\d+)?(?:\+\w+(?:\.\w+)*)?)"
_ALIASES = {"pytorch": "torch", "mmdetection": "mmdet", "opencv": "opencv-python"}

# Strongest first: what is installed, then what an installer says, then what file names and requests suggest.
_NAMED: tuple[str, ...] = (
    rf"^(?:\[(?:pip3?|conda)\] )?(?P<name>{_NAMES})(?: |==){_VERSION}(?: |$)",
    r"(?:^|['\"])(?P<name>PyTorch|TorchVision|OpenCV|MMCV|MMEngine|MMDetection|MMPose|NumPy)(?: version)?['\"]?[:,] "
    rf"?['\"]?{_VERSION}",
    rf"\b(?:but you have|Uninstalling|Requirement already satisfied:) (?P<name>{_NAMES})(?: |-){_VERSION}",
    rf"^Requirement already satisfied: (?P<name>{_NAMES})[^\n]*\({_VERSION}\)$",
    rf"(?<![\w.<>=!~/-])(?P<name>{_NAMES})(?:==|-){_VERSION}(?![\w.]*[\w])",
    rf"(?<![\w.<>=!~-])(?P<name>{_NAMES})(?:==|-){_VERSION}",
    rf"/dist/\w+/(?P<name>torch){_VERSION}",
)
_SINGLE: tuple[tuple[str, str], ...] = (
    ("python", r"\bPython(?: version)?['\"]?[:,]? ['\"]?(\d\.\d+(?:\.\d+)?)"),
    ("python", r"requires a different Python: (\d\.\d+\.\d+)"),
    ("python", r"/(?:lib/)?python(\d\.\d+)/"),
    ("python_tag", r"\b(?:cpython-|cp)(3\d+)m?-"),
    ("cuda", r"CUDA used to build PyTorch: (\d+\.\d+)|CUDA Runtime (\d+\.\d+)|used to compile PyTorch \((\d+\.\d+)\)"),
    ("cuda_tag", r"\btorch(?:==|-| |['\"]?[:,] ?['\"]?)[\d.]+\+cu(\d+)|/dist/cu(\d+)/torch"),
    ("mmcv_cuda", r"MMCV CUDA Compiler['\"]?[:,] ?['\"]?(\d+\.\d+)"),
    ("nvcc", r"Cuda compilation tools, release (\d+\.\d+)|detected CUDA version \((\d+\.\d+)\)"),
    ("driver", r"(?:Driver Version|driver version): (\d{3,}\.[\d.]+)"),
    ("driver_cuda", r"\| NVIDIA-SMI[^\n]*CUDA Version: (\d+\.\d+)"),
)
_PRIVATE = ("python_tag", "cuda_tag", "mmcv_cuda")


@lru_cache(maxsize=1)
def _version_patterns() -> tuple[tuple[re.Pattern[str], ...], tuple[tuple[str, re.Pattern[str]], ...]]:
    named = tuple(re.compile(pattern, FLAGS) for pattern in _NAMED)
    return named, tuple((name, re.compile(pattern, FLAGS)) for name, pattern in _SINGLE)


def versions(text: str) -> dict[str, str]:
    """Versions that the normalised text shows: distributions by name, and `python`, `cuda` (what torch was built for),
    `nvcc`, `driver`, `driver_cuda`, `mmcv_cuda`. The strongest evidence wins, then the first."""
    named, single = _version_patterns()
    found: dict[str, str] = {}
    for pattern in named:
        for match in pattern.finditer(text):
            name = match["name"].lower().replace("_", "-")
            found.setdefault(_ALIASES.get(name, name), match["version"])
    for name, pattern in single:
        if hit := pattern.search(text):
            found.setdefault(name, next(group for group in hit.groups() if group))
    if tag := found.pop("python_tag", None):
        found.setdefault("python", f"{tag[0]}.{tag[1:]}")
    if tag := found.pop("cuda_tag", None):
        found.setdefault("cuda", f"{tag[:-1]}.{tag[-1]}")
    return found


def _derived(found: Mapping[str, str]) -> dict[str, str]:
    """The versions in the forms that commands need: `torch_release` without local label."""
    torch = found.get("torch")
    return {**found, "torch_release": torch.partition("+")[0]} if torch else dict(found)


def fill(template: str, known: Mapping[str, str]) -> Optional[str]:
    """The template with its `{name}` placeholders filled, or None when one of them is not known."""
    try:
        return template.format_map(dict(known))
    except KeyError:
        return None


def _within(alternative: Mapping[str, str], known: Mapping[str, str]) -> bool:
    from packaging.specifiers import InvalidSpecifier, SpecifierSet
    from packaging.version import InvalidVersion

    for name, wanted in alternative.items():
        specifier = fill(wanted, known)
        if specifier is None or name not in known:
            return False
        try:
            inside = SpecifierSet(specifier).contains(known[name], prereleases=True)
        except (InvalidSpecifier, InvalidVersion):  # a text may call anything a version
            return False
        if not inside:
            return False
    return True


# ---------------------------------------------------------------------------------------------------------- match


def _lines(text: str, spots: Iterable[int]) -> tuple[str, ...]:
    found = []
    for spot in spots:
        start = text.rfind("\n", 0, spot) + 1
        end = text.find("\n", spot)
        found.append(text[start : end if end >= 0 else len(text)].strip()[:EVIDENCE_WIDTH])
    return tuple(dict.fromkeys(line for line in found if line))


def match(
    row: Failure, text: str, lowered: str, found: Mapping[str, str]
) -> Optional[tuple[tuple[str, ...], dict[str, str]]]:
    """The evidence lines, and the versions with the row's own groups, when it holds for the normalised text."""
    spot = next((at for at in map(lowered.find, row.has) if at >= 0), -1)
    if spot < 0:
        return None
    spots, known = [], dict(found)
    for pattern in row.match:
        hit = re.search(pattern, text, FLAGS)
        if hit is None:
            return None
        spots.append(hit.start())
        known.update({name: value for name, value in hit.groupdict().items() if value})
    if any(re.search(pattern, text, FLAGS) for pattern in row.without):
        return None
    if row.when and not any(_within(alternative, known) for alternative in row.when):
        return None
    return _lines(text, spots or [spot]), known


def _filled(fix: CommandFix, known: Mapping[str, str]) -> CommandFix:
    """The fix with its placeholders filled; a command whose versions are not known is left out."""
    commands = tuple(c for c in (fill(command, known) for command in fix.commands) if c is not None)
    return msgspec.structs.replace(fix, summary=fill(fix.summary, known) or fix.summary, commands=commands)


def rank(causes: Iterable[Cause], explained: Iterable[str]) -> tuple[Cause, ...]:
    """Best first. A consequence of another cause counts half. Noise is named only when there is nothing else. Two sure
    answers exclude each other's sureness: the text does not say which one is to be repaired first."""
    consequences = set(explained)
    weighed = [
        msgspec.structs.replace(c, confidence=c.confidence / 2) if c.cause in consequences else c for c in causes
    ]
    real = [cause for cause in weighed if cause.family != "no-failure"] or weighed
    ordered = sorted(real, key=lambda cause: -cause.confidence)
    if len(ordered) > 1 and ordered[1].confidence >= SURE:
        ordered = [msgspec.structs.replace(c, confidence=min(c.confidence, UNSURE)) for c in ordered]
    return tuple(ordered)


def explain(text: str) -> Explanation:
    """Name the root causes that a traceback, an install log or a version listing shows, best first.

    Confidence is 0.8 or more only where the text leaves no doubt; an empty list means that nothing was recognised.
    Pure: the answer depends on nothing but the text and the known failures. Raises DataError for broken data only.
    """
    failures = load()
    plain = normalise(text)
    lowered = plain.lower()
    found = _derived(versions(plain))
    best: dict[str, Cause] = {}
    explained: set[str] = set()
    for row in failures.rows:
        hit = match(row, plain, lowered, found)
        if hit is None:
            continue
        evidence, known = hit
        explained.update(row.explains)
        other = best.get(row.cause)
        seen = other.evidence if other else ()
        if other and other.confidence >= row.confidence:
            best[row.cause] = msgspec.structs.replace(other, evidence=_merge(seen, evidence))
            continue
        repair = failures.causes[row.cause]
        best[row.cause] = Cause(
            cause=row.cause,
            family=repair.family,
            confidence=row.confidence,
            title=repair.title,
            why=fill(row.why, known) or row.why,
            evidence=_merge(evidence, seen),
            fix=_filled(row.fix or repair.fix, known),
            docs=f"docs/causes.md#{row.cause}",
        )
    shown = {name: value for name, value in found.items() if name not in (*_PRIVATE, "torch_release")}
    return Explanation(causes=rank(best.values(), explained), versions=shown)


def _merge(first: tuple[str, ...], second: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(first + second))[:EVIDENCE_LINES]
