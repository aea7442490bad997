"""Upload of an export to the hub, and the version of an Ollama server; only on request."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Any, Protocol

from domainlift.errors import BenchError, Misuse
from engines.servers.http import Server
from engines.servers.ollama_model import parse_host
from engines.servers.responses import Failure
from finetune.adapters.model_card import CARD, is_hub_name


class HubClient(Protocol):
    """The part of `huggingface_hub.HfApi` that is used."""

    def create_repo(self, repo_id: str, *, private: bool, exist_ok: bool) -> Any:
        """Create a repository unless it exists."""

    def upload_folder(self, *, repo_id: str, folder_path: str, commit_message: str) -> Any:
        """Put a folder's files into it."""


def upload(folder: Path, repo: str, *, private: bool = True, api: HubClient | None = None) -> str:
    """Upload what the kind `hub` wrote to `OWNER/NAME` on the hub, and return that.

    Raises Misuse for another folder or name, BenchError where the hub refuses.
    """
    if not (folder / CARD).is_file():
        raise Misuse(f"`{folder}` was not exported with `--to hub`")
    if not is_hub_name(repo):
        raise Misuse(f"`{repo}` cannot name a repository", "write it as `OWNER/NAME`")
    try:
        hub = _hub() if api is None else api
        hub.create_repo(repo, private=private, exist_ok=True)
        hub.upload_folder(repo_id=repo, folder_path=str(folder), commit_message="Add an adapter")
    except (OSError, ValueError) as error:  # the hub's own errors are OSErrors
        first = " ".join(str(error).split())[:200]
        upload = shlex.join(["hf", "upload", repo, str(folder)])
        raise BenchError(
            f"`{repo}` cannot be uploaded: {first}",
            f"the export is whole: `hf auth login`, then `{upload}`",
        ) from error
    return repo


def ollama_version(host: str | None = None) -> str:
    """The version of the Ollama server at `host` or OLLAMA_HOST; "" where none answers."""
    url = parse_host(os.environ.get("OLLAMA_HOST", "") if host is None else host)
    server = Server(url, timeout=5.0)
    try:
        return str(server.get("/api/version", tries=1).get("version", ""))
    except Failure:
        return ""
    finally:
        server.close()


def _hub() -> HubClient:
    from huggingface_hub import HfApi

    return HfApi()
