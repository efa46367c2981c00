"""`compat_matrix.yaml`, `recipes/*.yaml` and a user's waivers: load, check, dump. Sole user of yaml.

Two kinds of check: *shape* while loading (a wrong type, an unknown key, an unquoted version: a DataError with file,
line and path), and *meaning* in `matrix_lint.py` (a source that does not exist, a stack of versions without rows).
"""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import date
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Optional, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec

from mmdoctor import __version__, marks
from mmdoctor.errors import DataError, UsageError
from mmdoctor.folders import own_folder
from mmdoctor.matrix_model import Matrix, Row
from mmdoctor.model import Recipe, Waiver, Waivers
from mmdoctor.texts import is_range, is_requirement, is_variant

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

T = TypeVar("T", Matrix, Recipe, Waivers)
Steps = tuple[Union[str, int], ...]  # keys and indexes from the top to a value
Node = Any  # of yaml.compose: `tag`, `value`, `start_mark`

HEADER = """\
# What goes with what in the MMPose stack: the facts that mmdoctor's checks and its stack solver read.
# Every version is a quoted text: YAML reads 1.10 as the number 1.1. Each row names its sources (table `sources`).
# `mmdoctor matrix lint` checks this file; its canonical form is what `dump_matrix` writes.
"""
WIDTH = 120
WORDS = {"str": "text", "int": "a whole number", "float": "a number", "bool": "true or false", "null": "nothing"}
WORDS |= {"timestamp": "a date", "date": "a date such as 2026-12-31", "seq": "a list", "map": "a mapping"}

# ------------------------------------------------------------------------------------------------------------ loading


def load_matrix(path: Optional[Path] = None) -> Matrix:
    """The compatibility matrix of `path`, by default the one that mmdoctor ships.

    Raises DataError, with file, line and path of the value, where the file does not hold what `Matrix` describes.
    """
    return _shipped_matrix() if path is None else _load(path, Matrix)


def _shipped_matrix() -> Matrix:
    """The matrix that mmdoctor ships, kept as JSON of these very bytes: that is read in a tenth of the time."""
    file = matrix_file()
    try:
        name = f"matrix-{marks.digest(__version__.encode() + file.read_bytes())}.json"
    except OSError:
        return _load(file, Matrix)  # which says why
    with suppress(msgspec.DecodeError):
        return msgspec.json.decode(marks.read(f"{own_folder()}/{name}") or b"", type=Matrix)
    matrix = _load(file, Matrix)
    with suppress(OSError):
        marks.write(own_folder(), name, msgspec.json.encode(matrix))
    return matrix


def matrix_file() -> Path:
    """Where the matrix that mmdoctor ships lies."""
    return _shipped("compat_matrix.yaml")


def load_recipe(name_or_file: str) -> Recipe:
    """The recipe with this name, or the one in this file (a text with a path separator or ending in .yaml or .yml).

    Raises UsageError for a name that does not exist, DataError for a file that is no recipe.
    """
    if name_or_file in recipe_names():
        file = _shipped("recipes") / f"{name_or_file}.yaml"
    elif re.search(r"[/\\]|\.ya?ml$", name_or_file):
        file = Path(name_or_file)
    else:
        raise UsageError(
            f"there is no recipe {name_or_file!r}", hint=f"recipes: {', '.join(recipe_names())}; or name a .yaml file"
        )
    return _load(file, Recipe, _check_recipe)


def recipe_names() -> tuple[str, ...]:
    """The names of the recipes that mmdoctor ships, sorted."""
    return tuple(sorted(file.stem for file in _shipped("recipes").glob("*.yaml")))


def load_waivers(file: Path, check: Callable[[Waivers], Iterable[tuple[Steps, str]]]) -> tuple[Waiver, ...]:
    """The waivers of a YAML or JSON file; `check` says what is wrong with them besides their form, and where.

    Raises DataError, with file, line and path of the value, where the file does not hold what `Waivers` describes.
    """
    return _load(file, Waivers, check).waivers


def _shipped(name: str) -> Path:
    """A data file: inside the package where mmdoctor is installed, at the top of the repository in a checkout."""
    packaged = Path(__file__).parent / "data" / name
    return packaged if packaged.exists() else Path(__file__).parents[2] / name


