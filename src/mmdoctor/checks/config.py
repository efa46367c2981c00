"""Checks of a config that `check --config` was asked about: it loads, its types are registered, its model is whole."""

from __future__ import annotations

from typing import Optional

from mmdoctor import rules
from mmdoctor.checks.base import Check, Verdict, fail, manual, ok, skip, warn
from mmdoctor.matrix_model import Matrix
from mmdoctor.model import (
    BrokenPart,
    BuiltModel,
    ConfigSeen,
    Facts,
    FedPipeline,
    ImportResult,
    Look,
    RanModel,
    UnknownType,
)

INVALID, INCONSISTENT, NOT_FOUND = "config-invalid", "config-inconsistent", "config-not-found"
MISSING, SCOPE, GENERATION = "optional-package-missing", "registry-scope", "mmlab-generation-mix"
IMPORT_ERRORS = ("ImportError", "ModuleNotFoundError", "AssertionError", "OSError", "SIGSEGV", "SIGABRT", "SIGILL")
# mmcls was renamed when it took mmselfsup in (README of open-mmlab/mmpretrain, v1.0.0rc8).
RENAMED = {"mmcls": "mmpretrain"}
SHOWN = 10
MEND = "mend what the message names; what the other checks find comes first"
# The parts of a config that inference uses; a type elsewhere is asked for by training and testing alone.
INFERENCE = ("model", "test_dataloader.dataset.pipeline")


def ended_badly(step: Look, what: str, *evidence: str, cause: str = INVALID, fix: str = MEND) -> Verdict:
    """The verdict on a step that an exception, a crash or a hang ended. Where the environment fails its own checks,
    those explain what does not import."""
    first = step.message.strip().split("\n")[0]
    said = f"{step.error}: {first}" if first else str(step.error)
    broken = step.error in IMPORT_ERRORS
    through = (f"raised in: {' → '.join(step.packages)}",) if broken and step.packages else ()
    failed = ImportResult(
        module="config",
        status="error",
        error=step.error,
        message=step.message,
        packages=step.packages,
        data={"missing": step.lacks} if step.lacks else {},
    )
    return Verdict(
        status="fail",
        detail=what,
        cause=cause,
        evidence=(said, *evidence, *through),
        failed=failed if broken else None,
        fix=manual(fix),
    )


def to_install(scope: str, package: Optional[str], facts: Facts, matrix: Matrix) -> str:
    """What to install for an OpenMMLab package that is not there: its releases whose range takes the installed mmcv."""
    package = RENAMED.get(package or scope, package or scope)
    mmcv = rules.brought(facts, "mmcv")
    rows = rules.mmlab_rows(matrix, package)
    if mmcv is None or not rows:
        return f"install {package} in a release that takes the installed mmcv"
    fitting = [row for row in rows if rules.within(mmcv.version, row.mmcv)]
    if not fitting:
        ranges = "; ".join(f"{row.version}: mmcv {row.mmcv}" for row in rows)
        return f"no release of {package} takes mmcv {mmcv.version} ({ranges})"
    newest, oldest = fitting[0].version, fitting[-1].version
    span = f" ({package} {oldest} to {newest} take mmcv {mmcv.version})" if newest != oldest else ""
    return f'pip install "{package}=={newest}"{span}'


# -------------------------------------------------------------------------------------------------------- it loads


def config_loads(facts: Facts, matrix: Matrix) -> Optional[Verdict]:
    seen = facts.config
    if seen is None:
        return None
    absent = not_found(seen)
    if absent is not None:
        return absent
    load = seen.load
    if seen.find.error or load is None:
        return ended_badly(seen.find, f"looking for {seen.asked} did not come to an end")
    if load.imports:
        return imports_fail(seen, facts, matrix)
    if load.error == "timeout":
        return ended_badly(load, "loading the config runs its code, and that does not end")
    if load.error:
        return ended_badly(load, "mmengine does not load the config")
    if load.old:
        said = f"it has {', '.join(load.old)}, and no train_dataloader"
        fix = manual("start from the config of that name inside this mmpose, or use the recipe mmpose-0x")
        return fail("the config was written for mmpose 0.x", GENERATION, said, fix=fix)
    if load.no_model:
        return warn(
            "the config has no model: it is a part that others build on", INVALID, fix=manual("give one of those")
        )
    return ok(f"{seen.find.path}" if seen.find.how == "path" else f"{seen.asked} is {seen.find.path}")


