"""Load a model and its tokenizer from a folder or the hub: safetensors only, never remote code."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from domainlift.errors import BenchError, Misuse
from engines.registry import TINY, EngineOptions, tiny_folder

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from engines.local.engine import TransformersEngine

DTYPES = ("auto", "float32", "bfloat16", "float16")
#: File in a folder of dequantised weights that names the digest of the GGUF they come from.
GGUF_ORIGIN = "gguf.json"
#: Endings of files that make a tokenizer, besides JSON.
_TOKENIZER_FILES = {".jinja", ".model", ".txt", ".tiktoken", ".vocab"}


def open_local(name: str, options: EngineOptions) -> TransformersEngine:
    """Load the model of a folder or of a name on the hub."""
    need_local()
    from engines.local.engine import TransformersEngine

    return TransformersEngine.load(
        name, device=options.device, dtype=options.dtype, batch_tokens=options.batch_tokens
    )


def open_tiny(name: str, options: EngineOptions) -> TransformersEngine:
    """Load the embedded model, by default on the CPU."""
    need_local()
    from engines.local.engine import TransformersEngine

    return TransformersEngine.load(
        str(tiny_folder()),
        device="cpu" if options.device == "auto" else options.device,
        dtype=options.dtype,
        batch_tokens=options.batch_tokens,
        shown=name,
    )


def load_model(
    name: str, *, device: str = "auto", dtype: str = "auto"
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load `name`, a folder or a name on the hub, for inference.

    Raises BenchError where it cannot be had, and Misuse where it must not be loaded.
    """
    with _loading(name):
        from transformers import AutoTokenizer

        chosen = pick_device(device)
        tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
        model = _model(name, pick_dtype(dtype, chosen))
    return model.to(chosen).eval(), tokenizer


def load_config_and_tokenizer(name: str, *, device: str, dtype: str = "auto") -> tuple[Any, Any]:
    """A model's configuration and tokenizer, without its weights; errors are those of `load`."""
    with _loading(name):
        from transformers import AutoConfig, AutoTokenizer

        config = AutoConfig.from_pretrained(name, trust_remote_code=False)
        tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
    config.dtype = pick_dtype(dtype, device)
    return config, tokenizer


@contextmanager
def _loading(name: str) -> Iterator[None]:
    """Check a model's folder, and say in one line why the model cannot be loaded."""
    need_local()
    if Path(name).is_dir():
        _check_folder(Path(name))
    _quiet()
    try:
        yield
    except (OSError, ValueError, ImportError) as error:
        raise _unloadable(name, error) from error


def load_adapter(model: Any, wrapped: Any, name: str, folder: Path) -> Any:
    """Put a PEFT adapter into a loaded model, for inference; return the PeftModel of all adapters.

    `wrapped` is the PeftModel that the first adapter gave, None before. The model's own layers
    are replaced in place, so `model` too computes with the active adapter.
    """
    import peft

    _check_adapter(folder)
    with _misfits(folder), quiet_peft():
        config = peft.PeftConfig.from_pretrained(str(folder))
        if config.task_type == "SEQ_CLS":
            raise Misuse(f"`{folder}` scores texts (a reward model), and answers nothing")
        if config.is_prompt_learning:
            raise Misuse(
                f"`{folder}` is trained prompts, which are not taken as an adapter",
                "train it with `method: lora`",
            )
        if wrapped is None:
            wrapped = peft.PeftModel.from_pretrained(model, str(folder), adapter_name=name)
        else:
            wrapped.load_adapter(str(folder), adapter_name=name)
        wrapped.eval()
    return wrapped