def _load(file: Path, kind: type[T], check: Optional[Callable[[T], Iterable[tuple[Steps, str]]]] = None) -> T:
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise DataError(f"{file}: cannot be read: {reason}") from error
    canonical = _canonical(text, kind) if kind is Matrix else None
    if canonical is not None:
        return canonical
    import yaml

    try:
        root: Node = yaml.compose(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        built = _plain(root, yaml.constructor.SafeConstructor()) if root else None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise DataError(f"{file}:{line}: not YAML: {error.problem}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise DataError(f"{file}: not YAML: {error}") from error
    if not isinstance(built, dict):
        raise DataError(f"{file}:1: expected a mapping with the keys {', '.join(kind.__struct_fields__)}")
    try:
        value = msgspec.convert(built, kind)
        sound = not _has_unknown_keys(built, kind)
        message = ""
    except msgspec.ValidationError as error:
        sound, message = False, str(error)
    if not sound:
        node, where, problem = next(_faults(root, kind, "$"), (root, "$", message))
        raise DataError(f"{file}:{node.start_mark.line + 1}: {where}: {problem}")
    for steps, problem in check(value) if check else ():
        where = "$" + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps)
        raise DataError(f"{file}:{_at(root, steps).start_mark.line + 1}: {where}: {problem}")
    return value


def _canonical(text: str, kind: type[T]) -> Optional[T]:
    """The value of a text in the form that `dump_matrix` writes; None for any other, which YAML's own parser judges.

    But for the names of fields and the lines at the left margin this form is JSON, and reading it so takes a tenth of
    the time (measured). Between quotes stand texts, so what is to be rewritten is in every second piece.
    """
    if "\0" in text or "\\\\" in text:
        return None
    pieces: list[str] = text.replace('\\"', "\\u0022").split('"')
    _, *sections = re.split(r"^(\w+):", "\0".join(pieces[::2]), flags=re.MULTILINE)
    bodies = [_as_json(body.strip()) for body in sections[1::2]]
    outside = "{" + ",".join(f'"{name}":{body}' for name, body in zip(sections[::2], bodies)) + "}"
    rest = outside.split("\0")
    if len(rest) != len(pieces[::2]):
        return None
    pieces[::2] = rest
    try:
        built = msgspec.json.decode('"'.join(pieces))
        value = msgspec.convert(built, kind)
    except msgspec.DecodeError:
        return None
    # A key that is there twice is one key too few.
    return value if outside.count(":") == _keys(built) and not _has_unknown_keys(built, kind) else None


def _as_json(body: str) -> str:
    """What stands under a key at the margin, texts taken out: rows, a table of texts, or a single value."""
    words = re.split(r"(\w+):", body)  # half the time of a substitution (measured)
    words[1::2] = [f'"{name}":' for name in words[1::2]]
    named = "".join(words)
    if named.startswith("- "):
        return "[" + named[2:].replace("\n- ", "\n,") + "]"
    return "{" + named.replace("\n  \0:", ",\0:") + "}" if named.startswith("\0:") else named


def _keys(value: Union[dict[str, Any], list[Any]]) -> int:
    """How many keys there are in a value and all that it holds; the items of a list are of one kind."""
    if isinstance(value, dict):
        return len(value) + sum([_keys(held) for held in value.values() if isinstance(held, (dict, list))])
    return sum([_keys(item) for item in value]) if value and isinstance(value[0], (dict, list)) else 0


def _plain(node: Node, constructor: Any) -> Any:
    """The node as dict, list and scalars, `...` for what no field takes (a set, a key that is no scalar).

    Takes 2/3 of the time of the library's own way (measured), and it refuses a repeated key.
    """
    value = node.value
    if isinstance(value, str):
        if node.tag == "tag:yaml.org,2002:str":
            return value
        if _tag(node) == "timestamp":
            return _date(value) or ...
        return constructor.construct_object(node) if _tag(node) in ("int", "float", "bool", "null") else ...
    if node.id == "sequence":
        return [_plain(item, constructor) for item in value]
    built = {_plain(key, constructor) if key.id == "scalar" else ...: _plain(item, constructor) for key, item in value}
    if len(built) != len(value) or ... in built:
        from yaml import MarkedYAMLError

        keys = [key.value for key, _ in value]
        twice = next((key for i, (key, _) in enumerate(value) if key.value in keys[:i]), None)
        problem = f"the key {twice.value!r} is there twice" if twice else "a key that is no text"
        raise MarkedYAMLError(problem=problem, problem_mark=(twice or node).start_mark)
    return built


def _has_unknown_keys(built: dict[str, Any], kind: Any) -> bool:
    """Whether a key stands for no field: msgspec would ignore it, but here it is a typing error."""
    if not built.keys() <= set(kind.__struct_fields__):
        return True
    hints = _hints(kind)
    for name, rows in built.items():
        fields = set(getattr(get_args(hints[name])[0], "__struct_fields__", ())) if isinstance(rows, list) else None
        if fields and not all(row.keys() <= fields for row in rows):
            return True
    return False


def _faults(node: Node, kind: Any, path: str) -> Iterator[tuple[Node, str, str]]:
    """(node, path, problem) wherever the node does not fit the type; walked once something is known to be wrong."""
    if get_origin(kind) is Union:
        if _tag(node) == "null":
            return
        kind = next(option for option in get_args(kind) if option is not type(None))
    inner = get_args(kind)
    if hasattr(kind, "__struct_fields__") or get_origin(kind) is dict:
        if _tag(node) != "map":
            yield node, path, f"expected a mapping, got {_say(node)}"
        elif inner:
            for key, item in node.value:
                yield from _faults(key, str, path)
                yield from _faults(item, inner[1], f"{path}.{key.value}")
        else:
            yield from _struct_faults(node, kind, path)
    elif get_origin(kind) is tuple:
        if _tag(node) != "seq":
            yield node, path, f"expected a list, got {_say(node)}"
        else:
            for i, item in enumerate(node.value):
                yield from _faults(item, inner[0], f"{path}[{i}]")
    else:
        yield from _scalar_faults(node, kind, path)


def _scalar_faults(node: Node, kind: Any, path: str) -> Iterator[tuple[Node, str, str]]:
    allowed = get_args(kind)  # of a Literal; all of ours are texts
    name = "str" if allowed else kind.__name__
    if kind is date:
        if _tag(node) not in ("str", "timestamp") or not _date(node.value):
            yield node, path, f"expected {WORDS[name]}, got {_say(node)}"
    elif _tag(node) != name and (name, _tag(node)) != ("float", "int"):
        quotable = name == "str" and _tag(node) in ("int", "float", "timestamp", "bool")
        hint = f'; quote it: "{node.value}"' if quotable else ""
        yield node, path, f"expected {WORDS[name]}, got {_say(node)}{hint}"
    elif allowed and node.value not in allowed:
        yield node, path, f"expected one of {', '.join(map(repr, allowed))}, got {_say(node)}"


def _date(text: str) -> Optional[date]:
    if not re.fullmatch(r"\d{4}-\d\d-\d\d", text):
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None  # 2026-02-31


def _struct_faults(node: Node, kind: Any, path: str) -> Iterator[tuple[Node, str, str]]:
    given = {key.value: (key, item) for key, item in node.value}
    for name, (key, item) in given.items():
        if name in _hints(kind):
            yield from _faults(item, _hints(kind)[name], f"{path}.{name}")
        else:
            yield key, f"{path}.{name}", f"there is no such key; the keys are {', '.join(kind.__struct_fields__)}"
    for field in msgspec.structs.fields(kind):
        if field.required and field.name not in given:
            yield node, path, f"the key {field.name!r} is missing"


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def _tag(node: Node) -> str:
    return str(node.tag).rpartition(":")[2]


def _say(node: Node) -> str:
    """A value in words; of a number, what YAML makes of it."""
    import yaml

    tag = _tag(node)
    if tag in ("int", "float"):
        return f"the number {yaml.safe_load(node.value)}"
    if tag == "str":
        return f"the text {node.value!r}"
    return WORDS.get(tag, f"a {tag}")


def _at(node: Node, steps: Steps) -> Node:
    for step in steps:
        node = node.value[step] if isinstance(step, int) else next(i for key, i in node.value if key.value == step)
    return node


def row_lines(text: str) -> dict[str, int]:
    """The line of each key at the top (`torch`), of each row (`torch[3]`) and of each key of a table (`sources T1`), in
    the text of a matrix that loads."""
    import yaml

    root: Node = yaml.compose(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    lines: dict[str, int] = {}
    for key, value in root.value:
        lines[key.value] = key.start_mark.line + 1
        if value.id == "sequence":
            lines.update({f"{key.value}[{i}]": row.start_mark.line + 1 for i, row in enumerate(value.value)})
        elif value.id == "mapping":
            lines.update({f"{key.value} {name.value}": name.start_mark.line + 1 for name, _ in value.value})
    return lines


def _check_recipe(recipe: Recipe) -> Iterator[tuple[Steps, str]]:
    """What the types do not say: specifiers and requirements are PEP 440 and PEP 508 text, names PEP 503 names."""
    ranges: dict[Steps, str] = {("packages", name): spec for name, spec in recipe.packages.items()}
    ranges["python",] = recipe.python
    if recipe.driver is not None:
        ranges["driver",] = recipe.driver
    for steps, spec in ranges.items():
        if not is_range(spec):
            yield steps, f"{spec!r} is not a version specifier; expected for example '>=1.3.0,<2'"
    for name in recipe.packages:
        if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name):
            yield ("packages", name), "a package name is lower case, with hyphens only, as in 'opencv-python'"
    for i, text in enumerate(recipe.extra):
        if not is_requirement(text):
            yield ("extra", i), f"{text!r} is not a requirement; expected for example 'fastapi==0.111.0'"
    if recipe.torch_variant is not None and not is_variant(recipe.torch_variant):
        yield ("torch_variant",), f"{recipe.torch_variant!r} is not a variant; expected 'cpu' or for example 'cu121'"


# ------------------------------------------------------------------------------------------------------------ dumping


def dump_matrix(matrix: Matrix) -> str:
    """The matrix as canonical YAML: `dump_matrix(load_matrix(file))` is the file, byte for byte."""
    lines = [HEADER.rstrip()]
    for name in Matrix.__struct_fields__:
        value = getattr(matrix, name)
        if isinstance(value, str) or not value:
            lines.append(f"{name}: {_flow(value)}")
        elif isinstance(value, dict):
            lines += ["", f"{name}:", *(f"  {_flow(key)}: {_flow(text)}" for key, text in value.items())]
        else:
            lines += ["", f"{name}:", *(_wrap("- " + _flow(row)) for row in value)]
    return "\n".join(lines) + "\n"


def write_matrix(file: Path, matrix: Matrix) -> None:
    """Write the matrix in canonical form, whole or not at all. Raises UsageError where the file cannot be written."""
    draft = file.with_name(file.name + ".part")
    try:
        draft.write_text(dump_matrix(matrix), encoding="utf-8")
        draft.replace(file)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise UsageError(
            f"{file} cannot be written: {error.strerror}", hint="name another with --matrix FILE"
        ) from error


def _flow(value: Any) -> str:
    """A value in flow style. Where a line may be broken stands a newline between fields, a tab within one: texts hold
    neither unescaped. All texts are quoted, also the keys of a dict: only a field's name is surely text without.
    """
    if isinstance(value, Row):
        return "{" + ",\n".join(f"{name}: {_flow(item)}" for name, item in _given(value).items()) + "}"
    if isinstance(value, dict):
        return "{" + ",\t".join(f"{_flow(key)}: {_flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, tuple):
        return "[" + ",\t".join(map(_flow, value)) + "]"
    return msgspec.json.encode(value).decode()


def _given(row: Row) -> dict[str, Any]:
    """The row's fields that differ from their default, `source` last."""
    defaults = _defaults(type(row))
    return {name: value for name in defaults if (value := getattr(row, name)) != defaults[name]}


@cache
def _defaults(kind: type[Row]) -> dict[str, Any]:
    """The defaults of a row's fields, NODEFAULT where there is none; `source` last."""
    fields = sorted(msgspec.structs.fields(kind), key=lambda field: field.name == "source")
    return {
        field.name: field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
        for field in fields
    }


def _wrap(text: str) -> str:
    """Lines of at most WIDTH: fields stay whole where they fit on a line of their own."""
    indent = "   "
    lines: list[str] = []
    for field in text.split("\n"):
        for piece in field.split("\t") if len(field) > WIDTH - len(indent) else [field.replace("\t", " ")]:
            if lines and len(lines[-1]) + 1 + len(piece) <= WIDTH:
                lines[-1] += " " + piece
            else:
                lines.append(indent + piece if lines else piece)
    return "\n".join(lines)
