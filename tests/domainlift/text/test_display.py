from __future__ import annotations

import pytest

from domainlift.text.display import one_line, printable


@pytest.mark.parametrize(
    ("text", "limit", "line"),
    [("a\n\tb  c ", None, "a b c"), ("abcdef", 6, "abcdef"), ("abcdefg", 6, "abcde…"), ("", 3, "")],
)
def test_a_text_becomes_one_line(text: str, limit: int | None, line: str) -> None:
    assert one_line(text, limit) == line


def test_control_characters_and_marks_of_direction_are_replaced() -> None:
    assert printable("a\x1b[31m\n\u202eb é") == "a\ufffd[31m\ufffd\ufffdb é"
    assert printable("a\nb", " ") == "a b"
