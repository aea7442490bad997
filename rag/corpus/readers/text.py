"""Reader of plain text, and the bounded reading, decoding and cleaning that all readers share."""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from domainlift.errors import Malformed
from domainlift.text.display import one_line
from rag.corpus.readers.base import Section, SourceFile

LARGEST = 512 * 2**20
#: How many times its size a packed file may grow, once it is beyond `FREE`.
RATIO = 200
FREE = 16 * 2**20
_PIECE = 2**20
_SAVE = "save it again as UTF-8"
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_CONTROLS = bytes([*range(9), *range(14, 27), *range(28, 32), 127])  # without ESC: logs have it

# Control characters, and characters that are not seen but are read by a model.
_UNWANTED = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xa0\xad\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff"
    "\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"
)
# The bytes 80 to 9f of Windows' code page are often found as if they were characters.
_MEANT = {chr(byte): bytes([byte]).decode("cp1252", "ignore") for byte in range(0x80, 0xA0)} | {
    **dict.fromkeys("\x0b\x0c\u2028\u2029", "\n"),
    "\xa0": " ",
}
_ESCAPES = re.compile("\x1b\\[[0-9;]*[A-Za-z]")
_WRAPPED = 45  # a shorter line ended where its writer wanted it to


def read_text_file(file: SourceFile) -> Iterator[Section]:
    """Read a plain text as one section."""
    path = file.local_path
    yield Section(unwrap(clean_text(decode(path, read_bytes(path)))))


def read_bytes(path: Path) -> bytes:
    """Read a whole file, unpacked if it is packed."""
    return b"".join(_pieces(path))


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the numbered lines of a file, decoded one by one, without holding all of it."""
    for number, raw in enumerate(_raw_lines(path), 1):
        if number == 1 and raw[:2] in _UTF16:
            yield from enumerate(decode(path, read_bytes(path)).split("\n"), 1)
            return
        yield number, decode(path, raw, number)


def decode(path: Path, raw: bytes, line: int | None = None) -> str:
    """Decode UTF-8, or UTF-16 with its mark; anything else is an error that names the byte."""
    if raw[:2] in _UTF16:
        try:
            return raw.decode("utf-16").removeprefix("\ufeff")
        except UnicodeDecodeError as error:
            raise Malformed(path, f"broken UTF-16 (byte {error.start})", hint=_SAVE) from None
    if b"\0" in raw:
        what = f"is no text: byte {raw.index(0)} is NUL"
        raise Malformed(path, what, line=line, hint="leave binary files out")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        what = f"is not UTF-8 (byte {error.start} is 0x{error.object[error.start]:02x})"
        raise Malformed(path, what, line=line, hint=_SAVE) from None
    controls = len(raw) - len(raw.translate(None, _CONTROLS))
    if controls > max(8, len(raw) // 100):
        what = f"is no text: {controls} of {len(raw)} bytes are control characters"
        raise Malformed(path, what, line=line, hint="leave binary files out")
    return text


def clean_text(text: str) -> str:
    """Drop control and invisible characters and white space that means nothing."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if "\x1b" in text:
        text = _ESCAPES.sub("", text)
    text = _UNWANTED.sub(lambda found: _MEANT.get(found[0], ""), text)
    text = "\n".join(line.rstrip() for line in text.split("\n"))
    return re.sub(r"\n{3,}", "\n\n", text).strip("\n")


def clean_line(text: str) -> str:
    """Clean a text that is to stand in one line, as a heading does."""
    return one_line(clean_text(text))


def unwrap(text: str) -> str:
    """Join lines that were broken to fit a width: there, a line's end means nothing."""
    joined: list[list[str]] = []
    before = ""
    for line in text.split("\n"):
        goes_on = len(before) >= _WRAPPED and before[-1] not in ".:;!?" and line[:1].isalnum()
        if goes_on:
            joined[-1].append(line)
        else:
            joined.append([line])
        before = line
    return "\n".join(" ".join(parts) for parts in joined)


# --- within bounds


def _raw_lines(path: Path) -> Iterator[bytes]:
    begun: list[bytes] = []
    for piece in _pieces(path):
        first, *others = piece.split(b"\n")
        begun.append(first)
        if others:
            yield b"".join(begun)
            yield from others[:-1]
            begun = others[-1:]
    yield b"".join(begun)


def _pieces(path: Path) -> Iterator[bytes]:
    packed = path.suffix.lower() == ".gz"
    try:
        size = path.stat().st_size
        limit = LARGEST if not packed else min(LARGEST, max(FREE, RATIO * size))
        with path.open("rb") as raw:
            file: IO[bytes] = gzip.GzipFile(fileobj=raw) if packed else raw  # type: ignore[assignment]
            yield from _bounded(path, file, limit)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise Malformed(path, f"broken gzip file ({error})", hint="fetch it again") from None
    except OSError as error:
        raise Malformed(path, f"cannot be read: {error.strerror}") from None


def _bounded(path: Path, file: IO[bytes], limit: int) -> Iterator[bytes]:
    total = 0
    while piece := file.read(_PIECE):
        total += len(piece)
        if total > limit:
            what = f"holds more than {limit // 2**20} MB, which is the limit for a file of its size"
            raise Malformed(path, what, hint="split it into smaller files")
        yield piece
