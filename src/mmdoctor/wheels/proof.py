"""The proof of a compiled wheel, before it enters the cache: its symbols resolve, its ops are inside and are right.

Nothing is installed: the wheel is unpacked into a temporary folder and loaded from there by the target's interpreter.
So it is the same for a repair, for `mmdoctor wheels build`, and for a wheel that somebody else compiled.
"""

from __future__ import annotations

import ast
import json
import re
import sys
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Optional

import msgspec

from mmdoctor import rules, system
from mmdoctor.errors import ApplyError
from mmdoctor.model import OpCheck, Proven, ProvenModule, Target, Value
from mmdoctor.probes.elf import CUDA_SECTION, Elf, ElfProblem
from mmdoctor.probes.extension import built_for, torch_symbols
from mmdoctor.probes.fatbin import device_code
from mmdoctor.probes.libraries import Libraries, versions_of
from mmdoctor.smoke import bench
from mmdoctor.smoke.bench import largest_difference, reference
from mmdoctor.wheels.cache import BuildKey

SCRIPT = Path(__file__).with_name("inside_wheel.py")
MARK = "mmdoctor-wheel: "  # as in inside_wheel.py
DEADLINE_SECONDS = 180.0  # importing torch takes 2 s warm, 40 s from a cold network disk
COMPILED = re.compile(r".*\.(so|pyd|dylib)(\.\d+)*")
# Whose wheels are of no use without a compiled module.
BINARY = ("mmcv", "xtcocotools", "pycocotools")
MASKED = ("xtcocotools", "pycocotools")
# COCO's run-length code there (1) and back (1), the area of the mask (4 pixels) and its box (1): see inside_wheel.py.
MASKS = {"rle": bench.OpReference(values=(1.0, 1.0, 4.0, 1.0), tolerance=0.0)}
NAMED = 3


class Answer(Value, frozen=True, kw_only=True):
    """What `inside_wheel.py` prints; `ops` by device."""

    imports: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    ops: dict[str, dict[str, tuple[Optional[float], ...]]] = msgspec.field(default_factory=dict)
    beside: dict[str, str] = msgspec.field(default_factory=dict)
    error: Optional[str] = None


def prove(wheel: Path, key: BuildKey, target: Target, *, deadline: float = DEADLINE_SECONDS) -> Proven:
    """Show that `wheel` is what `key` says, and works in the target, which is not touched.

    Each compiled module is for this machine, finds its libraries, and leaves no symbol open that none of them exports;
    the CUDA architectures of the key are inside; it loads, holds every function that its Python code asks of it, and
    computes the golden values (on the GPU, too, where there is one that it was compiled for). `deadline` is in seconds
    and for the loading. Raises ApplyError with the first fault.
    """
    package = rules.module_of(key.package)
    name = f"{key.package} {key.version}"
    with TemporaryDirectory(prefix="mmdoctor-proof-") as folder:
        there = Path(folder)
        try:
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(there)
        except (OSError, zipfile.BadZipFile) as error:
            raise ApplyError(f"{wheel.name} is no whole wheel: {error}", hint="build it again") from None
        found = sorted(path for path in there.rglob("*") if COMPILED.fullmatch(path.name))
        if not found and package in BINARY:
            what = f"{wheel.name} holds no compiled module: {name} was built without its ops"
            raise ApplyError(what, hint="build it without isolation, where its torch or NumPy is in sight")
        modules = _modules(found, there, name, target)
        _holds_archs(modules, key, name)
        archs = sorted({arch for module in modules for arch in module.archs})
        functions = asked_of_binaries(there / "mmcv") if package == "mmcv" else {}
        answer = _load(target.executable, there, package, functions, archs, name, deadline)
    for beside, bound in (("torch", key.torch), ("numpy", key.numpy)):
        ran = answer.beside.get(beside)
        if bound and ran not in (None, bound):
            raise ApplyError(f"{name} was built for {beside} {bound}, and {target.executable} runs {beside} {ran}")
    return Proven(
        modules=modules,
        imports=answer.imports,
        functions=sum(len(names) for names in functions.values()),
        ops=_judged(answer, MASKS if package in MASKED else reference().ops, name),
        devices=tuple(answer.ops),
        beside={"python": target.python, **answer.beside},
    )


# ---------------------------------------------------------------------------------------------- without loading it


def _modules(found: Sequence[Path], folder: Path, name: str, target: Target) -> tuple[ProvenModule, ...]:
    """Every compiled file of the unpacked wheel, its libraries and symbols found. Linux alone has ELF files."""
    if sys.platform != "linux":
        return ()
    libraries = Libraries(target, folder)
    return tuple(_module(path, folder, name, libraries) for path in found)


def _module(path: Path, folder: Path, name: str, libraries: Libraries) -> ProvenModule:
    file = path.relative_to(folder).as_posix()
    try:
        with Elf(path) as elf:
            wanted = libraries.machine
            if wanted is not None and elf.machine != wanted:
                raise ApplyError(f"{name}: {file} is for another machine: {elf.machine}, not {wanted}")
            lost = [library for library in elf.needed if libraries.find(library, elf) is None]
            if lost:
                what = f"{name}: {file} needs {', '.join(lost)}, which is not in this environment nor on this machine"
                raise ApplyError(what, hint="it was linked with a torch or CUDA that is not the one here")
            _versions_there(elf, file, name, libraries)
            undefined = elf.undefined()
            missing = libraries.unresolved(elf, undefined)
            if missing:
                said = ", ".join(map(_named, missing[:NAMED]))
                more = f" and {len(missing) - NAMED} more" if len(missing) > NAMED else ""
                what = f"{name}: {file} wants symbols that none of its libraries exports: {said}{more}"
                told = built_for(undefined, torch_symbols())
                whose = f"torch {told}, by its symbols" if told else "another torch or Python than the one here"
                raise ApplyError(what, hint=f"it was compiled for {whose}")
            code = device_code(elf.section(CUDA_SECTION))
            return ProvenModule(file=file, needed=elf.needed, symbols=len(undefined), archs=code.archs, ptx=code.ptx)
    except ElfProblem as problem:
        raise ApplyError(f"{name}: {file} is {problem.kind}: no linker takes it", hint="build it again") from None


