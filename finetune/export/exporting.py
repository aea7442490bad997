"""Export of an adapter: written to a temporary folder, checked, and then published whole."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from domainlift.errors import NoSuch
from domainlift.files import atomic_folder, sha256, write_json
from domainlift.registry import load_object
from finetune.adapters.registry import Adapter
from finetune.export.base import ExportJob, ExportOptions, ExportResult
from finetune.export.gguf_base import STORED
from finetune.export.registry import TARGETS
from finetune.export.verify import Check, need_ok


@dataclass(frozen=True)
class Exported(ExportResult):
    """A finished export: what a target gave, and its folder and kind."""

    path: Path = Path()
    kind: str = ""


def export_adapter(
    adapter: Adapter, base: str, to: str, folder: Path, options: ExportOptions = ExportOptions()
) -> Exported:
    """Write `adapter` over the model `base` as one of TARGETS into the new folder `folder`.

    Raises NoSuch for another kind, Misuse for a base of another digest and for trained prompts, and
    BenchError where `folder` exists or where the artefact drifts from
    the evaluated model; nothing is left then.
    """
    _check(to, options)
    folder = folder.absolute()
    with atomic_folder(folder) as build:
        scratch = build / ".scratch"
        scratch.mkdir()
        job = ExportJob(adapter, base, options, folder, scratch)
        export: Callable[[ExportJob, Path], ExportResult] = load_object(TARGETS[to])
        written = export(job, build)
        shutil.rmtree(scratch)
        if written.check is not None:
            need_ok(written.check, to)
            written = replace(written, notes=(*written.notes, *_weak(job, written.check)))
        write_json(build / "export.json", _record(job, to, written, build))
    return Exported(**vars(written), path=folder, kind=to)


def _check(to: str, options: ExportOptions) -> None:
    if to not in TARGETS:
        raise NoSuch("kind of export", to, TARGETS)
    if options.stored not in STORED:
        raise NoSuch("way of storing weights", options.stored, STORED)


def _weak(job: ExportJob, check: Check) -> tuple[str, ...]:
    """A note where the adapter changes less than the tolerance, so that the check proves little."""
    if job.effect > check.tolerance:
        return ()
    return (
        f"the adapter moves these prompts by {job.effect:.4f} nats only: "
        "the check would not see it missing",
    )


def _record(job: ExportJob, to: str, written: ExportResult, build: Path) -> dict[str, object]:
    """The contents of `export.json`."""
    return {
        "kind": to,
        "adapter": job.adapter.name,
        "adapter_digest": job.adapter.digest,
        "base": job.adapter.card.base,
        "base_digest": job.base_digest,
        "check": None if written.check is None else asdict(written.check),
        "notes": list(written.notes),
        "files": {path.name: sha256(path) for path in sorted(build.iterdir())},
    }
