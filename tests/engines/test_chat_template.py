"""What chat templates do beside writing the turns: found by probes, said, and acted upon."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from domainlift.errors import Misuse
from engines.base import Message, Mode, Prompt, Request
from engines.chat_template import ChatTemplate, TemplateTraits
from engines.local.tokenization import Encoder
from engines.registry import tiny_folder
from engines.thought_markers import join_thought
from finetune.data.rows import Row
from finetune.training.tokenize import decoded, encode
from tests.helpers import chat_templates as kinds

USER, SYSTEM = Message("user", "Where is it?"), Message("system", "Be short.")
EARLIER = (USER, Message("assistant", "<think>\nHm.\n</think>\n\nIn it."), Message("user", "And?"))
END = "<|im_end|>"


def tokenizer(template: str | dict[str, str] | None) -> Any:
    from transformers import AutoTokenizer

    made = AutoTokenizer.from_pretrained(tiny_folder())
    made.chat_template = template
    return made


def of(template: str) -> ChatTemplate:
    return ChatTemplate(tokenizer(template))


PLAIN = TemplateTraits(lost=("tools",), ending=END + "\n")


@pytest.mark.parametrize(
    ("template", "traits"),
    [
        (kinds.CHATML, PLAIN),
        (
            kinds.R1,
            TemplateTraits(
                opens="<think>\n", lost=("tool", "tools"), drops_thoughts=True, ending=END
            ),
        ),
        (kinds.QWEN3, replace(PLAIN, switched=True, drops_thoughts=True)),
        (kinds.V31, PLAIN),
        (
            kinds.MISTRAL,
            TemplateTraits(lost=("tools",), refused=("system", "tool"), ending="<|endoftext|>"),
        ),
        (kinds.GEMMA, replace(PLAIN, refused=("system",))),
        (kinds.LLAMA31, replace(PLAIN, dated=True)),
        (kinds.DROPS_SYSTEM, replace(PLAIN, lost=("system", "tool", "tools"))),
        (kinds.LAST_ONLY, replace(PLAIN, lost=("system", "tools", "earlier"))),
        # What never writes an answer tells no end of one either.
        (kinds.FIRST_ONLY, TemplateTraits(lost=("tool", "tools", "earlier"))),
        (kinds.APPENDS, replace(PLAIN, ending=f"{END}\n<|endoftext|>", appends=True)),
        (kinds.ALWAYS_EMPTY, PLAIN),
        (kinds.BRACKETS, replace(PLAIN, opens="[THINK]")),
        ("{{ raise_exception('never') }}", TemplateTraits()),
        ("{{ tools[0]['name'] }}", TemplateTraits()),
    ],
)
def test_traits_are_found_by_probes(template: str, traits: TemplateTraits) -> None:
    assert of(template).traits == traits


def test_a_tokenizer_without_a_template_has_no_traits() -> None:
    assert ChatTemplate(tokenizer(None)).traits == TemplateTraits()


@pytest.mark.parametrize(
    ("template", "notes", "options"),
    [
        (kinds.CHATML, [], {}),
        (kinds.R1, ["(`<think>`)", "results of tools", "thoughts of"], {"empty_thought": True}),
        (kinds.QWEN3, ["told not to think", "thoughts of earlier"], {"think": False}),
        (kinds.MISTRAL, ["refuses system turns: they are put", "refuses the results of tools"], {}),
        (kinds.LLAMA31, ["date, which stays 26 Jul 2024"], {"date": "2024-07-26"}),
        (kinds.DROPS_SYSTEM, ["leaves out system turns", "leaves out the results"], {}),
        (kinds.LAST_ONLY, ["leaves out system turns", "chats of several are refused"], {}),
        (kinds.APPENDS, [r"writes `<|im_end|>\n<|endoftext|>` after"], {}),
    ],
)
def test_traits_are_said_and_part_of_the_fingerprint(
    template: str, notes: list[str], options: dict[str, Any]
) -> None:
    traits = of(template).traits
    said = list(traits.notes())
    assert len(said) == len(notes)
    assert all(part in note for part, note in zip(notes, said, strict=True))
    assert traits.options() == options


@pytest.mark.parametrize("template", [kinds.MISTRAL, kinds.GEMMA, kinds.DROPS_SYSTEM])
def test_system_turns_that_a_template_does_not_take_go_before_the_first_user_turn(
    template: str,
) -> None:
    found = of(template)
    merged = Message("user", "Be short.\n\nWhere is it?")
    assert found.prompt([SYSTEM, USER]) == found.prompt([merged])
    more = [Message("assistant", "In it."), Message("user", "And?")]
    assert found.prompt([SYSTEM, USER, *more]) == found.prompt([merged, *more])
    assert "Be short." in found.prompt([SYSTEM])


def test_what_a_template_leaves_out_is_refused() -> None:
    tools = '[{"name": "get_order"}]'
    for chat, told, lost in [
        ([USER, Message("assistant", "?"), Message("tool", "42")], "", "the results of tools"),
        ([USER], tools, "the list of tools"),
    ]:
        with pytest.raises(Misuse, match=f"leaves out {lost}"):
            of(kinds.R1).prompt(chat, told)
    with pytest.raises(Misuse, match="leaves out turns"):
        of(kinds.LAST_ONLY).prompt(EARLIER)
    assert of(kinds.LAST_ONLY).prompt([USER])
    with pytest.raises(Misuse, match="refuses this chat: roles must take turns"):
        of(kinds.MISTRAL).prompt([USER, USER])


@pytest.mark.parametrize(
    "template",
    [
        "a chat",
        "{% for m in messages %}{% for part in m.content %}{{ part.text }}{% endfor %}{% endfor %}",
        "{% for m in messages %}{{ m.content[:15] }}{% endfor %}",
        "{% for m in messages %}{{ m.content | e }}{% endfor %}",
    ],
    ids=["constant", "parts", "cut", "escaped"],
)
def test_a_template_that_does_not_write_what_is_asked_is_refused(template: str) -> None:
    with pytest.raises(Misuse, match="changes or leaves out a turn of the user"):
        of(template).prompt([Message("user", "Is 2 < 3, and 3 < 4? ")])


def test_a_later_system_turn_that_a_template_leaves_out_is_refused() -> None:
    template = (
        "{% for m in messages %}{% if loop.first or m.role != 'system' %}{{ m.content }}"
        "{% endif %}{% endfor %}"
    )
    with pytest.raises(Misuse, match="leaves out a turn of the system"):
        of(template).prompt([Message("user", "A"), Message("system", "Be kind.")])


def test_the_date_is_the_same_on_every_day() -> None:
    assert "Today: 26 Jul 2024" in of(kinds.LLAMA31).prompt([USER])


KINDS = [getattr(kinds, name) for name in dir(kinds) if name.isupper() and name[0] != "_"]


@pytest.mark.parametrize("template", [kind for kind in KINDS if kind != kinds.LLAMA31])
def test_chats_are_rendered_as_transformers_renders_them(template: str) -> None:
    marked = template.replace(END, "{% generation %}\n{{ messages | tojson }}{% endgeneration %}")
    for source in (template, marked, {"default": template, "tool_use": marked}):
        tokens = tokenizer(source)
        turns = [{"role": each.role, "content": each.content} for each in EARLIER[-1:]]
        settings: dict[str, Any] = {"tools": [{"name": "é"}]}
        for tools in (settings, {}):
            assert ChatTemplate(tokens).render(turns, **tools) == tokens.apply_chat_template(
                turns,
                **tools,
                tokenize=False,
                add_generation_prompt=True,
                enable_thinking=False,
                thinking=False,
            )


@pytest.mark.parametrize(
    ("template", "letters", "reply"),
    [
        (kinds.R1, "<think>\n\n</think>\n\n", "<think>\n"),
        (kinds.QWEN3, "<think>\n\n</think>\n\n", "<think>\n\n</think>\n\n"),
        (kinds.V31, "</think>", "</think>"),
        (kinds.BRACKETS, "[THINK][/THINK]", "[THINK]"),
        (kinds.CHATML, "", ""),
    ],
)
def test_letters_are_read_after_an_empty_thought(template: str, letters: str, reply: str) -> None:
    tokens = tokenizer(template)
    encoder = Encoder(tokens)
    for mode, end in ((Mode.LETTER, letters), (Mode.GENERATE, reply)):
        request = Request("q", mode, Prompt(messages=(USER,)), ("A", "B"))
        [prompt] = encoder.prompts([request])
        assert tokens.decode(prompt).endswith(f"assistant\n{end}"), mode
    opened = encoder.opened_thought(request)
    assert opened == (reply if letters != reply else "")


THOUGHT = "<think>\nIt floats.\n</think>\n\nIn it"


@pytest.mark.parametrize(
    ("template", "answer", "read", "trained"),
    [
        (kinds.R1, "In it", "<think>\n", "\n</think>\n\nIn it"),
        (kinds.R1, THOUGHT, "<think>\n", "It floats.\n</think>\n\nIn it"),
        (kinds.R1, "It floats.\n</think>\n\nIn it", "<think>\n", "It floats.\n</think>\n\nIn it"),
        (kinds.QWEN3, "In it", "<think>\n\n</think>\n\n", "In it"),
        (kinds.QWEN3, THOUGHT, "", THOUGHT),
        (kinds.V31, "In it", "</think>", "In it"),
        (kinds.V31, THOUGHT, "<think>", "\nIt floats.\n</think>\n\nIn it"),
        (kinds.ALWAYS_EMPTY, "In it", "<think>\n\n</think>\n\n", "In it"),
        (kinds.ALWAYS_EMPTY, THOUGHT, "", THOUGHT),
        (kinds.BRACKETS, "In it", "[THINK]", "[/THINK]In it"),
        (kinds.BRACKETS, THOUGHT, "[THINK]", "\nIt floats.\n[/THINK]\n\nIn it"),
        (kinds.CHATML, THOUGHT, "", THOUGHT),
        (kinds.APPENDS, "In it", "", "In it"),
    ],
)
def test_one_thought_or_none_is_trained(
    template: str, answer: str, read: str, trained: str
) -> None:
    tokens = tokenizer(template)
    [found] = encode([Row("", answer, "", messages=(USER,))], tokens)
    ((before, after),) = decoded(found, tokens)
    assert before.endswith(f"assistant\n{read}")
    assert after == trained + END
    whole = before + after
    for opens, closes in (("<think>", "</think>"), ("[THINK]", "[/THINK]")):
        assert whole.count(opens) <= 1
        assert whole.count(closes) >= whole.count(opens)


def test_an_answer_ends_as_a_text_where_the_template_writes_no_end() -> None:
    tokens = tokenizer("{% for m in messages %}\n{{ m['content'] }}{% endfor %}")
    [found] = encode([Row("", "In it", "", messages=(USER,))], tokens)
    assert decoded(found, tokens)[0][1] == "In it<|endoftext|>"


def test_an_unclosed_thought_is_not_trained() -> None:
    row = Row("", "<think>\nIt floats.", "", messages=(USER,))
    with pytest.raises(Misuse, match=f"`{row.id}`: a thought that `<think>` begins is never"):
        encode([row], tokenizer(kinds.CHATML))


@pytest.mark.parametrize(
    ("opens", "closes"),
    [
        ("<think>", "</think>"),
        ("<thinking>", "</thinking>"),
        ("<seed:think>", "</seed:think>"),
        ("[THINK]", "[/THINK]"),
        ("◁think▷", "◁/think▷"),
        ("<|START_THINKING|>", "<|END_THINKING|>"),
        ("<|begin_of_thought|>", "<|end_of_thought|>"),
        ("<|channel>thought", "<channel|>"),
        ("<unused94>thought", "<unused95>"),
        ("<|think|>", "<|content|>"),
        ("<|start_of_thinking|>", "<|end_of_thinking|>"),
        ("<longcat_think>", "</longcat_think>"),
        ('<think id="1">', "</think>"),
        ("Here are my reasoning steps:", "[BEGIN FINAL RESPONSE]"),
    ],
)
def test_every_mark_is_closed_by_its_own(opens: str, closes: str) -> None:
    assert join_thought(f"assistant\n{opens}\n", "In it") == (
        f"assistant\n{opens}\n",
        f"\n{closes}\n\nIn it",
    )
    assert join_thought(f"assistant\n{opens}", THOUGHT)[1] == f"\nIt floats.\n{closes}\n\nIn it"
