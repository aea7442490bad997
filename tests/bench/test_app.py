from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from bench.app import COMMANDS as TABLE
from bench.app import main, make_app
from domainlift import __version__
from domainlift.errors import NoSuch
from domainlift.hints import copyable, name_workspace
from tests.helpers.made_runs import question, record, store

Process = Callable[..., "subprocess.Popen[str]"]


def leaves(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command that does something, with the words that lead to it."""
    below = getattr(command, "commands", {})
    if not below:
        yield path, command
    for name, each in below.items():
        yield from leaves(each, (*path, name))


COMMANDS = dict(leaves(typer.main.get_command(make_app())))


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_has_an_example_that_it_understands(
    path: tuple[str, ...], bench: Any
) -> None:
    help_ = bench(*path, "--help")
    assert help_.code == 0
    examples = [
        line.split("Example: ")[1] for line in help_.out.splitlines() if "Example: " in line
    ]
    assert examples
    for example in examples:
        words = shlex.split(example)
        assert words[: len(path) + 1] == ["bench", *path]
        # Options are checked before the help is shown.
        assert bench(*words[1:], "--help").code == 0
    assert bench(*path, "--nonsense", "--help").code == 2


def test_help_names_every_command(bench: Any) -> None:
    said = bench("--help")
    assert said.code == 0
    assert all(name in said.out for name in ("run", "domains", "runs", "doctor", "Example: bench "))
    assert bench("-h").out == said.out


@pytest.mark.parametrize("group", [(), ("kb",), ("runs",)])
def test_lists_of_commands_show_whole_sentences(
    group: tuple[str, ...], bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    listed = bench(*group, "--help").out.split("Commands:")[1]
    assert "..." not in listed
    if not group:
        told = " ".join(listed.split())
        assert all(sentence in told for _, sentence in TABLE.values())


def test_the_version_is_printed(bench: Any) -> None:
    assert bench("--version").out == f"domainlift {__version__}\n"


@pytest.mark.parametrize(
    ("argv", "said", "command"),
    [
        (["rum"], "'rum'", "bench"),
        (["run", "--suit", "demo"], "--suite", "bench run"),
        (["runs", "lst"], "'lst'", "bench runs"),
        (["run", "--limit", "0"], "'--limit'", "bench run"),
        (["run", "--limit", "many"], "'--limit'", "bench run"),
        (["run", "--target", "2"], "'--target'", "bench run"),
        (["runs", "show"], "'run'", "bench runs show"),
        (["--nonsense"], "--nonsense", "bench"),
        (["run", "\x1b[31m"], "[31m", "bench run"),
        (["run", "--metric", "f1", "--model", "tiny", "--metric", "em"], "'--metric'", "bench run"),
        (["runs", "list", "--workspace", "a", "--workspace=b"], "'--workspace'", "bench runs list"),
        (["run", "--chat", "--no-chat"], "'--chat'", "bench run"),
    ],
)
def test_a_wrong_command_line_is_one_sentence(
    argv: list[str], said: str, command: str, bench: Any
) -> None:
    result = bench(*argv)
    assert result.code == 2
    assert result.out == ""
    first, *rest = result.err.splitlines()
    assert first.startswith("error: ")
    assert said.lower() in first.lower()
    assert rest[-1] == f"hint: `{command} --help` shows what it takes"
    assert "Traceback" not in result.err
    assert "\x1b" not in result.err


@pytest.mark.parametrize("argv", [[], ["runs"]])
def test_without_a_command_the_help_is_shown_as_talk(argv: list[str], bench: Any) -> None:
    said = bench(*argv)
    assert said.code == 2
    assert said.out == ""
    assert said.err.startswith("Usage: ")


@pytest.mark.parametrize(
    ("argv", "size", "code"),
    [
        (["domains"], "2", 2),
        (["run", "--help"], "2", 0),
        (["--version"], "2", 0),
        (["domains"], "1", 0),
        (["domains"], "", 0),
    ],
)
def test_commands_that_share_no_work_are_not_run_several_times(
    argv: list[str], size: str, code: int, bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", size)
    said = bench(*argv)
    assert said.code == code
    assert ("a launcher has started several" in said.err) is bool(code)


def test_the_traceback_is_shown_only_on_demand(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    argv = ["runs", "show", "nothing"]
    said = bench(*argv)
    assert said.code == 2
    assert "Traceback" not in said.err
    for words in (["--debug", *argv], [*argv, "--debug"]):
        with pytest.raises(NoSuch):
            main(words)
    monkeypatch.setenv("BENCH_DEBUG", "1")
    with pytest.raises(NoSuch):
        main(argv)


def test_the_traceback_reaches_the_terminal(process: Process) -> None:
    with process("runs", "show", "nothing", "--debug") as started:
        _, err = started.communicate()
    assert started.returncode == 1
    assert "Traceback" in err
    assert "NoSuch" in err


def test_a_fault_of_ours_is_one_line_too(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: object) -> None:
        raise ZeroDivisionError("a \x1b[31mfault\nof many lines")

    monkeypatch.setattr("bench.commands.domains.load_domains", broken)
    said = bench("domains")
    assert said.code == 1
    assert said.err.splitlines()[0] == "error: unexpected ZeroDivisionError: a  [31mfault"
    assert "`--debug`" in said.err
    with pytest.raises(ZeroDivisionError):
        main(["domains", "--debug"])


@pytest.mark.parametrize(
    ("cause", "code"), [(KeyboardInterrupt(), 130), (BrokenPipeError(32, "gone"), 1)]
)
def test_an_end_from_outside_is_no_fault(
    cause: BaseException, code: int, process: Process, tmp_path: Any
) -> None:
    """Run in a process of its own: what follows a broken pipe closes standard output."""
    script = (
        "import sys, knowledge_bases.domains as d, bench.app\n"
        f"def end(_): raise {cause!r}\n"
        "d.load_domains = end\n"
        "sys.argv = ['bench', 'domains']\n"
        "bench.app.entry()\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == code
    assert done.stderr.startswith("error: stopped" if code == 130 else "")
    assert "Traceback" not in done.stderr


def test_an_error_of_tidying_up_after_an_interruption_is_the_interruption(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def end(_: object) -> None:
        try:
            raise KeyboardInterrupt
        finally:
            os.close(987_654)

    monkeypatch.setattr("bench.commands.domains.load_domains", end)
    said = bench("domains")
    assert said.code == 130
    assert said.err.startswith("error: stopped")


@pytest.mark.parametrize("argv", [["domains", "--json"], ["domains"], ["--help"]], ids=" ".join)
def test_a_reader_that_went_away_is_not_complained_of(argv: list[str], process: Process) -> None:
    read, write = os.pipe()
    os.close(read)
    started = process(*argv, stdout=write)
    os.close(write)
    with started:
        _, err = started.communicate()
    assert started.returncode == 1
    assert err == ""


@pytest.mark.skipif(os.name == "nt", reason="Windows sends no SIGINT to one process")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_before_the_first_question_has_its_code(
    server: Any, process: Process, exam: Any, number: int, code: int
) -> None:
    server.listing_delay = 20
    with process("run", "--model", server.model, "--task", exam(3)) as started:
        assert server.listed.wait(20)
        started.send_signal(number)
        out, err = started.communicate(timeout=20)
    assert started.returncode == code
    assert (out, err) == ("", "error: stopped\n")


def test_sigterm_is_ctrl_c_once_and_its_handler_goes_with_the_command(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, tidied = signal.getsignal(signal.SIGTERM), []

    def work(_: object) -> None:
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            signal.raise_signal(signal.SIGTERM)  # as a launcher passes on what came already
            tidied.append("all")

    monkeypatch.setattr("bench.commands.domains.load_domains", work)
    said = bench("domains")
    assert (said.code, said.err, tidied) == (143, "error: stopped\n", ["all"])
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_sigterm_that_the_parent_ignores_stays_ignored(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    monkeypatch.setattr(
        "bench.commands.domains.load_domains", lambda _: signal.raise_signal(signal.SIGTERM) or {}
    )
    try:
        assert bench("domains", "--json").code == 0
    finally:
        signal.signal(signal.SIGTERM, before)


def test_output_is_utf_8_whatever_the_system_thinks(process: Process, tmp_path: Any) -> None:
    folder = tmp_path / "workspace" / "domains" / "zoology"
    folder.mkdir(parents=True)
    (folder / "domain.yaml").write_text(
        "title: Tierkunde für Äffchen\ndescription: x\nkeywords: [a]\ntasks: []\n", encoding="utf-8"
    )
    env = {**os.environ, "PYTHONIOENCODING": "ascii"}
    for argv in (["domains"], ["domains", "--json"]):
        with process(*argv, env=env) as started:
            out, err = started.communicate()
        assert started.returncode == 0, err
        assert "Tierkunde für Äffchen" in out


HEAVY = ("torch", "transformers", "datasets", "httpx", "rich.progress", "lm_eval", "ollama")


@pytest.mark.parametrize(
    ("argv", "heavy"),
    [
        (["--help"], (*HEAVY, "pydantic")),
        (["--version"], (*HEAVY, "pydantic")),
        # Here typer itself may load pydantic, for the ranges of numbers.
        (["run", "--help"], HEAVY),
        (["runs", "list", "--json"], HEAVY),
    ],
)
def test_help_loads_nothing_heavy(argv: list[str], heavy: tuple[str, ...], tmp_path: Any) -> None:
    script = (
        "import sys\nfrom bench.app import main\n"
        f"code = main({argv!r})\n"
        f"print(code, [name for name in {heavy!r} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.stderr == "0 []\n"


WITHOUT = """
import importlib.util, sys
missing = {"torch", "transformers", "peft", "scipy", "sklearn", "trl"}
real = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: (
    None if name.split(".")[0] in missing else real(name, package)
)
sys.modules |= dict.fromkeys(missing)
from bench.app import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize(
    "words", ["run --model tiny --suite demo", "train biology --model tiny", "train b --dry-run"]
)
def test_without_torch_a_command_says_how_to_get_it(words: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", WITHOUT, *words.split()]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert 'hint: install them: `pip install "domainlift[local]"`' in done.stderr


def test_a_question_is_routed_without_torch(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WITHOUT, "route", "explain", "the mitosis of a cell"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "biology" in done.stdout


def test_domains_are_listed_for_people_and_for_scripts(bench: Any) -> None:
    found = bench("domains", "--json")
    assert found.err == ""
    assert {"biology", "history", "security", "mathematics", "reasoning"} <= set(found.json)
    fields = {"title", "description", "protected", "suite", "tasks", "keywords", "folder"}
    assert all(set(each) == fields for each in found.json.values())
    shown = bench("domains")
    assert shown.code == 0
    assert all(name in shown.out for name in found.json)


def test_a_domain_s_title_cannot_command_the_terminal(bench: Any, tmp_path: Any) -> None:
    folder = tmp_path / "workspace" / "domains" / "zoology"
    folder.mkdir(parents=True)
    (folder / "domain.yaml").write_text(
        'title: "[bold]ab[/x]"\ndescription: x\nkeywords: [a]\ntasks: []\n', encoding="utf-8"
    )
    said = bench("domains")
    assert said.code == 0
    assert "[bold]ab[/x]" in said.out


def test_a_broken_domain_is_misuse_that_names_the_line(bench: Any, tmp_path: Any) -> None:
    folder = tmp_path / "workspace" / "domains" / "zoology"
    folder.mkdir(parents=True)
    (folder / "domain.yaml").write_text("title: x\ncolour: red\n", encoding="utf-8")
    said = bench("domains")
    assert said.code == 2
    assert "domain.yaml:2: " in said.err


def test_the_list_of_commands_says_what_their_help_says(bench: Any) -> None:
    sentences = {name: " ".join(sentence.split()) for name, (_, sentence) in TABLE.items()}
    for name, sentence in sentences.items():
        text = " ".join(bench(name, "--help").out.split())
        assert sentence in text, name


def test_only_the_module_of_the_command_that_runs_is_imported() -> None:
    script = (
        "import sys\nfrom bench.app import main\nmain(['runs', 'list', '--json'])\n"
        "print(*sorted(m for m in sys.modules if m.startswith('bench.commands.')), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stderr.split() == ["bench.commands.runs"]


def test_the_doctor_shows_no_password(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_HOST", "http://me:hush@127.0.0.1:9")
    said = bench("doctor")
    assert "does not answer at http://127.0.0.1:9" in " ".join(said.out.split())
    assert "hush" not in said.out + said.err


def test_commands_that_are_printed_can_be_given_a_workspace() -> None:
    name_workspace(Path("w"))
    try:
        for path, command in COMMANDS.items():
            words = " ".join(["bench", *path])
            takes = any("--workspace" in param.opts for param in command.params)
            assert (copyable(words) != words) == takes, words
    finally:
        name_workspace(None)


def printed_commands(text: str) -> list[list[str]]:
    """The words of each command between backticks."""
    return [shlex.split(each) for each in re.findall(r"`bench ([^`]+)`", text)]


@pytest.mark.parametrize(
    ("argv", "leads_to"),
    [
        (["runs", "show", "nothing"], "my-run"),
        (["compare", "my-run"], "my-run"),
        (["compare", "my-run", "nothing"], "my-run"),
    ],
    ids=" ".join,
)
def test_a_printed_command_works_in_the_workspace_of_the_one_that_failed(
    argv: list[str], leads_to: str, bench: Any, tmp_path: Path
) -> None:
    store(tmp_path / "my notes", "my-run", [(question(0), record(question(0), True))])
    said = bench(*argv, "--workspace", "my notes")
    assert said.code == 2
    (command,) = printed_commands(said.err)
    again = bench(*command)
    assert again.code == 0, again.err
    assert leads_to in again.out


def test_a_workspace_of_the_environment_is_not_repeated(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "`bench improve --workspace w`" in bench("ask", "hi", "--workspace", "w").err
    assert "`bench improve`" in bench("ask", "hi").err
    monkeypatch.setenv("BENCH_WORKSPACE", "w")
    assert "`bench improve`" in bench("ask", "hi").err
