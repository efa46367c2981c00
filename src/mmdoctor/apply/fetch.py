"""Fetches and verifies everything that a plan installs, before the environment or its clone is touched.

One lock with hashes for all of the plan's install steps, then every file of it into uv's cache. The steps run
afterwards without network and under the lock's versions: a download that breaks, a wrong hash or a full cache disk
shows while nothing has happened yet.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Optional

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from mmdoctor import rules, system
from mmdoctor.apply.failure import failure
from mmdoctor.errors import ApplyError
from mmdoctor.model import Build, Plan, Target
from mmdoctor.probes.indexes import open_url, redact
from mmdoctor.probes.question import interpreter_of
from mmdoctor.rest import (
    CHUMPY,
    KNOWN_REQUIRES,
    STAYING,
    Uv,
    compiled,
    exactly,
    find_links,
    is_version,
    pins_in,
    stub,
    uv_of,
)
from mmdoctor.wheels.cache import drop, proofs, sound
from mmdoctor.wheels.fetch import fetch_sdist, links

if TYPE_CHECKING:
    from mmdoctor.apply.stages import Listener, Settings

STAGE = "fetch"
DEADLINE_SECONDS = 3600.0
# Options of the plan's install steps that say where packages come from; each has a value. The rest of those with one.
SOURCES = ("--index", "--index-strategy", "--only-binary")
VALUED = ("--python", "--constraint", "--override", "--reinstall-package", "--no-build-isolation-package")

# The entries of a lock, and those of them that stand for what is not fetched.
ENTRY = re.compile(r"^(?=[\w.-]+(?:==| @ ))", re.MULTILINE)
# Like the plan's own `torch===2.13.0`: `==2.13.0` would also take a `2.13.0+cpu` that the user's find-links offer.
UNLABELLED = re.compile(r"^(torch(?:vision|audio)?)==([\d.]+)(?=[ \n])")
STUB = re.compile(r"[\w.-]+ @ ")
NO_VERSION = re.compile(r"there (?:is|are) no versions? of ([\w.-]+?)(?:==|[<>=!~ {]|$)")


class Asked(NamedTuple):
    """What the install steps of a plan name: requirements, options that say where from, places of files, what is
    compiled here, and whether something is built in the environment itself, which only its stage can do."""

    requirements: tuple[str, ...]
    sources: tuple[str, ...]
    links: tuple[str, ...]
    builds: tuple[Build, ...]
    built_inside: bool


def fetch(plan: Plan, target: Target, settings: Settings, run_folder: Path, say: Listener) -> Mapping[str, str]:
    """Lock, fetch and verify what the plan installs; returns environment variables for its stages.

    Writes `lock.txt`, `fetch.log` and, as the plan's constraints with the lock's versions, `constraints.txt` into
    `run_folder`. Nothing is fetched for a plan of pip's steps. Raises TryAgainError (network, index), ApplyError (wrong
    hash, damaged file, disk, rights; a cached wheel that is not the one that was proven).
    """
    asked = asked_of(plan)
    if not asked.requirements:
        return {}
    start = time.monotonic()
    sdists = settings.cache / "sdists"
    for build in asked.builds:
        if not _from_cache(plan, build, settings, say):
            name, version, sha256 = build.package, build.version, build.sdist_sha256
            fetch_sdist(settings.config, name, version, sha256, sdists, offline=settings.offline)
    scratch = run_folder / STAGE
    scratch.mkdir(parents=True)
    try:
        run = _Fetch(plan, target, settings, run_folder, say)
        fetched = run.all_of(asked)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    say.info(f"{fetched} packages locked, fetched and verified in {time.monotonic() - start:.1f} s")
    # As an address, since uv takes the variable for a list with blanks between. The steps' own --constraint wins over
    # it and names the same file.
    variables = {"UV_CONSTRAINT": (run_folder / "constraints.txt").absolute().as_uri()}
    return variables if asked.built_inside else {**variables, "UV_OFFLINE": "1"}


def asked_of(plan: Plan) -> Asked:
    """What the plan's uv install steps name; nothing of a plan for pip."""
    requirements: dict[str, None] = {}
    sources: dict[tuple[str, str], None] = {}
    links: dict[str, None] = {}
    builds, inside = [], False
    for step in (step for stage in plan.stages for step in stage.steps if step.argv[:3] == ("uv", "pip", "install")):
        if step.build:
            builds.append(step.build)
            requirements.update(dict.fromkeys(step.build.nvcc.wheels if step.build.nvcc else ()))
        words = iter(step.argv[3:])
        for word in words:
            if word in SOURCES:
                sources[word, next(words)] = None
            elif word == "--find-links":
                links[next(words)] = None
            elif word in VALUED:
                inside = inside or word == "--no-build-isolation-package"
                next(words)
            elif not word.startswith(("-", "{")):
                requirements[word] = None
    where = tuple(word for pair in sources for word in pair)
    return Asked(tuple(requirements), where, tuple(links), tuple(builds), inside)


