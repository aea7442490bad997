"""Push of traces and training rows to the Hub, as Parquet with the columns of traces."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from domainlift.activity import activity
from domainlift.errors import BenchError, Misuse
from domainlift.fields import Problem
from domainlift.files import write_text
from domainlift.hub_datasets import reason
from domainlift.workspace import Workspace
from engines.base import Message
from finetune.data.formats import read_training_rows
from finetune.data.row_io import SPLITS, load_rows
from finetune.data.rows import Row
from traces.formats.registry import read_traces
from traces.secrets import masked
from traces.trace import Json, Trace, read_messages, read_trace_tools

#: What the Hub's viewer and `datasets` call the parts of a data set.
_HUB_SPLITS = dict(zip(SPLITS, ("train", "validation", "test"), strict=True))
_CARD = """---
configs:
- config_name: default
  data_files:
{files}
---

{rows} rows with the columns `id`, `timestamp`, `model`, `messages` and `tools`. Messages have the
form of OpenAI's API, thoughts apart in `reasoning_content`; the arguments of calls, and `tools`,
are JSON texts. Secrets that were found are masked: {masked}.
"""

Splits = Mapping[str, Sequence[Trace]]


@dataclass(frozen=True)
class HubUpload:
    """A folder to upload: its rows by split, bytes, and masked secrets by kind."""

    folder: Path
    rows: Mapping[str, int]
    bytes: int
    masked: Counter[str]


def rows_to_push(source: str, workspace: Path) -> Splits:
    """What is in a file, or in a prepared data set of the workspace, by split, as traces.

    Misuse where it is neither; Malformed where a line of it cannot be read.
    """
    path = Path(source)
    if path.is_file():
        traces = list(read_traces(path))
        if all(isinstance(trace, Trace) for trace in traces):
            return {"train": [trace for trace in traces if not isinstance(trace, Problem)]}
        return {"train": [_as_trace(row) for row in read_training_rows(path, "")]}
    folder = Workspace(workspace).data_set(source)
    if not folder.is_dir():
        raise Misuse(
            f"`{source}` is neither a file nor a prepared data set",
            "`bench data prepare` makes one; `--traces` pushes traces",
        )
    found = {split: load_rows(folder, split) for split in SPLITS}
    return {_HUB_SPLITS[split]: [*map(_as_trace, rows)] for split, rows in found.items() if rows}


def build_upload(splits: Splits, folder: Path) -> HubUpload:
    """Write the Parquet files and the card of a data set, with secrets masked."""
    import datasets

    datasets.disable_progress_bars()
    counts: Counter[str] = Counter()
    for split, traces in splits.items():
        rows = []
        for number, trace in enumerate(traces, 1):
            with activity(f"masking row {number:,} of {len(traces):,}"):
                clean, found = masked(trace)
            counts.update(found)
            rows.append(_columns(clean))
        path = folder / f"data/{split}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        datasets.Dataset.from_list(rows, features=_features()).to_parquet(path)
    files = "\n".join(f"  - split: {each}\n    path: data/{each}.parquet" for each in splits)
    total = sum(map(len, splits.values()))
    kinds = ", ".join(f"{n} {kind}" for kind, n in sorted(counts.items())) or "none"
    write_text(folder / "README.md", _CARD.format(files=files, rows=f"{total:,}", masked=kinds))
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return HubUpload(folder, {split: len(each) for split, each in splits.items()}, size, counts)


def check_repository(name: str) -> None:
    """Raise Misuse where a name cannot be that of a repository of the Hub."""
    from huggingface_hub import utils
    from huggingface_hub.errors import HFValidationError

    untyped: Any = utils
    try:
        untyped.validate_repo_id(name)
    except HFValidationError as error:
        raise Misuse(f"`{name}` is no name of a repository", "say it as USER/NAME") from error


def upload(made: HubUpload, repository: str, *, public: bool) -> str:
    """Upload a folder as a data set, and return its address; BenchError where that fails.

    A repository that is public already takes nothing unless `public` says so.
    """
    from huggingface_hub import HfApi

    hub = HfApi()
    try:
        address = hub.create_repo(
            repository, repo_type="dataset", private=not public, exist_ok=True
        )
        is_private = hub.repo_info(repository, repo_type="dataset").private
        if public or is_private:
            # It shows its own progress.
            hub.upload_folder(
                repo_id=repository,
                repo_type="dataset",
                folder_path=made.folder,
                commit_message="Upload traces",
            )
    except Exception as error:  # its client's, the HTTP library's, or the system's
        raise BenchError(
            f"nothing was uploaded to `{repository}` ({reason(error)})",
            "`hf auth login` signs in; the token needs the right to write",
        ) from error
    if not public and not is_private:
        raise BenchError(
            f"`{repository}` is public already; nothing was uploaded",
            "name another repository, or say `--public`",
        )
    return str(address)


def _as_trace(row: Row) -> Trace:
    """A row as the conversation that it is a part of."""
    asked = row.messages or (Message("user", row.prompt),)
    turns = row.chain or (Message("assistant", row.completion),)
    messages = [message.as_json() for message in (*asked, *turns)]
    tools = read_trace_tools(row.tools) if row.tools else ()
    return Trace(row.id, "", "", read_messages(messages), tools)


def _columns(trace: Trace) -> Json:
    return {
        "id": trace.id,
        "timestamp": trace.timestamp,
        "model": trace.model,
        "messages": list(trace.messages),
        "tools": json.dumps(trace.tools, ensure_ascii=False),
    }


def _features() -> Any:
    """The types of the columns: one struct for all messages, so that any two files go together."""
    import datasets

    text = datasets.Value("string")
    function = {"name": text, "arguments": text}
    message = {
        "role": text,
        "content": text,
        "reasoning_content": text,
        "tool_calls": datasets.List({"id": text, "type": text, "function": function}),
        "tool_call_id": text,
        "name": text,
    }
    columns = {"id": text, "timestamp": text, "model": text}
    return datasets.Features({**columns, "messages": datasets.List(message), "tools": text})
