"""Checks of a checkpoint that `check --checkpoint` was asked about: whole, loadable, and the config's own."""

from __future__ import annotations

import re
from typing import Optional

from mmdoctor import rules
from mmdoctor.checks.base import Check, Verdict, fail, manual, ok, skip, warn
from mmdoctor.checks.config import ended_badly
from mmdoctor.matrix_model import Matrix
from mmdoctor.model import CheckpointLoads, CheckpointSeen, Facts, FittedWeights

REFUSED, DIFFERENT, DAMAGED, FOREIGN = (
    "torch-weights-only",
    "checkpoint-config-mismatch",
    "artefact-damaged",
    "checkpoint-runs-code",
)
REFUSING = ">=2.6"  # torch.load's default became weights_only=True (PyTorch 2.6 release notes)
SHOWN = 10
# Modules whose functions a pickle has no honest use for.
DANGEROUS = ("os", "posix", "nt", "subprocess", "sys", "socket", "shutil", "runpy", "pty", "ctypes", "importlib", "pip")
BUILTINS = ("builtins", "__builtin__")
BUILTINS_OF_USE = ("set", "frozenset", "list", "dict", "tuple", "slice", "complex", "bytearray", "object", "getattr")


def file_is_whole(facts: Facts, matrix: Matrix) -> Optional[Verdict]:
    seen = facts.checkpoint
    if seen is None:
        return None
    file, content = seen.file, seen.content
    again = manual("download the checkpoint again")
    if file.error:
        return ended_badly(file, f"{seen.path} cannot be read")
    if file.promised and not file.sha256.startswith(file.promised):
        said = f"its sha256 begins with {file.sha256[:8]}, its name promises {file.promised}"
        problem = (content.problem,) if content and content.problem else ()
        return fail(f"{seen.path} is not the file that its name says", DAMAGED, said, *problem, fix=again)
    if content is not None and content.error:
        return ended_badly(content, f"{seen.path} does not unpickle", cause=DAMAGED)
    if content is not None and content.problem:
        return fail(f"{seen.path} holds no weights", DAMAGED, content.problem, fix=again)
    size = f"{file.bytes / 1e6:.0f} MB, sha256 {file.sha256[:8]}…"
    return ok(f"{size}, as its name says" if file.promised else f"{size}; its name promises none")


def loads_safely(facts: Facts, matrix: Matrix) -> Optional[Verdict]:
    seen = facts.checkpoint
    if seen is None or seen.content is None or seen.content.problem:
        return None
    dangerous = [name for name in seen.content.other if runs_code(name)]
    if dangerous:
        said = f"its pickle names {', '.join(dangerous[:SHOWN])}"
        detail = "loading it without weights_only=True runs code that weights have no use for"
        fix = manual("do not load it; take the file from where its config comes from")
        return fail(detail, FOREIGN, said, fix=fix)
    loads = seen.loads
    if loads is None:
        return None
    if loads.error:
        return ended_badly(loads, "torch does not load it", cause=REFUSED)
    return loading(seen, loads, facts.target.version("numpy") or "")


def runs_code(name: str) -> bool:
    """Whether a pickle that names this can do harm when it is loaded without weights_only."""
    module, _, last = name.rpartition(".")
    return module.split(".")[0] in DANGEROUS or (module in BUILTINS and last not in BUILTINS_OF_USE)


def loading(seen: CheckpointSeen, loads: CheckpointLoads, numpy: str) -> Verdict:
    """What torch does with it by default, and what it takes where that is no."""
    version = f"torch {loads.torch}"
    if loads.status == "ok":
        return ok(f"{version} loads it with weights_only=True")
    if loads.status == "unknown" or not rules.within(loads.torch, REFUSING):
        later = "" if loads.status == "unknown" else f"; from torch 2.6 on it is refused by default ({loads.message})"
        return ok(f"{version} loads it{later}")
    other = seen.content.other if seen.content else ()
    if loads.status == "refused":
        said = (f"its pickle names {', '.join(other[:SHOWN])}",) if other else ()
        return fail(
            f"{version} refuses it by default", REFUSED, loads.message, *said, fix=manual(keep_weights(seen.path))
        )
    named = f"it asks for {', '.join(loads.named)}"
    if any(name.endswith("getattr") for name in loads.named):
        why = "getattr, which its training logs need, is not one to allow: keep the weights alone"
        return fail(f"{version} refuses it by default", REFUSED, named, why, fix=manual(keep_weights(seen.path)))
    detail = f"{version} refuses it by default, and takes it with {len(loads.named)} harmless classes named"
    return fail(detail, REFUSED, named, fix=manual(f"load it inside {narrow(loads.named, numpy)}"))


