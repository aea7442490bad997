"""Material of the router in a workspace: labelled questions, glossaries, passages, and its file."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

from benchmarks.held_out.split import EvalSplit
from benchmarks.runs.suites import load_suite
from benchmarks.tasks.base import NoSplit
from benchmarks.tasks.registry import load_task
from domainlift import __version__
from domainlift.activity import activity
from domainlift.errors import BenchError, Misuse
from domainlift.text.normalise import without_copies
from domainlift.types import Split
from domainlift.workspace import Workspace
from domainlift.yaml_schema import Field, read_yaml, top_keys
from ensemble.fit.documents import fit_sentences, questions_elsewhere
from ensemble.fit.fit import Labelled, RouterData, fit_router
from ensemble.fit.second_opinion import fit_examples
from ensemble.fit.training_data import document_sentences, router_data_digest, subsample
from ensemble.router.documents import EmbedBy, sentences_from_bytes
from ensemble.router.examples import Embed, Examples, SecondOpinion, examples_file, read_examples
from ensemble.router.keywords import SHIPPED, Keywords, by_hand, read_keywords, write_keywords
from ensemble.router.router import AskExamples, Router
from finetune.data.sources.sentences import sentences
from knowledge_bases.domains import Domain, load_domains
from rag.base import Vectors
from rag.corpus.documents import load_documents
from rag.corpus.source_files import domain_sources, find_files
from rag.index.index import open_index
from rag.index.store import KnowledgeBaseStore
from rag.library import open_cached

GLOSSARY, QUESTIONS = "glossary.yaml", "questions.yaml"
_LEARNED: tuple[Split, ...] = ("train", "validation")
_SHORTEST, _SHORTEST_SENTENCE = 40, 15
# Of each task and of each domain's documents, so many examples are embedded at most.
_TASK_EXAMPLES, _DOMAIN_EXAMPLES = 300, 1_000


def open_router(workspace: Path, domains: Collection[str] | None = None) -> Router:
    """The router of a workspace: its own file, or the one that comes with the project.

    `domains` are the targets (None: all that there are). Domains that the file does not know are
    routed to by the keywords that they declare, until `bench route fit` has seen them; those of a
    suite of their own only where they are named.
    """
    known = load_domains(workspace)
    keywords = read_keywords(keyword_file(workspace), known)
    named = () if domains is None else domains
    free = (name for name in known if not known[name].suite or name in named)
    new = {name: by_hand(known[name]) for name in free if name not in keywords.domains}
    every = replace(keywords, domains={**keywords.domains, **new})
    return Router(every, domains, _second_opinion(workspace), embed_in(workspace))


def embed_in(workspace: Path) -> EmbedBy:
    """Vectors of texts by a model of that name, which is loaded when it is first asked."""
    opened = cache(partial(open_cached, workspace=workspace))

    def embed(texts: Sequence[str], model: str) -> Vectors:
        return opened(model).encode_queries(texts)

    return embed


def _second_opinion(workspace: Path) -> AskExamples | None:
    """The examples beside the keyword file; they and their model are loaded when first asked."""
    path = examples_file(Workspace(workspace).keywords)
    if not path.is_file():
        return None

    @cache
    def loaded() -> tuple[Examples, Embed]:
        examples = read_examples(path)
        return examples, open_cached(examples.model, workspace).encode_queries

    def ask(text: str) -> SecondOpinion:
        examples, embed = loaded()
        return examples.ask(text, embed)

    return ask


def embed_examples(data: RouterData, model: str, workspace: Path) -> Examples:
    """Some questions of each task, glossaries, and sentences of documents and knowledge bases."""
    chunks = [(text, name) for name, text in _chunks(workspace) if name in data.domains]
    told = document_sentences([*data.passages, *chunks], _DOMAIN_EXAMPLES)
    encode = open_cached(model, workspace).encode_queries
    return fit_examples(model, subsample(data.rows, _TASK_EXAMPLES), data.glossary, told, encode)


def _chunks(workspace: Path) -> Iterator[tuple[str, str]]:
    """The chunks of the knowledge bases of a workspace, each with its domain."""
    store = KnowledgeBaseStore(Workspace(workspace).knowledge_bases)
    for name in store.names():
        with open_index(Workspace(workspace).knowledge_bases, name) as index:
            yield from ((name, chunk.text) for chunk in index.chunks)


def keyword_file(workspace: Path) -> Path:
    """The file in which a workspace's keywords stand."""
    own = Workspace(workspace).keywords
    return own if own.is_file() else SHIPPED


def labelled(
    tasks: Iterable[str],
    domains: Mapping[str, Domain],
    data: Path | None,
    splits: Sequence[Split] = _LEARNED,
) -> tuple[list[Labelled], list[str]]:
    """The questions of some splits of tasks with their domains, and what could not be had."""
    rows: list[Labelled] = []
    missing: list[str] = []
    for task in tasks:
        for split in splits:
            found = _questions(task, split, domains, data)
            if isinstance(found, str):
                missing.append(f"`{task}` ({split}) is left out: {found}")
            else:
                rows.extend(found)
    return rows, missing


