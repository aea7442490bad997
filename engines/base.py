"""What an engine is: it answers requests, each answer as soon as it has it."""

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
    """How an answer is read from a model."""

    LETTER = "letter"
    CLOZE = "cloze"
    GENERATE = "generate"


class Status(StrEnum):
    """What became of a question."""

    OK = "ok"
    UNPARSED = "unparsed"
    TRUNCATED = "truncated"
    ERROR = "error"


@dataclass(frozen=True)
class Message:
    """One turn of a chat."""

    role: str
    content: str


@dataclass(frozen=True)
class Prompt:
    """Plain text, or chat messages, which win where there are any."""

    text: str = ""
    messages: tuple[Message, ...] = ()
    adapter: str | None = None


@dataclass(frozen=True)
class Request:
    """One question as an engine gets it.

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
    """What an engine said to one request.

    `logprobs` holds log P(option | prompt) in nats, one per option, and is empty where the
    engine generated text instead; `greedy` says of each option whether it is what the model
    would have said by itself. `mass` is the probability that falls on the letters together,
    and `floored` counts letters that were not among the returned alternatives and stand with an
    upper bound. An engine never sets UNPARSED: reading a reply is the scorer's work.
    """

    id: str
    status: Status = Status.OK
    logprobs: tuple[float, ...] = ()
    greedy: tuple[bool, ...] = ()
    mass: float | None = None
    n_bounded: int = 0
    text: str | None = None
    prompt_tokens: int = 0
    output_tokens: int = 0
    seconds: float = 0.0
    error: str | None = None


@dataclass(frozen=True)
class EngineInfo:
    """What must be known of an engine to repeat a run with it.

    `options` decide the answers and are part of a run's fingerprint; `versions` are recorded.
    `notes` are sentences that the user should read (a fallback that was taken, say). With
    `one_adapter_at_a_time`, changing adapters costs a load: all questions of one go together.
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


class Engine(Protocol):
    """Scores options or generates text."""

    @property
    def info(self) -> EngineInfo:
        """What this engine is; available before the first answer."""
        ...

    @property
    def forward_tokens(self) -> int:
        """Token positions computed so far, as far as the engine knows; 0 where it cannot."""
        ...

    def answer(self, requests: Sequence[Request]) -> Generator[Answer, None, None]:
        """Yield one answer per request, in any order, each as soon as it is known.

        Requests come in prefix order. Closing the generator ends what is under way. Raises
        EngineDown when no further answer can come.
        """
        ...

    def count(self, text: str) -> int:
        """Count the tokens of a text; where no tokenizer is at hand, an estimate that errs high."""
        ...

    def close(self) -> None:
        """Give back what the engine holds."""
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
