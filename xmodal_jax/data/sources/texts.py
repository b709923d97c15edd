"""Captions as a field holds them: a text, a list of texts, or a list that a table holds as a text."""

from __future__ import annotations

import ast
import io
import json
import re
import tokenize
from collections.abc import Iterable

from xmodal_jax.data.sources.records import CAPTION_FIELDS, is_nothing
from xmodal_jax.data.sources.tables import plain
from xmodal_jax.errors import UserError

NESTED = ("raw", "text", "caption", "sentence")
_NUMBERED = re.compile(r"([a-z]+(?:_[a-z]+)*)_?(\d+)")


def caption_fields(row: dict, lang: str, caption_field: str | None, at: str) -> tuple[str, ...]:
    """The fields to look for captions in, by the language; decided at a file's first line."""
    if caption_field is not None:
        return (plain(caption_field),)
    own = tuple(f"{field}_{lang}" for field in CAPTION_FIELDS)
    if any(field in row for field in own):
        return own
    others = sorted(
        key for key in row for field in CAPTION_FIELDS if key.startswith(f"{field}_") and len(key) == len(field) + 3
    )
    if lang != "en" and others:
        raise UserError(
            f"{at}: no captions in {lang!r}: looked for captions_{lang}, found {', '.join(others)}. Give the lang of "
            "one of these, or caption_field."
        )
    return CAPTION_FIELDS


def fields_said(row: Iterable[str], fields: tuple[str, ...]) -> list[str]:
    """Which of a row's fields say its captions: the first of `fields` that it has, or else those with numbers (caption_1,
    caption_2 ...) in their order.
    """
    first = next((field for field in fields if field in row), None)
    if first is not None:
        return [first]
    numbered = [(int(found[2]), name) for name in row if (found := _NUMBERED.fullmatch(name)) and found[1] in fields]
    return [name for _, name in sorted(numbered)]


def said(row: dict, names: list[str]):
    """What these fields of a row say: the value of one, or a list of the texts of several; None without."""
    if len(names) < 2:
        return row[names[0]] if names else None
    return [text for name in names for text in (row[name] if isinstance(row[name], list) else [row[name]])]


def texts_of(value, at: str, example: str) -> tuple[list[str], int]:
    """(captions, number of those that say nothing and are left out). UserError for what is no text."""
    values = [_told(one) for one in (value if isinstance(value, list) else [value])]
    if len(values) == 1 and isinstance(values[0], list):  # of an object that holds a list
        values = values[0]
    if len(values) == 1 and isinstance(values[0], str) and values[0].lstrip()[:1] == "[":
        values = written_list(values[0]) or values
    if not all(isinstance(text, str) or is_nothing(text) for text in values):
        raise UserError(f"{at}: captions must be a text or a list of texts, as in {example}")
    kept = [" ".join(text.split()) for text in values if not is_nothing(text)]
    return kept, max(len(values), 1) - len(kept)


def _told(value):
    """The text of an object that holds one, as Karpathy and hubs write them; anything else as it is."""
    return next((value[key] for key in NESTED if key in value), value) if isinstance(value, dict) else value


def written_list(text: str) -> list | None:
    """The texts of a list as JSON, Python or numpy (without commas) writes it into a cell; None where it is but a text."""
    text = text.strip()
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        try:
            values = ast.literal_eval(text)
            strings = [
                one.string for one in tokenize.generate_tokens(io.StringIO(text).readline) if one.type == tokenize.STRING
            ]
            joined = isinstance(values, list) and len(strings) > sum(isinstance(one, str) for one in values)
            values = [ast.literal_eval(one) for one in strings] if joined else values
        except (ValueError, SyntaxError, RecursionError, MemoryError, tokenize.TokenError):
            return None
    is_list = isinstance(values, list) and all(isinstance(one, str) or one is None for one in values)
    return values if is_list else None
