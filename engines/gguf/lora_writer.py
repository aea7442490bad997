"""Writer of LoRA adapters as GGUF, which llama.cpp applies to a base model at load time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from domainlift.errors import Misuse
from domainlift.files import disk_errors
from engines.gguf.architectures import Names
from engines.gguf.lora_weights import Delta

if TYPE_CHECKING:
    from gguf import GGUFWriter


def write_lora(path: Path, deltas: Sequence[Delta], config: Any) -> None:
    """Write A (r, in) and B (out, r) of every layer in 32 bits; `config` is the base model's.

    llama.cpp scales each layer by alpha / r, with one alpha for all. A layer that wants another
    alpha has the ratio in its B.
    """
    names = Names(config)
    from gguf import GGUFWriter

    # An alpha of 0 would mean to llama.cpp that nothing is scaled.
    alpha = next((delta.alpha for delta in deltas if delta.alpha), 1.0)
    writer = GGUFWriter(None, names.architecture.name)
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", alpha)
    tensors = []
    for delta in deltas:
        name = weight_name(names, delta.layer)
        b = names.rows(delta.layer, delta.b) * (delta.alpha / alpha)
        tensors += [(f"{name}.lora_a", delta.a), (f"{name}.lora_b", b.astype(delta.b.dtype))]
    for name, tensor in tensors:
        writer.add_tensor_info(name, tensor.shape, tensor.dtype, tensor.nbytes)
    with weights_of(writer, path):
        for _, tensor in tensors:
            writer.write_tensor_data(tensor)


def weight_name(names: Names, layer: str) -> str:
    """A layer's weight in a GGUF file; Misuse where llama.cpp has no adapter for such a layer."""
    name = names.gguf(f"{layer}.weight")
    if name is None or not name.startswith("blk."):
        raise Misuse(
            f"llama.cpp takes no adapter for the layer `{layer}`",
            "merge it into the base model: `--to merged`",
        )
    return name


@contextmanager
def weights_of(writer: GGUFWriter, path: Path) -> Iterator[None]:
    """Write header and metadata; the block then writes the weights in their order."""
    with disk_errors(path):
        try:
            writer.write_header_to_file(path)
            writer.write_kv_data_to_file()
            writer.write_ti_data_to_file()
            yield
        except BaseException:
            with suppress(OSError):  # the last flush of a full disk fails again
                writer.close()
            raise
        writer.close()
