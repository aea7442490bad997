"""Paths of a workspace: the only module that spells them.

A workspace is a folder (`./workspace`, `--workspace`, BENCH_WORKSPACE). A name that comes from a
user or a file must lie in the folder of its kind; BenchError otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from domainlift.files import safe_join


@dataclass(frozen=True)
class Workspace:
    """The paths in the workspace folder `root`; none of them need exist."""

    root: Path

    @property
    def domains(self) -> Path:
        """Folder of the user's own domains."""
        return self.root / "domains"

    @property
    def runs(self) -> Path:
        """Folder of all runs, one folder each."""
        return self.root / "runs"

    @property
    def knowledge_bases(self) -> Path:
        """Folder of all knowledge bases, one folder per domain."""
        return self.root / "knowledge_bases"

    @property
    def embedding_cache(self) -> Path:
        """SQLite file of embeddings that were computed before."""
        return self.knowledge_bases / ".vectors.sqlite"

    @property
    def adapters(self) -> Path:
        """Folder of all adapters: domain, version."""
        return self.root / "adapters"

    @property
    def plans(self) -> Path:
        """Folder of the plans that `bench improve` wrote, with their routers."""
        return self.root / "plans"

    @property
    def versions(self) -> Path:
        """Folder of the versions of what is served, with the log of their states."""
        return self.root / "versions"

    @property
    def watch(self) -> Path:
        """Folder of `bench watch`: its log of decisions, lock and switch."""
        return self.root / "watch"

    @property
    def reports(self) -> Path:
        """Folder of HTML reports."""
        return self.root / "reports"

    @property
    def exams(self) -> Path:
        """Folder of the exams made of documents, one folder per domain."""
        return self.root / "exams"

    @property
    def traces(self) -> Path:
        """Folder of the traces of agents, one file each."""
        return self.root / "traces"

    @property
    def jobs(self) -> Path:
        """Folder of the jobs that `bench ui` started, one folder each."""
        return self.root / "jobs"

    @property
    def keywords(self) -> Path:
        """Keywords of the workspace's own router."""
        return self.root / "routes.yaml"

    @property
    def held_out_ledger(self) -> Path:
        """Ledger of the uses of held-out questions, in JSON lines."""
        return self.root / "held_out.jsonl"

    @property
    def reply_log(self) -> Path:
        """SQLite file of the last served replies."""
        return self.root / "replies.sqlite"

    @property
    def feedback(self) -> Path:
        """Folder of the marks on replies, and of the training rows made of them."""
        return self.root / "feedback"

    def feedback_rows(self, domain: str) -> Path:
        """File of a domain's training rows that were made of feedback."""
        return _child(self.feedback / "rows", f"{domain}.jsonl")

    def run(self, name: str) -> Path:
        """Folder of a run."""
        return safe_join(self.runs, name)

    def data_set(self, name: str) -> Path:
        """Folder of prepared training rows."""
        return safe_join(self.root / "data", name)

    def training(self, name: str) -> Path:
        """Folder of a training under way: rows, checkpoints, logs."""
        return safe_join(self.root / "training", name)

    def synthesis_log(self, domain: str) -> Path:
        """Folder of the logs of what models wrote about a domain's knowledge base."""
        return _child(self.root / "textbooks", domain)

    def router(self, name: str) -> Path:
        """File of a router that `bench improve` fitted."""
        return _child(self.root / "routers", f"{name}.yaml")

    def trace(self, name: str) -> Path:
        """File of a trace, in JSON lines."""
        return _child(self.traces, f"{name}.jsonl")

    def report(self, name: str) -> Path:
        """HTML file of a report."""
        return _child(self.reports, f"{name}.html")

    def export(self, name: str) -> Path:
        """Folder of an exported adapter."""
        return _child(self.root / "exports", name)


def _child(folder: Path, name: str) -> Path:
    """Check `name` as safe_join does; the path stays relative where the workspace's is."""
    safe_join(folder, name)
    return folder / name
