"""Registry of row formats; a row's format follows from its keys."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from difflib import get_close_matches
from string import ascii_uppercase
from typing import Any

from domainlift.types import Question
from finetune.data.cleaning import join
from finetune.data.formats import chat
from finetune.data.formats.base import (
    Fields,
    InvalidRow,
    from_json,
    kind_name,
    optional,
    text,
)
from finetune.data.rows import Row


@dataclass(frozen=True)
class RowFormat:
    """A form of rows: its required keys, its optional ones, and its reader.

    A reader yields rows, or questions, which are asked as the evaluation asks them.
    """

    needs: tuple[str, ...]
    may: tuple[str, ...]
    read: Callable[[Fields], Iterator[Row | Question]]


#: Keys that any row may have; `source` and `licence` go into the data card.
COMMON = (
    *("id", "source", "licence", "license", "domain", "kind", "category", "dataset", "metadata"),
    *("language", "lang", "difficulty"),
)


def find_format(fields: Fields) -> str:
    """The name of the first format whose keys are there."""
    for name, form in FORMATS.items():
        if all(key in fields for key in form.needs):
            return name
    raise InvalidRow(_no_format(fields))


def unknown_keys(fields: Fields, name: str) -> list[str]:
    """Problems with keys that a format does not have: misspelt, they would be lost."""
    form = FORMATS[name]
    allowed = (*form.needs, *form.may, *COMMON)
    return [_unknown(key, allowed) for key in fields if key not in allowed]


def _unknown(key: str, allowed: tuple[str, ...]) -> str:
    near = get_close_matches(key, allowed, n=1)
    shown = "".join(c if c.isprintable() else "\ufffd" for c in key[:60])
    return f"unknown key `{shown}`" + (f"; did you mean `{near[0]}`?" if near else "")


def _no_format(fields: Fields) -> str:
    """Name the format of which most keys are there, or near, and what it lacks."""
    keys = list(fields)
    for name, form in FORMATS.items():
        for missing in (key for key in form.needs if key not in fields):
            near = get_close_matches(missing, keys, n=1, cutoff=0.8)
            if near and near[0] not in (*form.needs, *form.may):
                return f"unknown key `{near[0]}`; did you mean `{missing}` ({name})?"
    for name, form in FORMATS.items():
        lacking = [key for key in form.needs if key not in fields]
        if len(lacking) < len(form.needs):
            return f"no `{lacking[0]}` ({name})"
    forms = "; ".join(", ".join(f"`{key}`" for key in form.needs) for form in FORMATS.values())
    return f"no known format: rows have {forms}"


# --- the readers


def _messages(fields: Fields) -> Iterator[Row]:
    turns = chat.read_turns(fields["messages"], "messages")
    yield from chat.chat_rows(turns, chat.read_tools(fields.get("tools")))


def _sharegpt(fields: Fields) -> Iterator[Row]:
    value = from_json(fields["conversations"], "`conversations`")
    first = value[0] if isinstance(value, list) and value else None
    named = isinstance(first, dict) and "role" in first
    keys = ("role", "content") if named else ("from", "value")
    turns = chat.read_turns(value, "conversations", role=keys[0], content=keys[1])
    turns = _after_system(optional(fields, "system"), turns)
    yield from chat.chat_rows(turns, chat.read_tools(fields.get("tools")))


def _preference(fields: Fields) -> Iterator[Row]:
    """The preferred answer is learned; the other must be there, but serves nothing here."""
    chosen = _turns_or_text(fields["chosen"])
    if isinstance(chosen, list):
        prompt = _turns_or_text(fields.get("prompt"))
        answer = chat.read_turns(chosen, "chosen")
        # The chosen turns may be the whole conversation, or only what follows the prompt.
        if answer[0].role == "assistant":
            answer = [*_prompt_turns(prompt), *answer]
        answer = _after_system(optional(fields, "system"), answer)
        yield _last(answer, chat.read_tools(fields.get("tools")))
    elif "prompt" not in fields:
        raise InvalidRow("no `prompt` (preference)")
    else:
        yield _continued(fields, "chosen")


def _completion(fields: Fields) -> Iterator[Row]:
    prompt = _turns_or_text(fields["prompt"])
    completion = _turns_or_text(fields["completion"])
    if isinstance(prompt, list) or isinstance(completion, list):
        turns = [*_prompt_turns(prompt), *_answer_turns(completion)]
        yield _last(turns, chat.read_tools(fields.get("tools")))
    else:
        yield _continued(fields, "completion")


def _alpaca(fields: Fields) -> Iterator[Row]:
    """The text of Alpaca's own template, and the same as a chat for models that have one."""
    instruction, output = text(fields, "instruction").strip(), text(fields, "output").strip()
    given, system = optional(fields, "input").strip(), optional(fields, "system").strip()
    parts = [
        *([system] if system else []),
        f"### Instruction:\n{instruction}",
        *([f"### Input:\n{given}"] if given else []),
        "### Response:\n",
    ]
    request = chat.Turn("user", "\n\n".join(filter(None, [instruction, given])))
    turns = [*_history(fields), request, chat.Turn("assistant", output)]
    last = _last(_after_system(system, turns))
    # Earlier turns have no place in Alpaca's template: such a row is a chat only.
    yield last if len(turns) > 2 else replace(last, prompt="\n\n".join(parts))


