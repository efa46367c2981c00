"""The language in which mmdoctor says things: English, or Simplified Chinese where the user reads that first.

What is said is written in English where it belongs; `texts_zh.json` holds the Chinese of each sentence under the
English one, placeholders kept. A sentence without its Chinese stays English: better that than nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Literal, Optional, get_args

import msgspec

from mmdoctor.errors import DataError

Language = Literal["en", "zh"]
LANGUAGES: tuple[str, ...] = get_args(Language)
DATA = Path(__file__).with_name("texts_zh.json")


def language(asked: Optional[str], environ: Mapping[str, str]) -> Language:
    """The language asked for, else that of the locale: the first of LC_ALL, LC_MESSAGES, LANG that is set decides."""
    said = asked or next((environ[name] for name in ("LC_ALL", "LC_MESSAGES", "LANG") if environ.get(name)), "")
    return "zh" if said.lower().startswith("zh") else "en"


@cache
def chinese() -> dict[str, str]:
    """English sentences with their Chinese. Raises DataError when the data file is missing or not of this form."""
    try:
        return msgspec.json.decode(DATA.read_bytes(), type=dict[str, str])
    except (OSError, msgspec.MsgspecError) as error:
        raise DataError(f"{DATA.name}: {error}", "the installation is damaged: reinstall mmdoctor") from error


def translated(text: str, lang: Language) -> str:
    """The sentence in the language; itself where it has no translation."""
    return chinese().get(text, text) if lang == "zh" else text
