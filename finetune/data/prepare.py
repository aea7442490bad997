"""Preparation of a data set: rows cleaned, deduplicated, decontaminated, split, and described.

<folder>/train.jsonl, validation.jsonl, held_out.jsonl    the rows
<folder>/card.json                                        the data card

The folder appears in one step when all of it is written, and is never written again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.prompts import without_passages
from domainlift.errors import BenchError, Misuse
from domainlift.files import atomic_folder, disk_errors, text_sha256
from domainlift.sampling import sample_evenly
from domainlift.text.contamination import QuestionIndex, contaminated_rows
from finetune.data.cleaning import clean_row, prompt_text, reject_reason
from finetune.data.dataset_card import FilterCounts, card_text
from finetune.data.duplicates import without_near_duplicates
from finetune.data.row_io import SPLITS, row_lines
from finetune.data.rows import Row

#: What of 100 groups of rows stays for validation, and what nobody looks at before the end.
VALIDATION = 5
HELD_OUT = 5


@dataclass(frozen=True)
class PreparedDataset:
    """A written data set: its rows per split, and the counts of removed rows.

    `sha256` is that of the three files of rows together.
    """

    domain: str
    path: Path
    train: int
    validation: int
    held_out: int
    duplicates: int
    leaked: int
    sha256: str

    def as_json(self) -> dict[str, Any]:
        """The same for JSON."""
        return {**asdict(self), "path": str(self.path)}


def prepare_rows(
    domain: str,
    rows: Iterable[Row],
    *,
    size: int | None = None,
    seed: int = 0,
    benchmark: QuestionIndex | None = None,
    folder: Path,
    all_trained: bool = False,
) -> PreparedDataset:
    """Write the data set of a domain to `folder`, at most `size` rows with an even share per kind.

    Rows that hold one of the `benchmark` questions are left out; passages before a question are
    not looked at, since they are read and not learned. `all_trained` rows have no other split. The
    same input gives the same bytes. A folder that holds another data set is an error, and so is an
    input of which nothing is left.
    """
    cleaned, dropped = _cleaned(rows)
    unique, exact, near = without_near_duplicates(cleaned)
    kept = _uncontaminated(unique, benchmark) if benchmark is not None else unique
    compared = len(benchmark.questions) if benchmark is not None else 0
    sieve = FilterCounts(compared, dropped, exact, near, len(unique) - len(kept))
    if not kept:
        raise BenchError(
            f"no row is left to learn from in `{domain}`", f"taken out: {sieve.summary}"
        )
    chosen = sample_evenly(kept, size, seed, name=lambda row: row.id, kind=lambda row: row.kind)
    sieve = replace(sieve, beyond_size=len(kept) - len(chosen))
    parts = [(row, "train" if all_trained else split_of(row)) for row in chosen]
    splits = {name: [row for row, part in parts if part == name] for name in SPLITS}
    files = {f"{name}.jsonl": row_lines(part) for name, part in splits.items()}
    digest = text_sha256("".join(files.values()))
    card = card_text(domain, seed, splits, files, digest, sieve)
    _publish(folder, {**files, "card.json": card})
    counts = {name: len(part) for name, part in splits.items()}
    return PreparedDataset(
        domain, folder, **counts, duplicates=exact + near, leaked=sieve.leaked, sha256=digest
    )


def split_of(row: Row) -> str:
    """The split of a row, by a hash of its source, or of its content without one.

    So no row changes its split when others are added, and rows of one source stay together.
    """
    origin = row.source if row.source else row.id
    number = int(text_sha256(origin)[:12], 16) % 100
    if number < HELD_OUT:
        return "held_out"
    return "validation" if number < HELD_OUT + VALIDATION else "train"


def _cleaned(rows: Iterable[Row]) -> tuple[list[Row], Counter[str]]:
    kept: list[Row] = []
    dropped: Counter[str] = Counter()
    for row in map(clean_row, rows):
        reason = reject_reason(row)
        if reason:
            dropped[reason] += 1
        else:
            kept.append(row)
    return kept, dropped


def _uncontaminated(rows: Sequence[Row], benchmark: QuestionIndex) -> list[Row]:
    texts = [
        f"{without_passages(prompt_text(row))}\n{row.completion}\n{row.rejected}" for row in rows
    ]
    contaminated = contaminated_rows(texts, benchmark)
    return [row for row, holds in zip(rows, contaminated, strict=True) if not holds]


# --- the disk


def _publish(folder: Path, files: dict[str, str]) -> None:
    """Have the folder hold these files, all of them or none."""
    if folder.is_dir() and any(folder.iterdir()):
        _check_same(folder, files)
        return
    if folder.is_dir():
        with disk_errors(folder):
            folder.rmdir()
    with atomic_folder(folder) as build:
        for name, text in files.items():
            (build / name).write_bytes(text.encode("utf-8"))


def _check_same(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = folder / name
        if not path.is_file() or path.read_bytes() != text.encode("utf-8"):
            what = f"`{folder}` holds another data set (`{name}` differs)"
            raise Misuse(what, "name another folder, or delete this one first")
