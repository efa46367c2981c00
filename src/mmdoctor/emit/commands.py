"""A plan's steps as shell commands: what the script and the Dockerfile share."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping

from mmdoctor.model import Build, Plan, Stage, Step

SHELL_NAMES = {
    "{python}": '"$python"',
    "{env}": '"$env"',
    "{constraints}": '"$work/constraints.txt"',
    "{overrides}": '"$work/overrides.txt"',
}
# The proof where mmdoctor itself is not at hand.
PROOF = "import torch, torchvision, mmcv._ext, xtcocotools._mask, mmpose.apis"


def comment(plan: Plan) -> Iterator[str]:
    """What the plan is for, as comment lines."""
    stack = plan.stack
    if stack is not None:
        yield (
            f"# {plan.recipe}: Python {stack.python}, torch {stack.torch.version}+{stack.torch.variant}, "
            f"{stack.mmcv.name} {stack.mmcv.version} ({stack.mmcv.artefact.kind}), mmpose {stack.mmpose}, numpy {stack.numpy}"
        )
    for text in (*plan.reasons, *plan.assumptions):
        yield f"# {text}"


def commands(stage: Stage, names: Mapping[str, str]) -> Iterator[str]:
    """One stage as shell lines; `names` maps the plan's placeholders to shell words."""
    for step in stage.steps:
        if step.build is None:
            yield line(step.argv, names)
        else:
            yield from building(step, step.build, names)


def line(argv: tuple[str, ...], names: Mapping[str, str]) -> str:
    """One command, its words quoted; `mmpose>=1.3` unquoted would be a redirection into a file."""
    return " ".join(names.get(word) or shlex.quote(word) for word in argv)


def building(step: Step, build: Build, names: Mapping[str, str]) -> Iterator[str]:
    """Fetch the sdist by hash, change what has to be changed, compile without isolation and without pip's cache."""
    name = f"{build.package}-{build.version}"
    pinned = f"{build.package}=={build.version}" + (
        f" --hash=sha256:{build.sdist_sha256}" if build.sdist_sha256 else ""
    )
    python = names["{python}"]
    yield f"# {step.why}"
    yield f"printf '%s\\n' {shlex.quote(pinned)} >\"$work/{name}.txt\""
    yield (
        f'{python} -m pip download -q --no-deps --no-build-isolation --no-binary :all: -d "$work" -r "$work/{name}.txt"'
    )
    yield f'tar -xzf "$work/{name}.tar.gz" -C "$work"'
    for fixup in build.fixups:
        yield f"# fix-up {fixup.id}: {fixup.reason}"
        for old, new in fixup.replace.items():
            change = (
                "import pathlib,sys; p=pathlib.Path(sys.argv[1]); p.write_text(p.read_text().replace(*sys.argv[2:4]))"
            )
            yield f'{python} -c {shlex.quote(change)} "$work/{name}/{fixup.file}" {shlex.quote(old)} {shlex.quote(new)}'
    settings = " ".join(f"{key}={shlex.quote(value)}" for key, value in build.env.items())
    yield (
        f'PATH="$(dirname {python}):$PATH" {settings} {python} -m pip wheel --no-build-isolation --no-deps '
        f'--no-cache-dir -w "$work/wheels" "$work/{name}"'
    ).replace("  ", " ")
    wheel = f'"$work"/wheels/{build.package.replace("-", "_")}-{build.version}-*.whl'
    yield line(step.argv, {**names, "{wheel}": wheel})


def files(plan: Plan) -> Iterator[str]:
    """Shell lines that write the constraints and overrides."""
    for name, lines in (("constraints", plan.constraints), ("overrides", plan.overrides)):
        words = " ".join(shlex.quote(text) for text in lines)
        yield f"printf '%s\\n' {words} >\"$work/{name}.txt\""