def learnable(split: EvalSplit, domains: Mapping[str, Domain], data: Path | None) -> list[Labelled]:
    """What a router for held-out questions may learn from: the tasks' other splits.

    Of a task without such, the selection questions; where they are all of one domain, the built-in
    questions as well, to tell it from. Copies of held-out questions are left out.
    """
    rows, _ = labelled([task.name for task in split.held_out], domains, data)
    there = {row.task for row in rows}
    rows += [
        Labelled(q.text, q.options, q.domain, "validation", task.name)
        for task in split.selection
        if task.name not in there
        for q in task.questions
    ]
    if len({row.domain for row in rows}) < 2:
        # The suite of its own that the domain has, or that of all others; the other one is empty.
        built_in = [*load_suite("demo", domains).tasks, *load_suite("handbook", domains).tasks]
        rows += labelled(built_in, domains, data)[0]
    return without_copies(rows, of=(q for task in split.held_out for q in task.questions))


def fit_or_find_router(
    rows: Sequence[Labelled], domains: Mapping[str, Domain], workspace: Path
) -> Keywords:
    """Fit a router on labelled questions and the domains' glossaries, or find the one that was.

    A fit takes minutes where there are many questions; it is kept by what it was made of.
    """
    material = RouterData(rows, glossaries(domains))
    own = own_documents(domains, workspace)
    path = Workspace(workspace).router(f"{_digest(material, own)}-{__version__}")
    if not path.is_file():
        fitted = fit_router(material)
        write_keywords(path, replace(fitted, sentences=own_sentences(own, rows, workspace)))
    return read_keywords(path, domains)


def own_documents(domains: Mapping[str, Domain], workspace: Path) -> dict[str, str]:
    """The generation of the knowledge base of each domain that the shipped keywords do not know."""
    shipped = read_keywords(SHIPPED).domains
    store = KnowledgeBaseStore(Workspace(workspace).knowledge_bases)
    own = (name for name in store.names() if name in domains and name not in shipped)
    return {name: store.manifest(name).generation for name in own}


def own_sentences(names: Collection[str], rows: Sequence[Labelled], workspace: Path) -> bytes:
    """The file of the sentences of these domains' documents, b"" where there are none.

    The labelled rows, and the questions that come with the router, say how near others are.
    """
    others = [*rows, *written_questions(read_keywords(SHIPPED).domains)]
    elsewhere = {name: questions_elsewhere(name, others) for name in names}
    return _fit_sentences(elsewhere, workspace) if elsewhere else b""


def refresh_sentences(keywords: Keywords, workspace: Path) -> Keywords:
    """The keywords with the sentences of their domains' documents as they are now."""
    if not keywords.sentences:
        return keywords
    elsewhere = sentences_from_bytes(keywords.sentences).questions
    return replace(keywords, sentences=_fit_sentences(elsewhere, workspace))


def _fit_sentences(elsewhere: Mapping[str, Sequence[str]], workspace: Path) -> bytes:
    """Read the sentences of the newest knowledge base of each domain, and compare questions."""
    read: dict[str, list[str]] = {}
    models = set()
    for name in elsewhere:
        with open_index(Workspace(workspace).knowledge_bases, name) as index:
            models.add(index.manifest.embedder)
            found = (each for chunk in index.chunks for each in sentences(chunk.text))
            read[name] = [each for each in found if len(each) >= _SHORTEST_SENTENCE]
    with activity(f"comparing documents of {', '.join(elsewhere)} with questions of elsewhere"):
        return fit_sentences(min(models), read, elsewhere, embed_in(workspace))


def _digest(data: RouterData, own: Mapping[str, str]) -> str:
    """16 hexadecimal digits of everything that a router is made of."""
    digest = router_data_digest(data)
    return hashlib.sha256(repr((digest, own)).encode()).hexdigest()[:16] if own else digest


def glossaries(domains: Mapping[str, Domain]) -> dict[str, list[str]]:
    """Words by domain: the glossary that comes with the router, and each domain's keywords."""
    held = _shipped_texts(GLOSSARY)
    return {
        name: list(dict.fromkeys([*domains[name].keywords, *held.get(name, ())]))
        for name in sorted(domains)
    }


def written_questions(domains: Collection[str]) -> list[Labelled]:
    """The hand-written questions that come with the router, those of these domains."""
    return [
        Labelled(text, (), name, "train", f"written:{name}")
        for name, texts in _shipped_texts(QUESTIONS).items()
        if name in domains
        for text in texts
    ]


def _shipped_texts(file: str) -> dict[str, tuple[str, ...]]:
    """Texts by domain of a file beside the shipped keywords."""
    path = SHIPPED.with_name(file)
    held = read_yaml(path, {name: Field("texts") for name in top_keys(path)})
    return {name: node.texts for name, node in held.items()}


def passages(domains: Mapping[str, Domain], data: Path | None) -> list[tuple[str, str]]:
    """Paragraphs of the domains' declared sources that are at hand, each with its domain."""
    found: list[tuple[str, str]] = []
    for domain in domains.values():
        sources = [s for s in domain_sources(domain) if not s.where.startswith("hf:")]
        files = find_files(sources, folder=domain.folder, data=data).files
        for document in load_documents(files).documents:
            lines = document.page_content.split("\n")
            found += [(line, domain.name) for line in lines if len(line) >= _SHORTEST]
    return found


def _questions(
    task: str, split: Split, domains: Mapping[str, Domain], data: Path | None
) -> list[Labelled] | str:
    try:
        found = load_task(task, data=data, domains=domains, split=split)
    except BenchError as error:
        # That a task has no such split is no fault; that there is no such task is one.
        if isinstance(error, Misuse) and not isinstance(error, NoSplit):
            raise
        return error.what
    return [
        Labelled(q.text, q.options, q.domain, split, task, domains[q.domain].covers)
        for q in found.questions
    ]
