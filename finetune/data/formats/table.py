"""Registry of row formats; a row's format follows from its keys."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any

from benchmarks.tasks.question_columns import COMMON, is_question, unknown_columns
from benchmarks.tasks.question_rows import read_question
from domainlift.fields import Fields, InvalidRow, from_json, kind_name, optional, text, unknown_key
from domainlift.types import Question
from finetune.data.cleaning import join
from finetune.data.formats import chat
from finetune.data.rows import Row


@dataclass(frozen=True)
class RowFormat:
    """A form of rows: its required keys, its optional ones, and its reader.

    A reader yields rows, or questions, which are asked as the evaluation asks them.
    """

    needs: tuple[str, ...]
    may: tuple[str, ...]
    read: Callable[[Fields], Iterator[Row | Question]]


# A key of a format -> what data sets that have it call others.
_RENAMED = {
    "instruction": {"response": "output", "context": "input"},
    "prompt": {"response": "completion"},
}
#: The format of questions, whose columns have many names (`benchmarks.tasks.question_columns`).
QUESTION = "question/answer"


def usual_names(fields: Fields) -> Fields:
    """The row with our names of keys where those of other data sets say the same."""
    names = _RENAMED.get(next((key for key in _RENAMED if key in fields), ""), {})
    taken = {names.get(key, key) for key in fields}
    return fields if len(taken) < len(fields) else {names.get(k, k): v for k, v in fields.items()}


def find_format(fields: Fields) -> str:
    """The name of the first format whose keys are there."""
    if {"question", "answer", "messages"} <= fields.keys():  # a step of an agent, to be asked
        return QUESTION
    for name, form in FORMATS.items():
        if all(key in fields for key in form.needs):
            return name
    if is_question(fields):
        return QUESTION
    raise _no_format(fields)


def unknown_keys(fields: Fields, name: str) -> list[InvalidRow]:
    """Problems with keys that a format does not have: misspelt, they would be lost."""
    if name == QUESTION:
        return unknown_columns(fields)
    form = FORMATS[name]
    allowed = (*form.needs, *form.may, *COMMON)
    return [unknown_key(key, allowed) for key in fields if key not in allowed]


def _no_format(fields: Fields) -> InvalidRow:
    """Name the format of which most keys are there, or near, and what it lacks."""
    keys = list(fields)
    for name, form in FORMATS.items():
        for missing in (key for key in form.needs if key not in fields):
            near = get_close_matches(missing, keys, n=1, cutoff=0.8)
            if near and near[0] not in (*form.needs, *form.may):
                what = f"unknown key `{near[0]}`; did you mean `{missing}` ({name})?"
                return InvalidRow(what, near[0], missing)
    for name, form in FORMATS.items():
        lacking = [key for key in form.needs if key not in fields]
        if len(lacking) < len(form.needs):
            return InvalidRow(f"no `{lacking[0]}` ({name})", lacking[0])
    forms = "; ".join(", ".join(f"`{key}`" for key in form.needs) for form in FORMATS.values())
    return InvalidRow(f"no known format: rows have {forms}")


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
    """The better answer, and the worse one beside it; both must answer the same prompt."""
    better, worse = (_side(fields, key) for key in ("chosen", "rejected"))
    if better.messages != worse.messages:
        raise InvalidRow("`chosen` and `rejected` answer different prompts", "rejected")
    yield replace(better, rejected=worse.completion)


def _side(fields: Fields, key: str) -> Row:
    """One side of a pair, as the row that would be learned from it."""
    said = _turns_or_text(fields[key])
    if isinstance(said, list):
        answer = chat.read_turns(said, key)
        # The turns may be the whole conversation, or only what follows the prompt.
        if answer[0].role == "assistant":
            answer = [*_turns(_turns_or_text(fields.get("prompt")), "prompt", "user"), *answer]
        answer = _after_system(optional(fields, "system"), answer)
        return _last(answer, chat.read_tools(fields.get("tools")))
    if "prompt" not in fields:
        raise InvalidRow("no `prompt` (preference)")
    return _continued(fields, key)


def _completion(fields: Fields) -> Iterator[Row]:
    prompt = _turns_or_text(fields["prompt"])
    completion = _turns_or_text(fields["completion"])
    if isinstance(prompt, list) or isinstance(completion, list):
        turns = [*_turns(prompt, "prompt", "user"), *_turns(completion, "completion", "assistant")]
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
    question = read_question(fields, split="train")
    # What is kept for measuring must not be learned.
    if question.split == "train":
        yield question


#: Format -> its keys and its reader; of several that fit the first counts. A new format is one
#: more entry.
FORMATS: dict[str, RowFormat] = {
    "preference": RowFormat(
        ("chosen", "rejected"),
        # UltraFeedback has the better conversation twice.
        ("prompt", "system", "tools", "score_chosen", "score_rejected", "messages", "prompt_id"),
        _preference,
    ),
    "messages": RowFormat(("messages",), ("tools", "parallel_tool_calls"), _messages),
    "ShareGPT": RowFormat(("conversations",), ("system", "tools"), _sharegpt),
    "Alpaca": RowFormat(("instruction", "output"), ("input", "system", "history", "text"), _alpaca),
    "prompt/completion": RowFormat(("prompt", "completion"), ("tools",), _completion),
    QUESTION: RowFormat(("question", "answer"), (), _question),
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


def _turns(value: Any, key: str, role: str) -> list[chat.Turn]:
    """The turns under a key; a text is one turn of this role."""
    if isinstance(value, list):
        return chat.read_turns(value, key)
    return [chat.Turn(role, text({key: value}, key).strip())]


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
