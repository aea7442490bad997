"""Tokenization of rows, with the length of the prompt, which is not trained on."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from domainlift.errors import Misuse
from engines.chat_template import ChatTemplate
from engines.local.tokenization import tokens_within
from engines.thought_markers import begins_with_thought, join_thought
from finetune.data.rows import Row
from finetune.training.agent_turns import agent_turn_spans

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

#: Rows that a tokenizer is given at once: one by one they take five times as long.
_GROUP = 1024


@dataclass(frozen=True)
class Encoded:
    """A row in tokens: those from `prompt_length` on are trained, those before are only read.

    `n_truncated` is how many tokens of the prompt's beginning were left out to fit. `read` are
    spans after the prompt, from and up to, that are only read: results between calls of tools.
    """

    ids: tuple[int, ...]
    prompt_length: int
    row: Row
    n_truncated: int = 0
    read: tuple[tuple[int, int], ...] = ()

    @property
    def trained(self) -> int:
        """The number of trained tokens."""
        return len(self.ids) - self.prompt_length - sum(end - start for start, end in self.read)

    @property
    def spans(self) -> tuple[tuple[int, int], ...]:
        """Where trained tokens stand, from and up to."""
        starts = (self.prompt_length, *(end for _, end in self.read))
        return tuple(zip(starts, (*(start for start, _ in self.read), len(self.ids)), strict=True))

    @property
    def places(self) -> list[int]:
        """The places of the trained tokens."""
        return [place for span in self.spans for place in range(*span)]

    @property
    def targets(self) -> list[int]:
        """The trained tokens."""
        return [token for start, end in self.spans for token in self.ids[start:end]]


def encode(
    rows: Sequence[Row],
    tokenizer: PreTrainedTokenizerBase,
    *,
    max_tokens: int = 1024,
    end: bool = False,
) -> list[Encoded]:
    """Encode rows as the evaluation would, so that what is trained is what is asked.

    The answer's tokens are those by which prompt and answer together go on from the prompt
    alone; spaces at the prompt's end belong to the answer's first token. Where pieces would join
    across the seam, the answer has tokens of its own. A chat row goes through the tokenizer's
    template and ends as the template ends a turn; a plain row ends with its completion, and with
    the token that ends a text where `end` is set. Rows that are too long lose the beginning of
    their prompt, but not the token that begins a text. Raises Misuse, naming the row, where
    nothing is left to train on or the answer alone is too long.
    """
    encoder = _Encoder(tokenizer, end)
    begins = tokenizer.bos_token_id
    groups = (rows[start : start + _GROUP] for start in range(0, len(rows), _GROUP))
    encoded = (each for group in groups for each in encoder.rows(group))
    return [_fit(each, max_tokens, begins) for each in encoded]


def encode_turns(
    rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, max_tokens: int
) -> tuple[list[Encoded], Counter[str]]:
    """Encode rows with chains; those that cannot be trained are counted by reason.

    Raises Misuse where the tokenizer has no chat template.
    """
    if tokenizer.chat_template is None:
        hint = "choose an instruction-tuned model"
        raise Misuse("the model's tokenizer has no chat template", hint)
    encoder, encoded, refused = _Encoder(tokenizer, end=False), [], Counter[str]()
    for row in rows:
        try:
            example = encoder.agent_turn(row)
        except Misuse as error:
            refused[error.what] += 1
            continue
        if len(example.ids) > max_tokens:
            refused[f"longer than {max_tokens} tokens"] += 1
        else:
            encoded.append(example)
    return encoded, refused


def decoded(example: Encoded, tokenizer: PreTrainedTokenizerBase) -> tuple[tuple[str, str], ...]:
    """What is read and what is then trained, once or in turns, with special tokens shown."""
    tokens: Any = tokenizer
    ends = (0, *(end for _, end in example.spans))
    return tuple(
        (
            str(tokens.decode(list(example.ids[before:start]), skip_special_tokens=False)),
            str(tokens.decode(list(example.ids[start:end]), skip_special_tokens=False)),
        )
        for before, (start, end) in zip(ends, example.spans, strict=False)
    )


def truncated(examples: Sequence[Encoded]) -> list[str]:
    """The ids of the rows that lost part of their prompt."""
    return [example.row.id for example in examples if example.n_truncated]


@dataclass(frozen=True)
class _Parts:
    """A row as text: what is read, without spaces at its end, and what goes on from there.

    `special` says whether the tokenizer puts its special tokens around.
    """

    prompt: str
    completion: str
    special: bool


class _Encoder:
    """Holds what is looked up once: special tokens and the ends of turns."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, end: bool) -> None:
        self._tokenizer: Any = tokenizer
        self._end = end
        self._template = ChatTemplate(tokenizer)
        ending = tokenizer.eos_token_id
        if end and ending is None:
            raise Misuse("the tokenizer has no token that ends a text", "leave `end` off")
        self._eos = () if ending is None else (int(ending),)

    def rows(self, rows: Sequence[Row]) -> Iterator[Encoded]:
        answers = self._answers([row for row in rows if not row.chain])
        for row in rows:
            yield self._named(row) if row.chain else next(answers)

    def _named(self, row: Row) -> Encoded:
        if self._tokenizer.chat_template is None:
            raise _no_template(row)
        try:
            return self.agent_turn(row)
        except Misuse as error:
            raise Misuse(f"example `{row.id}`: {error.what}", error.hint) from error

    def agent_turn(self, row: Row) -> Encoded:
        """A row with a chain; Misuse with the reason where it cannot be trained."""
        ids, spans = agent_turn_spans(row, self._tokenizer, self._template, self._turn_end)
        read = zip((end for _, end in spans), (start for start, _ in spans[1:]), strict=False)
        return Encoded(ids, spans[0][0], row, read=tuple(read))

    def _answers(self, rows: Sequence[Row]) -> Iterator[Encoded]:
        parts = [self._parts(row) for row in rows]
        prompts = self._many([(part.prompt, part.special) for part in parts])
        wholes = self._many([(part.prompt + part.completion, part.special) for part in parts])
        for row, part, prompt, whole in zip(rows, parts, prompts, wholes, strict=True):
            before = prompt if prompt else self._first(row)
            after = self._continuation(part, before, whole)
            if self._end and not row.messages:
                after += self._eos
            if not after:
                raise _nothing(row, "its completion adds no token to its prompt")
            yield Encoded(before + after, len(before), row)

    def _parts(self, row: Row) -> _Parts:
        if not row.completion.strip():
            raise _nothing(row, "its completion is empty")
        prompt, completion = self._chat(row) if row.messages else (row.prompt, row.completion)
        # As the evaluation does: trailing spaces of the prompt join the answer's first token.
        trimmed = prompt.rstrip(" ")
        return _Parts(trimmed, prompt[len(trimmed) :] + completion, not row.messages)

    def _continuation(
        self, part: _Parts, before: tuple[int, ...], whole: tuple[int, ...]
    ) -> tuple[int, ...]:
        if part.prompt and whole[: len(before)] == before:
            return whole[len(before) :]
        # Pieces joined across the seam. Who is asked the prompt goes on from the prompt's tokens.
        return tokens_within(self._tokenizer, part.completion)

    def _many(self, texts: Sequence[tuple[str, bool]]) -> list[tuple[int, ...]]:
        """The tokens of texts, each with or without special tokens around it."""
        tokens: dict[tuple[str, bool], tuple[int, ...]] = {}
        for special in (False, True):
            own = list(dict.fromkeys(text for text, wanted in texts if wanted is special))
            if own:
                ids = self._tokenizer(own, add_special_tokens=special, verbose=False)["input_ids"]
                tokens.update(
                    ((text, special), tuple(each)) for text, each in zip(own, ids, strict=True)
                )
        return [tokens[each] for each in texts]

    def _chat(self, row: Row) -> tuple[str, str]:
        """A chat's prompt, and its answer with the end of the turn.

        Where the template tells whether a thought comes, it is told what the answer has.
        """
        if self._tokenizer.chat_template is None:
            raise _no_template(row)
        try:
            thinks = begins_with_thought(row.completion)
            tools = json.loads(row.tools) if row.tools else None
            prompt = self._template.prompt(row.messages, tools, thinks=thinks)
        except Misuse as error:
            raise Misuse(f"example `{row.id}`: {error.what}", error.hint) from error
        prompt, completion = join_thought(prompt, row.completion)
        return prompt, completion + self._turn_end

    @cached_property
    def _turn_end(self) -> str:
        """The end of a turn in the chat template, up to its special token; else that of a text."""
        ending = self._template.traits.ending
        ids = self._tokenizer(ending, add_special_tokens=False, verbose=False)["input_ids"]
        special = {*self._tokenizer.all_special_ids, *self._tokenizer.get_added_vocab().values()}
        last = next((i for i, token in enumerate(ids) if token in special), len(ids) - 1)
        return str(self._tokenizer.decode(list(ids[: last + 1] or self._eos)))

    def _first(self, row: Row) -> tuple[int, ...]:
        bos = self._tokenizer.bos_token_id
        first = (int(bos),) if bos is not None else self._eos
        if not first:
            raise _nothing(row, "its prompt is empty, and the tokenizer has no token to begin with")
        return first


