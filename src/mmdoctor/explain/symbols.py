"""What an undefined symbol says: the C++ name behind it, and the torch releases that export it.

The demangler reads the part of the Itanium C++ ABI's mangling (section 5.1) that torch's exports use, so that nothing
has to be installed for it; of a form that it does not know it renders nothing rather than something wrong.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Optional

import msgspec

from mmdoctor.model import Value

# Written by tools/torch_symbols.py; without it the releases are not told.
TABLE = Path(__file__).parents[1] / "probes" / "torch_symbols.json"
LONGEST = 400
BUILTIN = {
    **{"v": "void", "b": "bool", "c": "char", "a": "signed char", "h": "unsigned char", "s": "short", "w": "wchar_t"},
    **{"t": "unsigned short", "i": "int", "j": "unsigned int", "l": "long", "m": "unsigned long", "x": "long long"},
    **{"y": "unsigned long long", "f": "float", "d": "double", "e": "long double", "z": "...", "Dn": "std::nullptr_t"},
}
ABBREVIATED = {
    **{"St": "std", "Sa": "std::allocator", "Sb": "std::basic_string", "Ss": "std::string", "Si": "std::istream"},
    **{"So": "std::ostream", "Sd": "std::iostream"},
}
OPERATORS = {
    **{
        "ls": "<<",
        "rs": ">>",
        "eq": "==",
        "ne": "!=",
        "lt": "<",
        "gt": ">",
        "le": "<=",
        "ge": ">=",
        "pl": "+",
        "mi": "-",
    },
    **{
        "ml": "*",
        "dv": "/",
        "ix": "[]",
        "cl": "()",
        "aS": "=",
        "pL": "+=",
        "mI": "-=",
        "mL": "*=",
        "dV": "/=",
        "nt": "!",
        "de": "*",
        "pt": "->",
    },
    **{"nw": " new", "dl": " delete", "an": "&", "or": "|", "aa": "&&", "oo": "||", "ng": "-", "ad": "&", "rm": "%"},
}
SPECIAL = {"TV": "vtable for ", "TI": "typeinfo for ", "TS": "typeinfo name for ", "TT": "VTT for "}


class UnreadableError(Exception):
    """A form that the demangler does not know."""


class _Demangler:
    """One symbol, read from left to right; `known` are the names and types that later ones refer to."""

    def __init__(self, text: str) -> None:
        self.text, self.at = text, 0
        self.known: list[str] = []
        self.arguments: list[str] = []
        self.has_result = True  # a constructor and a conversion have none

    def take(self, *options: str) -> Optional[str]:
        for option in options:
            if self.text.startswith(option, self.at):
                self.at += len(option)
                return option
        return None

    def peek(self) -> str:
        return self.text[self.at : self.at + 1]

    def symbol(self) -> str:
        special = self.take(*SPECIAL)
        if special:
            return SPECIAL[special] + self.type()
        name, templated, is_member = self.name()
        if self.at == len(self.text):
            return name
        tail = ""
        if is_member:
            name, _, tail = name.partition("\0")
        if templated and self.has_result:
            self.type()  # of a template it stands first
        return f"{name}({', '.join(self.types_until_end())}){tail}"

    def types_until_end(self, stop: str = "") -> list[str]:
        found = []
        while self.at < len(self.text) and not (stop and self.take(stop)):
            found.append(self.type())
        return [] if found == ["void"] else found

    def name(self) -> tuple[str, bool, bool]:
        """The name, whether template arguments end it, and whether a qualifier follows a `\\0` in it."""
        if self.take("N"):
            return self.nested()
        if self.take("St"):
            name = f"std::{self.unqualified('')}"
        elif self.peek() == "S":
            name = self.substitution()
            if self.peek() != "I":
                return name, False, False
        else:
            name = self.unqualified("")
        if self.peek() == "I":
            self.remember(name)
            self.arguments = self.template()
            return f"{name}<{', '.join(self.arguments)}>", True, False
        return name, False, False

    def nested(self) -> tuple[str, bool, bool]:
        qualifier = " const" if self.take("K") else ""
        qualifier += {"R": " &", "O": " &&", None: ""}[self.take("R", "O")]
        name, templated = "", False
        while not self.take("E"):
            if self.peek() == "I":
                self.arguments = self.template()
                name, templated = f"{name}<{', '.join(self.arguments)}>", True
            elif self.peek() == "S" and not name:
                name = "std" if self.take("St") else self.substitution()
                continue
            elif self.peek() == "T" and not name:
                name = self.parameter()
            else:
                part, templated = self.unqualified(name), False
                name = f"{name}::{part}" if name else part
            if self.peek() != "E":
                self.remember(name)
        return (f"{name}\0{qualifier}", templated, True) if qualifier else (name, templated, False)

    def unqualified(self, scope: str) -> str:
        length = re.match(r"\d+", self.text[self.at :])
        self.has_result = not self.text.startswith(("C", "D", "cv"), self.at)
        if length:
            self.at += length.end()
            name = self.text[self.at : self.at + int(length[0])]
            if len(name) < int(length[0]):
                raise UnreadableError
            self.at += len(name)
            while self.take("B"):
                name += f"[abi:{self.unqualified('')}]"
            return "(anonymous namespace)" if name.startswith("_GLOBAL__N") else name
        own = re.sub(r"<.*", "", scope).rpartition("::")[2]
        if self.take("C1", "C2", "C3"):
            return own
        if self.take("D0", "D1", "D2"):
            return f"~{own}"
        if self.take("cv"):
            return f"operator {self.type()}"
        operator = self.take(*OPERATORS)
        if operator:
            return f"operator{OPERATORS[operator]}"
        raise UnreadableError

    def substitution(self) -> str:
        short = self.take(*ABBREVIATED)
        if short:
            return ABBREVIATED[short]
        found = re.compile(r"S([0-9A-Z]*)_").match(self.text, self.at)
        if not found:
            raise UnreadableError
        self.at = found.end()
        number = int(found[1], 36) + 1 if found[1] else 0
        if number >= len(self.known):
            raise UnreadableError
        return self.known[number]

    def parameter(self) -> str:
        found = re.compile(r"T(\d*)_").match(self.text, self.at)
        number = (int(found[1]) + 1 if found[1] else 0) if found else len(self.arguments)
        if not found or number >= len(self.arguments):
            raise UnreadableError
        self.at = found.end()
        return self.arguments[number]

    def template(self) -> list[str]:
        self.take("I", "J")
        found = []
        while not self.take("E"):
            if self.at >= len(self.text):
                raise UnreadableError
            if self.peek() == "J":
                found += self.template()
            elif self.take("L"):
                kind, value = self.type(), re.compile(r"n?\d+").match(self.text, self.at)
                if not value:
                    raise UnreadableError
                self.at = value.end()
                text = value[0].replace("n", "-")
                found.append(
                    {"bool0": "false", "bool1": "true"}.get(kind + text, text if kind == "int" else f"({kind}){text}")
                )
                self.take("E")
            else:
                found.append(self.type().replace("(\1)", "").replace("\1", ""))
        return found

    def remember(self, name: str) -> str:
        self.known.append(name)
        return name

    def type(self) -> str:
        for mark, suffix in (("P", "*"), ("R", "&"), ("O", "&&"), ("K", " const")):
            if self.take(mark):
                inner = self.type()
                pointed = inner.replace("(*", f"({suffix}*") if "\1" in inner else inner + suffix
                function = inner.replace("\1", suffix + "\1") if "\1" in inner else pointed
                return self.remember(function)
        builtin = self.take(*BUILTIN)
        if builtin:
            return BUILTIN[builtin]
        if self.take("Dp"):
            return self.type()
        if self.take("F"):
            result, parameters = self.type(), self.types_until_end("E")
            return self.remember(f"{result} (\1)({', '.join(parameters)})")
        if self.take("A"):
            size = re.compile(r"(\d+)_").match(self.text, self.at)
            if not size:
                raise UnreadableError
            self.at = size.end()
            return self.remember(f"{self.type()} [{size[1]}]")
        if self.peek() == "S" and not self.text.startswith("St", self.at):
            name = self.substitution()
            if self.peek() != "I":
                return name
            return self.remember(f"{name}<{', '.join(self.template())}>")
        if self.peek() == "T":
            return self.remember(self.parameter())
        kept = self.arguments
        name, _, _ = self.name()
        self.arguments = kept
        return self.remember(name.replace("\0", ""))


@cache
def demangle(symbol: str) -> Optional[str]:
    """`_ZN3c106Device8validateEv` → `c10::Device::validate()`; None for what is no C++ name or has an unknown form."""
    start = symbol.find("_Z")
    if start not in (0, 1):
        return None
    reader = _Demangler(re.sub(r"(?:@.*|\.[a-z]\w*)$", "", symbol[start + 2 :]))
    try:
        name = reader.symbol()
    except (UnreadableError, RecursionError):
        return None
    return name.replace("(\1)", "").replace("\1", "").replace("\0", "").replace("> >", ">>")


class Exported(Value, frozen=True, kw_only=True):
    """The releases of torch that export a symbol: the first, the last, and whether these are the ends of what was
    measured."""

    first: str
    last: str
    oldest: str
    newest: str


class _Table(Value, frozen=True, kw_only=True):
    releases: tuple[str, ...]
    symbols: dict[str, tuple[str, ...]]


def exported(symbol: str, place: Path = TABLE) -> Optional[Exported]:
    """The torch releases that export the symbol; None where the table does not know it, or is not there."""
    try:
        content = place.read_bytes()
    except OSError:
        return None
    if symbol.encode() not in content:
        return None
    table = msgspec.json.decode(content, type=_Table)
    span = next((span for span, symbols in table.symbols.items() if symbol in symbols), None)
    if span is None:
        return None
    ends = re.split("[-,]", span)
    return Exported(first=ends[0], last=ends[-1], oldest=table.releases[0], newest=table.releases[-1])
