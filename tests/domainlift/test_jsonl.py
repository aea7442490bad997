from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from domainlift.errors import BenchError, Malformed
from domainlift.jsonl import AppendLog, read_lines_at, read_log, scan_log


def read(path: Path) -> list[Mapping[str, Any]]:
    return list(read_log(path, dict, "not a row", "remove that line"))


def append(path: Path, *rows: Mapping[str, Any], fsync: bool = False) -> None:
    log = AppendLog(path, fsync=fsync)
    with log.writing():
        for row in rows:
            log.append(row)


@pytest.mark.parametrize("fsync", [False, True])
def test_rows_are_read_as_they_were_appended(fsync: bool, tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    rows = [{"text": "grün 🤷 地\n\u2028"}, {"n": 1.5, "list": [None, True]}]
    append(path, rows[0], fsync=fsync)
    append(path, rows[1], fsync=fsync)
    assert read(path) == rows


def test_lines_are_read_again_at_their_offsets(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    append(path, *({"text": "ü" * n} for n in range(5)))
    offsets = [offset for offset, _ in scan_log(path, dict, "not a row", "remove that line")]
    chosen = [offsets[4], offsets[0], offsets[2]]
    assert [len(row["text"]) for row in read_lines_at(path, dict, chosen)] == [4, 0, 2]


def test_half_a_surrogate_pair_survives(tmp_path: Path) -> None:
    append(tmp_path / "log.jsonl", {"text": "a\ud83d"})
    assert read(tmp_path / "log.jsonl") == [{"text": "a\ud83d"}]


def test_a_log_that_nothing_was_appended_to_makes_no_file(tmp_path: Path) -> None:
    append(tmp_path / "log.jsonl")
    assert not (tmp_path / "log.jsonl").exists()
    assert read(tmp_path / "log.jsonl") == []


@pytest.mark.parametrize("tail", [b"", b'{"a"', b"\x00" * 100, b'"\xc3', b"x" * 200_000])
def test_a_torn_last_line_is_not_read_and_cut_off_by_the_next_writer(
    tail: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "log.jsonl"
    append(path, {"a": 1})
    whole = path.read_bytes()
    path.write_bytes(whole + tail)
    assert read(path) == [{"a": 1}]
    append(path, {"a": 2})
    assert path.read_bytes() == whole + b'{"a": 2}\n'


@pytest.mark.parametrize("line", [b"nonsense", b"", b"5", b"[1]", b'"\xff"', b"[" * 100_000])
def test_a_broken_whole_line_is_named(line: bytes, tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"a": 1}\n' + line + b"\n")
    with pytest.raises(Malformed, match=r"log\.jsonl:2: not a row") as caught:
        read(path)
    assert caught.value.hint == "remove that line"


def test_a_full_disk_is_said_once_and_loses_nothing(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full on this system")
    path = tmp_path / "log.jsonl"
    path.symlink_to("/dev/full")
    with pytest.raises(BenchError, match="the disk is full at `"):
        append(path, {"a": 1})


def test_appended_rows_outlive_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    script = (
        "import os, signal, sys\nfrom pathlib import Path\n"
        "from domainlift.jsonl import AppendLog\n"
        "log = AppendLog(Path(sys.argv[1]))\n"
        "with log.writing():\n"
        "    log.append({'a': 1})\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    if os.name == "nt":
        pytest.skip("no SIGKILL on this system")
    done = subprocess.run([sys.executable, "-c", script, str(path)], check=False)
    assert done.returncode == -9
    assert read(path) == [{"a": 1}]