def not_found(seen: ConfigSeen) -> Optional[Verdict]:
    """What was given is no config of this target."""
    find = seen.find
    if find.how == "stem":
        said = f"{find.checkpoint} was trained with {find.path}"
        detail = f"{seen.asked} is the name of a checkpoint, not of a config"
        return fail(detail, NOT_FOUND, said, fix=manual(f"give the config, and the file as --checkpoint: {find.path}"))
    if find.how == "missing":
        near = f"configs inside this mmpose with names like it: {', '.join(find.near) or 'none'}"
        detail = f"{seen.asked} is no file, and no config inside this mmpose has that name"
        fix = manual("give the path of a .py file, or the name of a config that mmpose brings (mmpose/.mim/configs)")
        return fail(detail, NOT_FOUND, near, fix=fix)
    return None


def imports_fail(seen: ConfigSeen, facts: Facts, matrix: Matrix) -> Verdict:
    """The modules of custom_imports that do not import."""
    assert seen.load is not None
    failed = seen.load.imports
    evidence = [f"custom_imports: {one.module}: {one.message}" for one in failed]
    absent = next((one for one in failed if one.package and not one.installed), None)
    if absent is not None:
        fix = to_install(absent.module.split(".")[0], absent.package, facts, matrix)
        detail = f"the config imports {absent.module}, and {absent.package} is not installed"
        return fail(detail, MISSING, *evidence, fix=manual(fix))
    fix = "start where the module can be imported (its folder on PYTHONPATH), or correct its name in custom_imports"
    return fail("the config's custom_imports do not import", SCOPE, *evidence, fix=manual(fix))


# ----------------------------------------------------------------------------------------------------------- types


def types_registered(facts: Facts, matrix: Matrix) -> Optional[Verdict]:
    seen = facts.config
    if seen is None or seen.types is None:
        return None
    types, load = seen.types, seen.load
    if types.error:
        return ended_badly(types, "looking up the config's types did not come to an end")
    if types.unknown:
        return unregistered(types.unknown, facts, matrix)
    if load is not None and load.default_scope is None:
        said = "init_model takes mmpose for it, training takes mmengine, where no class of mmpose is registered"
        fix = manual("default_scope = 'mmpose', or _base_ = ['…/_base_/default_runtime.py']")
        return warn("the config has no default_scope", SCOPE, said, fix=fix)
    return ok(f"{types.looked} types are registered where they are looked up")


def unregistered(unknown: tuple[UnknownType, ...], facts: Facts, matrix: Matrix) -> Verdict:
    """The types that no registry has where they are looked up; a warning where only training would ask for them."""
    unknown = tuple(sorted(unknown, key=lambda one: not for_inference(one)))
    evidence = [line for one in unknown[:SHOWN] for line in lines_of(one)]
    if len(unknown) > SHOWN:
        evidence.append(f"and {len(unknown) - SHOWN} more")
    different = list(dict.fromkeys(one.name for one in unknown))
    names = ", ".join((*different[:5], *((f"{len(different) - 5} more",) if len(different) > 5 else ())))
    first = unknown[0]
    if not for_inference(first):
        detail = f"not registered: {names}; inference does without, training or testing ends there"
        return warn(detail, MISSING if first.scope else SCOPE, *evidence, fix=manual(way_in(first)))
    detail = f"not registered: {names}"
    if first.scope and not first.errors:
        return fail(detail, MISSING, *evidence, fix=manual(to_install(first.scope, first.package, facts, matrix)))
    if first.errors:
        return ended_badly(first.errors[0], detail, *evidence, cause="import-error-swallowed")
    return fail(detail, SCOPE, *evidence, fix=manual(way_in(first)))


def for_inference(one: UnknownType) -> bool:
    """Whether loading and running the model asks for this type."""
    return one.where.startswith(INFERENCE)


