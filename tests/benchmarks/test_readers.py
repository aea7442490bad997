from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.tasks import readers as rows
from domainlift.errors import Malformed

ROW = '{"question": "a"}\n'


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "is empty"),
        (b" \r\n\n", "is empty"),
        (ROW.encode() + '{"question": "café"}'.encode("latin-1"), ":2: is not UTF-8 (byte 0xe9)"),
        (ROW.encode("utf-16"), "is UTF-16, not UTF-8"),
        (ROW.encode("utf-16-le"), "is UTF-16, not UTF-8"),
        (ROW.encode("utf-16-be"), "is UTF-16, not UTF-8"),
        (ROW.encode() + b'{"question": \n', ":2: broken JSON row"),
        (ROW.encode() + b"\n[1]\n", ":3: row is not a JSON object"),
        (b'{"a": ' + b"[" * 100_000, ":1: broken JSON row"),
        (b'{"a": ' + b"1" * 5000 + b"}", ":1: broken JSON row"),
    ],
)
def test_a_broken_file_is_named_with_its_line(tmp_path: Path, raw: bytes, message: str) -> None:
    path = tmp_path / "exam.jsonl"
    path.write_bytes(raw)
    with pytest.raises(Malformed) as caught:
        list(rows.jsonl_rows(path))
    assert f"{path}" in caught.value.what
    assert message in caught.value.what
    assert caught.value.hint


def test_a_byte_order_mark_and_blank_lines_do_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "exam.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + b'{"a": 1}\r\n\r\n{"a": 2}\r\n')
    assert list(rows.jsonl_rows(path)) == [(1, {"a": 1}), (3, {"a": 2})]


def test_a_file_over_the_limit_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "big.jsonl"
    with path.open("wb") as file:
        file.truncate(rows.LARGEST + 1)
    with pytest.raises(Malformed, match="at most 200 MB"):
        rows.read_text(path)


def test_a_missing_file_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(Malformed, match="cannot be read"):
        rows.read_text(tmp_path / "none.jsonl")


def test_a_row_may_hold_what_looks_like_a_line_break(tmp_path: Path) -> None:
    path = tmp_path / "exam.jsonl"
    text = "one\u2028two\x85three\x0cfour"
    path.write_text(json.dumps({"q": text}, ensure_ascii=False), encoding="utf-8")
    assert list(rows.jsonl_rows(path)) == [(1, {"q": text})]


def test_csv_lines_are_those_on_which_rows_begin(tmp_path: Path) -> None:
    path = tmp_path / "exam.csv"
    path.write_bytes(b'a,b\r\n"one\r\ntwo",2\r\n\r\n3,4\r\n')
    assert list(rows.csv_rows(path)) == [(1, ["a", "b"]), (2, ["one\r\ntwo", "2"]), (5, ["3", "4"])]


@pytest.mark.parametrize("raw", ['a,b\n1,2\n"open,4\n5,6\n', 'a,b\n1,2\n"x"y,4\n'])
def test_broken_quotes_are_found_where_they_open(tmp_path: Path, raw: str) -> None:
    path = tmp_path / "exam.csv"
    path.write_text(raw, encoding="utf-8")
    with pytest.raises(Malformed, match=r"exam\.csv:3: broken CSV row"):
        list(rows.csv_rows(path))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(st.lists(st.dictionaries(st.text(), st.text(), max_size=3), min_size=1, max_size=4))
def test_what_json_writes_is_read_again(tmp_path: Path, objects: list[dict[str, str]]) -> None:
    path = tmp_path / "exam.jsonl"
    lines = [json.dumps(value) for value in objects]
    path.write_text("\n".join(lines), encoding="utf-8")
    assert [row for _, row in rows.jsonl_rows(path)] == objects


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100)
@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused_in_our_words(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "exam"
    path.write_bytes(raw)
    for read in (rows.jsonl_rows, rows.csv_rows):
        with contextlib.suppress(Malformed):
            list(read(path))
