"""Merge of an adapter into a copy of a base GGUF; only the adapted weights change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from domainlift.errors import Malformed, Misuse
from engines.gguf.architectures import Names
from engines.gguf.lora_weights import Delta
from engines.gguf.lora_writer import weight_name, weights_of
from finetune.export.gguf_base import quantize

if TYPE_CHECKING:
    import numpy as np
    from gguf import GGUFReader, GGUFWriter
    from gguf.gguf_reader import ReaderTensor

#: What can be decoded and encoded again without the importance figures that K-quants want, the
#: most exact first.
ENCODED = ("F32", "F16", "BF16", "Q8_0")


def merge_gguf(path: Path, base: Path, deltas: Sequence[Delta], config: Any) -> None:
    """Write `base` with scale·B·A added to each touched weight, in that weight's own encoding.

    Raises Malformed where `base` is no GGUF file or of another shape, Misuse where a touched
    weight is stored in a way that cannot be written anew.
    """
    names = Names(config)
    reader = _open(base)
    by_name = {weight_name(names, delta.layer): delta for delta in deltas}
    _check(base, reader, by_name, names.architecture.name)
    from gguf import GGUFWriter

    writer = GGUFWriter(None, names.architecture.name)
    _copy_settings(reader, writer)
    for tensor in reader.tensors:
        writer.add_tensor_info(
            tensor.name, tensor.data.shape, tensor.data.dtype, tensor.n_bytes, _raw(tensor)
        )
    with weights_of(writer, path):
        for tensor in reader.tensors:
            writer.write_tensor_data(_merged(tensor, by_name.get(tensor.name), names))


def coarsest(path: Path) -> str:
    """The least exact of the types in which a GGUF file stores weights, "" for one of few bits."""
    found = {tensor.tensor_type.name for tensor in _open(path).tensors}
    return max(found, key=ENCODED.index) if found <= set(ENCODED) else ""


def _merged(tensor: ReaderTensor, delta: Delta | None, names: Names) -> np.ndarray:
    if delta is None:
        return tensor.data
    from gguf import quants

    weight = quants.dequantize(tensor.data, tensor.tensor_type)
    return quantize(weight + names.rows(delta.layer, delta.product), tensor.tensor_type)


def _open(path: Path) -> GGUFReader:
    from gguf import GGUFReader

    try:
        return GGUFReader(path)
    except (ValueError, IndexError, OSError, KeyError) as error:
        raise Malformed(path, "not a GGUF file that can be read") from error


def _check(base: Path, reader: GGUFReader, by_name: Mapping[str, Delta], wanted: str) -> None:
    field = reader.get_field("general.architecture")
    found = field.contents() if field is not None else None
    if found != wanted:
        raise Malformed(base, f"a model of architecture `{found}`, but the base is `{wanted}`")
    parts = reader.get_field("split.count")
    if parts is not None and parts.contents() > 1:
        raise Misuse(
            f"`{base}` is one of {parts.contents()} parts",
            "join them: `llama-gguf-split --merge FIRST_PART WHOLE.gguf`",
        )
    shapes = {tensor.name: tensor for tensor in reader.tensors}
    for name, delta in by_name.items():
        tensor = shapes.get(name)
        shape = (delta.b.shape[0], delta.a.shape[1])
        if tensor is None or tuple(map(int, tensor.shape[::-1])) != shape:
            raise Malformed(base, f"has no weight `{name}` of shape {shape}: not the base model")
        if tensor.tensor_type.name not in ENCODED:
            raise Misuse(
                f"`{base}` stores `{name}` as {tensor.tensor_type.name}, "
                "which cannot be written anew",
                "give an F16 or Q8_0 file of the base model, or write a LoRA for this one: "
                "`--to gguf-lora`",
            )


def _copy_settings(reader: GGUFReader, writer: GGUFWriter) -> None:
    from gguf import GGUFValueType

    # The reader shows the file's own header as fields; the writer makes those itself.
    for field in reader.fields.values():
        if field.name == "general.architecture" or field.name.startswith("GGUF."):
            continue
        kind = field.types[0]
        if field.name == "general.alignment":
            writer.add_custom_alignment(field.contents())
        elif kind is not GGUFValueType.ARRAY:
            writer.add_key_value(field.name, field.contents(), kind)
        elif len(field.types) > 1:  # an empty list has lost the kind of what it holds
            writer.add_key_value(field.name, field.contents(), kind, field.types[-1])


def _raw(tensor: ReaderTensor) -> Any:
    """The encoding where the data's own type does not say it."""
    return None if tensor.tensor_type.name in ("F32", "F16") else tensor.tensor_type
