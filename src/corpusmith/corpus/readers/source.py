"""From a file's bytes to text: gzip, encodings, size limits, told apart from what is no text at all.

Every reader meets the same hostile files: truncated gzip, a bomb that unpacks to terabytes, Latin-1 under a name that
promises UTF-8, one broken byte in a good file, a picture called notes.txt. They are dealt with here once, so that a
reader only sees bounded chunks of UTF-8.

Encodings. A byte order mark decides. Otherwise UTF-8 is tried; text that is mostly UTF-8 with some broken sequences
stays UTF-8 (each broken sequence becomes U+FFFD), and only text whose bytes beyond ASCII are mostly *not* UTF-8 is
given to charset-normalizer, on a sample. Line-oriented formats then judge each line on its own, see `decode_line`.

What stops a file is raised as `Unreadable`, whose message is the reason that ends up in `dropped.jsonl`; what was read
before it is kept.
"""

from __future__ import annotations

import codecs
import errno
import gzip
import io
import os
import re
import stat
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import BinaryIO, cast

from corpusmith.corpus.base import Dropped
from corpusmith.digests import digest_file
from corpusmith.errors import MachineError

CHUNK = 1 << 20
BINARY_SAMPLE = 8000  # as git does: a NUL byte among the first 8,000 makes a file binary
ENCODING_SAMPLE = 16_384
TOLERATED_DAMAGE = 0.05  # of a line's characters

BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
LEGACY_ENCODINGS = [
    "cp1252", "cp1250", "cp1251", "cp1253", "cp1254", "koi8_r", "cp932", "euc_jp", "gb18030", "big5", "cp949",
]  # fmt: skip
_ASCII = bytes(range(0x20, 0x7F)) + b"\\x41\\u0041"
_CONTROL_BYTES = bytes([*range(0x00, 0x09), *range(0x0E, 0x1B), *range(0x1C, 0x20)])


LASTING = {
    errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENXIO,
}  # fmt: skip
"""Errors of the system that tell about a file: it is left out. All others tell about the machine."""


