"""Weights of a GGUF file as a transformers folder, for training; made once and kept.

llama.cpp cannot train these files. transformers reads them into plain layers, which takes long
enough that the result is kept in 16 bits in a cache folder, by the file's digest: BENCH_CACHE, or
`domainlift` in the user's cache folder.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import tempfile
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

from domainlift.errors import BenchError
from engines.gguf.engine import file_digest
from engines.gguf.files import check_file
from engines.local.loading import GGUF_ORIGIN


def dequantised_folder(path: Path) -> Path:
    """The folder made of this file, now or before; BenchError where transformers cannot read it."""
    check_file(path)
    digest = file_digest(path)
    folder = cache_folder() / "dequantised" / digest.removeprefix("sha256:")[:16]
    if not (folder / GGUF_ORIGIN).is_file():
        folder.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".building-"))
        try:
            _dequantise(path, scratch)
            origin = json.dumps({"digest": digest, "file": path.name})
            (scratch / GGUF_ORIGIN).write_text(origin, encoding="utf-8")
            # Another process may have been faster: its folder is the same.
            if not (folder / GGUF_ORIGIN).is_file():
                shutil.rmtree(folder, ignore_errors=True)
                scratch.replace(folder)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return folder


def cache_folder() -> Path:
    """Folder of what can be made anew, outside of any workspace."""
    named = os.environ.get("BENCH_CACHE")
    if named:
        return Path(named)
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "domainlift"


def _dequantise(path: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    where: dict[str, Any] = {
        "pretrained_model_name_or_path": str(path.parent),
        "gguf_file": path.name,
        "trust_remote_code": False,
    }
    try:
        tokenizer = AutoTokenizer.from_pretrained(**where)
        # Its bar is drawn whatever transformers is told.
        with redirect_stderr(io.StringIO()):
            model: Any = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float16)
    # A RuntimeError is how the package `gguf` says that it cannot read an encoding.
    except (OSError, ValueError, ImportError, RuntimeError, KeyError) as error:
        first = " ".join(str(error).split())[:200]
        raise BenchError(
            f"transformers cannot read the weights of `{path}`, so it cannot be trained: {first}",
            "score it as it is, or train the model's folder: `--model FOLDER`",
        ) from error
    # transformers calls the dequantised model quantised, and would refuse to save it.
    for name in ("hf_quantizer", "quantization_method"):
        if hasattr(model, name):
            delattr(model, name)
    model.is_quantized = False
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