def lines_of(one: UnknownType) -> tuple[str, ...]:
    """One type that is not registered, and what helps to find the right one."""
    said = [f"{one.where}: {one.name} is not in {one.registry}"]
    if one.elsewhere:
        said.append(f"it is in {', '.join(one.elsewhere)}")
    if one.scope:
        said.append(f"{one.scope} is not installed")
    if one.defined:
        said.append(f"{one.defined} defines it, and nothing imports that")
    if one.near and not (one.elsewhere or one.scope or one.official or one.defined):
        said.append(f"names like it: {', '.join(one.near)}")
    if one.official:
        said.append(f"the {one.official.family} configs of this mmpose have {one.official.type} there")
    return ("; ".join(said),)


def way_in(one: UnknownType) -> str:
    """What would make the look-up find it."""
    if one.defined:
        module = one.defined.replace("\\", "/").rsplit("/", 1)[-1].removesuffix(".py")
        return f"custom_imports = dict(imports=['{module}']), with its folder on PYTHONPATH"
    kind = one.registry.partition("::")[2]
    scopes = [place.partition("::")[0] for place in one.elsewhere if place.partition("::")[2] == kind]
    if scopes:
        return f"write type='{scopes[0]}.{one.name.rpartition('.')[2]}', or set default_scope = '{scopes[0]}'"
    if one.elsewhere:
        return f"{one.name} is another kind of part ({', '.join(one.elsewhere)}); put one of {one.registry} there"
    if one.official:
        return f"no installed package has it; start from an official config: {one.official.type} stands there"
    return "no installed package has it; start from an official config, or import the module that registers it"


# --------------------------------------------------------------------------------------------------- builds and runs


def model_builds(facts: Facts, matrix: Matrix) -> Optional[Verdict]:
    build = facts.config.build if facts.config else None
    if build is None:
        return None
    if build.error:
        return ended_badly(build, "the model cannot be made")
    return ok(f"the model is made, its head is {build.head.get('type', 'none')}")


def model_runs(facts: Facts, matrix: Matrix) -> Optional[Verdict]:
    seen = facts.config
    if seen is None or seen.build is None or seen.build.error or seen.feed is None:
        return None
    feed, run = seen.feed, seen.run
    if feed.skipped:
        return skip(f"not run: {feed.skipped}", needed=False)
    if feed.error:
        at = (f"{feed.where}: {feed.type}",) if feed.type else ()
        return ended_badly(feed, "the test pipeline does not make an input of an image", *at)
    if run is None:
        return None
    if run.error:
        return parts_differ(seen.build, feed, run)
    silent = silently_wrong(seen.build, feed, run)
    if silent:
        fix = manual(
            "give the codec, the head and the pipeline the same input_size, and the head the data set's keypoints"
        )
        return fail("the model runs, and its keypoints would be wrong", INCONSISTENT, *silent, fix=fix)
    ran = " and ".join("×".join(map(str, shape)) for shape in run.outputs[:2])
    return ok(f"{'×'.join(map(str, feed.input))} goes through backbone and head: {ran}")


def parts_differ(build: BuiltModel, feed: FedPipeline, run: RanModel) -> Verdict:
    """Where one pass failed, and which setting of the head does not fit what it is given."""
    got = " and ".join("×".join(map(str, shape)) for shape in run.got)
    place = f"{run.module or 'the model'} = {run.layer}, given {got}"
    given = last_features(run)
    wrong = []
    if given is not None:
        channels, width, height = str(given[1]), given[3], given[2]
        size = f"{width}x{height}"
        before = f"the {'neck' if 'neck' in run.features else 'backbone'} gives {channels} channels of {size}"
        own_input = f"{feed.input[3]}x{feed.input[2]}"
        if build.head.get("in_channels", channels) != channels:
            wrong.append(f"head.in_channels is {build.head['in_channels']}; {before}")
        if build.head.get("in_featuremap_size", size) != size:
            wrong.append(
                f"head.in_featuremap_size is {build.head['in_featuremap_size']}; {before} for an input of {own_input}"
            )
        if build.head.get("input_size", own_input) != own_input:
            wrong.append(f"head.input_size is {build.head['input_size']}; the test pipeline gives {own_input}")
    detail = "the head does not fit its backbone" if wrong else f"one pass fails in {run.module or 'the model'}"
    fix = "take the official config whole, or set these to what the backbone gives" if wrong else MEND
    return ended_badly(run, detail, *wrong, place, cause=INCONSISTENT, fix=fix)


