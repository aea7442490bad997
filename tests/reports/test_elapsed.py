import io
import time
from contextlib import redirect_stderr

import pytest

from reports import elapsed as module
from reports.elapsed import elapsed


def test_long_work_gives_a_sign_of_life(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "_EVERY", 0.05)
    with elapsed("reading \x1b[31mweights"), redirect_stderr(io.StringIO()):
        time.sleep(0.3)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) >= 2
    assert all(line.startswith("note: reading ") and "\x1b" not in line for line in lines)


def test_short_work_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    with elapsed("reading"):
        pass
    assert capsys.readouterr().err == ""
