from __future__ import annotations

import pytest

from benchmarks.results.error_reasons import count_reasons, error_reason, told_reasons


@pytest.mark.parametrize(
    ("errors", "reason"),
    [
        (
            [
                "the server answered 400: the content policy forbids request 9f-1",
                "the server answered 400: the content policy forbids request 77",
            ],
            "the server answered 400: the content policy forbids request …",
        ),
        (["no reply within 0.5 s", "no reply within 30 s"], "no reply within … s"),
        ([None, ""], "no reason was given"),
        (["two\nlines"], "two lines"),
        (
            [f"it has moved to `http://10.0.0.7:8001/v1/jobs/{n}`" for n in (17, 18)],
            "it has moved to `http://10.0.0.7:8001/v1/jobs/…`",
        ),
    ],
)
def test_what_varies_is_left_out(errors: list[str | None], reason: str) -> None:
    assert {error_reason(error) for error in errors} == {reason}


def test_the_status_tells_reasons_apart() -> None:
    reasons = count_reasons(
        error_reason(f"the server answered {status}: no") for status in (413, 400, 413)
    )
    assert list(reasons.items()) == [
        ("the server answered 413: no", 2),
        ("the server answered 400: no", 1),
    ]
    assert (
        told_reasons(reasons) == "2 × the server answered 413: no; 1 × the server answered 400: no"
    )
    assert told_reasons({str(n): 1 for n in range(7)}).endswith("; 2 more")
