"""What servers tell of the model behind a name, over interfaces of their own."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from engines.servers.http import Server
from engines.servers.responses import Failure, Json, get_path


def told_of_model(server: Server, entry: Json) -> dict[str, str]:
    """What tells a model from another one of the same name, by option; {} where nothing does.

    `entry` is the model in the server's list; who owns it there says which server this is.
    """
    root = get_path(entry, "root")
    found = {"root": str(root)} if root else {}
    ask = _BY_OWNER.get(str(entry.get("owned_by")))
    if ask is None:
        return found
    try:
        return found | ask(server, str(entry.get("id")))
    except Failure:
        # An older version, or a proxy that passes on nothing but the API.
        return found


def _llama_server(server: Server, _: str) -> dict[str, str]:
    props = server.get(server.address.root + "/props", tries=1)
    template = get_path(props, "chat_template")
    return {
        **_texts(props, "model_path", "model_alias"),
        **({"template": _hash(template)} if isinstance(template, str) else {}),
    }


def _ollama(server: Server, model: str) -> dict[str, str]:
    listed = get_path(server.get(server.address.root + "/api/tags", tries=1), "models")
    for each in listed if isinstance(listed, list) else []:
        if get_path(each, "name") == (model if ":" in model else f"{model}:latest"):
            return _texts(each, "digest")
    return {}


def _sglang(server: Server, _: str) -> dict[str, str]:
    told = server.get(server.address.root + "/get_model_info", tries=1)
    return _texts(told, "model_path", "tokenizer_path")


_BY_OWNER: dict[str, Callable[[Server, str], dict[str, str]]] = {
    "llamacpp": _llama_server,
    "library": _ollama,
    "sglang": _sglang,
}


def _texts(told: Json, *keys: str) -> dict[str, str]:
    return {key: told[key] for key in keys if isinstance(told.get(key), str) and told[key]}


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:16]
