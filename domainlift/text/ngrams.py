"""N-grams of words, and an index that finds those of many short texts in a stream of words.

The index numbers the words of the sought texts; all other words are 0. Windows of n words are
compared by a rolling 64-bit hash, computed for a whole block at once; a bitmap rejects most of the
windows that are not sought. Memory depends on the sought texts and on the block.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import chain, repeat
from typing import TYPE_CHECKING, Any, TypeVar

from domainlift.optional import need

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Hashes = NDArray[np.uint64]
    Integers = NDArray[np.int64]

Item = TypeVar("Item")

#: For each sought text, by its row: {place in the words: ordinal of the gram that begins there}.
Places = Mapping[int, Mapping[int, int]]

_END = ("",)  # no word, so that it parts two texts
_BLOCK = 200_000  # words that are looked up at once
_BITS = 22
_BASE = 0x9E3779B97F4A7C15  # odd, so that no word of a window is shifted out of its hash


def ngrams(words: Sequence[str], size: int) -> set[tuple[str, ...]]:
    """The distinct n-grams of these words; a text of fewer than `size` words is one gram."""
    size = max(1, min(size, len(words)))
    return {tuple(words[start : start + size]) for start in range(len(words) - size + 1)}


def jaccard(a: Set[Any], b: Set[Any]) -> float:
    """|a ∩ b| / |a ∪ b|, and 1 for two empty sets."""
    shared = len(a & b)
    return shared / (len(a) + len(b) - shared) if a or b else 1.0


class NgramIndex:
    """Index of the n-grams of the sought texts; one shorter than `size` words is one gram.

    `counts` holds how many distinct n-grams each sought text has.
    """

    def __init__(self, texts: Sequence[Sequence[str]], size: int) -> None:
        np = need("numpy")
        self.size = size
        self.counts = [0] * len(texts)
        vocabulary = dict.fromkeys(chain.from_iterable(texts))
        self._numbers = {word: number for number, word in enumerate(vocabulary, 1)}
        draw = np.random.default_rng(0)
        self._codes = draw.integers(1, 2**63, len(self._numbers) + 1, dtype=np.uint64)
        self._tables: dict[int, _Table] = {}
        lengths = np.array([len(text) for text in texts], dtype=np.int64)
        for length in sorted({min(size, int(n)) for n in lengths if n}):
            self._add(texts, np.flatnonzero(np.minimum(lengths, size) == length), length)

    def scan(
        self, segments: Iterable[tuple[Item, Sequence[str]]]
    ) -> Iterator[tuple[Item, Sequence[str], Places]]:
        """Yield those segments, each an item and its words, that hold any gram, in order."""
        block: list[tuple[Item, Sequence[str]]] = []
        held = 0
        for segment in segments:
            block.append(segment)
            held += len(segment[1]) + 1
            if held >= _BLOCK:
                yield from self._look_up(block)
                block, held = [], 0
        yield from self._look_up(block)

    def _add(self, texts: Sequence[Sequence[str]], chosen: Integers, length: int) -> None:
        import numpy as np

        numbers, starts = self._stream([texts[row] for row in chosen])
        hashes = dict(_windows(self._codes, numbers, {length}))[length]
        whole = _whole(numbers, length)
        owner = np.searchsorted(starts, whole, side="right") - 1
        ordinals = whole - starts[owner]
        # By hash; those of one hash stay in the order of texts, and of the places in them.
        order = np.argsort(hashes[whole], kind="stable")
        rows, seen, ordinals = chosen[owner][order], hashes[whole][order], ordinals[order]
        # A gram that a text holds twice counts once, where it stands first.
        new = np.ones(len(rows), dtype=np.bool_)
        new[1:] = (rows[1:] != rows[:-1]) | (seen[1:] != seen[:-1])
        for row, count in zip(
            chosen.tolist(), np.bincount(rows[new])[chosen].tolist(), strict=True
        ):
            self.counts[row] = count
        self._tables[length] = _Table.of(seen[new], rows[new], ordinals[new])

    def _look_up(
        self, block: Sequence[tuple[Item, Sequence[str]]]
    ) -> Iterator[tuple[Item, Sequence[str], Places]]:
        import numpy as np

        if not block or not self._tables:
            return
        numbers, starts = self._stream([text for _, text in block])
        hits: dict[int, dict[int, dict[int, int]]] = {}
        for length, hashes in _windows(self._codes, numbers, set(self._tables)):
            whole = _whole(numbers, length)
            places, rows, ordinals = self._tables[length].look_up(hashes[whole], whole)
            owners = np.searchsorted(starts, places, side="right") - 1
            columns = (owners, places - starts[owners], rows, ordinals)
            for owner, place, row, ordinal in np.stack(columns, axis=1).tolist():
                hits.setdefault(owner, {}).setdefault(row, {})[place] = ordinal
        for owner in sorted(hits):
            yield *block[owner], hits[owner]

    def _stream(self, texts: Sequence[Sequence[str]]) -> tuple[Integers, Integers]:
        """The words of all texts as numbers, a 0 after each, and where each text begins."""
        import numpy as np

        ends = np.cumsum([len(text) + 1 for text in texts])
        stream = chain.from_iterable(chain(text, _END) for text in texts)
        coded = map(self._numbers.get, stream, repeat(0))
        numbers = np.fromiter(coded, dtype=np.int64, count=int(ends[-1]) if len(texts) else 0)
        return numbers, np.concatenate([[0], ends[:-1]]).astype(np.int64)


@dataclass(frozen=True)
class _Table:
    """Grams of one length, sorted by their hash, and whose they are."""

    hashes: Hashes
    rows: Integers
    ordinals: Integers
    bitmap: NDArray[np.bool_]

    @classmethod
    def of(cls, hashes: Hashes, rows: Integers, ordinals: Integers) -> _Table:
        """Make a table of grams that are sorted already."""
        import numpy as np

        bitmap = np.zeros(1 << _BITS, dtype=np.bool_)
        bitmap[_short(hashes)] = True
        return cls(hashes, rows, ordinals, bitmap)

    def look_up(self, hashes: Hashes, places: Integers) -> tuple[Integers, Integers, Integers]:
        """Place, row and ordinal of each gram that is sought, once per text that holds it."""
        import numpy as np

        likely = np.flatnonzero(self.bitmap[_short(hashes)])
        left = np.searchsorted(self.hashes, hashes[likely], side="left")
        right = np.searchsorted(self.hashes, hashes[likely], side="right")
        counts = right - left
        # For each window the entries left, left + 1, … right - 1, laid out one after another.
        before = np.repeat(np.cumsum(counts) - counts, counts)
        entries = np.repeat(left, counts) + np.arange(len(before)) - before
        return np.repeat(places[likely], counts), self.rows[entries], self.ordinals[entries]


def _windows(codes: Hashes, numbers: Integers, lengths: set[int]) -> Iterator[tuple[int, Hashes]]:
    """For each wanted length the hash of the window that begins at each place."""
    import numpy as np

    own = codes[numbers]
    hashes = np.zeros(len(own), dtype=np.uint64)
    for length in range(1, max(lengths) + 1):
        reach = max(0, len(own) - length + 1)
        hashes = hashes[:reach] * np.uint64(_BASE) + own[length - 1 :]
        if length in lengths:
            yield length, hashes


def _whole(numbers: Integers, length: int) -> Integers:
    """Places of the windows that hold sought words only; a 0 also separates two texts."""
    import numpy as np

    unknown = np.concatenate([[0], np.cumsum(numbers == 0)])
    return np.flatnonzero(unknown[length:] == unknown[: max(0, len(unknown) - length)])


def _short(hashes: Hashes) -> Hashes:
    import numpy as np

    return hashes >> np.uint64(64 - _BITS)
