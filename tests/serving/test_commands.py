"""`bench ask` and `bench chat`, over an engine without a model."""

from __future__ import annotations

import io
import json
import os
import signal
import threading
from collections.abc import Callable

import pytest

from bench.app import main
from serving.assistant import NOT_FOUND
from tests.helpers.streaming_engine import EchoEngine
from tests.serving.conftest import Garden

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(
    garden: Garden,
    engine: EchoEngine,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Run:
    """Run a command on the garden; `typed` is its standard input."""
    monkeypatch.setattr("serving.assistant.changes_logits", lambda engine, name: True)
    monkeypatch.setattr("serving.assistant.open_engine", lambda name, options: engine)

    def command(*argv: str, typed: str = "") -> tuple[int, str, str]:
        monkeypatch.setattr("sys.stdin", io.StringIO(typed))
        code = main([*argv, "--workspace", str(garden.root)])
        return code, *capsys.readouterr()

    return command


def test_ask_tells_the_answer_and_its_sources(run: Run, engine: EchoEngine) -> None:
    code, out, _ = run("ask", "When are leeks sown?")
    assert code == 0
    assert out.splitlines()[0].endswith("When are leeks sown?")
    assert "route: garden by keywords: leek" in out
    assert "[1] leek (garden.txt/leek, score" in out
    assert engine.closed


def test_an_answer_of_ask_can_be_marked(run: Run) -> None:
    assert run("ask", "When are tomatoes sown?", "--keep-replies", "0")[0] == 0
    assert run("feedback", "add", "latest", "right")[0] == 2
    id_ = json.loads(run("ask", "When are leeks sown?", "--json")[1])["id"]
    assert run("feedback", "add", "latest", "right")[0] == 0
    (row,) = json.loads(run("feedback", "list", "--json")[1])
    assert (row["id"], row["question"], row["version"]) == (id_, "When are leeks sown?", "first")


def test_ask_as_json(run: Run) -> None:
    _, out, _ = run("ask", "When are leeks sown?", "--json")
    told = json.loads(out)
    assert list(told) == [
        *("answer", "supported", "domain", "route", "adapter", "passages", "tokens", "seconds"),
        *("id", "version"),
    ]
    (passage,) = told["passages"]
    assert passage.keys() == {"source", "section", "text", "score"}
    assert (passage["source"], passage["section"]) == ("garden.txt/leek", "leek")
    assert (told["supported"], told["domain"], told["adapter"]) == (True, "garden", None)
    assert told["tokens"] == len(told["answer"].split())


def test_ask_says_what_the_documents_do_not_hold(run: Run, engine: EchoEngine) -> None:
    code, out, _ = run("ask", "Who painted this ship?", "--json")
    told = json.loads(out)
    assert (code, told["answer"], told["supported"]) == (0, NOT_FOUND, False)
    assert engine.prompts == []


def test_what_a_model_says_cannot_steer_a_terminal(run: Run) -> None:
    _, out, _ = run("ask", "Who is the judge \x1b[2J of this court?")
    assert "\x1b" not in out


def test_chat_keeps_the_conversation_and_has_commands(run: Run, engine: EchoEngine) -> None:
    typed = "When are leeks sown?\n\nAnd leeks?\n/route\n/sources\n/reset\n/route\n/hm\n/quit\nx"
    code, out, _ = run("chat", typed=typed)
    assert code == 0
    assert [m.role for m in engine.prompts[1].messages] == ["user", "assistant", "user"]
    assert out.count("route: garden") == 2
    assert "leeks are sown in march and stay in the bed over winter" in out
    assert "nothing was asked yet" in out
    assert out.count("/reset    begin anew") == 1
    assert len(engine.prompts) == 2


def test_answers_of_a_chat_are_marked_in_it(run: Run) -> None:
    typed = "/right\nWhen are leeks sown?\n/wrong in April \nAnd leeks?\n/right\n/right\n/quit"
    code, out, _ = run("chat", typed=typed)
    assert code == 0
    assert out.startswith("nothing was asked yet")
    rows = json.loads(run("feedback", "list", "--json")[1])
    assert [(r["question"], r["verdict"], r["correction"]) for r in rows] == [
        ("When are leeks sown?", "wrong", "in April"),
        ("And leeks?", "right", ""),
    ]


def test_chat_forgets_the_oldest_turns_beyond_the_context(run: Run, engine: EchoEngine) -> None:
    long = "leeks " * 400
    code, _, err = run("chat", typed=f"{long}\n{long}\n{'leeks ' * 2000}\n/quit\n")
    assert (code, len(engine.prompts[1].messages)) == (0, 3)
    assert len(engine.prompts[2].messages) == 1
    assert "exceeds the context window" in err


def test_ctrl_c_ends_a_reply_and_not_the_chat(run: Run, engine: EchoEngine) -> None:
    engine.pause = 0.05
    timer = threading.Timer(0.4, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    code, out, _ = run("chat", typed=f"{'leeks ' * 300}\n/route\n")
    assert (code, engine.said < 100) == (0, True)
    assert "…\nroute: garden" in out


def test_sigterm_ends_the_chat(run: Run, engine: EchoEngine) -> None:
    engine.pause = 0.05
    timer = threading.Timer(0.4, os.kill, (os.getpid(), signal.SIGTERM))
    timer.start()
    assert run("chat", typed=f"{'leeks ' * 300}\n/route\n")[0] == 143


@pytest.mark.parametrize(
    ("argv", "code", "said"),
    [
        (("ask", "x", "--plan", "nowhere.yaml"), 2, "nowhere.yaml"),
        (("ask", "x", "--model", "other"), 1, "bench improve --model other"),
        (("serve", "--host", "0.0.0.0"), 2, "BENCH_KEY"),
    ],
)
def test_what_is_wrong_is_told_with_its_remedy(
    run: Run, argv: tuple[str, ...], code: int, said: str
) -> None:
    found, _, err = run(*argv)
    assert (found, said in err) == (code, True), err