def _question(fields: Fields) -> Iterator[Question]:
    options = _options(fields)
    question, context = text(fields, "question").strip(), optional(fields, "context").strip()
    answer: int | str
    answer = _answer_index(fields["answer"], options) if options else text(fields, "answer").strip()
    whole = "\n".join(filter(None, [context, question]))
    # What is kept for measuring must not be learned.
    if optional(fields, "split").strip() in ("", "train"):
        yield Question("", "", "file", whole, options, answer, split="train")


#: Format -> its keys and its reader; of several that fit the first counts. A new format is one
#: more entry.
FORMATS: dict[str, RowFormat] = {
    "messages": RowFormat(("messages",), ("tools", "parallel_tool_calls"), _messages),
    "ShareGPT": RowFormat(("conversations",), ("system", "tools"), _sharegpt),
    "preference": RowFormat(
        ("chosen", "rejected"),
        ("prompt", "system", "tools", "score_chosen", "score_rejected"),
        _preference,
    ),
    "Alpaca": RowFormat(("instruction", "output"), ("input", "system", "history", "text"), _alpaca),
    "prompt/completion": RowFormat(("prompt", "completion"), ("tools",), _completion),
    "question/answer": RowFormat(
        ("question", "answer"),
        ("context", "options", "choices", "split", "support", "cluster"),
        _question,
    ),
}


# --- their helpers


def _turns_or_text(value: Any) -> Any:
    """The value, or the turns that a table holds as JSON; other texts may have brackets, too."""
    if isinstance(value, str) and value.startswith("[{"):
        try:
            return from_json(value, "it")
        except InvalidRow:
            return value
    return value


def _last(turns: list[chat.Turn], tools: str = "") -> Row:
    """The row of the last answer only: what stands before it was given, not said."""
    rows = list(chat.chat_rows(turns, tools))
    if not rows or not turns[-1].learned:
        raise InvalidRow("the last turn has the weight 0: nothing is learned")
    return rows[-1]


def _continued(fields: Fields, key: str) -> Row:
    prompt, completion = text(fields, "prompt"), text(fields, key)
    return Row(prompt, join(prompt, completion), "")


def _prompt_turns(prompt: Any) -> list[chat.Turn]:
    if isinstance(prompt, list):
        return chat.read_turns(prompt, "prompt")
    return [chat.Turn("user", text({"prompt": prompt}, "prompt").strip())]


def _answer_turns(completion: Any) -> list[chat.Turn]:
    if isinstance(completion, list):
        return chat.read_turns(completion, "completion")
    return [chat.Turn("assistant", text({"completion": completion}, "completion").strip())]


def _after_system(system: str, turns: list[chat.Turn]) -> list[chat.Turn]:
    return [chat.Turn("system", system.strip()), *turns] if system.strip() else turns


def _history(fields: Fields) -> list[chat.Turn]:
    """Earlier turns of an Alpaca row: pairs of what was asked and what was answered."""
    history = from_json(fields.get("history"), "`history`")
    if history is None or history == "":
        return []
    if not isinstance(history, list):
        raise InvalidRow(f"`history` must be a list of pairs, not {kind_name(history)}")
    turns = []
    for pair in history:
        if not (
            isinstance(pair, list) and len(pair) == 2 and all(isinstance(t, str) for t in pair)
        ):
            raise InvalidRow("`history` must be a list of pairs of texts")
        turns += [chat.Turn("user", pair[0].strip()), chat.Turn("assistant", pair[1].strip())]
    return turns


def _options(fields: Fields) -> tuple[str, ...]:
    key = "options" if "options" in fields else "choices"
    given = from_json(fields.get(key), f"`{key}`")
    if given is None or given in ("", []):
        return ()
    if not isinstance(given, list) or not all(_is_plain(option) for option in given):
        raise InvalidRow(f"`{key}` must be a list of texts")
    options = tuple(str(option).strip() for option in given)
    if not 2 <= len(options) <= len(ascii_uppercase):
        raise InvalidRow(f"{len(options)} options, where 2 to {len(ascii_uppercase)} are needed")
    if "" in options or len(set(options)) < len(options):
        raise InvalidRow("an option is empty or stands there twice")
    return options


def _answer_index(answer: Any, options: tuple[str, ...]) -> int:
    """Read an index from 0, a letter, or the text of an option."""
    if isinstance(answer, int) and not isinstance(answer, bool):
        if not 0 <= answer < len(options):
            raise InvalidRow(f"answer {answer} is out of range (0 to {len(options) - 1})")
        return answer
    label = answer.strip() if isinstance(answer, str) else ""
    if not label:
        raise InvalidRow("`answer` is empty" if answer in ("", None) else "`answer` must be a text")
    letters = ascii_uppercase[: len(options)]
    matches = {options.index(label)} if label in options else set()
    if len(label) == 1 and label.upper() in letters:
        matches.add(letters.index(label.upper()))
    # A table knows no numbers; at most two digits, for int() has a limit of its own.
    if label.isdecimal() and len(label) < 3 and int(label) < len(options):
        matches.add(int(label))
    if len(matches) != 1:
        fault = "can be read in two ways" if matches else f"is none of the {len(options)} options"
        raise InvalidRow(f"answer `{label[:60]}` {fault}")
    return matches.pop()


def _is_plain(value: object) -> bool:
    return isinstance(value, str | int | float) and not isinstance(value, bool)