def _from_cache(plan: Plan, build: Build, settings: Settings, say: Listener) -> bool:
    """Whether the plan takes this wheel from the cache; there, cached ones that are not what was proven are dropped."""
    left = 0
    for wheel, proof in proofs(settings.wheels):
        if (proof.key.package, proof.key.version) != (build.package, build.version):
            continue
        if sound(wheel, proof):
            left += 1
            continue
        say.info(f"{wheel.name} in the wheel cache is not the file that was proven; it is dropped")
        with suppress(OSError):  # another's folder: it is never handed out, there or not
            drop(wheel.parent, settings.wheels)
    stack = plan.stack
    choices = {stack.mmcv.name: stack.mmcv.artefact, "xtcocotools": stack.xtcocotools.artefact} if stack else {}
    choice = choices.get(build.package)
    if choice is None or choice.kind != "cached":
        return False
    if not left:
        what = f"the wheel of {build.package} {build.version} that the plan takes from the cache is damaged or gone"
        raise ApplyError(what, hint="make a new plan with `mmdoctor fix`: it compiles the wheel again")
    return True


class _Fetch:
    """The work on one plan, in a folder of the run."""

    def __init__(self, plan: Plan, target: Target, settings: Settings, run_folder: Path, say: Listener) -> None:
        self.plan, self.target, self.say, self.config = plan, target, say, settings.config
        self.uv = uv_of(settings.uv, settings.config, offline=settings.offline)
        self.folder, self.scratch = run_folder, run_folder / STAGE
        self.log = run_folder / f"{STAGE}.log"
        self.changed = {change.name for change in plan.changes}
        self.installed = target.installed if target.state == "present" else {}

    def all_of(self, asked: Asked) -> int:
        """Lock and fetch; how many packages were."""
        python = self.target.executable if self.installed else self._new_python()
        staying = self._offer()
        sources = (*asked.sources, *find_links(self.uv, *asked.links))
        lock, wanted = self._lock(asked, python, (*sources, "--find-links", staying.as_uri()))
        pins = {name: pin.version for name, pin in pins_in(lock).items()}
        (self.folder / "lock.txt").write_text(lock, encoding="utf-8")
        held = [*self.plan.constraints, *(f"{name}=={version}" for name, version in pins.items())]
        (self.folder / "constraints.txt").write_text("\n".join(dict.fromkeys(held)) + "\n", encoding="utf-8")
        if pins:
            self._download(python, [UNLABELLED.sub(r"\1===\2", entry) for entry in ENTRY.split(lock) if entry], sources)
            exact = [f"{name}=={version}" for name, version in pins.items()]
            self._rehearse(python, [*wanted, *exact], (*sources, "--find-links", staying.as_uri()))
        return len(pins)

    def _offer(self) -> Path:
        """A folder with stubs of what is installed and may stay, which no index need have any more."""
        folder = self.scratch / STAYING
        folder.mkdir()
        for name, distribution in self.installed.items():
            if self._stays(name, None):
                stub(folder, name, distribution.version, self._requires(name))
        return folder

    def _new_python(self) -> str:
        """An interpreter for a new environment's lock: an empty one made as the plan's first stage does, so that
        what it is seeded with is in the cache too."""
        place = self.scratch / "environment"
        steps = (step for stage in self.plan.stages for step in stage.steps if step.argv[:2] == ("uv", "venv"))
        for step in steps:
            self._run((self.uv.program, *(str(place) if word == "{env}" else word for word in step.argv[1:])))
        return str(interpreter_of(place))

    def _lock(self, asked: Asked, python: str, sources: Sequence[str]) -> tuple[str, list[str]]:
        """The versions with hashes of what is to be installed, and the requirements that led to them. What is installed
        and stays, stays; where that has no solution, uv may choose anew, and prefers what is installed."""
        reached = {name for name in self._reached(asked) if self._stays(name, None)}
        for kept in (reached, set[str]()):
            wanted = self._requirements(asked, kept)
            done, out = self._compile(self.uv, python, wanted, ("--generate-hashes", *sources))
            if done.ok:
                parts = ENTRY.split(out.read_text(encoding="utf-8"))
                return "".join(part for part in parts if not (STUB.match(part) or self._is_there(part))), wanted
            if not kept or "No solution found" not in done.stderr:
                break
        missing = NO_VERSION.search(done.stderr)
        if missing is not None and not (self.uv.no_index or "UV_OFFLINE" in self.uv.environment):
            self._look_at(missing[1])
        raise failure(STAGE, done, self.log)

    def _rehearse(self, python: str, wanted: Sequence[str], sources: Sequence[str]) -> None:
        """Resolve once more as the steps will, without network. Of an index that states no hashes, uv has the file now
        and still not the metadata that a step without hashes asks for (measured, uv 0.13): then once with network."""
        offline = self.uv._replace(environment={**self.uv.environment, "UV_OFFLINE": "1"})
        for uv in (offline, self.uv):
            done, _ = self._compile(uv, python, wanted, sources)
            if done.ok:
                return
        raise failure(STAGE, done, self.log)

    def _compile(
        self, uv: Uv, python: str, wanted: Sequence[str], options: Sequence[str]
    ) -> tuple[system.Completed, Path]:
        preferred = [f"{name}=={d.version}" for name, d in self.installed.items() if self._stays(name, None)]
        options = ("--no-annotate", *options)
        done, out = compiled(uv, python, self.scratch, wanted, self.plan.overrides, preferred, options)
        named = [text for text in wanted if not STUB.match(text)]
        self._note(f"uv pip compile {' '.join(named)}, and {len(wanted) - len(named)} that stay", done)
        return done, out

    def _look_at(self, name: str) -> None:
        """ApplyError when the index's page of a package is no such page, which for uv is one without versions."""
        page = f"{self.config.pypi.rstrip('/')}/{name}/"
        try:
            with open_url(page, self.config) as answer:
                listed = list(links(answer.read().decode("utf-8", "replace"), page))
        except (OSError, ValueError):
            return  # then uv's own words say it
        if not any(file.endswith((".whl", ".tar.gz", ".zip")) for file, _ in listed):
            what = f"stage {STAGE}: what answers at {redact(page)} lists no file of {name}: a login or error page?"
            raise ApplyError(what, hint=f"open that address in a browser; the log: {self.log}")

    def _requirements(self, asked: Asked, kept: set[str]) -> list[str]:
        """The requirements for uv: the steps' own, with stubs for what is compiled here and for what stays."""
        parts = dict(text.split("==", 1) for text in self.plan.constraints)
        known = {build.package: build.version for build in asked.builds}
        if asked.built_inside:
            known["chumpy"] = parts.get("chumpy", CHUMPY)
        wanted = [stub(self.scratch, name, version, KNOWN_REQUIRES[name]) for name, version in known.items()]
        stays = {name for name in {*kept, *parts} if name not in known and self._stays(name, parts.get(name))}
        wanted += [
            stub(self.scratch, name, self.installed[name].version, self._requires(name)) for name in sorted(stays)
        ]
        named = {_name(text): text for text in asked.requirements}
        for name, version in parts.items():
            named.setdefault(name, exactly(self.plan, name, version))
        return [*wanted, *(text for name, text in named.items() if name not in stays and name not in known)]

    def _stays(self, name: str, version: Optional[str]) -> bool:
        have = self.installed.get(name)
        wanted = version is None or (have is not None and rules.within(have.version, f"=={version}"))
        return have is not None and name not in self.changed and wanted and is_version(have.version)

    def _requires(self, name: str) -> Iterator[str]:
        for text in self.installed[name].requires:
            if "extra ==" not in text and _name(text):
                yield text

    def _reached(self, asked: Asked) -> Iterator[str]:
        """The installed packages that the plan's packages require, directly or not."""
        waiting = [_name(text) for text in (*asked.requirements, *self.plan.constraints)]
        seen = set(waiting)
        while waiting:
            name = waiting.pop()
            if name in self.installed:
                yield name
                further = {_name(text) for text in self._requires(name)} - seen
                seen |= further
                waiting += further

    def _is_there(self, entry: str) -> bool:
        return any(self._stays(name, pin.version) for name, pin in pins_in(entry).items())

    def _download(self, python: str, wanted: Sequence[str], sources: Sequence[str]) -> None:
        """Every file of the lock into uv's cache, by hash; what has none (a plain folder's page) by its own sums."""
        for flags, part in (
            (("--require-hashes",), [text for text in wanted if "--hash=" in text]),
            ((), [text for text in wanted if "--hash=" not in text]),
        ):
            if not part:
                continue
            listed = self.scratch / "fetch.txt"
            listed.write_text("".join(part), encoding="utf-8")
            place = self.scratch / "packages"
            # Symbolic links: uv's cache may lie on another disk, and nobody reads what is installed here.
            how = ("--no-deps", "--link-mode", "symlink", "--target", str(place), *flags, *sources)
            registry = ("--no-index",) if self.uv.no_index else ()
            install = (self.uv.program, "pip", "install", "--python", python, *how, *registry, "-r", str(listed))
            self._run(install)
            shutil.rmtree(place, ignore_errors=True)

    def _run(self, argv: Sequence[str]) -> None:
        done = system.run(argv, deadline=DEADLINE_SECONDS, env=self.uv.environment, merge=True, on_line=self.say.line)
        self._note(" ".join(("uv", *argv[1:])), done)
        if not done.ok:
            raise failure(STAGE, done, self.log)

    def _note(self, command: str, done: system.Completed) -> None:
        with self.log.open("a", encoding="utf-8") as stream:
            stream.write(f"$ {command}\n{done.stdout}{done.stderr}\n")


def _name(requirement: str) -> str:
    """The normalised name of a requirement; empty for a text that is none."""
    try:
        return canonicalize_name(Requirement(requirement).name)
    except InvalidRequirement:
        return ""
