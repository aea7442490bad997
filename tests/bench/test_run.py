from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engines.registry import tiny_folder
from tests.helpers.model_server import ModelServer

needs_tiny = pytest.mark.skipif(
    not (tiny_folder() / "model.safetensors").is_file(), reason="the embedded model is not here yet"
)

COUNTS = {"n", "correct", "accuracy", "interval", "chance"}
COUNTS |= {"unparsed", "cut_off", "truncated", "errors", "verdict"}


def answers(root: Path) -> list[dict[str, Any]]:
    paths = list((root / "workspace" / "runs").glob("*/answers.jsonl"))
    return [json.loads(line) for path in paths for line in path.read_bytes().splitlines()]


def test_json_is_all_that_goes_to_stdout(server: Any, bench: Any, exam: Any) -> None:
    said = bench(
        *("run", "--model", server.model, "--task", exam(12), "--scoring", "letter", "--json")
    )
    assert said.code == 0, said.err
    assert said.out.count("\n") == 1
    data = said.json
    assert {"run", "model", "suite", "domains", "overall", "seconds", "forward_tokens"} <= set(data)
    assert all(set(part) >= COUNTS for part in (*data["domains"].values(), data["overall"]))
    assert data["overall"]["n"] == 12
    assert list(data["domains"]) == ["history", "law"]
    assert data["suite"] == "tasks"
    assert "Scored 12 questions in " in said.err


def test_thoughts_and_cut_replies_are_no_answers(server: Any, bench: Any, exam: Any) -> None:
    argv = ("run", "--model", server.model, "--task", exam(6), "--scoring", "generate", "--json")
    server.text = "<think>Perhaps B. No, B is wrong: C.</think>\n\nC"
    said = bench(*argv)
    assert said.code == 0, said.err
    assert {r["chosen"] for r in answers(Path())} == {2}
    assert {r["extracted_by"] for r in answers(Path())} == {"letter alone"}
    assert {r["text"] for r in answers(Path())} == {"C"}
    assert all(r["thought"].startswith("Perhaps B.") for r in answers(Path()))
    assert (said.json["overall"]["cut_off"], said.json["overall"]["unparsed"]) == (0, 0)
    server.text, server.choice = "The answer is B. But if", {"finish_reason": "length"}
    cut = bench(*argv, "--max-tokens", 5)
    assert cut.json["run"] != said.json["run"]
    assert (cut.json["overall"]["cut_off"], cut.json["overall"]["accuracy"]) == (6, 0.0)
    assert {score["cut_off"] for score in cut.json["domains"].values()} == {3}
    assert (
        "6 replies were cut off by the limit of tokens" in bench(*argv[:-1], "--max-tokens", 5).out
    )
    server.text, server.choice = "<think>Perhaps B. Or", {"finish_reason": "stop"}
    never = bench(*argv, "--max-tokens", 6)
    assert (never.json["overall"]["cut_off"], never.json["overall"]["unparsed"]) == (0, 6)
    pair = (said.json["run"], cut.json["run"])
    compared = bench("compare", *pair, "--json").json
    assert compared["overall"]["sides"]["candidate"]["cut_off"] == 6
    assert "setting `max_tokens`: none → `5`" in compared["warnings"]
    for form in ((), ("--markdown",)):
        assert "cut off" in bench("compare", *pair, *form).out


def test_without_questions_to_choose_a_form_on_letters_are_taken(
    server: Any, bench: Any, exam: Any
) -> None:
    said = bench(
        *("run", "--model", server.model, "--task", exam(6), "--scoring", "auto", "--json")
    )
    assert said.code == 0, said.err
    assert "note: no validation or training questions to choose a form on" in said.err
    assert said.json["form"] == {"name": "letter", "shots": 0, "tried": {}}
    assert said.json["overall"]["letters"]["gold"].keys() <= set("ABCDE")


def test_the_same_command_shows_the_stored_run(server: Any, bench: Any, exam: Any) -> None:
    argv = ("run", "--model", server.model, "--task", exam(6), "--scoring", "letter")
    first = bench(*argv, "--json")
    asked = len(server.asked)
    again = bench(*argv, "--json")
    assert again.json == first.json
    assert len(server.asked) == asked
    assert f"note: this is the stored run `{first.json['run']}`" in again.err
    fresh = bench(*argv, "--json", "--fresh")
    assert fresh.json["run"] == first.json["run"] + "-2"
    assert len(server.asked) == 2 * asked
    shown = bench(*argv)
    assert shown.code == 0
    assert all(word in shown.out for word in ("domain", "verdict", "history", "law", "overall"))


def test_other_settings_are_not_resumed(server: Any, bench: Any, exam: Any) -> None:
    argv = ("run", "--model", server.model, "--task", exam(6), "--scoring", "letter", "--json")
    first = bench(*argv).json["run"]
    said = bench(*argv, "--limit", 2, "--resume", first)
    assert said.code == 2
    assert f"run `{first}` was made with other settings: questions " in said.err
    assert bench(*argv, "--resume", first).code == 0
    assert bench(*argv, "--resume", "exam").code == 2


