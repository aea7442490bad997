from __future__ import annotations

from pathlib import Path

import pytest

from domainlift.errors import BenchError, NoSuch
from domainlift.types import Passage, Treatment
from engines.base import Message, Mode
from engines.streaming import Sampling
from improve.versions.champion import champion_plan
from improve.versions.version import State
from improve.versions.version_log import VersionRegistry
from rag.index.store import KnowledgeBaseStore
from rag.retrieval_gate import Gate
from serving.asked import asked_in_chat, asked_in_text
from serving.assistant import NOT_FOUND, Assistant
from serving.support import is_supported
from tests.helpers.fake_shelf import Shelf
from tests.helpers.streaming_engine import EchoEngine
from tests.serving.conftest import Garden


def ask(text: str, *before: Message) -> object:
    return asked_in_chat([*before, Message("user", text)])


def test_a_question_gets_the_passages_of_its_domain_as_a_benchmark_does(
    assistant: Assistant,
) -> None:
    found = assistant.prepare(ask("When are leeks sown?"))
    assert (found.treatment.route, found.model, found.supported) == ("garden", "base", True)
    assert found.prompt.messages[0].content == (
        "<passages>\n[1] leek: leeks are sown in march and stay in the bed over winter\n"
        "</passages>\n\nWhen are leeks sown?"
    )
    told = found.as_json()
    assert told["passages"][0]["source"] == "garden.txt/leek"
    assert told["route"]["matched"]


def test_another_domain_gets_its_adapter_and_a_stranger_the_base_model(
    assistant: Assistant,
) -> None:
    law = assistant.prepare(ask("Which judge sits in this court?"))
    assert (law.model, law.supported, law.treatment.passages) == ("law-v1", None, ())
    stranger = assistant.prepare(ask("Who painted this ship?"))
    assert (stranger.model, stranger.supported) == ("base", False)


def test_a_name_is_obeyed_and_an_unknown_one_is_refused(assistant: Assistant) -> None:
    leeks = ask("When are leeks sown?")
    assert assistant.prepare(leeks, "law-v1").model == "law-v1"
    assert assistant.prepare(leeks, "base").treatment.passages == ()
    with pytest.raises(NoSuch, match="no model `lawv1`"):
        assistant.prepare(leeks, "lawv1")


def test_a_question_that_says_little_takes_its_words_from_the_turn_before(
    assistant: Assistant,
) -> None:
    before = (Message("user", "When are leeks sown?"), Message("assistant", "In March."))
    found = assistant.prepare(ask("And how deep?", *before))
    assert found.treatment.route == "garden"
    assert found.prompt.messages[-1].content.endswith("</passages>\n\nAnd how deep?")
    alone = assistant.prepare(ask("And how deep?"))
    assert alone.treatment.route == ""


def test_a_strict_reply_says_what_it_does_not_find(assistant: Assistant) -> None:
    stranger = assistant.prepare(ask("Who painted this ship?"))
    (only,) = assistant.stream(stranger, Sampling(), strict=True)
    assert (only.text, only.finish) == (NOT_FOUND, "stop")
    assert next(assistant.stream(stranger, Sampling())).text == "Who"


LETTERS = "The following are multiple choice questions (with answers) about gardens.\n\n"
SHOT = "What is red?\nA. grass\nB. a tomato\nAnswer: B\n\n"
BLOCK = "When are leeks sown?\nA. in March\nB. in\nMay\nAnswer:"


@pytest.mark.parametrize("lead", ["", LETTERS, SHOT, LETTERS + SHOT, LETTERS + SHOT + SHOT])
def test_a_benchmark_question_is_read_back_from_its_prompt(lead: str) -> None:
    found = asked_in_text(lead + BLOCK)
    assert found.question.text == "When are leeks sown?"
    assert found.question.options == ("in March", "in\nMay")
    assert found.head + found.examples + found.block == lead + BLOCK
    assert (found.head, found.block) == (LETTERS if LETTERS in lead else "", BLOCK)


@pytest.mark.parametrize(
    ("text", "question"),
    [
        ("Question: When?\nAnswer:", "When?"),
        ("Question: Who?\nAnswer: He\n\nQuestion: When?\nAnswer:", "When?"),
        ("Question: Who?\nAnswer: He,\nor she\n\nQuestion: When?\nAnswer:", "When?"),
        ("Once upon a time", "Once upon a time"),
        ("Which?\nA. this\nC. that\nAnswer:", "Which?\nA. this\nC. that"),
        ("", ""),
    ],
)
def test_other_texts_are_questions_too(text: str, question: str) -> None:
    assert asked_in_text(text).question.text == question