def _fit(example: Encoded, max_tokens: int, begins: int | None) -> Encoded:
    surplus = len(example.ids) - max_tokens
    if surplus <= 0:
        return example
    if example.row.chain:  # without its beginning it would be read without its tools
        raise Misuse(
            f"example `{example.row.id}`, an agent's turn, has {len(example.ids)} tokens, and "
            f"`max_tokens` is {max_tokens}",
            f"`--set max_tokens={len(example.ids)}`, or prepare the traces with `--max-tokens`",
        )
    # Many models read nothing well without the token that begins a text.
    kept = (
        example.ids[:1] if example.ids[0] == begins and example.prompt_length > surplus + 1 else ()
    )
    # One token of the prompt must stay: the first trained token is predicted from it.
    if surplus >= example.prompt_length:
        raise Misuse(
            f"the answer of example `{example.row.id}` has {example.trained} tokens, and "
            f"{max_tokens - 1} fit beside its prompt",
            "shorten it, or raise `max_tokens`",
        )
    ids = kept + example.ids[surplus + len(kept) :]
    return Encoded(ids, example.prompt_length - surplus, example.row, surplus)


def _no_template(row: Row) -> Misuse:
    return Misuse(
        f"example `{row.id}` is a chat, and the model's tokenizer has no chat template",
        "give rows with `prompt` and `completion`, or choose an instruction-tuned model",
    )


def _nothing(row: Row, why: str) -> Misuse:
    shown = " ".join((row.prompt or "chat").split())[-60:]
    return Misuse(
        f"example `{row.id}` has nothing to train on: {why} (prompt ends `{shown}`)",
        "mend or remove it: `bench data check FILE` lists all such lines",
    )