def test_questions_without_an_answer_make_the_command_fail(
    server: Any, bench: Any, exam: Any
) -> None:
    server.refuse = "number 3?"
    argv = ("run", "--model", server.model, "--task", exam(6), "--scoring", "letter", "--json")
    said = bench(*argv)
    assert said.code == 1
    assert said.json["overall"]["errors"] == 1
    assert said.json["overall"]["n"] == 5
    assert "error: 1 of 6 questions have no answer; the scores cover 5" in said.err
    reasons = {"the server answered 400: this prompt is refused": 1}
    assert said.json["overall"]["error_reasons"] == reasons
    assert f"`--resume {said.json['run']}` asks them again" in said.err
    server.refuse, before = "\0", len(server.asked)
    again = bench(*argv)
    assert (again.code, len(server.asked)) == (1, before)
    shown = bench("runs", "show", said.json["run"])
    assert "errors: 1 × the server answered 400: this prompt is refused" in shown.out
    again = bench(*argv, "--resume", said.json["run"])
    assert again.code == 0
    assert again.json["overall"]["n"] == 6
    assert again.json["overall"]["error_reasons"] == {}
    assert len(server.asked) == before + 1


def test_refused_prompts_do_not_end_a_run(server: Any, bench: Any, exam: Any) -> None:
    server.refuse = "number 1"
    argv = ("run", "--model", server.model, "--task", exam(20), "--scoring", "letter", "--json")
    said = bench(*argv)
    assert said.code == 1
    # 1 and 10 to 19, one after another; each is asked once.
    assert (said.json["overall"]["errors"], said.json["overall"]["n"]) == (11, 9)
    assert sum("number 1" in prompt for prompt in server.asked) == 11
    assert sum(said.json["overall"]["error_reasons"].values()) == 11
    assert "questions have no answer" in said.err
    assert "refuses them for good" in said.err


def test_another_server_of_the_same_name_is_another_model(
    server: Any, bench: Any, exam: Any
) -> None:
    other = ModelServer()
    try:
        argv = ("--task", exam(6), "--scoring", "letter", "--json")
        first = bench("run", "--model", server.model, *argv)
        second = bench("run", "--model", other.model, *argv)
        urls = [each.model.partition("#")[0] for each in (server, other)]
        assert (second.code, len(other.asked)) == (0, len(server.asked))
        assert second.json["run"] != first.json["run"]
        assert f"the stored `{first.json['run']}` is like it but for" in second.err
        assert f"engine option server `{urls[0]}` → `{urls[1]}`" in second.err
        resumed = bench("run", "--model", other.model, *argv, "--resume", first.json["run"])
        assert resumed.code == 2
        assert f"engine option server `{urls[0]}` → `{urls[1]}`" in resumed.err
    finally:
        other.close()


def test_a_password_is_neither_shown_nor_stored(
    server: Any, bench: Any, exam: Any, tmp_path: Path
) -> None:
    url, _, model = server.model.partition("#")
    secret = url.replace("://", "://me:hush@") + "?api-key=hush#" + model
    said = bench("run", "--model", secret, "--task", exam(4), "--scoring", "letter", "--json")
    assert said.code == 0, said.err
    assert "hush" not in said.out + said.err
    run = Path(bench("runs", "show", said.json["run"], "--path").out.strip())
    stored = (run / "manifest.json").read_text()
    assert "hush" not in stored
    assert "api-key=" in stored
    server.close()
    down = bench("run", "--model", secret, "--task", exam(4), "--scoring", "letter", "--fresh")
    assert "hush" not in down.out + down.err
    assert "no model server answers" in down.err


def test_a_limit_is_spread_over_the_domains(server: Any, bench: Any, exam: Any) -> None:
    said = bench(
        *("run", "--model", server.model, "--task", exam(40), "--limit", 10),
        *("--scoring", "letter", "--json"),
    )
    assert [part["n"] for part in said.json["domains"].values()] == [5, 5]


def test_only_the_wanted_domains_are_asked(server: Any, bench: Any, exam: Any) -> None:
    argv = ("run", "--model", server.model, "--task", exam(8), "--scoring", "letter", "--json")
    said = bench(*argv, "--domains", "history, ")
    assert list(said.json["domains"]) == ["history"]
    none = bench(*argv, "--domains", "biology")
    assert none.code == 2
    assert "no question is left to ask" in none.err


@pytest.mark.parametrize(
    ("argv", "what", "hint"),
    [
        (["--suite", "mmul"], "no suite `mmul`", "did you mean `mmlu`?"),
        (["--domains", "histroy"], "no domain `histroy`", "did you mean `history`?"),
        (["--scoring", "leter"], "no way of scoring `leter`", "did you mean `letter`?"),
        (["--scoring", "x"], "no way of scoring `x`", "`cloze`, `generate`, `letter`"),
        (["--task", "mmlu:anatomi"], "no task `mmlu:anatomi`", "did you mean `mmlu:anatomy`?"),
        (["--task", "missing.jsonl"], "missing.jsonl", ""),
        (["--suite", "missing.yaml"], "missing.yaml", ""),
        (["--data", "missing", "--suite", "mmlu"], "missing", ""),
    ],
)
def test_a_name_that_does_not_exist_leads_to_one_that_does(
    argv: list[str], what: str, hint: str, server: Any, bench: Any
) -> None:
    said = bench("run", "--model", server.model, *argv)
    assert said.code == 2
    assert said.out == ""
    assert said.err.startswith("error: ")
    assert what in said.err.splitlines()[0]
    assert hint in said.err
    assert not Path("workspace").exists()


