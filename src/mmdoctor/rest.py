"""The transitive rest: what the stack means for the user's other packages, settled by uv before anything changes.

Our resolver chooses the coupled stack, uv the rest. uv is told what is installed and stays by *stubs*: wheels that hold
nothing but METADATA, written from the facts. So nothing is built to read a requirement (mmcv's setup.py would), no
index is asked about a package that does not move, a private or editable package is known like any other, and what is
installed already broken does not make the whole unsatisfiable.
"""

from __future__ import annotations

import os
import re
import tempfile
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, Optional, Union

from packaging.version import InvalidVersion, Version

from mmdoctor import rules, system
from mmdoctor.model import Change, Distribution, Facts, Plan, Request, Rest
from mmdoctor.plan_pip import MMCV_REQUIRES
from mmdoctor.probes.indexes import IndexConfig, uv_environment

# What these require besides the stack, where uv would have to build an sdist to know (sources: the METADATA of wheels
# built from mmcv 2.1.0, xtcocotools 1.14.3, chumpy 0.70); and NumPy and setuptools, which require nothing.
KNOWN_REQUIRES: Mapping[str, tuple[str, ...]] = {
    "numpy": (),
    "setuptools": (),
    "mmcv": MMCV_REQUIRES,
    "mmcv-full": MMCV_REQUIRES,
    "onedl-mmcv": MMCV_REQUIRES,
    "xtcocotools": ("cython>=0.27.3", "matplotlib>=2.1.0"),
    "chumpy": ("scipy>=0.13.0", "six>=1.11.0"),
}
CHUMPY = "0.70"
STAYING = "staying"
DEADLINE_SECONDS = 120.0
# Of the user's environment, what would send an installer to another interpreter than the one it is told.
MISLEADING = ("VIRTUAL_ENV", "CONDA_PREFIX", "PYTHONHOME", "PYTHONPATH", "PIP_TARGET", "PIP_PREFIX", "PIP_USER")
PIN = re.compile(r"^(?P<name>[\w.-]+)==(?P<version>[^\s\\;]+)[^#\n]*(?:#\s*via\s+(?P<via>[^\n]*))?", re.MULTILINE)
# uv's words when it could not look, in contrast to "looked, and nothing fits".
NOT_LOOKED = re.compile(r"network was disabled|Failed to fetch|error sending request|lack of valid authentication|403")
# What no index has: another release of it is not to be found.
ABSENT = re.compile(r"([\w.-]+) was not found in the (?:package registry|provided package locations)")
Mode = Literal["kept", "free", "without"]


class Uv(NamedTuple):
    """How uv is called: the program, the environment variables, and whether registries are forbidden to it."""

    program: str
    environment: Mapping[str, str]
    no_index: bool


class Pin(NamedTuple):
    """What uv settled on for one package, and the names that asked for it."""

    version: str
    via: tuple[str, ...]


class UnansweredError(Exception):
    """uv could not say: no network, an index that does not answer, a failure of uv itself."""


def uv_of(program: str, config: IndexConfig, *, offline: bool) -> Uv:
    """uv with the user's own settings and pip's in its words; nothing that would mislead it to another interpreter."""
    environment = {name: value for name, value in os.environ.items() if name not in MISLEADING}
    environment.update(uv_environment(config))
    if offline:
        environment["UV_OFFLINE"] = "1"
    return Uv(program, environment, config.no_index)


