"""Decode what a client encoded: percent signs, query strings, forms."""

from __future__ import annotations

from typing import Final
from urllib.parse import parse_qsl, unquote_to_bytes

from corkbind.errors import BadRequest

#: Pairs in one query or form; more are refused (PHP max_input_vars: 1000).
PAIRS: Final = 1000


def decode(text: str, what: str) -> str:
    """Decode the percent signs of one component as UTF-8.

    Raises:
        BadRequest: the bytes are no UTF-8; answered with 400.
    """
    if "%" not in text and text.isascii():
        return text
    try:
        return unquote_to_bytes(text.encode("latin-1")).decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadRequest(f"{what} is not UTF-8: {text!r}") from error


def pairs(text: str, what: str, encoding: str = "utf-8") -> list[tuple[str, str]]:
    """Split and decode a query or form, blank values kept.

    Raises:
        BadRequest: a value cannot be decoded, or there are more than PAIRS.
    """
    if not text:
        return []
    try:
        # parse_qsl reads the text as UTF-8; bytes of a raw head come as latin-1.
        raw = text if text.isascii() else text.encode("latin-1").decode("utf-8")
        return parse_qsl(raw, keep_blank_values=True, errors="strict", encoding=encoding, max_num_fields=PAIRS)
    except ValueError as error:
        raise BadRequest(f"{what} cannot be decoded: {error}") from error


def grouped(items: list[tuple[str, str]]) -> dict[str, list[str]]:
    """Gather the values of each name, in order."""
    values: dict[str, list[str]] = {}
    for name, value in items:
        values.setdefault(name, []).append(value)
    return values
