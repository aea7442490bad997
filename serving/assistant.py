"""The assistant that a plan makes: what each question gets, and replies piece by piece."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from string import ascii_uppercase
from threading import Lock
from typing import Any

from benchmarks.scoring.score import probabilities, score
from domainlift.errors import BenchError, Misuse, NoSuch
from domainlift.files import sha256
from domainlift.types import Treatment
from engines.adapter_check import changes_logits
from engines.base import Answer, Engine, Mode, Prompt, Request, Status
from engines.registry import EngineOptions, open_engine
from engines.streaming import PromptTooLong, ReplyDelta, Sampling, StreamingEngine
from ensemble.plan import read_plan
from ensemble.treatment import treat_by_plan
from improve.options import RunOptions
from improve.resources import PassageBudget, adapters_from_option, open_resources
from improve.run_plan import load_plan
from improve.versions.champion import champion_plan, champion_stamp
from rag.treatment import QuestionSignals
from serving.asked import PLAIN_STOPS, Asked
from serving.support import is_supported

#: Names of models that are no adapter's: the plan decides, or nothing is done.
AUTO, BASE_MODEL = "auto", "base"
NOT_FOUND = "I do not find this in your documents."
#: No text has so many characters a token; to count the tokens of megabytes takes many seconds.
_LONGEST_TOKEN = 64


@dataclass(frozen=True)
class PreparedReply:
    """A prompt, and what it comes from.

    `supported` says whether passages hold what the question asks for, None where the plan searches
    no documents for it. `stops` end the reply besides those that a caller names. `version` names
    the plan's version, and `plan` is the SHA-256 of its file. `routed` says that the plan decided.
    """

    prompt: Prompt
    treatment: Treatment
    supported: bool | None = None
    stops: tuple[str, ...] = ()
    version: str = ""
    plan: str = ""
    routed: bool = True

    @property
    def model(self) -> str:
        """Who answers: the base model or an adapter."""
        return self.prompt.adapter if self.prompt.adapter is not None else BASE_MODEL

    def as_json(self) -> dict[str, Any]:
        """Route, adapter and passages, in the keys of `bench ask --json`."""
        treatment = self.treatment
        return {
            "supported": self.supported,
            "domain": treatment.route or None,
            "route": {
                "decided_by": treatment.decided_by,
                "matched": list(treatment.matched),
                "reason": treatment.reason,
            },
            "adapter": treatment.adapter,
            "passages": [
                {"source": p.place, "section": p.source, "text": p.text, "score": p.score}
                for p in treatment.passages
            ],
        }


class Assistant:
    """Answers by a plan; `follow` takes over the plans that are promoted from then on.

    Many threads may ask at once. `adapters` are served besides the plan's.
    """

    def __init__(
        self,
        engine: StreamingEngine,
        workspace: Path,
        plan: Path,
        *,
        follow: bool = False,
        adapters: tuple[str, ...] = (),
    ) -> None:
        self.engine = engine
        self.workspace = workspace
        self._stamp = champion_stamp(workspace) if follow else None
        self._lock, self._scoring = Lock(), Lock()
        self._adapters: set[str] = set()
        for name in adapters:
            treatments = adapters_from_option((name,), engine, workspace, [name])
            self._check(each.adapter for each in treatments.values())
        self._plan = self._opened(plan)

    @property
    def plan(self) -> Path:
        """The plan that decides now."""
        return self._plan.path

    @property
    def version(self) -> tuple[str, str]:
        """The name of the version that decides now, and the SHA-256 of its plan."""
        return self._plan.version, self._plan.sha256

    @property
    def adapters(self) -> list[str]:
        """The names of the adapters that can be asked for; those of former plans stay."""
        return sorted(self._adapters)

    def prepare(self, asked: Asked, model: str = AUTO) -> PreparedReply:
        """Route a question, search for it, and write its prompt.

        Raises NoSuch for an unknown model, and PromptTooLong for what no context holds.
        """
        context = self.engine.info.context
        if context is not None and asked.characters > context * _LONGEST_TOKEN:
            raise PromptTooLong(f"{asked.characters:,} characters for {context:,} tokens")
        plan = self._plan
        if model == AUTO:
            treatment, supported, plan = self._treated(asked)
        elif model == BASE_MODEL or model in self.adapters:
            adapter = None if model == BASE_MODEL else model
            treatment, supported = Treatment(adapter=adapter, reason=f"`{model}` was named"), None
        else:
            raise NoSuch("model", model, [AUTO, BASE_MODEL, *self.adapters])
        chat = self.engine.info.has_chat_template
        stops = PLAIN_STOPS if asked.messages and not chat else ()
        prompt = asked.prompt(treatment, chat=chat)
        served = (plan.version, plan.sha256, model == AUTO)
        return PreparedReply(prompt, treatment, supported, stops, *served)

    def stream(
        self, prepared: PreparedReply, sampling: Sampling, *, strict: bool = False
    ) -> Generator[ReplyDelta, None, None]:
        """Yield a reply as it grows; see StreamingEngine.stream.

        A `strict` one says so where the documents do not support an answer, and nothing else.
        """
        if strict and prepared.supported is False:
            return (piece for piece in (ReplyDelta(NOT_FOUND, finish="stop"),))
        stops = tuple(dict.fromkeys((*sampling.stop, *prepared.stops)))
        return self.engine.stream(prepared.prompt, replace(sampling, stop=stops))

    def choose(self, prepared: PreparedReply, asked: Asked) -> Answer:
        """The log-likelihood of each of the options that are asked about."""
        answer = self._scored(prepared.prompt, asked.mode, asked.options)
        if answer.status is Status.TRUNCATED:
            raise PromptTooLong(f"{answer.prompt_tokens} tokens")
        if answer.status is Status.ERROR:
            raise BenchError(answer.error or "the engine gave no answer")
        return answer

    def take_over(self) -> bool:
        """Load the plan that was promoted since, if there is one; whether there was.

        Who asks meanwhile is answered by the plan before. Raises BenchError where the new one
        cannot be used; the one before stays then.
        """
        if self._stamp is None or (stamp := champion_stamp(self.workspace)) == self._stamp:
            return False
        self._stamp = stamp
        path = champion_plan(self.workspace, self._plan.model)
        if path == self._plan.path:
            return False
        opened = self._opened(path)
        with self._lock:
            before, self._plan = self._plan, opened
        before.close()
        return True

    def close(self) -> None:
        """Close the knowledge bases and the engine."""
        self._plan.close()
        self.engine.close()

    def _opened(self, path: Path) -> _OpenPlan:
        opened = _OpenPlan(path, self.engine, self.workspace)
        try:
            self._check(opened.resources.adapters.values())
        except BaseException:
            opened.close()
            raise
        return opened

    def _check(self, adapters: Iterable[str]) -> None:
        """Raise BenchError for an adapter that would answer as the base model does."""
        for name in sorted({*adapters} - self._adapters):
            if changes_logits(self.engine, name) is False:
                raise BenchError(
                    f"adapter `{name}` leaves what the model says as it is",
                    "train it anew (`bench train`), or make a plan without it (`bench improve`)",
                )
            self._adapters.add(name)

    def _treated(self, asked: Asked) -> tuple[Treatment, bool | None, _OpenPlan]:
        question = asked.question
        while True:
            plan = self._plan
            route = plan.routing.send(question)
            entry = plan.domains.get(route.domain or "")
            confidence: Mapping[str, float] = {}
            if entry is not None and entry.uses_passages and entry.gate.confidence < 1:
                confidence = self._confidence(asked, plan, route.domain or "")
            signals = QuestionSignals(confidence, {}, plan.resources.options)
            with self._lock:
                # One search at a time; a plan that was replaced meanwhile is closed.
                if plan is self._plan:
                    resources = plan.resources
                    found = treat_by_plan([question], [route], plan.domains, resources, signals)
                    break
        searches = any(each.uses_passages for each in plan.domains.values())
        bare = entry is not None and not entry.uses_passages
        supported = is_supported(found[0]) if searches and not bare else None
        return found[0], supported, plan

    def _confidence(self, asked: Asked, plan: _OpenPlan, domain: str) -> Mapping[str, float]:
        """How sure the model is of an option without passages, as a plan's runner asks it.

        A question without options has no such number, and counts as unsure.
        """
        question = asked.question
        if not question.options:
            return {}
        entry = plan.domains[domain]
        adapter = plan.resources.adapters.get(domain)
        chat = self.engine.info.has_chat_template and bool(asked.messages)
        prompt = asked.prompt(Treatment(adapter=adapter, examples=entry.examples), chat=chat)
        letters = ascii_uppercase[: len(question.options)]
        options = asked.options or tuple(("" if chat else " ") + letter for letter in letters)
        answer = self._scored(prompt, asked.mode, options)
        chosen = score(question, answer, asked.mode).chosen
        if not isinstance(chosen, int) or not answer.logprobs:
            return {}
        return {question.id: probabilities(answer.logprobs)[chosen]}

    def _scored(self, prompt: Prompt, mode: Mode, options: tuple[str, ...]) -> Answer:
        with self._scoring:
            (answer,) = self.engine.answer([Request("asked", mode, prompt, options)])
        return answer


class _OpenPlan:
    """A plan that fits the engine, with its knowledge bases and adapters open."""

    def __init__(self, path: Path, engine: Engine, workspace: Path) -> None:
        loaded = load_plan(path, engine, RunOptions(workspace))
        plan = loaded.plan
        self.path, self.model, self.domains = path, plan.model, plan.domains
        self.version, self.sha256 = version_name(path), sha256(path)
        self.routing = loaded.routing
        budget = PassageBudget(plan.passages, plan.tokens, plan.query_options)
        self._stack = ExitStack()
        self.resources = self._stack.enter_context(
            open_resources(plan.domains, engine, workspace, budget)
        )

    def close(self) -> None:
        self._stack.close()


def version_name(plan: Path) -> str:
    """The name of the version whose plan this is; of a plan that is none, its own."""
    return plan.parent.name if plan.parent.parent.name == "versions" else plan.stem


def open_assistant(
    workspace: Path,
    plan: Path | None = None,
    model: str | None = None,
    options: EngineOptions = EngineOptions(),
    adapters: tuple[str, ...] = (),
) -> Assistant:
    """Open an assistant by a plan, or by the newest that was promoted, which it then follows.

    The model is the plan's where none is named. Raises Misuse where its engine cannot stream.
    """
    path = champion_plan(workspace, model) if plan is None else plan
    name = read_plan(path).model if model is None else model
    engine = open_engine(name, options)
    try:
        if not isinstance(engine, StreamingEngine):
            raise Misuse(f"the engine of `{name}` writes no replies piece by piece")
        return Assistant(engine, workspace, path, follow=plan is None, adapters=adapters)
    except BaseException:
        engine.close()
        raise