@contextmanager
def quiet_peft() -> Iterator[None]:
    """Silence PEFT's use of a deprecated attribute of models for the block."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
        yield


def pick_device(wanted: str) -> str:
    """The requested device, or for `auto` the fastest that is there."""
    import torch

    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.mps.is_available()}
    if wanted == "auto":
        return next(name for name in ("cuda", "mps", "cpu") if there[name])
    if not there.get(wanted.split(":")[0], False):
        known = ", ".join(f"`{name}`" for name, found in there.items() if found)
        raise Misuse(f"device `{wanted}` is not there", f"there are: {known}")
    return wanted


def pick_dtype(wanted: str, device: str) -> torch.dtype:
    """The type of the weights: bfloat16 on CUDA, float16 on MPS, float32 on a processor."""
    import torch

    if wanted == "auto":
        kind = device.split(":")[0]
        wanted = {"cuda": "bfloat16", "mps": "float16"}.get(kind, "float32")
    dtype = getattr(torch, wanted)
    if not isinstance(dtype, torch.dtype):
        raise Misuse(f"no type `{wanted}`", f"known: {', '.join(DTYPES)}")
    return dtype


def model_digest(name: str, model: PreTrainedModel) -> str:
    """Digest of a model: the hub's commit, a hash of the files, or of their GGUF.

    Of a folder: that of its weights and JSON files, and after a `+` that of what else makes a
    tokenizer, such as chat templates, merges, and the models of SentencePiece.
    """
    if (digest := folder_digest(name)) is not None:
        return digest
    commit = getattr(model.config, "_commit_hash", None)
    return f"commit:{commit}" if commit is not None else f"name:{name}"


def folder_digest(name: str) -> str | None:
    """Digest of the model in a folder, or of the embedded one; None where there is no folder."""
    folder = tiny_folder() if name == TINY else Path(name)
    origin = folder / GGUF_ORIGIN
    if origin.is_file():
        return str(json.loads(origin.read_text(encoding="utf-8"))["digest"])
    if not folder.is_dir():
        return None
    paths = sorted(folder.iterdir())
    weights = _files_digest(folder, [p for p in paths if p.suffix in {".safetensors", ".json"}])
    # Beside the weights, not among them: adapters and plans of before know the weights alone.
    # Nobody edits the embedded model, whose runs of before are found by its weights.
    own = folder.resolve() == tiny_folder().resolve()
    texts = [path for path in paths if path.suffix in _TOKENIZER_FILES and not own]
    texts += sorted((folder / "additional_chat_templates").glob("*.jinja"))
    return f"sha256:{weights}" + (f"+{_files_digest(folder, texts)[:16]}" if texts else "")


def _files_digest(folder: Path, paths: Iterable[Path]) -> str:
    total = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            name = path.relative_to(folder).as_posix().encode()
            total.update(name + hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()


def is_dequantised_folder(name: str) -> bool:
    """Whether a model's folder holds the weights of a GGUF file."""
    return (Path(name) / GGUF_ORIGIN).is_file()


def _model(name: str, dtype: torch.dtype) -> Any:
    from transformers import AutoModelForCausalLM

    settings: dict[str, Any] = {
        "dtype": dtype,
        "use_safetensors": True,
        "trust_remote_code": False,
    }
    try:
        return AutoModelForCausalLM.from_pretrained(name, attn_implementation="sdpa", **settings)
    except ValueError as error:
        if "scaled_dot_product_attention" not in str(error):
            raise
        return AutoModelForCausalLM.from_pretrained(name, attn_implementation="eager", **settings)


def _check_folder(folder: Path) -> None:
    names = {path.name for path in folder.iterdir()}
    if "config.json" not in names:
        raise Misuse(
            f"`{folder}` is not a model: it has no config.json",
            "give the folder that `save_pretrained` wrote",
        )
    weights = [n for n in names if n.endswith(".safetensors")]
    pickled = sorted(n for n in names if n.endswith((".bin", ".pt", ".pth", ".ckpt")))
    if not weights and pickled:
        raise Misuse(
            f"`{folder}` holds pickled weights (`{pickled[0]}`), which can run code when read",
            "save them anew with `model.save_pretrained(FOLDER)`, which writes safetensors",
        )
    if not weights:
        raise Misuse(f"`{folder}` holds no weights: there is no *.safetensors file")
    if not names & {"tokenizer.json", "tokenizer.model", "vocab.json", "tokenizer_config.json"}:
        raise Misuse(
            f"`{folder}` has no tokenizer",
            "save it beside the model: `tokenizer.save_pretrained(FOLDER)`",
        )


def _check_adapter(folder: Path) -> None:
    if not (folder / "adapter_model.safetensors").is_file():
        raise Misuse(
            f"`{folder}` is not an adapter: it has no adapter_model.safetensors",
            "give the folder that training wrote; pickled weights are not read",
        )


@contextmanager
def _misfits(folder: Path) -> Iterator[None]:
    """Say in one line that an adapter does not fit the model."""
    try:
        yield
    except (OSError, ValueError, RuntimeError, TypeError, KeyError, AttributeError) as error:
        first = " ".join(str(error).split())[:200]
        raise Misuse(
            f"adapter `{folder}` does not fit the model: {first}",
            "use it with the model that it was trained on",
        ) from error


def _unloadable(name: str, error: Exception) -> BenchError:
    first = " ".join(str(error).split())[:200]
    if Path(name).is_dir():
        return BenchError(f"`{name}` cannot be loaded: {first}")
    if "safetensors" in str(error):
        return Misuse(
            f"`{name}` has no safetensors weights on the hub, and others are not loaded",
            "choose a repository with *.safetensors files",
        )
    return BenchError(
        f"`{name}` is neither a folder nor can it be had from the hub: {first}",
        "check the name and the connection (HF_HUB_OFFLINE?); Ollama's models are named with "
        f"their tag: `{name}:latest`; `--model tiny` needs neither",
    )


def need_local() -> None:
    """Raise BenchError where torch or transformers is missing."""
    if find_spec("torch") is None or find_spec("transformers") is None:
        raise BenchError(
            "scoring in this process needs torch and transformers",
            'install them: `pip install "domainlift[local]"`, or score over Ollama: '
            "`--model qwen2.5:3b`",
        )


def _quiet() -> None:
    """Turn off the progress bars and warnings of transformers."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