def stub(folder: Path, name: str, version: str, requires: Iterable[str]) -> str:
    """Write a wheel that holds METADATA and nothing else; returns the requirement that names it (PEP 508)."""
    stem = f"{name.replace('-', '_')}-{version}"
    path = folder / f"{stem}-py3-none-any.whl"
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    lines += [f"Requires-Dist: {text}" for text in requires]
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{stem}.dist-info/METADATA", "\n".join(lines) + "\n")
        archive.writestr(
            f"{stem}.dist-info/WHEEL",
            "Wheel-Version: 1.0\nGenerator: mmdoctor\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        archive.writestr(f"{stem}.dist-info/RECORD", "")
    return f"{name} @ {path.as_uri()}"


def compiled(
    uv: Uv,
    python: str,
    folder: Path,
    requirements: Sequence[str],
    overrides: Sequence[str],
    preferred: Sequence[str] = (),
    options: Sequence[str] = (),
) -> tuple[system.Completed, Path]:
    """Run `uv pip compile` for the interpreter `python`; returns how it ended, and the file with the pins.

    `preferred` are pins that uv keeps where it can (it reads them from its own earlier output). The files lie in
    `folder`, which must exist.
    """
    asked, held, out = (folder / name for name in ("requirements.in", "overrides.in", "settled.txt"))
    asked.write_text("\n".join(requirements) + "\n", encoding="utf-8")
    held.write_text("\n".join(overrides) + "\n", encoding="utf-8")
    out.write_text("".join(f"{line}\n" for line in preferred), encoding="utf-8")
    argv = (
        uv.program,
        "pip",
        "compile",
        str(asked),
        "--python",
        python,
        "--override",
        str(held),
        "--output-file",
        str(out),
    )
    quiet = ("--quiet", "--color", "never", "--no-header", "--annotation-style", "line")
    forbidden = ("--no-index",) if uv.no_index else ()
    return (
        system.run((*argv, *quiet, *forbidden, *options), deadline=DEADLINE_SECONDS, env=uv.environment),
        out,
    )


def find_links(uv: Uv, *more: str) -> tuple[str, ...]:
    """Options for further places of files; the user's own said again, since an option takes the variable's place."""
    told = [place for place in uv.environment.get("UV_FIND_LINKS", "").split(",") if place]
    return tuple(word for place in (*told, *more) for word in ("--find-links", place))


def pins_in(text: str) -> dict[str, Pin]:
    """The pins of a compiled file; what came from a stub's address is none."""
    found = {}
    for match in PIN.finditer(text):
        via = tuple(
            name for name in re.split(r",\s*", (match["via"] or "").strip()) if name and not name.startswith("-r")
        )
        found[match["name"]] = Pin(match["version"], via)
    return found


def torch_options(plan: Plan) -> tuple[str, ...]:
    """The index that the plan's torch comes from, where it is not PyPI."""
    return rules.torch_source(plan.stack)[0] if plan.stack else ()


def exactly(plan: Plan, name: str, version: str) -> str:
    """A part of the stack as an exact requirement; `===` for PyPI's torch, as in the plan's own steps."""
    if plan.stack is None or name not in ("torch", "torchvision"):
        return f"{name}=={version}"
    return name + rules.torch_source(plan.stack)[1](version)


# ------------------------------------------------------------------------------------------------ before and after


class View:
    """The environment as it is and as the plan will leave it, and what each package's requirements make of that."""

    def __init__(self, facts: Facts, plan: Plan) -> None:
        self.facts, self.plan = facts, plan
        self.installed = facts.target.installed
        self.now = {name: d.version for name, d in self.installed.items()}
        self.parts = dict(text.split("==", 1) for text in plan.constraints)
        self.changed = {change.name for change in plan.changes}
        gone = {change.name for change in plan.changes if change.new is None}
        self.then = {**{name: version for name, version in self.now.items() if name not in gone}, **self.parts}
        coupled = {*self.parts, *gone, *rules.MMCV_NAMES, *rules.OPENCV_NAMES}
        self.others = tuple(d for d in self.installed.values() if d.name not in coupled and is_version(d.version))

    def stays(self, name: str) -> bool:
        """Whether this part of the stack is installed as the plan wants it."""
        return name not in self.changed and rules.within(self.now.get(name, ""), f"=={self.parts[name]}")

    def requirements(self, distribution: Distribution) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """(those that hold beside the stack, those that hold now and will not). What neither holds now nor then was
        broken before, and what is not installed is missed already: both say nothing about this plan."""
        kept, broken = [], []
        for text in distribution.requires:
            requirement = rules.declared(text, self.facts)
            if requirement is None or requirement.name not in self.then:
                continue
            name, wanted = requirement.name, str(requirement.specifier)
            if rules.within(self.then[name], wanted):
                kept.append(f"{name}{wanted}")
            elif name in self.now and rules.within(self.now[name], wanted):
                broken.append(f"{name}{wanted}")
        return tuple(kept), tuple(broken)

    def beside(self, broken: Sequence[str]) -> str:
        """What stands against a broken requirement: `numpy 1.26.4`."""
        names = dict.fromkeys(match[0] for text in broken if (match := re.match(r"[\w.-]+", text)))
        return " and ".join(f"{name} {self.then[name]}" for name in names)


def is_version(text: str) -> bool:
    """Whether a text is a version of PEP 440; uv refuses a file name with another one."""
    try:
        Version(text)
    except InvalidVersion:
        return False
    return True


# -------------------------------------------------------------------------------------------------------- settling


def settle(facts: Facts, plan: Plan, request: Request, config: IndexConfig, uv: str, *, offline: bool) -> Rest:
    """Which of the user's other packages must move beside the plan's stack, and which cannot live beside it.

    `plan` is the plan without them; `uv` is uv's program. Asks the indexes unless `offline`; where they do not answer,
    that is an assumption and no error. Nothing to say for an environment that is not there, or pretended.
    """
    if facts.target.state != "present" or facts.pretended or plan.status != "plan":
        return Rest()
    view = View(facts, plan)
    broken = {d.name: requirements for d in view.others if (requirements := view.requirements(d)[1])}
    stuck = [name for name in broken if not rules.movable(view.installed[name])]
    forbidden = [_forbidden(view, name, broken[name]) for name in stuck]
    asked = [name for name in broken if name not in stuck]
    with tempfile.TemporaryDirectory(prefix="mmdoctor-") as folder:
        question = _Question(view, request, uv_of(uv, config, offline=offline), Path(folder), broken)
        if not (asked or question.open):
            return Rest(forbidden=tuple(forbidden))
        try:
            pins, moving, mode = question.answer(asked)
        except UnansweredError as error:
            said = [f"{name} {view.now[name]} wants {', '.join(broken[name])}" for name in asked]
            detail = f": {'; '.join(said)}" if said else ""
            what = f"what your other packages need beside the stack was not looked up ({error}){detail}"
            return Rest(forbidden=tuple(forbidden), assumptions=(what,))
    forbidden += [_forbidden(view, name, broken[name]) for name in asked if name not in moving]
    if mode == "without":
        forbidden += _left_behind(view, pins, set(stuck))
    return Rest(moves=_moves(view, pins, broken), forbidden=tuple(forbidden))


def _forbidden(view: View, name: str, broken: Sequence[str]) -> str:
    place = "no other release that fits was found"
    if not rules.movable(view.installed[name]):
        place = "it was installed from a folder or an address, where mmdoctor looks for no other release"
    wanted = " and ".join(broken)
    return f"{name} {view.now[name]} wants {wanted}, the stack has {view.beside(broken)}; {place}. It stays as it is"


def _moves(view: View, pins: Mapping[str, Pin], broken: Mapping[str, Sequence[str]]) -> tuple[Change, ...]:
    moves = []
    for distribution in view.others:
        name, pin = distribution.name, pins.get(distribution.name)
        if pin is None or pin.version == distribution.version:
            continue
        why = f"wanted so by {', '.join(pin.via)}" if pin.via else "the stack's other packages want it so"
        if name in broken:
            why = f"its requirement {' and '.join(broken[name])} does not hold beside {view.beside(broken[name])}"
        moves.append(Change(name=name, old=distribution.version, new=pin.version, why=why))
    return tuple(sorted(moves, key=lambda change: change.name))


def _left_behind(view: View, pins: Mapping[str, Pin], known: set[str]) -> list[str]:
    """Those whose requirements hold now and not beside the versions that the stack alone comes to."""
    said = []
    for distribution in view.others:
        if distribution.name in pins or distribution.name in known:
            continue
        for text in view.requirements(distribution)[0]:
            match = re.match(r"([\w.-]+)(.*)", text)
            pin = pins.get(match[1]) if match else None
            if match and pin and not rules.within(pin.version, match[2]):
                what = f"{distribution.name} {distribution.version} wants {text}"
                said.append(f"{what}, the stack brings {match[1]} {pin.version}; it stays as it is")
    return said


class _Question:
    """One question to uv, asked in up to three ways: with all other packages kept, with them free, without them."""

    def __init__(self, view: View, request: Request, uv: Uv, folder: Path, broken: Mapping[str, Sequence[str]]) -> None:
        self.view, self.uv, self.folder = view, uv, folder
        plan = view.plan
        self.parts: list[str] = []
        self.open: list[str] = []
        known = dict(view.parts)
        if not any(text.split(" ")[0] == "chumpy" for text in plan.overrides):
            known.setdefault("chumpy", view.now.get("chumpy", CHUMPY))
        for name, version in known.items():
            distribution = view.installed.get(name)
            if distribution is not None and name in view.parts and view.stays(name):
                self.parts.append(stub(folder, name, distribution.version, view.requirements(distribution)[0]))
            elif name in KNOWN_REQUIRES:
                self.parts.append(stub(folder, name, version, KNOWN_REQUIRES[name]))
            else:
                self.open.append(exactly(plan, name, version))
        for text in request.recipe.extra:
            requirement = rules.declared(text, view.facts)
            have = view.then.get(requirement.name) if requirement else None
            if requirement and not (have and rules.within(have, str(requirement.specifier))):
                self.open.append(text)
        self.answers = any(index.name == "pypi" and index.reachable is True for index in view.facts.indexes)
        staying = folder / STAYING
        staying.mkdir()
        self.kept = tuple(d for d in view.others if d.name not in broken)
        self.stubs = {d.name: stub(staying, d.name, d.version, view.requirements(d)[0]) for d in self.kept}

    def answer(self, asked: Sequence[str]) -> tuple[dict[str, Pin], list[str], Mode]:
        """The pins, which of the `asked` packages can move, and how far the rest had to be let go.

        One at a time, by name, only where all together have no solution. Raises UnansweredError.
        """
        modes: tuple[Mode, ...] = ("kept", "free")
        for mode in modes:
            pins = self.ask(mode, asked)
            if pins is not None:
                return pins, [name for name in asked if name in pins], mode
        for mode in modes if asked else ():
            pins = self.ask(mode, ())
            if pins is None:
                continue
            moving: list[str] = []
            for name in sorted(asked) if len(asked) > 1 else ():
                more = self.ask(mode, (*moving, name))
                if more is not None:
                    pins, moving = more, [*moving, name]
            return pins, moving, mode
        pins = self.ask("without", ())
        if pins is None:
            raise UnansweredError("uv finds no versions that fit the stack itself")
        return pins, [], "without"

    def ask(self, mode: Mode, moving: Sequence[str]) -> Optional[dict[str, Pin]]:
        """What uv settles on, None when nothing fits. Raises UnansweredError when it could not look."""
        others = self.kept if mode != "without" else ()
        free = [d.name for d in others if mode == "free" and rules.movable(d)]
        named = (*self.parts, *self.open, *free, *(self.stubs[d.name] for d in others if d.name not in free))
        while True:
            said = self._ask((*named, *moving), offered=mode != "kept")
            if not isinstance(said, str):
                return said
            absent = {match[1] for match in ABSENT.finditer(said)}
            if not absent & set(moving):
                return None
            moving = [name for name in moving if name not in absent]

    def _ask(self, wanted: Sequence[str], *, offered: bool) -> Union[dict[str, Pin], str]:
        """The pins, or uv's words on why nothing fits. What is installed is `offered` beside what the indexes have, and
        preferred: it may be on no index any more."""
        preferred = [f"{d.name}=={d.version}" for d in self.kept] if offered else []
        # Without --no-build uv would run a stranger's setup.py to learn what it requires.
        links = find_links(self.uv, (self.folder / STAYING).as_uri()) if offered else ()
        options = ("--no-build", *torch_options(self.view.plan), *links)
        python = self.view.facts.target.executable
        done, out = compiled(self.uv, python, self.folder, wanted, self.view.plan.overrides, preferred, options)
        if done.ok:
            return pins_in(out.read_text(encoding="utf-8"))
        said = done.stdout + done.stderr
        if done.timed_out:
            raise UnansweredError(f"no answer within {DEADLINE_SECONDS:.0f} s")
        # A name that uv did not find may be one of a private index, or of an index that timed out.
        silent = "was not found in the package registry" in said and not self.answers
        if "No solution found" not in said or NOT_LOOKED.search(said) or silent:
            raise UnansweredError(_reason(said))
        return said


def _reason(said: str) -> str:
    """Why uv could not say, in its own innermost words."""
    if "network was disabled" in said:
        return "offline, and uv's cache does not have them"
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    causes = [line.partition("cause: ")[2] for line in lines if "cause: " in line]
    return (causes[-1:] or lines[:1] or ["uv said nothing"])[0][:200]