def _named(symbol: str) -> str:
    name = rules.cxx_name(symbol)
    return symbol if name == symbol else f"{symbol} ({name})"


def _versions_there(elf: Elf, file: str, name: str, libraries: Libraries) -> None:
    for library, wanted in elf.versions_needed().items():
        path = libraries.find(library, elf)
        known = versions_of(path) if path else frozenset()
        lost = [version for version in wanted if known and version not in known]
        if lost:
            what = f"{name}: {file} needs {', '.join(lost)} of {library}, and {path} has no such version"
            raise ApplyError(what, hint="it was compiled with a newer compiler or C library than the one here")


def wanted_archs(told: str) -> tuple[frozenset[str], frozenset[str]]:
    """The capabilities that a `TORCH_CUDA_ARCH_LIST` (`7.5;8.6+PTX`) asks machine code for, and those for PTX.

    Names of generations (`Ampere`) and `Common` are left out: which capabilities they stand for depends on the torch.
    """
    asked = [word for word in re.split(r"[;, ]+", told) if re.match(r"\d+\.\d", word)]
    return (
        frozenset(word.partition("+")[0] for word in asked),
        frozenset(word.partition("+")[0] for word in asked if word.endswith("+PTX")),
    )


def _holds_archs(modules: Sequence[ProvenModule], key: BuildKey, name: str) -> None:
    if not key.cuda:
        return
    archs, ptx = wanted_archs(key.archs)
    holding = [module for module in modules if module.archs or module.ptx]
    if not holding:
        what = f"{name} was built for CUDA {key.cuda} and holds no device code"
        raise ApplyError(what, hint="nvcc did not run: FORCE_CUDA=1 and CUDA_HOME decide that")
    for module in holding:
        lost = [*sorted(archs - set(module.archs)), *(f"{arch}+PTX" for arch in sorted(ptx - set(module.ptx)))]
        if lost:
            inside = " ".join((*module.archs, *(f"{arch}+PTX" for arch in module.ptx)))
            raise ApplyError(f"{name}: {module.file} holds no device code for {' '.join(lost)}; it holds {inside}")


def asked_of_binaries(mmcv: Path) -> dict[str, list[str]]:
    """By compiled module, the functions that mmcv's own code asks of it: `ext_loader.load_ext('_ext', ['nms', …])`."""
    asked: dict[str, set[str]] = {"_ext": set()}
    for file in mmcv.rglob("*.py"):
        text = file.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(text)) if "load_ext(" in text else ():
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("load_ext") and len(node.args) == 2:
                try:
                    module, functions = map(ast.literal_eval, node.args)
                except ValueError:
                    continue  # what it asks is known at run time only
                asked.setdefault(str(module), set()).update(map(str, functions))
    return {module: sorted(functions) for module, functions in asked.items()}


# ---------------------------------------------------------------------------------------------------- in the target


def _load(
    python: str,
    folder: Path,
    package: str,
    functions: Mapping[str, Sequence[str]],
    archs: Sequence[str],
    name: str,
    deadline: float,
) -> Answer:
    request = {
        "folder": str(folder),
        "package": package,
        "functions": functions,
        "archs": archs,
        "smoke": str(bench.HERE / "inside_smoke.py"),
    }
    script = SCRIPT.read_text(encoding="utf-8")
    done = system.run([python, "-", json.dumps(request)], deadline=deadline, cwd=folder, text=script)
    lines = [line for line in done.stdout.splitlines() if line.startswith(MARK)]
    if not lines or not done.ok:
        if done.timed_out:
            how = f"did not end within {deadline:g} s"
        elif done.returncode < 0:
            how = f"killed the interpreter with signal {-done.returncode}"
        else:
            how = f"ended with status {done.returncode}: {(done.stderr.strip().splitlines() or ['no word'])[-1]}"
        raise ApplyError(f"{name}: loading it {how}")
    answer = msgspec.json.decode(lines[-1][len(MARK) :], type=Answer)
    if answer.error is not None:
        raise ApplyError(f"{name} does not work: {answer.error}")
    if answer.missing:
        more = f" and {len(answer.missing) - NAMED} more" if len(answer.missing) > NAMED else ""
        what = f"{name} lacks compiled functions: {', '.join(answer.missing[:NAMED])}{more}"
        raise ApplyError(what, hint="a part of its sources was not compiled: build it again from an empty folder")
    return answer


def _judged(answer: Answer, golden: Mapping[str, bench.OpReference], name: str) -> tuple[OpCheck, ...]:
    """Each golden computation on each device, all of them right; else ApplyError."""
    checks = []
    for device, ops in answer.ops.items():
        for op, values in ops.items():
            error = largest_difference(values, golden[op].values)
            if error is None or error > golden[op].tolerance:
                said = "values that cannot be compared" if error is None else f"values off by up to {error:.3g}"
                what = f"{name}: {op} on the {device} gave {said}; {golden[op].tolerance:g} is tolerated"
                raise ApplyError(what, hint="do not use this wheel: its compiler or flags broke it")
            checks.append(
                OpCheck(op=op, ok=True, max_abs_error=error, tolerance=golden[op].tolerance, message=f"on the {device}")
            )
    return tuple(checks)
