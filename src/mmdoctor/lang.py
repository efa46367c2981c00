"""The language in which mmdoctor says things: English, or Simplified Chinese where the user reads that first.

What is said is written in English where it belongs; `texts_zh.json` holds the Chinese of each sentence under the
English one, placeholders kept, and `checks/texts_zh.json` that of findings. A sentence without its Chinese stays
English: better that than nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Literal, Optional, get_args

import msgspec
from msgspec.structs import replace

from mmdoctor.answers import LOCALE
from mmdoctor.errors import DataError
from mmdoctor.model import Finding

Language = Literal["en", "zh"]
LANGUAGES: tuple[str, ...] = get_args(Language)
DATA = Path(__file__).with_name("texts_zh.json")
VALUE = re.compile(r"{(\w+)}")
OF_FINDINGS = Path(__file__).parent / "checks" / "texts_zh.json"


def language(asked: Optional[str], environ: Mapping[str, str]) -> Language:
    """The language asked for, else that of the locale: the first of LC_ALL, LC_MESSAGES, LANG that is set decides."""
    said = asked or next((environ[name] for name in LOCALE if environ.get(name)), "")
    return "zh" if said.lower().startswith("zh") else "en"


@cache
def chinese(file: Path = DATA) -> dict[str, str]:
    """English sentences with their Chinese. Raises DataError when the data file is missing or not of this form."""
    try:
        return msgspec.json.decode(file.read_bytes(), type=dict[str, str])
    except (OSError, msgspec.MsgspecError) as error:
        raise DataError(f"{file.name}: {error}", "the installation is damaged: reinstall mmdoctor") from error


def translated(text: str, lang: Language) -> str:
    """The sentence in the language; itself where it has no translation."""
    return chinese().get(text, text) if lang == "zh" else text


def spoken(finding: Finding, lang: Language) -> Finding:
    """The finding with its title, detail and fix in the language. Evidence is what files and programs say: it stays."""
    if lang == "en":
        return finding
    title, detail, fix = (recognised(text) for text in (finding.title, finding.detail, finding.fix.summary))
    return replace(finding, title=title, detail=detail, fix=replace(finding.fix, summary=fix))


def recognised(text: str) -> str:
    """The Chinese of a finding's sentence, itself where there is none. The check has filled its values in already, so
    the sentence is recognised by what stands between them; a value may be a sentence of its own."""
    for pattern, said in _templates():
        found = pattern.fullmatch(text)
        if found:
            return _filled(said, {name: recognised(value) for name, value in found.groupdict().items()})
    return text


def _filled(said: str, values: Mapping[str, str]) -> str:
    """The sentence with its values; other braces in it are its own."""
    return VALUE.sub(lambda name: values[name[1]], said)


@cache
def _templates() -> tuple[tuple[re.Pattern[str], str], ...]:
    """Each sentence of a finding as a pattern, with its Chinese; what says more of itself first."""
    known = chinese(OF_FINDINGS)
    bare = {english: VALUE.sub("", english) for english in known}
    return tuple(
        (re.compile(re.sub(r"\\{(\w+)\\}", r"(?P<\1>.+?)", re.escape(english)), re.DOTALL), known[english])
        for english in sorted(known, key=lambda english: -len(bare[english]))
    )
