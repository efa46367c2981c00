"""A plan's steps as shell commands: what the script and the Dockerfile share."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping

from mmdoctor.model import Build, Plan, Stage, Step

SHELL_NAMES = {
    "{python}": '"$python"',
    "{env}": '"$env"',
    "{constraints}": '"$work/constraints.txt"',
    "{overrides}": '"$work/overrides.txt"',
}
# The proof where mmdoctor itself is not at hand.
PROOF = "import torch, torchvision, mmcv._ext, xtcocotools._mask, mmpose.apis"


# `pip download` of an sdist runs its setup.py, before any fix-up could be applied to it.
FETCH = """\
import hashlib, pathlib, re, sys
from urllib.parse import urljoin, urlsplit
from urllib.request import urlopen
index, package, name, digest, folder = sys.argv[1:]
page = index.rstrip("/") + "/" + package + "/"
links = [urljoin(page, link) for link in re.findall("href=.([^\\x22\\x27]+)", urlopen(page).read().decode())]
data = urlopen(next(link for link in links if urlsplit(link).path.endswith("/" + name))).read()
if digest and hashlib.sha256(data).hexdigest() != digest:
    sys.exit(name + " is not the file that was tested")
pathlib.Path(folder, name).write_bytes(data)
"""
CHANGE = """\
import pathlib, sys
path = pathlib.Path(sys.argv[1])
old, new = (text.encode().decode("unicode_escape") for text in sys.argv[2:])
text = path.read_text(encoding="utf-8")
if old not in text:
    sys.exit("a fix-up does not fit " + path.name)
path.write_text(text.replace(old, new), encoding="utf-8")
"""
# `wheels.toolchain.cuda_home` for a script that stands alone.
CUDA_HOME = """\
import os, pathlib, sys, sysconfig
folder, inside, *links = sys.argv[1:]
home = pathlib.Path(folder, inside)
def join(here, other):
    for entry in other.iterdir():
        place = here / entry.name
        if not os.path.lexists(place):
            place.symlink_to(entry)
        elif place.is_dir() and not place.is_symlink() and entry.is_dir():
            join(place, entry)
for name in ("include", "lib"):
    (home / name).mkdir(exist_ok=True)
for link in links:
    name, to = link.split("=")
    if not os.path.lexists(home / name):
        (home / name).symlink_to(to)
join(home, pathlib.Path(sysconfig.get_paths()["purelib"], inside))
"""


def comment(plan: Plan) -> Iterator[str]:
    """What the plan is for, as comment lines."""
    stack = plan.stack
    if stack is not None:
        yield (
            f"# {plan.recipe}: Python {stack.python}, torch {stack.torch.version}+{stack.torch.variant}, "
            f"{stack.mmcv.name} {stack.mmcv.version} ({stack.mmcv.artefact.kind}), mmpose {stack.mmpose}, "
            f"numpy {stack.numpy}"
        )
    for text in (*plan.reasons, *plan.assumptions):
        yield f"# {one_line(text)}"


def one_line(text: str) -> str:
    """A text that may hold anything, for a comment: a line break would end the comment and begin a command."""
    return " ".join(text.split())


def uses_uv(plan: Plan) -> bool:
    """Whether uv installs, and not pip alone."""
    return any(step.argv[0] == "uv" for stage in plan.stages for step in stage.steps)


def commands(stage: Stage, names: Mapping[str, str]) -> Iterator[str]:
    """One stage as shell lines; `names` maps the plan's placeholders to shell words."""
    for step in stage.steps:
        if step.build is None:
            yield line(step.argv, names)
        else:
            yield from building(step, step.build, names)


def line(argv: tuple[str, ...], names: Mapping[str, str]) -> str:
    """One command, its words quoted; `mmpose>=1.3` unquoted would be a redirection into a file."""
    return " ".join(_filled(word, names) for word in argv)


def _filled(word: str, names: Mapping[str, str]) -> str:
    """A placeholder as a whole word, or `{env}` at the beginning of a path."""
    rest = word.removeprefix("{env}/")
    if rest != word:
        return f"{names['{env}']}/{shlex.quote(rest)}"
    return names.get(word) or shlex.quote(word)


def building(step: Step, build: Build, names: Mapping[str, str]) -> Iterator[str]:
    """Fetch the sdist by hash, change what has to be changed, compile without isolation and without pip's cache."""
    name = f"{build.package}-{build.version}"
    python = names["{python}"]
    yield f"# {one_line(step.why)}"
    if step.argv[0] == "uv":  # an environment that uv made has no pip
        yield f"uv pip install -q --python {python} pip"
    yield f"index=$({python} -m pip config get global.index-url 2>/dev/null || echo https://pypi.org/simple)"
    words = f'"${{PIP_INDEX_URL:-$index}}" {build.package} {name}.tar.gz "{build.sdist_sha256 or ""}" "$work"'
    yield f'{python} "$work/fetch.py" {words}'
    yield f'tar -xzf "$work/{name}.tar.gz" -C "$work"'
    for fixup in build.fixups:
        yield f"# fix-up {fixup.id}: {one_line(fixup.reason)}"
        for old, new in fixup.replace.items():
            yield f'{python} "$work/change.py" "$work/{name}/{fixup.file}" {_word(old)} {_word(new)}'
    settings = " ".join(f"{key}={shlex.quote(value)}" for key, value in build.env.items())
    if build.nvcc is not None:
        wheels, links = shlex.join(build.nvcc.wheels), shlex.join(map("=".join, build.nvcc.links.items()))
        yield f'{python} -m pip install -q --no-deps --target "$work/cuda" {wheels}'
        yield _file("cuda_home.py", CUDA_HOME.splitlines())
        yield f'{python} "$work/cuda_home.py" "$work/cuda" {build.nvcc.home} {links}'
        settings = f'CUDA_HOME="$work/cuda/{build.nvcc.home}" {settings}'
    yield (
        f'PATH="$(dirname {python}):$PATH" {settings} {python} -m pip wheel --no-build-isolation --no-deps '
        f'--no-cache-dir -w "$work/wheels" "$work/{name}"'
    ).replace("  ", " ")
    wheel = f'"$work"/wheels/{build.package.replace("-", "_")}-{build.version}-*.whl'
    yield line(step.argv, {**names, "{wheel}": wheel})


def _word(text: str) -> str:
    """A shell word with its line breaks escaped, since a Dockerfile's RUN takes no real one."""
    return shlex.quote(text.encode("unicode_escape").decode())


def files(plan: Plan) -> Iterator[str]:
    """Shell lines that write the constraints and overrides, and what a build needs."""
    yield _file("constraints.txt", plan.constraints)
    yield _file("overrides.txt", plan.overrides)
    if any(step.build for stage in plan.stages for step in stage.steps):
        yield from helpers()


def helpers() -> Iterator[str]:
    """Shell lines that write the two small programs that `building` runs."""
    yield _file("fetch.py", FETCH.splitlines())
    yield _file("change.py", CHANGE.splitlines())


def _file(name: str, lines: Iterable[str]) -> str:
    words = " ".join(shlex.quote(text) for text in lines)
    return f"printf '%s\\n' {words} >\"$work/{name}\""
