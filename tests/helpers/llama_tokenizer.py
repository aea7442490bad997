"""Tokenizers as Llama's: SentencePiece's blanks, bytes for what is unknown, marks around a text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

_BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
_SPECIAL = ["<unk>", "<s>", "</s>", *_BYTES]
_TEXTS = [
    "Question: What is 2 + 3?",
    "Answer: 5",
    "The cells divide in the cell. Where is it? A. in B. out",
    "Answer: A",
    "It is out of it. B C D",
]


def save_llama_tokenizer(
    folder: Path, blanks: str, *, begins: bool = True, ends: bool = False, joins: bool = False
) -> Any:
    """Save and load one; `blanks` is a scheme of Metaspace, or "legacy" for a normaliser's.

    `begins` and `ends` put `<s>` before a text and `</s>` after it, as `LlamaTokenizer` with
    `add_eos_token` does; with `joins`, pieces run across blanks.
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
    from tokenizers.processors import TemplateProcessing
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    made = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=not joins)
    trainer = trainers.BpeTrainer(vocab_size=420, special_tokens=_SPECIAL, show_progress=False)
    made.train_from_iterator(_TEXTS * 50, trainer)
    if blanks == "legacy":
        made.pre_tokenizer = pre_tokenizers.Split("\0", "isolated")
        made.normalizer = normalizers.Sequence(
            [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
        )
    else:
        made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=blanks, split=not joins)
    made.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    single = [*["<s>"] * begins, "$A", *["</s>"] * ends]
    made.post_processor = TemplateProcessing(
        single=single, pair=[*single, "$B"], special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )
    fast.save_pretrained(folder)
    return AutoTokenizer.from_pretrained(folder)
