"""An assistant that is opened when the first question comes, and a reply as events of a page."""

from __future__ import annotations

import secrets
from collections.abc import Generator
from contextlib import closing
from pathlib import Path
from threading import Lock
from typing import Any

from domainlift.errors import BenchError
from engines.base import Message
from engines.registry import EngineOptions
from engines.streaming import Sampling
from improve.feedback.reply_log import KEPT, ReplyLog
from improve.versions.champion import champion_plan
from reports.terminal import print_note
from serving.asked import asked_in_chat
from serving.assistant import AUTO, Assistant, PreparedReply, open_assistant
from serving.served import served_reply

_MOST_TOKENS = 256


class LazyAssistant:
    """Opens the assistant of a plan at the first question, so that pages need no model.

    Without `plan` it is the newest that was promoted, also one that is promoted later.
    """

    def __init__(
        self,
        workspace: Path,
        plan: Path | None,
        model: str | None,
        options: EngineOptions,
        kept: int = KEPT,
    ) -> None:
        self._workspace, self._plan, self._model = workspace, plan, model
        self._options = options
        self.replies = ReplyLog(workspace, kept)
        self._lock = Lock()
        self._opened: Assistant | None = None

    def plan(self) -> Path:
        """The plan that the next question is answered by; BenchError where there is none."""
        if self._opened is not None:
            return self._opened.plan
        return self._plan if self._plan is not None else champion_plan(self._workspace, self._model)

    def get(self) -> Assistant:
        """The assistant; BenchError where it cannot be opened."""
        with self._lock:
            if self._opened is None:
                self._opened = open_assistant(
                    self._workspace, self._plan, self._model, self._options
                )
                return self._opened
            try:
                self._opened.take_over()
            except BenchError as error:
                print_note(f"the plan before stays: {error.what}")
            return self._opened

    def close(self) -> None:
        """Close what was opened."""
        if self._opened is not None:
            self._opened.close()


Events = Generator[dict[str, Any], None, None]


def reply_events(lazy: LazyAssistant, question: str, model: str) -> Events:
    """What the reply comes from (`prepared`, `plan`), its pieces (`text`), and its end.

    The last one has `tokens` and the `id` by which the reply can be marked, "" where it is not
    kept, or `error` with a `hint`.
    """
    try:
        assistant = lazy.get()
        prepared: PreparedReply = assistant.prepare(
            asked_in_chat([Message("user", question)]), model
        )
        yield {"prepared": prepared, "plan": assistant.plan.name}
        sampling = Sampling(max_tokens=_MOST_TOKENS)
        tokens, said = 0, ""
        with closing(assistant.stream(prepared, sampling, strict=model == AUTO)) as deltas:
            for delta in deltas:
                text = delta.text if said else delta.text.lstrip()
                said, tokens = said + text, delta.output_tokens
                if text:
                    yield {"text": text}
        reply = served_reply(secrets.token_hex(12), question, said, prepared)
        lazy.replies.add(reply)
        yield {"tokens": tokens, "id": reply.id if lazy.replies.kept else ""}
    except BenchError as error:
        yield {"error": error.what, "hint": error.hint or ""}
    except Exception as error:  # nothing that is asked may end the server
        yield {"error": f"unexpected {type(error).__name__}: {error}"[:300], "hint": ""}
