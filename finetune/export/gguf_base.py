"""Writer of GGUF files from models of transformers, without a checkout of llama.cpp."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from domainlift.errors import Misuse, NoSuch
from engines.gguf.architectures import Names
from engines.gguf.lora_writer import weights_of
from finetune.export.gguf_tokenizer import add_tokenizer

if TYPE_CHECKING:
    from gguf import GGMLQuantizationType, GGUFWriter
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

#: How weights can be stored, with the file type that llama.cpp shows for it.
STORED = {"f32": "ALL_F32", "f16": "MOSTLY_F16", "q8_0": "MOSTLY_Q8_0"}


@dataclass(frozen=True)
class _Tensor:
    """A weight with its name and encoding in the file."""

    name: str
    data: np.ndarray
    stored: GGMLQuantizationType


def write_gguf(
    path: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, stored: str
) -> None:
    """Write weights, settings and tokenizer; norms and biases stay in 32 bits.

    Raises NoSuch for an unknown architecture or way of storing, Misuse where the model has
    something that this writer cannot express.
    """
    if stored not in STORED:
        raise NoSuch("way of storing weights", stored, STORED)
    names = Names(model.config)
    from gguf import GGUFWriter, LlamaFileType

    writer = GGUFWriter(None, names.architecture.name)
    writer.add_type("model")
    writer.add_file_type(LlamaFileType[STORED[stored]])
    writer.add_quantization_version(2)
    _add_settings(writer, model.config)
    add_tokenizer(writer, tokenizer, int(model.config.vocab_size))
    tensors = list(_tensors(model, names, stored))
    for tensor in tensors:
        _announce(writer, tensor)
    with weights_of(writer, path):
        for tensor in tensors:
            writer.write_tensor_data(quantize(tensor.data, tensor.stored))


def quantize(data: np.ndarray, stored: GGMLQuantizationType) -> np.ndarray:
    """Weights (…, in) in the encoding of a file."""
    from gguf import quants

    return np.ascontiguousarray(quants.quantize(data.astype(np.float32), stored))


def _announce(writer: GGUFWriter, tensor: _Tensor) -> None:
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    plain = {GGMLQuantizationType.F32: np.float32, GGMLQuantizationType.F16: np.float16}
    if tensor.stored in plain:
        kind = np.dtype(plain[tensor.stored])
        size = tensor.data.size * kind.itemsize
        writer.add_tensor_info(tensor.name, tensor.data.shape, kind, size)
        return
    block, width = GGML_QUANT_SIZES[tensor.stored]
    shape = (*tensor.data.shape[:-1], tensor.data.shape[-1] // block * width)
    size = tensor.data.size // block * width
    writer.add_tensor_info(tensor.name, shape, np.dtype(np.uint8), size, tensor.stored)


def _add_settings(writer: GGUFWriter, config: Any) -> None:
    """Write the model's dimensions and rotary base under llama.cpp's keys."""
    rope = dict(getattr(config, "rope_parameters", None) or {})
    if rope.get("rope_type", "default") != "default":
        raise Misuse(
            f"positions of type `{rope['rope_type']}` cannot be written",
            "give a GGUF of the base model: `--base-gguf FILE`",
        )
    heads = int(config.num_attention_heads)
    size = int(getattr(config, "head_dim", None) or config.hidden_size // heads)
    writer.add_context_length(int(config.max_position_embeddings))
    writer.add_embedding_length(int(config.hidden_size))
    writer.add_block_count(int(config.num_hidden_layers))
    writer.add_feed_forward_length(int(config.intermediate_size))
    writer.add_head_count(heads)
    writer.add_head_count_kv(int(config.num_key_value_heads))
    writer.add_key_length(size)
    writer.add_value_length(size)
    writer.add_rope_dimension_count(size)
    writer.add_rope_freq_base(float(rope.get("rope_theta", 10_000.0)))
    writer.add_layer_norm_rms_eps(float(config.rms_norm_eps))
    writer.add_vocab_size(int(config.vocab_size))


def _tensors(model: Any, names: Names, stored: str) -> Iterator[_Tensor]:
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    wanted = GGMLQuantizationType[stored.upper()]
    tied = bool(model.config.tie_word_embeddings)
    for name, weight in model.state_dict().items():
        if tied and name == "lm_head.weight":
            continue
        shown = names.gguf(name)
        if shown is None:
            raise Misuse(
                f"llama.cpp has no name for the weight `{name}`",
                "give a GGUF of the base model: `--base-gguf FILE`",
            )
        data = names.rows(name, weight.detach().float().cpu().numpy())
        kind = GGMLQuantizationType.F32 if data.ndim == 1 else wanted
        if data.shape[-1] % GGML_QUANT_SIZES[kind][0]:
            kind = GGMLQuantizationType.F16
        yield _Tensor(shown, data, kind)
