"""Options of the commands that run and improve a model."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.held_out.choice import ChoiceCriteria
from benchmarks.held_out.gate import GateCriteria
from improve.exam.exam import Exam
from rag.search.retrieval import Retrieval
from rag.treatment import TOKENS


@dataclass(frozen=True)
class RunOptions:
    """Workspace, data mirror and target of runs; which run is resumed, or that a new one begins."""

    workspace: Path
    data: Path | None = None
    resume: str | None = None
    fresh: bool = False
    target: float = 0.60


@dataclass(frozen=True)
class RetrievalOptions:
    """Retrieval options of `bench run`.

    No domains means all that have a knowledge base, no `k` that calibration chooses it.
    """

    domains: tuple[str, ...]
    gate: str
    retrieval: Retrieval
    k: int | None = None
    tokens: int = TOKENS
    options: bool = False


@dataclass(frozen=True)
class TreatmentOptions:
    """Treatments that `bench run` is asked for; `adapters` are names, a folder or `own`."""

    retrieval: RetrievalOptions | None = None
    adapters: tuple[str, ...] = ()


@dataclass(frozen=True)
class ImproveOptions:
    """Options of `bench improve`.

    `only` are the domains to treat, () for all that are weak; `minutes` and `rows` bound the
    training of each, None for the default; with `own`, domains are reduced to their own questions
    and documents; `change` holds KEY=VALUE settings of the trainings; `choice` is
    what treatments are chosen by; `tasks` are asked beside the suite, and their domains treated.
    With `strengths_only`, the suite's other domains are left out. With an `exam`, its held-out
    questions are asked under every treatment that was tried; its training rows are turns of a chat
    with `exam_in_chat`.
    """

    criteria: GateCriteria
    only: tuple[str, ...] = ()
    skip_rag: bool = False
    skip_train: bool = False
    minutes: float | None = None
    rows: int | None = None
    own: bool = False
    change: tuple[str, ...] = ()
    choice: ChoiceCriteria = field(default_factory=ChoiceCriteria)
    tasks: tuple[str, ...] = ()
    strengths_only: bool = False
    exam: Exam | None = None
    exam_in_chat: bool = False
