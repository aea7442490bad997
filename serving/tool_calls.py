"""Calls of tools in replies, as Hermes' and Qwen's templates write them: <tool_call>{…}."""

from __future__ import annotations

import json
import re
from typing import Any

_MARK = "<tool_call>"
_CALL = re.compile(r"<tool_call>\s*(.*?)\s*(?:</tool_call>|\Z)", re.DOTALL)


class ToolCallReader:
    """Takes a reply piece by piece, and parts its calls of tools from its text.

    The ids of calls are made of the reply's.
    """

    def __init__(self, reply_id: str) -> None:
        self._reply_id = reply_id
        self._held = ""
        self._in_calls = False

    def text(self, piece: str) -> str:
        """The text that can be told by now; what may begin a call is held back."""
        self._held += piece
        if self._in_calls:
            return ""
        end = self._held.find(_MARK)
        self._in_calls = end >= 0
        if end < 0:
            sizes = range(min(len(_MARK), len(self._held)), 0, -1)
            end = len(self._held) - next((n for n in sizes if self._held.endswith(_MARK[:n])), 0)
        told, self._held = self._held[:end], self._held[end:]
        return told

    def rest(self) -> tuple[str, list[dict[str, Any]]]:
        """What was held back: text that is no call, or the calls."""
        marked = _CALL.finditer(self._held) if self._in_calls else ()
        calls = [_call(match[1], f"call_{self._reply_id}{n}") for n, match in enumerate(marked)]
        found = [call for call in calls if call is not None]
        if len(found) < len(calls) or not found:
            return self._held, []
        return "", found


def _call(text: str, id_: str) -> dict[str, Any] | None:
    """A call in OpenAI's shape; None where the model wrote something else."""
    try:
        read = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(read, dict) or not isinstance(read.get("name"), str):
        return None
    arguments = json.dumps(read.get("arguments", {}), ensure_ascii=False)
    return {
        "id": id_,
        "type": "function",
        "function": {"name": read["name"], "arguments": arguments},
    }
