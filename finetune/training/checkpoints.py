"""Checkpoints, written atomically: a kill at any moment costs a few steps at most.

<folder>/checkpoint-00000050/weights.safetensors     what is trained
                             optimiser.safetensors   its moments, and the random states
                             state.json              the step, the curves, what was validated
<folder>/best-00000040.safetensors                   the weights that validated best

A checkpoint is filled aside and renamed; the one before goes when it is there. Nothing is
pickled.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import Any

import safetensors.torch
import torch

from domainlift.errors import Malformed
from domainlift.files import atomic_folder, disk_errors, write_json

Tensors = Mapping[str, "torch.Tensor"]
_WEIGHTS, _OPTIMISER, _STATE = "weights.safetensors", "optimiser.safetensors", "state.json"


@dataclass(frozen=True)
class Checkpoint:
    """Complete state of a training."""

    step: int
    weights: Tensors
    optimiser: Tensors
    state: Mapping[str, Any]


def save_checkpoint(folder: Path, checkpoint: Checkpoint, best_step: int = 0) -> None:
    """Write a checkpoint, then remove those before it and bests other than `best_step`'s.

    Where the disk is full, BenchError says so and the last checkpoint stays.
    """
    path = folder / f"checkpoint-{checkpoint.step:08d}"
    if path.exists():  # written by a run whose end was not
        shutil.rmtree(path)
    with atomic_folder(path) as build:
        safetensors.torch.save_file(dict(checkpoint.weights), build / _WEIGHTS)
        safetensors.torch.save_file(dict(checkpoint.optimiser), build / _OPTIMISER)
        write_json(build / _STATE, {"step": checkpoint.step, **checkpoint.state})
    kept = {path, _best(folder, best_step)}
    bests, torn = folder.glob("best-*.safetensors"), folder.glob(".best-*.part")
    for old in (*_checkpoints(folder), *bests, *torn):
        if old not in kept:
            _remove(old)


def last_checkpoint(folder: Path) -> Checkpoint | None:
    """The newest checkpoint, None where there is none; Malformed where it is damaged."""
    stored = _checkpoints(folder)
    if not stored:
        return None
    path = stored[-1]
    try:
        state = json.loads((path / _STATE).read_text(encoding="utf-8"))
        weights = safetensors.torch.load_file(path / _WEIGHTS)
        optimiser = safetensors.torch.load_file(path / _OPTIMISER)
        return Checkpoint(int(state["step"]), weights, optimiser, state)
    # safetensors has an error of its own, which is no kind of any other.
    except Exception as error:
        raise damaged_checkpoint(path, error) from error


def damaged_checkpoint(path: Path, error: Exception) -> Malformed:
    """The error for a checkpoint that cannot be read."""
    why = " ".join(f"{type(error).__name__}: {error}".split())[:200]
    hint = f"delete `{path}`: training then starts at the beginning"
    return Malformed(path, f"not a whole checkpoint ({why})", hint=hint)


def save_best(folder: Path, step: int, weights: Tensors) -> None:
    """Keep the weights of a step; those of earlier bests go with the next checkpoint."""
    path = _best(folder, step)
    part = path.with_name(f".{path.name}.{token_hex(4)}.part")
    with disk_errors(path):
        try:
            safetensors.torch.save_file(dict(weights), part)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)


def load_best(folder: Path, step: int) -> dict[str, torch.Tensor]:
    """The weights that `save_best` kept; Malformed where they are gone."""
    path = _best(folder, step)
    try:
        return dict(safetensors.torch.load_file(path))
    except Exception as error:
        why = " ".join(str(error).split())[:200]
        hint = "delete the folder of the checkpoints: training then starts at the beginning"
        raise Malformed(path, f"the best weights cannot be read ({why})", hint=hint) from error


def _best(folder: Path, step: int) -> Path:
    return folder / f"best-{step:08d}.safetensors"


def _checkpoints(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("checkpoint-*") if path.is_dir())


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