@pytest.mark.parametrize(
    ("model", "code"),
    [("http://127.0.0.1:9/v1#x", 1), ("qwen2.5:3b", 1), ("", 2), ("./nowhere", 2)],
)
def test_a_model_that_is_not_there_is_one_sentence(
    model: str, code: int, bench: Any, exam: Any
) -> None:
    said = bench("run", "--model", model, "--task", exam(2))
    assert said.code == code
    assert said.out == ""
    assert said.err.startswith("error: ")
    assert "\nhint: " in said.err
    assert "Traceback" not in said.err


def test_a_broken_row_is_named(server: Any, bench: Any, exam: Any) -> None:
    path = exam(3)
    path.write_text(path.read_text(encoding="utf-8") + "{\n", encoding="utf-8")
    said = bench("run", "--model", server.model, "--task", path)
    assert said.code == 2
    assert "exam.jsonl:4: " in said.err


def test_one_task_named_twice_is_misuse(server: Any, bench: Any, exam: Any) -> None:
    said = bench("run", "--model", server.model, "--task", exam(2), "--task", exam(2))
    assert said.code == 2
    assert "stand there more than once" in said.err


def test_a_workspace_that_is_a_file_is_an_error(server: Any, bench: Any, exam: Any) -> None:
    said = bench("run", "--model", server.model, "--task", exam(2), "--workspace", exam(2, "x"))
    assert said.code == 1
    assert "cannot be written" in said.err


def test_what_a_model_or_a_file_says_cannot_command_the_terminal(
    server: Any, bench: Any, exam: Any
) -> None:
    server.text = "\x1b[31mred\x1b]0;title\x07 [bold]x[/nothing]\u202e"
    path = exam(60, domains=("[red]\x1b[2Jx[/y]", "history"))
    argv = ("run", "--model", server.model, "--task", path, "--scoring", "generate")
    said = bench(*argv)
    assert said.code == 0, said.err
    assert "is significantly below chance" in said.out
    assert "[bold]x[/nothing]" in said.out
    assert "[red]�[2Jx[/y]" in said.out
    for stream in (said.out, said.err):
        assert not set(stream) & set("\x1b\x07\u202e")
    listed = bench("runs", "show", bench(*argv, "--json").json["run"])
    assert "\x1b" not in listed.out


def test_a_server_without_logprobs_says_so(server: Any, bench: Any, exam: Any) -> None:
    reply = server.reply
    server.reply = lambda body: reply({k: v for k, v in body.items() if k != "logprobs"})
    said = bench("run", "--model", server.model, "--task", exam(3), "--scoring", "letter", "--json")
    assert said.code == 0, said.err
    assert "note: `stub` gives no log-probabilities" in said.err


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.skipif(os.name == "nt", reason="Windows sends no SIGINT to one process")
def test_ctrl_c_ends_with_the_way_on(
    server: Any, process: Any, bench: Any, exam: Any, tmp_path: Path
) -> None:
    server.delay = 0.05
    argv = ("run", "--model", server.model, "--task", exam(100), "--scoring", "letter")
    with process(*argv, "--concurrency", "1") as started:
        wait_for(lambda: len(answers(tmp_path)) > 3)
        started.send_signal(signal.SIGINT)
        out, err = started.communicate(timeout=20)
    assert started.returncode == 130
    assert out == ""
    stored = len(answers(tmp_path))
    assert 3 < stored < 100
    assert f"error: stopped; {stored} of 100 answers are stored" in err
    (run,) = (tmp_path / "workspace" / "runs").iterdir()
    assert f"`--resume {run.name}`" in err
    server.delay = 0
    said = bench(*argv, "--resume", run.name, "--json")
    assert said.code == 0
    assert said.json["overall"]["n"] == 100
    assert f"({stored} were stored before)" in said.err
    assert sorted(row["id"] for row in answers(tmp_path)) == sorted(
        f"exam.jsonl/e{n}" for n in range(100)
    )


@needs_tiny
def test_the_embedded_model_scores_its_suite(process: Any) -> None:
    with process("run", "--model", "tiny", "--suite", "demo", "--limit", "20", "--json") as started:
        out, err = started.communicate(timeout=120)
    assert started.returncode == 0, err
    data = json.loads(out)
    assert (data["model"], data["suite"]) == ("tiny", "demo")
    assert data["overall"]["n"] == 20
    assert data["forward_tokens"] > 0


@needs_tiny
def test_a_model_without_what_a_setting_needs_says_so(forked: Any) -> None:
    with forked("run", "--model", "tiny", "--shots", "999", "--limit", "5") as started:
        out, err = started.communicate(timeout=120)
    assert started.returncode == 2
    assert out == ""
    assert "hint: ask for fewer: `--shots " in err