def last_features(run: RanModel) -> Optional[tuple[int, ...]]:
    """What the head is given: the last feature map of the neck, else of the backbone."""
    maps = run.features.get("neck") or run.features.get("backbone") or ()
    return maps[-1] if maps and len(maps[-1]) == 4 else None


def silently_wrong(build: BuiltModel, feed: FedPipeline, run: RanModel) -> tuple[str, ...]:
    """What raises nothing and gives wrong keypoints: sizes and number of a SimCC head, whose two outputs are keypoints
    by bins."""
    if len(run.outputs) != 2 or any(len(shape) != 3 for shape in run.outputs) or len(feed.input) != 4:
        return ()
    wrong = []
    size, ratio = build.head.get("decoder.input_size"), build.head.get("decoder.simcc_split_ratio")
    own_input = f"{feed.input[3]}x{feed.input[2]}"
    if size is not None and size != own_input:
        wrong.append(f"head.decoder.input_size is {size}; the test pipeline gives {own_input}")
    elif size is not None and ratio is not None:
        bins = "x".join(f"{float(side) * float(ratio):g}" for side in size.split("x"))
        have = f"{run.outputs[0][2]}x{run.outputs[1][2]}"
        if bins != have:
            wrong.append(f"head.decoder reads {bins} bins ({size} at simcc_split_ratio {ratio}); the head gives {have}")
    if feed.keypoints is not None and run.outputs[0][1] != feed.keypoints:
        wrong.append(f"the head gives {run.outputs[0][1]} keypoints; the data set has {feed.keypoints}")
    return tuple(wrong)


def training_ready(facts: Facts, matrix: Matrix) -> Optional[Verdict]:
    types = facts.config.types if facts.config else None
    if types is None or types.error:
        return None
    files = tuple(f"not there: {file}" for file in types.files)
    if types.training:
        said = dict.fromkeys(f"{one.where}: {one.type}: {one.message.splitlines()[0]}" for one in types.training)
        detail = "steps of its pipelines cannot be made; inference does without those of training"
        missing = needed_package(types.training)
        cause = MISSING if missing else INVALID
        fix = manual(f"before training: pip install {missing}" if missing else "correct these steps' options")
        return warn(detail, cause, *list(said)[:SHOWN], *files[:SHOWN], fix=fix)
    return ok(f"data files that are not there: {len(files)}" if files else "its pipelines can be made", *files[:SHOWN])


def needed_package(broken: tuple[BrokenPart, ...]) -> Optional[str]:
    """The package that every one of these parts says is not installed (mmpose: `albumentations is not installed`)."""
    said = {one.message.partition(" is not installed")[0] for one in broken if "is not installed" in one.message}
    return said.pop() if len(said) == 1 and all("is not installed" in one.message for one in broken) else None


CHECKS = (
    Check(
        id="CFG001",
        title="the config loads",
        why="A checkpoint's name in place of a config's, a missing base file, custom imports that fail: each ends in a "
        "message about a file. Only looked at with --config, in a child, since configs are Python and run.",
        judge=config_loads,
    ),
    Check(
        id="CFG002",
        title="every type is registered where it is looked up",
        why="A config names classes as text. Each is looked up in one registry and scope (_scope_, a prefix, "
        "default_scope); an invented name, another scope or a module that nobody imported show only when it is built.",
        judge=types_registered,
    ),
    Check(
        id="CFG003",
        title="the model can be made",
        why="Options that a class of this version does not have, or parts that contradict each other.",
        judge=model_builds,
    ),
    Check(
        id="CFG004",
        title="an image goes through the model",
        why="A head says how many channels of which size it takes. Copied beside another backbone or input size it "
        "fails at the first inference with `mat1 and mat2 shapes cannot be multiplied`, or gives keypoints in wrong "
        "places. One pass of shapes without numbers shows it beforehand.",
        judge=model_runs,
    ),
    Check(
        id="CFG005",
        title="the pipelines can be made",
        why="Training uses packages and files that inference does without, and asks for them at its start.",
        judge=training_ready,
    ),
)
