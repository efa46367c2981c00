"""Explain a pasted error, log or version listing: known failures are rows of `failures.json`, read by `matcher`."""

from __future__ import annotations

from mmdoctor.explain.matcher import explain
from mmdoctor.explain.reading import text_of

__all__ = ["explain", "text_of"]
