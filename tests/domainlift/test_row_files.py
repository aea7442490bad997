from __future__ import annotations

import contextlib
import json
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from domainlift.errors import Malformed
from domainlift.row_files import cells, file_rows, items

ROW = '{"question": "a"}\n'


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (ROW.encode() + '{"question": "café"}'.encode("latin-1"), ":2: is not UTF-8 (byte 0xe9)"),
        (b"PAR1\0\0", ":1: is a damaged Parquet file: "),
        (b"PK\x03\x04\0", ":1: is a ZIP file or a spreadsheet; save it"),
        (b"\x1f\x8b\x08\0", ":1: is compressed; save it"),
        (ROW.encode("utf-16"), ":1: is UTF-16 or no text at all"),
        (ROW.encode("utf-16-le"), ":1: is UTF-16 or no text at all"),
        (ROW.encode("utf-16-be"), ":1: is UTF-16 or no text at all"),
        (ROW.encode() + b'{"question": \n', ":2: broken JSON: expecting value in column 13"),
        (ROW.encode() + b"\n[1]\n", ":3: must be keys with values, not a list"),
        (b'{"a": ' + b"[" * 100_000, ":1: broken JSON: nested too deeply"),
        (b'{"a": ' + b"1" * 5000 + b"}", ":1: broken JSON: a number has too many digits"),
        (b'{"a": 1, "b": 2, "a": 3}', ":1: key `a` stands there twice"),
        (b'{"a": [{"b": 1, "b": 2}]}', ":1: key `b` stands there twice"),
    ],
)
def test_a_broken_file_is_named_with_its_line(tmp_path: Path, raw: bytes, message: str) -> None:
    path = tmp_path / "exam.jsonl"
    path.write_bytes(raw)
    with pytest.raises(Malformed) as caught:
        list(file_rows(path))
    assert f"{path}{message}" in caught.value.what
    assert caught.value.hint


def test_a_byte_order_mark_and_blank_lines_do_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "exam.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + b'{"a": 1}\r\n\r\n{"a": 2}\r\n')
    assert [(row.line, row.fields) for row in items(path)] == [(1, {"a": 1}), (3, {"a": 2})]
    path.write_bytes(b"\xef\xbb\xbf" + b'[{"a": 1},\n {"a": 2}]')
    assert [(row.line, row.fields) for row in items(path)] == [(1, {"a": 1}), (2, {"a": 2})]


def test_a_missing_file_is_said_to_be_missing(tmp_path: Path) -> None:
    for read in (file_rows, cells):
        with pytest.raises(Malformed, match="cannot be read"):
            list(read(tmp_path / "none.csv"))


def test_a_row_may_hold_what_looks_like_a_line_break(tmp_path: Path) -> None:
    path = tmp_path / "exam.jsonl"
    text = "one\u2028two\x85three\x0cfour"
    path.write_text(json.dumps({"q": text}, ensure_ascii=False), encoding="utf-8")
    assert [row.fields for row in items(path)] == [{"q": text}]


@pytest.mark.parametrize(
    ("line", "fields"),
    [
        ('{"a": NaN, "b": 1}', {"b": 1}),
        ('{"a": Infinity, "b": -Infinity, "c": 1e999}', {}),
        ('{"a": null, "b": ""}', {"b": ""}),
        ('{"a": "NaN", "b": "None"}', {"a": "NaN", "b": "None"}),
        ('{"a": [1, NaN, 2], "b": {"c": NaN}}', {"a": [1, None, 2], "b": {"c": None}}),
    ],
)
def test_what_is_no_value_is_missing(tmp_path: Path, line: str, fields: dict[str, Any]) -> None:
    path = tmp_path / "exam.jsonl"
    path.write_text(line, encoding="utf-8")
    assert [row.fields for row in items(path)] == [fields]


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("a,b,c\n1,,  \n", {"a": "1"}),
        ("a,b,c\n1,nan,NaN\n", {"a": "1"}),
        ("a,b\n1,Nan\n", {"a": "1", "b": "Nan"}),
        ("a;b\n1,5;2\n", {"a": "1,5", "b": "2"}),
        ("a\tb\n1\t2\n", {"a": "1", "b": "2"}),
        (",a\n0,1\n", {"a": "1"}),
        ("Unnamed: 0,a\n0,1\n", {"a": "1"}),
        ("a,b,\n1,2,\n", {"a": "1", "b": "2"}),
        ("a,\n1,x\n", {"a": "1", "": "x"}),
    ],
)
def test_cells_of_a_table(tmp_path: Path, text: str, fields: dict[str, str]) -> None:
    path = tmp_path / "exam.csv"
    path.write_text(text, encoding="utf-8")
    assert [row.fields for row in items(path)] == [fields]


