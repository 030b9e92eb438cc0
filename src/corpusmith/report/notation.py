"""How numbers and foreign text are written, the same in the HTML report and in the terminal.

Titles, queries and snippets come from documents that nobody vetted. `visible` makes them safe to show: what would
move the cursor, change colours or reverse the direction of writing is written out as an escape sequence, so that the
reader sees that it is there. Markup is left to where it is shown: the template escapes it, the terminal's tables take
`rich.text.Text`, which knows none.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Collection, Sequence

MISSING = "n/a"
SI_PREFIXES = ("", "k", "M", "G", "T", "P", "E", "Z")
SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
LINE_BREAKS = str.maketrans(dict.fromkeys("\n\r\t\v\f\x85\u2028\u2029", " "))
DIRECTION_CHANGES = frozenset({"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"})


def visible(text: str) -> str:
    r"""The text in one line, with controls, direction overrides and lone surrogates written as `\x1b` or `\u202e`.

    Joiners stay, because scripts and emoji are made with them.
    """
    return "".join(_escape(character) for character in str(text).translate(LINE_BREAKS))


def excerpt(text: str, words: Collection[str], length: int) -> str:
    """At most about `length` characters of `text` in one line, cut between words, around the first of `words` (lower
    case) where it would be out of view otherwise."""
    text = " ".join(str(text).split())
    if len(text) <= length:
        return text
    spans = [match for match in re.finditer(r"\w+", text) if match[0].lower() in words]
    seen = next((match.start() for match in spans), 0)
    start = 0 if seen < length * 2 // 3 else max(0, min(seen - length // 4, len(text) - length))
    start = text.find(" ", start, seen) + 1 if start else 0
    piece = text[start : start + length]
    if start + length < len(text):
        piece = piece[: piece.rfind(" ")] if piece.rfind(" ") > length // 2 else piece
        piece += " ..."
    return f"... {piece}" if start else piece


def _escape(character: str) -> str:
    category = unicodedata.category(character)
    if category in ("Cc", "Cs") or unicodedata.bidirectional(character) in DIRECTION_CHANGES:
        code = ord(character)
        return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
    return character


def score(value: float) -> str:
    """A measure between 0 and 1, to three digits."""
    return f"{value:.3f}" if _known(value) else MISSING


def share(value: float | None) -> str:
    """A part of a whole, in percent."""
    return f"{value:.1%}" if _known(value) else MISSING


def change(value: float | None) -> str:
    """What a number became more or less by, in percent, with its sign."""
    return f"{value:+z.1%}" if _known(value) else MISSING


def rate(value: float | None) -> str:
    """How many of one thing come to another, to two digits behind the point."""
    return f"{value:.2f}" if _known(value) else MISSING


def seeds(values: Sequence[float]) -> str:
    """A measure's mean with its least and greatest value over seeds: 0.412 (0.409-0.415)."""
    if not values:
        return MISSING
    mean = score(sum(values) / len(values))
    return mean if len(values) == 1 else f"{mean} ({score(min(values))}-{score(max(values))})"


def difference(value: float) -> str:
    """A difference of two measures, with its sign."""
    return f"{value:+.3f}" if _known(value) else MISSING


def probability(value: float) -> str:
    """A p-value as it is reported: exact to its second digit, or below the thousandth."""
    if not _known(value):
        return f"p {MISSING}"
    if value < 0.001:
        return "p < 0.001"
    return f"p = {value:.3f}" if value < 0.1 else f"p = {value:.2f}"


def count(value: float) -> str:
    """A whole number with thousands set apart."""
    return f"{value:,.0f}" if _known(value) else MISSING


def quantity(value: float | None, unit: str = "") -> str:
    """Three digits with an SI prefix: 12.3 M, 4.56 TFLOP."""
    if not _known(value):
        return MISSING
    number, power = float(value), 0  # type: ignore[arg-type]  # _known excludes None
    while abs(number) >= 999.5 and power < len(SI_PREFIXES) - 1:
        number, power = number / 1000, power + 1
    digits = 0 if power == 0 or abs(number) >= 99.95 else 1 if abs(number) >= 9.995 else 2
    return f"{number:.{digits}f} {SI_PREFIXES[power]}{unit}".strip()


def size(value: float | None) -> str:
    """Bytes: 0 B, 81.3 MB, 1.20 GB (powers of 1000)."""
    return quantity(value, "B")


def scientific(value: float) -> str:
    """A small number by its power of ten: 5×10⁻⁵, 1.5×10⁻⁴."""
    if not _known(value) or value == 0:
        return "0" if value == 0 else MISSING
    mantissa, _, power = f"{value:.1e}".partition("e")
    return f"{mantissa.removesuffix('.0')}×10{str(int(power)).translate(SUPERSCRIPTS)}"


def duration(seconds: float | None) -> str:
    """Seconds as people say them: 0.4 s, 8 s, 2 min 05 s, 1 h 10 min."""
    if not _known(seconds):
        return MISSING
    assert seconds is not None
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes == 0:
        return f"{rest} s"
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def _known(value: float | None) -> bool:
    return value is not None and math.isfinite(value)