def test_a_gate_of_confidence_asks_without_passages_first(
    garden: Garden, engine: EchoEngine
) -> None:
    path = garden.plan("sure", gate=Gate(-1.0, 0.01))
    assistant = Assistant(engine, garden.root, path)
    block = "When are leeks sown?\nA. now\nB. then\nAnswer:"
    sure = assistant.prepare(asked_in_text(block))
    (first,) = engine.asked
    assert (first.prompt.text, first.options) == (block, (" A", " B"))
    assert sure.treatment.reason == "base: sure without passages"
    cloze = asked_in_text("Question: When are leeks sown?\nAnswer:")
    assistant.prepare(cloze.with_options((" now", " then"), Mode.CLOZE))
    assert (engine.asked[1].mode, engine.asked[1].options) == (Mode.CLOZE, (" now", " then"))
    # Without options there is nothing to be sure of.
    assert assistant.prepare(ask("When are leeks sown?")).treatment.passages
    assistant.close()


def test_a_promoted_plan_is_taken_over(garden: Garden, assistant: Assistant) -> None:
    assert assistant.take_over() is False
    garden.plan("second", created="2026-02-01")
    assert assistant.take_over() is True
    assert assistant.plan.name == "second.yaml"
    assert assistant.prepare(ask("When are leeks sown?")).treatment.passages
    (garden.root / "plans" / "third.yaml").write_text("no plan at all")
    assert assistant.take_over() is False


def test_a_plan_that_cannot_be_used_leaves_the_one_before(
    garden: Garden, assistant: Assistant
) -> None:
    garden.plan("second", created="2026-02-01").with_suffix(".routes.yaml").unlink()
    with pytest.raises(BenchError, match="keyword file"):
        assistant.take_over()
    assert assistant.take_over() is False
    assert assistant.prepare(ask("When are leeks sown?")).treatment.passages


def test_without_a_plan_a_line_says_which_command_makes_one(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="no plan") as error:
        champion_plan(tmp_path)
    assert "bench improve" in str(error.value.hint)


@pytest.mark.parametrize(
    ("score", "cosine", "supported"),
    [(0.5, 0.1, True), (0.3, 0.5, True), (0.3, 0.2, False), (0.3, None, False)],
)
def test_support_is_what_was_found_and_how_well(
    score: float, cosine: float | None, supported: bool
) -> None:
    passage = Passage("text", score=score, dense=cosine)
    assert is_supported(Treatment((passage,))) is supported
    assert is_supported(Treatment(retrieved=(passage,))) is False


def test_a_rollback_serves_the_very_documents_of_its_version(
    garden: Garden, assistant: Assistant
) -> None:
    registry = VersionRegistry(garden.root)
    registry.register(garden.plan("first"), State.CHAMPION, "improve", "better")
    questions = ("When are leeks sown?", "How high do beans climb?", "Which judge sits in court?")

    def prompts() -> list[object]:
        return [assistant.prepare(ask(text)).prompt for text in questions]

    before = prompts()
    shelf = Shelf(garden.root)
    shelf.put("garden.txt", "leek: leeks are sown in october by nobody", "bean: beans stay low")
    garden.generation = shelf.build("garden", size=20).generation
    assert assistant.take_over() is True  # the same, from its own folder
    assert prompts() == before
    registry.register(garden.plan("second"), State.CHAMPION, "improve", "better")
    assert assistant.take_over() is True
    assert prompts() != before
    shelf.put("garden.txt", "leek: what nobody serves")
    shelf.build("garden", size=20)
    registry.move("v0001", State.CHAMPION, "person", "worse", State.QUARANTINED)
    assert assistant.take_over() is True
    assert prompts() == before
    registry.remove("v0002")
    shelf.put("garden.txt", "leek: and once more")
    shelf.build("garden", size=20)
    assert len(list((garden.root / "knowledge_bases" / "garden").glob("g0*"))) == 2
    with pytest.raises(BenchError, match="belongs to a version"):
        KnowledgeBaseStore(garden.root / "knowledge_bases").remove("garden")