def test_csv_lines_are_those_on_which_rows_begin(tmp_path: Path) -> None:
    path = tmp_path / "exam.csv"
    path.write_bytes(b'a,b\r\n"one\r\ntwo",2\r\n\r\n3,4\r\n')
    assert list(cells(path)) == [(1, ["a", "b"]), (2, ["one\r\ntwo", "2"]), (5, ["3", "4"])]
    assert [(row.line, row.fields["a"]) for row in items(path)] == [(2, "one\r\ntwo"), (5, "3")]


@pytest.mark.parametrize("raw", ['a,b\n1,2\n"open,4\n5,6\n', 'a,b\n1,2\n"x"y,4\n'])
def test_broken_quotes_are_found_where_they_open(tmp_path: Path, raw: str) -> None:
    path = tmp_path / "exam.csv"
    path.write_text(raw, encoding="utf-8")
    with pytest.raises(Malformed, match=r"exam\.csv:3: broken CSV: "):
        list(file_rows(path))


VALUES = st.recursive(
    st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100)
@given(st.lists(st.dictionaries(st.text(), VALUES, max_size=3), min_size=1, max_size=4))
def test_what_json_writes_is_read_again(tmp_path: Path, objects: list[dict[str, Any]]) -> None:
    for name, text in (
        ("lines.jsonl", "\n".join(json.dumps(value) for value in objects)),
        ("list.json", json.dumps(objects, indent=1)),
    ):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        assert [row.fields for row in file_rows(path)] == objects


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100)
@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused_in_our_words(tmp_path: Path, raw: bytes) -> None:
    for name in ("exam.jsonl", "exam.csv"):
        path = tmp_path / name
        path.write_bytes(raw)
        for read in (file_rows, cells):
            with contextlib.suppress(Malformed):
                list(read(path))


DAY = date(2026, 5, 4)


def test_rows_of_a_parquet_file_follow_the_rules_of_json(tmp_path: Path) -> None:
    path = tmp_path / "exam.parquet"
    rows = [
        {
            "question": "a",
            "options": ["x", "y"],
            "answer": 1,
            "score": 0.5,
            "day": date(2026, 5, 4),
        },
        {"question": "b", "options": None, "answer": None, "score": float("nan"), "day": None},
    ]
    parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    found = list(file_rows(path))
    assert [(row.line, row.fields) for row in found] == [
        (1, {**rows[0], "day": "2026-05-04"}),
        (2, {"question": "b"}),
    ]


def test_bytes_and_short_floats_of_a_parquet_file_are_what_they_show(tmp_path: Path) -> None:
    path = tmp_path / "exam.parquet"
    short = pyarrow.array([0.1], pyarrow.float32())
    table = {"q": ["é".encode()], "a": short, "__index_level_0__": [3]}
    parquet.write_table(pyarrow.table(table), path)
    [row] = file_rows(path)
    assert row.fields == {"q": "é", "a": 0.1}
    parquet.write_table(pyarrow.table({"q": [b"\xe9"]}), path)
    with pytest.raises(Malformed, match="is not UTF-8"):
        list(file_rows(path))


def test_a_parquet_file_that_ends_early_is_named(tmp_path: Path) -> None:
    path = tmp_path / "exam.parquet"
    parquet.write_table(pyarrow.Table.from_pylist([{"question": "a"}] * 9), path)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(Malformed, match="is a damaged Parquet file"):
        list(file_rows(path))