def narrow(names: tuple[str, ...], numpy: str) -> str:
    """The context manager in which torch.load takes these, and nothing else. What the other generation of NumPy wrote
    is given beside the name that the file has for it."""
    core = "numpy._core." if rules.numpy_generation(numpy) == "2" else "numpy.core."
    parts = []
    for name in names:
        here = re.sub(r"^numpy\._?core\.", core, name)
        parts.append(name if here == name else f'({here}, "{name}")')
    return f"torch.serialization.safe_globals([{', '.join(parts)}])"


def keep_weights(path: str) -> str:
    """How somebody who trusts the file keeps only what inference needs of it."""
    keep = "torch.save({'meta': {}, 'state_dict': c['state_dict']}, 'weights.pth')"
    return (
        "if you trust where it comes from, keep its weights alone, once, in a process of their own: "
        f"c = torch.load({path!r}, map_location='cpu', weights_only=False); {keep}"
    )


# ----------------------------------------------------------------------------------------------------------- it fits


def weights_fit(facts: Facts, matrix: Matrix) -> Optional[Verdict]:
    checkpoint, config = facts.checkpoint, facts.config
    if checkpoint is None or config is None:
        return None
    fit = config.weights
    if fit is None:
        asked_why = checkpoint.content is None or checkpoint.content.problem or not checkpoint.content.weights
        return None if asked_why else skip("the model could not be made, so nothing was compared", needed=True)
    if fit.error:
        return ended_badly(fit, "comparing the weights did not come to an end", cause=DIFFERENT)
    belongs = belonging(fit, config.find.path or "")
    fix = manual(
        f"use it with the config that it was trained with: {fit.config}"
        if belongs
        else "take config and checkpoint from the same line of the model zoo"
    )
    taken = fit.of - len(fit.missing) - len(fit.shapes)
    if fit.shapes:
        said = [f"{name}: {theirs} in the checkpoint, {ours} in the model" for name, theirs, ours in fit.shapes]
        detail = f"{len(fit.shapes)} weights have another shape than the config's model"
        return fail(detail, DIFFERENT, *some(said), *absent(fit), *belongs, fix=fix)
    if fit.missing:
        detail = f"{len(fit.missing)} of the model's {fit.of} weights are not in it, and would stay random"
        return fail(detail, DIFFERENT, *absent(fit), *belongs, fix=fix)
    if fit.unexpected:
        detail = f"all {fit.of} weights of the model are in it; it holds {len(fit.unexpected)} more, which nobody uses"
        return warn(detail, DIFFERENT, *some(list(fit.unexpected)), *belongs, fix=fix) if belongs else ok(detail)
    return ok(f"all {taken} weights fit, shape by shape")


def absent(fit: FittedWeights) -> tuple[str, ...]:
    """The weights that only one of the two has, by the part of the model that they belong to."""
    lines = []
    for what, names in (("not in the checkpoint", fit.missing), ("not in the model", fit.unexpected)):
        parts: dict[str, list[str]] = {}
        for name in names:
            parts.setdefault(name.split(".")[0], []).append(name)
        lines += [f"{what}: {len(group)} of {part}, such as {group[0]}" for part, group in parts.items()]
    return tuple(lines[:SHOWN])


def some(lines: list[str]) -> tuple[str, ...]:
    """The first of many lines, and how many more there are."""
    return (*lines[:SHOWN], *((f"and {len(lines) - SHOWN} more",) if len(lines) > SHOWN else ()))


def belonging(fit: FittedWeights, path: str) -> tuple[str, ...]:
    """The config that the model zoo has for this file, when it is not the one that was given."""
    if fit.config is None or path.replace("\\", "/").endswith(fit.config):
        return ()
    return (f"the model zoo of this mmpose has it with {fit.config}",)


CHECKS = (
    Check(
        id="CKP001",
        title="the checkpoint is the file that its name says",
        why="OpenMMLab's files carry the first eight digits of their sha256. A download that was cut off, a web page "
        "or a git-lfs pointer under that name fails far away. Looked at with --checkpoint; nothing of it is run.",
        judge=file_is_whole,
    ),
    Check(
        id="CKP002",
        title="torch loads the checkpoint by default",
        why="From 2.6 on torch.load takes tensors only, and OpenMMLab's checkpoints hold NumPy arrays and logs too. "
        "Switching that off for a whole process lets any file run code.",
        judge=loads_safely,
    ),
    Check(
        id="CKP003",
        title="the weights fit the model",
        why="mmengine only logs what is missing or has another shape; those weights stay random, and "
        "the keypoints with them.",
        judge=weights_fit,
    ),
)
