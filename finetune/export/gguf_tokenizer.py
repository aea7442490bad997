"""Writer of a tokenizer into GGUF: byte-level BPE with the name of its pre-tokenizer.

llama.cpp has pre-tokenizers built in under names; a GGUF file can only name one of them.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from domainlift.errors import Misuse

if TYPE_CHECKING:
    from gguf import GGUFWriter

_QWEN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_LLAMA3 = _QWEN.replace(r"|\p{N}|", r"|\p{N}{1,3}|")
# The embedded model's. No merge of it joins a letter with anything but the space before it, so
# qwen2's cuts give the same tokens, but for several spaces before a word.
_TINY = r"\p{N}| ?\p{L}+| ?[^\s\p{L}\p{N}]+|\s+"
#: The name in llama.cpp of what a tokenizer cuts text with.
CUTS = {_QWEN: "qwen2", _LLAMA3: "llama-bpe", _TINY: "qwen2"}
_WAY_ON = "give a GGUF of the base model, whose tokenizer is taken over: `--base-gguf FILE`"


def add_tokenizer(writer: GGUFWriter, tokenizer: Any, size: int) -> None:
    """Write tokens, merges, special tokens and chat template; `size` is the model's vocabulary.

    Misuse where the tokenizer is not byte-level BPE, or cuts text in a way llama.cpp has no
    name for.
    """
    from gguf import TokenType

    raw = _raw(tokenizer)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(_cut(raw))
    tokens = dict(sorted((index, text) for text, index in tokenizer.get_vocab().items()))
    added = {entry["id"]: entry for entry in raw.get("added_tokens", ())}
    kinds = []
    for index in range(size):
        if index not in tokens:
            kinds.append(TokenType.UNUSED)
        elif index in added:
            special = added[index]["special"]
            kinds.append(TokenType.CONTROL if special else TokenType.USER_DEFINED)
        else:
            kinds.append(TokenType.NORMAL)
    writer.add_token_list([tokens.get(index, f"[PAD{index}]") for index in range(size)])
    writer.add_token_types(kinds)
    writer.add_token_merges([_merge(pair) for pair in raw["model"]["merges"]])
    _add_special(writer, tokenizer)


def _add_special(writer: GGUFWriter, tokenizer: Any) -> None:
    for name in ("bos", "eos", "pad"):
        index = getattr(tokenizer, f"{name}_token_id", None)
        if index is not None:
            getattr(writer, f"add_{name}_token_id")(index)
    writer.add_add_bos_token(_starts_with_bos(tokenizer))
    if isinstance(tokenizer.chat_template, str):
        writer.add_chat_template(tokenizer.chat_template)


def _raw(tokenizer: Any) -> dict[str, Any]:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    raw: dict[str, Any] = json.loads(backend.to_str()) if backend is not None else {}
    if raw.get("model", {}).get("type") != "BPE" or raw["model"].get("byte_fallback"):
        raise Misuse("the base model's tokenizer is not byte-level BPE", _WAY_ON)
    return raw


def _cut(raw: dict[str, Any]) -> str:
    steps = raw.get("pre_tokenizer") or {}
    for step in steps.get("pretokenizers", [steps]):
        pattern = step.get("pattern", {}).get("Regex")
        if pattern in CUTS:
            return CUTS[pattern]
    raise Misuse("llama.cpp has no name for how the base model's tokenizer cuts text", _WAY_ON)


def _starts_with_bos(tokenizer: Any) -> bool:
    bos = tokenizer.bos_token_id
    return bos is not None and tokenizer("a")["input_ids"][:1] == [bos]


def _merge(pair: str | list[str]) -> str:
    return pair if isinstance(pair, str) else " ".join(pair)
