"""`python -m recipes.shop_agent WORKSPACE [MODEL [FOLDER]]`: traces, and a model that has tools.

Into FOLDER goes MODEL with a chat template that writes tools and their calls, where its own does
not: SmolLM2-135M's leaves them out.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from engines.local.loading import GGUF_ORIGIN
from engines.registry import source
from recipes.shop_agent.shop import shop_traces
from traces.store import TraceStore


def _with_tools(model: str, folder: Path) -> None:
    shutil.copytree(source(model), folder, ignore=shutil.ignore_patterns(GGUF_ORIGIN))
    shutil.copy(Path(__file__).with_name("chat_template.jinja"), folder)


if __name__ == "__main__":
    workspace, *model = sys.argv[1:]
    store = TraceStore(Path(workspace))
    for trace in shop_traces():
        store.add(trace)
    if model[1:]:
        _with_tools(model[0], Path(model[1]))
