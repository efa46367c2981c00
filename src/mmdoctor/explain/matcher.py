"""Text in, causes out: take the wrappings off, read the versions, try every row of `failures.json`, rank.

The rows hold the knowledge, this module none. A row is tried only when one of its literal fragments occurs, so that
an unrelated text costs no regular expression (compiling them all would take longer than the rest of the program).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache, lru_cache
from pathlib import Path
from typing import Optional

import msgspec

from mmdoctor.errors import DataError
from mmdoctor.explain.normalise import plain
from mmdoctor.explain.reading import WHOLE, condensed
from mmdoctor.explain.versions import FLAGS, PRIVATE, versions
from mmdoctor.lang import Language, translated
from mmdoctor.model import Cause, CommandFix, Explanation, Value

DATA = Path(__file__).with_name("failures.json")
SURE = 0.8  # from here on an answer is meant to be right; see `rank`
UNSURE = 0.79
EVIDENCE_LINES = 3
EVIDENCE_WIDTH = 300
LONGEST_NAME = 300
MEANS = "The missing name is {name}."
RELEASES = (
    "Of the torch releases that were looked at ({oldest} to {newest}), {first} to {last} have it: the extension was"
    " built for one of these."
)
WANTS_TRACEBACK = "The whole traceback, from its line 'Traceback (most recent call last)' on, with the lines above it."
WANTS_BUILD = "The build's output around its first line with 'error'; where it is cut, that of the installer with -v."
WANTS_VERSIONS = (
    "What `python -m pip list` and `python -m torch.utils.collect_env` print in the environment that fails."
)
SENTENCES = (MEANS, RELEASES, WANTS_TRACEBACK, WANTS_BUILD, WANTS_VERSIONS)


class Repair(Value, frozen=True, kw_only=True):
    """What every failure of one cause shares: its family, its name, and what has to be changed."""

    family: str
    title: str
    fix: CommandFix


class Failure(Value, frozen=True, kw_only=True):
    """One known failure. It holds when all of this does:

    `has` one of these fragments occurs (lower case, compared without case); `match` every pattern is found; `without`
    no pattern is found; `when` is empty, or in one of its alternatives every version named is known and lies in the
    range; `registered` is empty, or one of it is where the class stands that `match` names in the groups `class_` and
    `scope` (`registries.verdict`). Named groups of `match` count as versions and fill `{placeholders}`, and `symbol` is
    said in words. `explains` names causes that are mere consequences when this row holds; `fix` replaces the cause's
    own where the repair differs.
    """

    id: str
    cause: str
    confidence: float
    has: tuple[str, ...]
    match: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    when: tuple[dict[str, str], ...] = ()
    registered: tuple[str, ...] = ()
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


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, FLAGS)


def match(
    row: Failure, text: str, lowered: str, found: Mapping[str, str]
) -> Optional[tuple[tuple[str, ...], dict[str, str]]]:
    """The evidence lines, and the versions with the row's own groups, when it holds for the plain text."""
    spot = next((at for at in map(lowered.find, row.has) if at >= 0), -1)
    if spot < 0:
        return None
    spots, known = [], dict(found)
    for pattern in row.match:
        hit = _compiled(pattern).search(text)
        if hit is None:
            return None
        spots.append(hit.start())
        known.update({name: value for name, value in hit.groupdict().items() if value})
    if any(_compiled(pattern).search(text) for pattern in row.without):
        return None
    if row.when and not any(_within(alternative, known) for alternative in row.when):
        return None
    if row.registered:
        from mmdoctor.explain.registries import homes, verdict

        if verdict(known["class_"], known.get("scope", "")).isdisjoint(row.registered):
            return None
        known["home"] = " / ".join(dict.fromkeys((*homes(known["class_"])[1], *homes(known["class_"])[0])))
    return _lines(text, spots or [spot]), known


def _why(row: Failure, known: Mapping[str, str], lang: Language) -> str:
    """Why the row holds, in words; of a missing C++ symbol also its name and the torch releases that have it."""
    why = translated(row.why, lang)
    said = [fill(why, known) or why]
    if "symbol" in known:
        from mmdoctor.explain.symbols import demangle, exported

        name, releases = demangle(known["symbol"]), exported(known["symbol"])
        if name:
            shown = name if len(name) <= LONGEST_NAME else f"{name[:LONGEST_NAME]}…"
            said.append(translated(MEANS, lang).format(name=shown))
        if releases:
            said.append(translated(RELEASES, lang).format_map(msgspec.structs.asdict(releases)))
    return " ".join(said)


def _filled(fix: CommandFix, known: Mapping[str, str], lang: Language) -> CommandFix:
    """The fix with its placeholders filled; a command whose versions are not known is left out."""
    commands = tuple(c for c in (fill(command, known) for command in fix.commands) if c is not None)
    summary = translated(fix.summary, lang)
    return msgspec.structs.replace(fix, summary=fill(summary, known) or summary, commands=commands)


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


def explain(text: str, lang: Language = "en") -> Explanation:
    """Name the root causes that a traceback, an install log or a version listing shows, best first, in words of `lang`.

    Confidence is 0.8 or more only where the text leaves no doubt; an empty list means that nothing was recognised.
    Where nothing is sure, `paste` says what else would tell. Of a long text only `condensed` is looked at. Pure: the
    answer depends on nothing but the text and the known failures. Raises DataError for broken data only.
    """
    failures = load()
    bare = plain(text if len(text) <= WHOLE else condensed(text.splitlines(keepends=True)))
    lowered = bare.lower()
    found = _derived(versions(bare))
    best: dict[str, Cause] = {}
    explained: set[str] = set()
    for row in failures.rows:
        hit = match(row, bare, lowered, found)
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
            title=translated(repair.title, lang),
            why=_why(row, known, lang),
            evidence=_merge(evidence, seen),
            fix=_filled(row.fix or repair.fix, known, lang),
            docs=f"docs/causes.md#{row.cause}",
        )
    shown = {name: value for name, value in found.items() if name not in (*PRIVATE, "torch_release")}
    causes = rank(best.values(), explained)
    sure = bool(causes) and causes[0].confidence >= SURE
    return Explanation(causes=causes, versions=shown, paste=() if sure else _paste(lowered, found, lang), lang=lang)


def _paste(lowered: str, found: Mapping[str, str], lang: Language) -> tuple[str, ...]:
    """What else would tell, as far as the text does not hold it already."""
    asked = []
    if any(word in lowered for word in ("failed building", "build", "ninja", "setup.py", "nvcc", "subprocess-exited")):
        asked.append(WANTS_BUILD)
    elif "traceback (most recent call last)" not in lowered:
        asked.append(WANTS_TRACEBACK)
    if not {"torch", "mmcv", "mmcv-full", "mmcv-lite"} & found.keys():
        asked.append(WANTS_VERSIONS)
    return tuple(translated(sentence, lang) for sentence in asked)


def _merge(first: tuple[str, ...], second: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(first + second))[:EVIDENCE_LINES]