class Unreadable(Exception):
    """Why a file, or the rest of it, was left out; the message is the reason written to `dropped.jsonl`."""


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file to read: `id` is its path relative to the corpus root (posix), `limit` the most bytes of one document."""

    path: Path
    id: str
    limit: int

    def dropped(self, reason: str, place: str = "", id: str | None = None) -> Dropped:
        """A record that this file, or one place in it ("line 17"), was left out."""
        source = f"{self.path} {place}" if place else str(self.path)
        return Dropped(id=self.id if id is None else id, source=source, reason=reason)

    def open(self) -> BinaryIO:
        """The bytes, unpacked where the file is gzip (told by its first two bytes, not by its name)."""
        return cast(BinaryIO, gzip.open(self.path, "rb")) if self.is_packed() else self.path.open("rb")

    def is_packed(self) -> bool:
        """Whether the file is gzip; Unreadable where it is none that could be read."""
        if not self._is_regular():
            if self.path.is_dir():
                os.listdir(self.path)  # raises what has kept its files from being listed
            raise Unreadable("not a regular file")
        with self.path.open("rb") as raw:
            return raw.read(2) == b"\x1f\x8b"

    def _is_regular(self) -> bool:
        """Asked before opening: to open a pipe would wait for its writer."""
        return stat.S_ISREG(os.stat(self.path).st_mode)

    def digest(self) -> str:
        """SHA-256 of its bytes as they are stored; empty for what cannot be read."""
        try:
            return digest_file(self.path) if self._is_regular() else ""
        except OSError as error:
            refuse_machine_error(error, self.path)
            return ""

    def chunks(self) -> Iterator[bytes]:
        """The unpacked bytes in pieces of at most one MiB; damage of gzip is raised after what came before it."""
        with self.open() as stream:
            while True:
                chunk = read_piece(stream, CHUNK)
                if not chunk:
                    return
                yield chunk

    def whole(self) -> tuple[bytes, Unreadable | None]:
        """All bytes (at most `limit`), and what ended the reading early, if anything did.

        Raises Unreadable where the file is larger, or where nothing could be read.
        """
        pieces, size, damage = [], 0, None
        try:
            for chunk in self.chunks():
                pieces.append(chunk)
                size += len(chunk)
                if size > self.limit:
                    raise Unreadable(too_large(self.limit))
        except Unreadable as error:
            if size > self.limit or not size:
                raise
            damage = error
        if not size:
            raise Unreadable("empty")
        return b"".join(pieces), damage

    def text(self) -> tuple[str, Unreadable | None]:
        """The whole file as text, and what ended the reading early, if anything did."""
        data, damage = self.whole()
        return decode(data), damage

    def utf8_chunks(self) -> Iterator[bytes]:
        """The file re-encoded as UTF-8 without byte order mark, in pieces; broken UTF-8 is passed on as it is."""
        chunks = self.chunks()
        head = b""
        damage = None
        try:
            while len(head) < BINARY_SAMPLE:
                head += next(chunks)
        except StopIteration:
            pass
        except Unreadable as error:
            damage = error
            if not head:
                raise
        if not head:
            raise Unreadable("empty")
        refuse_binary(head)
        decoder = None
        known = False  # ASCII tells nothing: what is judged is the first piece that holds more
        for chunk in chain([head], chunks):
            if not known and not chunk.isascii():
                encoding = guess_encoding(chunk, marked=chunk is head)
                decoder = None if encoding == "utf-8" else codecs.getincrementaldecoder(encoding)("replace")
                known = True
            yield chunk if decoder is None else decoder.decode(chunk).encode("utf-8", "replace")
        if decoder is not None:
            yield decoder.decode(b"", final=True).encode("utf-8", "replace")
        if damage:
            raise damage

    def lines(self) -> Iterator[tuple[int, bytes | None]]:
        """Numbered lines of UTF-8, from 1, without their newline; None stands for a line longer than `limit`.

        A line is joined once, so a single line of 50 MB costs no more than a small multiple of its size.
        """
        number, pending, size = 0, [], 0
        for chunk in self.utf8_chunks():
            *ends, rest = chunk.split(b"\n")
            for end in ends:
                number += 1
                pending.append(end)
                size += len(end)
                yield number, b"".join(pending) if size <= self.limit else None
                pending, size = [], 0
            size += len(rest)
            pending.append(rest)
            if size > self.limit:
                pending.clear()
        if size:
            yield number + 1, b"".join(pending) if size <= self.limit else None


def refuse_machine_error(error: OSError, path: Path) -> None:
    """Stop where not the file is at fault but the disk or the network below it: next time it may be read, and what was
    made without it must not be taken for the whole.

    Raises:
        MachineError: the system's error is not one of `LASTING`.
    """
    if error.errno and error.errno not in LASTING:
        reason = error.strerror or str(error)
        raise MachineError(f"cannot read {path}: {reason}; mend that and run the same command again.") from error


def read_piece(stream: BinaryIO, size: int) -> bytes:
    """At most `size` bytes, as many as come at once; Unreadable where a gzip stream is cut off or damaged."""
    try:
        return cast(io.BufferedReader, stream).read1(size)
    except EOFError:
        raise Unreadable("the gzip stream ends too early (a cut-off download?)") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise Unreadable(f"the gzip stream is damaged: {error}") from None


def too_large(limit: int) -> str:
    """The reason given for a document, line or field beyond the limit."""
    return f"larger than {limit:,} bytes (corpus.maximum_document_bytes)"


def refuse_binary(data: bytes) -> None:
    """Raise Unreadable where the bytes cannot be text: NULs without a byte order mark, many control characters, PDF."""
    sample = data[:BINARY_SAMPLE]
    if any(sample.startswith(mark) for mark, _ in BYTE_ORDER_MARKS):
        return
    controls = len(sample) - len(sample.translate(None, _CONTROL_BYTES))
    if b"\0" in sample or sample.startswith(b"%PDF-") or controls > 0.05 * len(sample):
        raise Unreadable("binary file")


def guess_encoding(data: bytes, declared: str | None = None, marked: bool = True) -> str:
    """The encoding of `data`: its byte order mark, UTF-8, the `declared` one, or charset-normalizer's guess.

    `data` may end in the middle of a character; a byte order mark is looked for only where it may be `marked`.
    """
    for mark, name in BYTE_ORDER_MARKS:
        if marked and data.startswith(mark):
            return name
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    decoded = decoder.decode(data)
    broken = decoded.count("\ufffd") - data.count(b"\xef\xbf\xbd")
    beyond_ascii = len(decoded) - len(decoded.encode("ascii", "ignore")) if broken else 0
    if broken <= 0 or broken * 2 < beyond_ascii:
        return "utf-8"
    if declared is not None and _extends_ascii(declared):
        return declared
    from charset_normalizer import from_bytes

    first = re.search(rb"[\x80-\xff]", data)
    start = max(0, (first.start() if first else 0) - ENCODING_SAMPLE // 2)
    best = from_bytes(data[start : start + ENCODING_SAMPLE], cp_isolation=LEGACY_ENCODINGS).best()
    return best.encoding if best is not None else "cp1252"


def _extends_ascii(name: str) -> bool:
    """Whether a page can be in the encoding that it declares in ASCII; "idna" or "unicode_escape" are Python's own."""
    try:
        return _ASCII.decode(name, "replace") == _ASCII.decode("ascii")
    except (LookupError, ValueError):
        return False


def decode(data: bytes, declared: str | None = None) -> str:
    """A whole document as text; bytes that do not fit become U+FFFD. Raises Unreadable where it is no text."""
    refuse_binary(data)
    text = data.decode(guess_encoding(data, declared), "replace")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def decode_line(line: bytes) -> str:
    """One line of a UTF-8 file.

    Where it is damaged it is still kept, with U+FFFD in place of what is broken, as long as at most one character or
    5% of them are; beyond that it is not text any more and Unreadable is raised.
    """
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError:
        text = line.decode("utf-8", "replace")
        broken = text.count("\ufffd")
        if broken > 1 and broken > TOLERATED_DAMAGE * len(text):
            raise Unreadable(f"broken UTF-8: {broken} of {len(text)} characters") from None
        return text
