"""Writes `registry_names.json`: the classes that each OpenMMLab package registers, of the old and the new generation.

    python tools/registry_names.py FOLDER

FOLDER holds wheels and sdists from the index, of a package's last old and last new release. A name is what
stands under `@REGISTRY.register_module()`, the name given to it, or the class registered by a call.
"""

from __future__ import annotations

import ast
import json
import sys
import tarfile
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path

TABLE = Path(__file__).parents[1] / "src" / "mmdoctor" / "explain" / "registry_names.json"
# The first major release of the new generation; packages that are not named here have no old one.
NEW_FROM = {"mmcv": 2, "mmdet": 3, "mmpose": 1, "mmsegmentation": 1, "mmaction2": 1, "mmdet3d": 1, "mmrotate": 1}
SCOPES = {"mmsegmentation": "mmseg", "mmaction2": "mmaction"}
ONLY_OLD = {"mmcls", "mmtrack"}


def registered(tree: ast.Module) -> Iterator[str]:
    """The names that a module registers."""
    for node in ast.walk(tree):
        calls = getattr(node, "decorator_list", []) if isinstance(node, (ast.ClassDef, ast.FunctionDef)) else []
        for call in calls:
            if isinstance(call, ast.Call) and getattr(call.func, "attr", "") == "register_module":
                named = list(strings(call))
                yield from named or [node.name]
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "register_module":
            yield from (k.value.id for k in node.keywords if k.arg == "module" and isinstance(k.value, ast.Name))
            yield from strings(node)


def strings(call: ast.Call) -> Iterator[str]:
    for value in (*call.args, *(k.value for k in call.keywords if k.arg == "name")):
        for part in ast.walk(value):
            if isinstance(part, ast.Constant) and isinstance(part.value, str):
                yield part.value


def sources(file: Path) -> Iterator[bytes]:
    """The Python sources of a wheel or an sdist, the copies for mim left out."""
    if file.suffix == ".whl":
        with zipfile.ZipFile(file) as archive:
            wanted = (name for name in archive.namelist() if name.endswith(".py") and "/.mim/" not in name)
            yield from (archive.read(name) for name in wanted)
        return
    with tarfile.open(file) as packed:
        for member in packed:
            content = packed.extractfile(member) if member.name.endswith(".py") else None
            if content:
                yield content.read()


def main() -> int:
    warnings.simplefilter("ignore", SyntaxWarning)
    table: dict[str, dict[str, set[str]]] = {"old": {}, "new": {}}
    for file in sorted((*Path(sys.argv[1]).glob("*.whl"), *Path(sys.argv[1]).glob("*.tar.gz"))):
        package, version = file.name.split("-")[:2]
        old = package in ONLY_OLD or int(version.split(".")[0]) < NEW_FROM.get(package, 0)
        names = table["old" if old else "new"].setdefault(SCOPES.get(package, package), set())
        for source in sources(file):
            names.update(registered(ast.parse(source)))
    ordered = {age: {package: sorted(names) for package, names in found.items()} for age, found in table.items()}
    TABLE.write_text(json.dumps(ordered, indent=0) + "\n", encoding="utf-8")
    for age, found in ordered.items():
        print(age, {package: len(names) for package, names in found.items()})
    return 0


if __name__ == "__main__":
    sys.exit(main())
