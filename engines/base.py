"""Protocols of engines, and their requests and answers."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class Mode(StrEnum):
    """Way of scoring: log-probabilities of letters or of continuations, or generated text."""

    LETTER = "letter"
    CLOZE = "cloze"
    GENERATE = "generate"


class Status(StrEnum):
    """Outcome of a question."""

    OK = "ok"
    UNPARSED = "unparsed"
    CUT_OFF = "cut_off"
    TRUNCATED = "truncated"
    ERROR = "error"


@dataclass(frozen=True)
class Message:
    """One turn of a chat; `extra` is what else a template may read (calls of tools and so on).

    Digests of stored requests are made of the repr, which `extra` is therefore no part of.
    """

    role: str
    content: str
    extra: Mapping[str, Any] = field(default_factory=dict, hash=False, repr=False)

    def as_json(self) -> dict[str, Any]:
        """The turn in the form of OpenAI's API."""
        return {"role": self.role, "content": self.content, **self.extra}


@dataclass(frozen=True)
class Prompt:
    """Plain text, or chat messages, which take precedence; and the adapter that answers.

    `tools` are descriptions of functions (JSON schema, as OpenAI's API has them), for the template.
    """

    text: str = ""
    messages: tuple[Message, ...] = ()
    adapter: str | None = None
    tools: tuple[Mapping[str, Any], ...] = field(default=(), hash=False, repr=False)


@dataclass(frozen=True)
class Request:
    """One question for an engine.

    letter    `options` are the letters as they continue the prompt (" A", " B", … after plain
              text; "A", "B", … in a chat, where the model's first token is read)
    cloze     `options` are the texts that continue the prompt, with their leading space
    generate  the reply ends at one of `stop` or after `max_tokens`
    """

    id: str
    mode: Mode
    prompt: Prompt
    options: tuple[str, ...] = ()
    stop: tuple[str, ...] = ()
    max_tokens: int = 0


@dataclass(frozen=True)
class Answer:
    """Answer to one request.

    `logprobs` holds log P(option | prompt) in nats, one per option, and is empty where the
    engine generated text instead; `greedy` is, for each option, whether greedy decoding gives it.
    `mass` is the probability of all letters together, and `n_bounded` the number of letters that
    were not among the returned alternatives and have an upper bound instead. `thought` is what a
    server sets apart from the text; `cut_off` says that `max_tokens` ended the reply, and no stop
    string or end token. An engine never sets UNPARSED or CUT_OFF: the scorer reads replies.
    A `refused` prompt would be refused again.
    """

    id: str
    status: Status = Status.OK
    logprobs: tuple[float, ...] = ()
    greedy: tuple[bool, ...] = ()
    mass: float | None = None
    n_bounded: int = 0
    text: str | None = None
    thought: str | None = None
    cut_off: bool = False
    prompt_tokens: int = 0
    output_tokens: int = 0
    seconds: float = 0.0
    error: str | None = None
    refused: bool = False


@dataclass(frozen=True)
class EngineInfo:
    """Description of an engine, sufficient to repeat a run with it.

    `options` decide the answers and are part of a run's fingerprint; `versions` are recorded.
    `notes` are sentences for the user (for example about a fallback). With
    `one_adapter_at_a_time`, each change of adapters loads a model, so questions are grouped by it.
    """

    engine: str
    model: str
    digest: str
    context: int | None
    modes: frozenset[Mode]
    has_chat_template: bool
    options: Mapping[str, str | int | float | bool | None] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    one_adapter_at_a_time: bool = False


def same_weights(one: str, other: str) -> bool:
    """Whether two digests are of the same weights, whatever the other files of a tokenizer are."""
    return one.partition("+")[0] == other.partition("+")[0]


class Engine(Protocol):
    """Scores options or generates text, each answer as soon as it is there."""

    @property
    def info(self) -> EngineInfo:
        """Description of this engine; available before the first answer."""
        ...

    @property
    def forward_tokens(self) -> int:
        """Token positions computed so far, as far as the engine knows; 0 where it cannot."""
        ...

    def answer(self, requests: Sequence[Request]) -> Generator[Answer, None, None]:
        """Yield one answer per request, in any order, each as soon as it is known.

        Requests come in prefix order. Closing the generator cancels the requests under way. Raises
        EngineDown when no further answer can come.
        """
        ...

    def count(self, text: str) -> int:
        """Count the tokens of a text; without a tokenizer, an upper estimate."""
        ...

    def close(self) -> None:
        """Release connections and caches."""
        ...


@runtime_checkable
class AdapterEngine(Engine, Protocol):
    """An engine that loads LoRA adapters beside its model."""

    def add_adapter(self, name: str, folder: Path) -> None:
        """Load a PEFT adapter from its folder; requests ask for it by `name`.

        Raises BenchError where it does not fit the model, or the server has no such model.
        """
        ...


@runtime_checkable
class TrainableEngine(Engine, Protocol):
    """An engine whose model is held by this process, so that it can be trained."""

    @property
    def model(self) -> PreTrainedModel:
        """The loaded model; what the engine answers changes with it."""
        ...

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The model's tokenizer."""
        ...

    def answering_with(self, live: Any) -> AbstractContextManager[None]:
        """Answer with the weights or prompts of `live`, PEFT's model in training over `model`."""
        ...


def estimate_tokens(text: str) -> int:
    """An upper estimate for prose: a token of any common vocabulary has 2.5 bytes or more."""
    return 1 + 2 * len(text.encode("utf-8", "replace")) // 5
