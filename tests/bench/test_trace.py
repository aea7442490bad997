"""`bench trace list|show|edit|rate|drop|export|import`, and `bench data push`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import datasets
import pytest

from domainlift.files import write_text
from finetune.data import push
from finetune.data.push import HubUpload
from tests.bench.conftest import Bench
from tests.helpers.made_traces import TOOL, call, made_trace, result, said, user
from traces.formats.registry import read_traces
from traces.store import TraceStore
from traces.trace import Rating, Trace, TraceStatus

PASSWORD = "hunt" + "er2x"
ESCAPE = "\x1b[31mred\x1b[0m \u202e \a"
LOOP = made_trace(user("Go."), *(call(), result()) * 3, said(), id_="b-loop")


@pytest.fixture
def store(tmp_path: Path) -> TraceStore:
    made = TraceStore(tmp_path / "workspace")
    made.add(made_trace(id_="a-good", rating=Rating.GOOD, solved=True, task="How warm?"))
    made.add(LOOP)
    made.add(
        made_trace(
            user(f"My password={PASSWORD} {ESCAPE}"),
            call({"city": "Oslo", "password": PASSWORD}),
            result("long " * 1000),
            said("Done.", reasoning="I think\nso."),
            id_="c-secret",
            status=TraceStatus.ERROR,
            why="HTTP 500",
            task=f"Log in with password={PASSWORD}",
        )
    )
    return made


def ids(bench: Bench, *options: str) -> list[str]:
    return [row["id"] for row in bench("trace", "list", "--json", *options).json]


def test_traces_are_listed_and_filtered(bench: Bench, store: TraceStore) -> None:
    first, loop, secret = bench("trace", "list", "--json").json
    keys = ("id", "timestamp", "model", "turns", "tools", "status", "rating")
    assert tuple(first)[:7] == keys
    assert [first[key] for key in keys] == [
        *("a-good", "2026-11-27T10:00:00+00:00", "qwen", 1, {"weather": 1}, "done", "good"),
    ]
    assert (first["solved"], first["task"], first["marks"]) == (True, "How warm?", [])
    assert loop["marks"] == ["loop"]
    assert secret["status"] == "error"
    for options, found in (
        (("--status", "error"), ["c-secret"]),
        (("--rating", "good"), ["a-good"]),
        (("--rating", "none"), ["b-loop", "c-secret"]),
        (("--marked",), ["b-loop", "c-secret"]),
        (("--unmarked",), ["a-good"]),
    ):
        assert ids(bench, *options) == found
    assert secret["task"] == "Log in with password=[masked: password]"
    shown = bench("trace", "list").out
    assert PASSWORD not in shown
    assert "weather ×3" in shown
    assert "3 traces" in shown
    assert bench("trace", "list", "--status", "odd").code == 2


def test_a_damaged_trace_is_told_and_does_not_stand_in_the_way(
    bench: Bench, store: TraceStore, tmp_path: Path
) -> None:
    path = store.path("b-loop")
    with path.open("a") as file:
        file.write('{"type": "mess\n')
    line = path.read_text().count("\n")
    listed = bench("trace", "list", "--json")
    assert listed.code == 0
    assert [row["id"] for row in listed.json] == ["a-good", "c-secret"]
    [note] = [each for each in listed.err.splitlines() if "b-loop" in each]
    assert (
        f"b-loop.jsonl:{line}: not a line of a trace; mend it, or take the file away: `mv" in note
    )
    for command in (
        ("trace", "show", "b"),
        ("trace", "rate", "b", "good"),
        ("trace", "export", "x", "b"),
    ):
        refused = bench(*command)
        assert (refused.code, f"b-loop.jsonl:{line}" in refused.err) == (2, True)
    done = bench("trace", "export", "out.jsonl", "--json")
    assert (done.json["traces"], done.json["left_out"]) == (2, {"damaged": 1})
    assert "b-loop.jsonl" in done.err
    assert "b-loop.jsonl" in bench("data", "push", "--traces", "me/traces").err
    again = bench("trace", "import", "out.jsonl")
    assert "0 imported, 2 there already, 0 refused" in again.out
    assert "b-loop.jsonl" in again.err


def test_an_empty_workspace_has_none(bench: Bench) -> None:
    assert bench("trace", "list", "--json").json == []
    assert bench("trace", "show", "x").code == 2


def test_a_trace_is_shown_without_secrets_and_control_characters(
    bench: Bench, store: TraceStore
) -> None:
    said_ = bench("trace", "show", "c-")
    assert "My password=[masked: password]" in said_.out
    assert not {"\x1b", "\a", "\u202e"} & set(said_.out)
    assert "… 4,000 more characters" in said_.out
    assert "→ weather" in said_.out
    assert "  so." in said_.out
    assert "marked unfinished: it ended as error: HTTP 500" in said_.out
    assert "secrets are masked: 1 password" in said_.err
    assert PASSWORD not in said_.out
    assert "more characters" not in bench("trace", "show", "c-secret", "--all").out
    value = bench("trace", "show", "c-secret", "--json").json
    assert len(value["messages"]) == 4
    assert value["tools"] == [TOOL]
    assert value["called"] == {"weather": 1}
    assert PASSWORD not in json.dumps(value)
    assert [each["id"] for each in bench("trace", "show", "a", "b", "--json").json] == [
        "a-good",
        "b-loop",
    ]


def test_traces_are_rated_and_dropped(bench: Bench, store: TraceStore) -> None:
    assert bench("trace", "rate", "a", "b", "bad").code == 0
    assert ids(bench, "--rating", "bad") == ["a-good", "b-loop"]
    assert bench("trace", "rate", "a", "none").code == 0
    assert store.read("a-good").rating is None
    # Nothing is done where one of several is not there.
    assert bench("trace", "drop", "a", "nobody").code == 2
    assert ids(bench) == ["a-good", "b-loop", "c-secret"]
    assert bench("trace", "drop", "a", "b").code == 0
    assert ids(bench) == ["c-secret"]
    assert ids(bench, "--dropped") == ["a-good", "b-loop", "c-secret"]
    assert bench("trace", "drop", "a", "--undo").code == 0
    assert ids(bench) == ["a-good", "c-secret"]
    assert bench("trace", "rate", "a", "great").code == 2


def lines(*messages: dict[str, Any]) -> str:
    return "".join(json.dumps(message) + "\n" for message in messages)


def test_messages_are_edited_from_a_file(bench: Bench, store: TraceStore, tmp_path: Path) -> None:
    file = tmp_path / "messages.jsonl"
    file.write_text(lines(user("A\u2028B"), said("C")))
    assert "2 messages" in bench("trace", "edit", "a", "--file", file).out
    assert store.read("a-good").messages == (user("A\u2028B"), said("C"))
    assert "nothing was changed" in bench("trace", "edit", "a", "--file", file).out
    for wrong, why in (
        (lines(user(), {"role": "robot"}), "message 2 has the unknown role `robot`"),
        (lines(user()) + "\n{", "message 2 is no JSON"),
        (lines(user()) + "[1]\n", "message 2 must be keys with values"),
        ("\n", "no messages are left"),
    ):
        file.write_text(wrong)
        refused = bench("trace", "edit", "a", "--file", file)
        assert refused.code == 2
        assert why in refused.err
        assert store.read("a-good").messages == (user("A\u2028B"), said("C"))
        assert file.read_text() == wrong
    assert bench("trace", "edit", "a", "--file", tmp_path / "missing").code == 2


def test_messages_are_edited_in_an_editor(
    bench: Bench, store: TraceStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "editor.py"
    monkeypatch.setenv("VISUAL", f"{sys.executable} {script}")

    def editor(old: str, new: str) -> None:
        script.write_text(
            "import pathlib, sys\n"
            "path = pathlib.Path(sys.argv[-1])\n"
            f"path.write_text(path.read_text().replace({old!r}, {new!r}))\n"
        )

    editor("4 degrees.", "Four degrees.")
    assert bench("trace", "edit", "a").code == 0
    assert store.read("a-good").messages[-1] == said("Four degrees.")
    assert store.read("a-good").edited
    # What is refused stays, and the next call goes on with it.
    editor('"role": "user"', '"role": "robot"')
    refused = bench("trace", "edit", "a")
    assert refused.code == 2
    assert "message 1 has the unknown role `robot`" in refused.err
    assert ids(bench) == ["a-good", "b-loop", "c-secret"]
    editor('"role": "robot", "content": "How', '"role": "user", "content": "So how')
    assert bench("trace", "edit", "a").code == 0
    assert store.read("a-good").messages[0] == user("So how warm is it in Oslo?")
    monkeypatch.setenv("VISUAL", "no-such-editor")
    assert "cannot be started" in bench("trace", "edit", "b").err
    monkeypatch.setenv("VISUAL", f"{sys.executable} -c exit(3)")
    assert "ended with 3" in bench("trace", "edit", "b").err


def test_traces_go_out_and_come_in(bench: Bench, store: TraceStore, tmp_path: Path) -> None:
    assert bench("trace", "rate", "b", "bad").code == 0
    done = bench("trace", "export", "out.jsonl", "--json").json
    assert (done["traces"], done["masked"]) == (2, {"password": 1})
    assert done["left_out"] == {"rated bad": 1}
    assert PASSWORD not in (tmp_path / "out.jsonl").read_text()
    again = bench("trace", "export", "out.jsonl")
    assert (again.code, "--force" in again.err) == (2, True)
    told = bench("trace", "export", "out.jsonl", "--force", "--unmarked").out
    assert "1 trace in out.jsonl" in told
    assert "left out: 1 marked: unfinished, 1 rated bad" in told
    assert bench("trace", "export", "b.jsonl", "b", "--rating", "any").code == 0
    assert bench("trace", "export", "x.jsonl", "--to", "opnai").code == 2
    assert bench("trace", "export", "none.jsonl", "b").code == 2
    assert bench("trace", "export", "folder", "--to", "sessions").code == 0

    other = ("--workspace", "other")
    found = bench("trace", "import", "folder", *other, "--json").json
    assert (found["imported"], found["there"], found["refused"]) == (2, 0, [])
    assert found["ids"] == ["a-good", "c-secret"]
    assert "0 imported, 2 there already" in bench("trace", "import", "folder", *other).out
    (tmp_path / "bad.jsonl").write_text('{"messages": 1}\n\x1b\n')
    bad = bench("trace", "import", "bad.jsonl", *other)
    assert bad.code == 1
    assert "bad.jsonl:1: `messages` must be a list" in bad.out
    assert "\x1b" not in bad.out
    assert bench("trace", "import", "nowhere", *other).code == 2


def test_a_push_is_shown_first(
    bench: Bench, store: TraceStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uploads: list[tuple[str, bool]] = []

    def upload(made: HubUpload, repository: str, *, public: bool) -> str:
        uploads.append((repository, public))
        made.folder.rename(tmp_path / "pushed")
        made.folder.mkdir()
        return "address"

    monkeypatch.setattr("bench.commands.data_push.upload", upload)
    dry = bench("data", "push", "--traces", "me/traces", "--rating", "any")
    assert dry.code == 0
    assert "to me/traces, private" in dry.out
    assert "rows: 3 train" in dry.out
    assert "secrets masked: 1 password" in dry.out
    assert "nothing was uploaded" in dry.out
    assert uploads == []
    done = bench("data", "push", "--traces", "me/traces", "--yes", "--json").json
    assert (done["rows"], done["uploaded"], done["url"]) == ({"train": 3}, True, "address")
    assert uploads == [("me/traces", False)]
    parquet = tmp_path / "pushed" / "data" / "train.parquet"
    cache = str(tmp_path / "cache")
    rows = datasets.load_dataset(str(tmp_path / "pushed"), split="train", cache_dir=cache)
    assert rows.column_names == ["id", "timestamp", "model", "messages", "tools"]
    assert PASSWORD not in json.dumps(rows[:])
    assert rows[0]["messages"][1]["tool_calls"][0]["function"]["arguments"] == '{"city": "Oslo"}'
    assert json.loads(rows[0]["tools"]) == [TOOL]
    back = [each for each in read_traces(parquet) if isinstance(each, Trace)]
    assert back[0].messages == store.read("a-good").messages
    assert len(back) == 3


def test_prepared_rows_and_files_are_pushed_with_their_splits(bench: Bench, tmp_path: Path) -> None:
    folder = tmp_path / "workspace" / "data" / "biology"
    row = {"prompt": "What is xylem?", "completion": " A tissue.", "domain": "biology"}
    chat = {"prompt": "", "completion": "It is.", "domain": "biology",
            "messages": [{"role": "user", "content": "Is it?"}]}  # fmt: skip
    write_text(folder / "train.jsonl", json.dumps(row) + "\n" + json.dumps(chat) + "\n")
    write_text(folder / "validation.jsonl", json.dumps(row) + "\n")
    write_text(folder / "held_out.jsonl", "")
    done = bench("data", "push", "biology", "me/rows", "--json").json
    assert (done["rows"], done["uploaded"]) == ({"train": 2, "validation": 1}, False)
    pushed = push.rows_to_push("biology", tmp_path / "workspace")
    assert [trace.messages for trace in pushed["train"]] == [
        (user("What is xylem?"), said(" A tissue.")),
        (user("Is it?"), said("It is.")),
    ]
    (tmp_path / "rows.jsonl").write_text('{"instruction": "Say hi.", "output": "Hi."}\n')
    assert bench("data", "push", "rows.jsonl", "me/rows", "--json").json["rows"] == {"train": 1}


@pytest.mark.parametrize(
    ("argv", "why"),
    [
        (("x",), "say what is pushed"),
        (("--traces", "a", "b"), "say what is pushed"),
        (("nothing", "me/x"), "neither a file nor a prepared data set"),
        (("--traces", "me/x"), "nothing to push"),
        (("--traces", "me/x/y"), "no name of a repository"),
    ],
)
def test_what_cannot_be_pushed_is_said(bench: Bench, argv: tuple[str, ...], why: str) -> None:
    refused = bench("data", "push", *argv)
    assert refused.code == 2
    assert why in refused.err


class Hub:
    """A hub that has or makes a repository, and keeps what is uploaded."""

    def __init__(self, private: bool | None = None, fault: Exception | None = None) -> None:
        self.private, self.fault = private, fault
        self.calls: list[str] = []

    def create_repo(self, name: str, *, private: bool, **_: Any) -> str:
        self.calls.append("create")
        if self.fault is not None:
            raise self.fault
        self.private = private if self.private is None else self.private
        return "https://hub/" + name

    def repo_info(self, *_: Any, **__: Any) -> Hub:
        return self

    def upload_folder(self, **_: Any) -> None:
        self.calls.append("upload")


@pytest.mark.parametrize(
    ("hub", "options", "code", "calls"),
    [
        (Hub(), (), 0, ["create", "upload"]),
        (Hub(), ("--public",), 0, ["create", "upload"]),
        (Hub(private=False), (), 1, ["create"]),
        (Hub(private=False), ("--public",), 0, ["create", "upload"]),
        (Hub(fault=ConnectionError("no net")), (), 1, ["create"]),
    ],
)
def test_the_hub_gets_it_only_where_it_is_as_private_as_wished(
    bench: Bench,
    store: TraceStore,
    monkeypatch: pytest.MonkeyPatch,
    hub: Hub,
    options: tuple[str, ...],
    code: int,
    calls: list[str],
) -> None:
    monkeypatch.setattr("huggingface_hub.HfApi", lambda: hub)
    done = bench("data", "push", "--traces", "me/x", "--yes", *options)
    assert (done.code, hub.calls) == (code, calls)
    assert ("nothing was uploaded" in done.err) is (code == 1)
