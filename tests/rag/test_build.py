from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langchain_core.documents import Document

from domainlift.errors import Misuse
from rag.corpus.chunks import split_text
from rag.corpus.documents import Loaded, load_file
from rag.corpus.readers.base import SourceFile
from rag.index.build import MOST_CHURN, BuildReport, build_index
from rag.index.index import Index, open_index
from rag.index.store import KnowledgeBaseStore

if TYPE_CHECKING:
    from tests.helpers.fake_shelf import Shelf

CELL = (
    "mito: the mitochondria of a cell make most of its ATP from sugar and oxygen by respiration",
    "nucleus: the nucleus keeps the chromosomes and a membrane with pores surrounds it",
)
PLANT = ("leaf: chloroplasts in the leaf turn light and carbon dioxide into sugar",)
FILLER = tuple(f"fact {n}: number {n} follows number {n - 1} and so on for ever" for n in range(40))


@pytest.fixture
def library(shelf: Shelf) -> Shelf:
    shelf.put("cell.txt", *CELL)
    shelf.put("filler.txt", *FILLER)
    shelf.put("plant.txt", *PLANT)
    return shelf


def counts(report: BuildReport) -> tuple[int, int, int, int]:
    return (report.added, report.updated, report.skipped, report.deleted)


def searched(shelf: Shelf, index: Index, queries: list[str], k: int = 5) -> object:
    vectors = shelf.bag.encode_queries(queries)
    near = [
        [(index.chunks[row].id, round(cosine, 5)) for row, cosine in found]
        for found in index.dense(vectors, k)
    ]
    words = [
        [(index.chunks[row].id, round(score, 5)) for row, score in found]
        for found in index.bm25(queries, k)
    ]
    return near, words


def test_a_first_build_adds_everything(library: Shelf) -> None:
    report = library.build()
    assert counts(report) == (43, 0, 0, 0)
    assert report.documents == 43
    assert report.refused == report.missing == ()
    with open_index(library.root, "biology") as index:
        assert len(index.chunks) == report.chunks
        [[(row, cosine), *_]] = index.dense(library.bag.encode_queries(["mitochondria ATP"]), 3)
        assert index.chunks[row].source == "cell.txt/mito"
        assert index.chunks[row].licence == "CC0"
        assert 0.1 < cosine < 1
        [[(row, _)]] = index.bm25(["chromosome"], 3)
        assert index.chunks[row].source == "cell.txt/nucleus"


def test_the_manifest_says_how_it_was_made(library: Shelf) -> None:
    report = library.build()
    manifest = KnowledgeBaseStore(library.root).manifest("biology")
    assert manifest.generation == report.generation
    assert [(s.label, s.documents, s.licence) for s in manifest.sources] == [
        ("cell.txt", 2, "CC0"),
        ("filler.txt", 40, "CC0"),
        ("plant.txt", 1, "CC0"),
    ]
    assert sum(source.chunks for source in manifest.sources) == manifest.chunks == report.chunks
    assert [s.sha256 for s in manifest.sources] == [file.sha256 for file in library.files()]
    assert (manifest.embedder, manifest.digest) == ("word-bag", library.bag.digest)
    assert (manifest.size, manifest.limit, manifest.dimensions) == (8, 256, 32)
    assert {"domainlift", "chromadb", "bm25s"} == set(manifest.versions)
    assert manifest.chroma is None
    assert manifest.churn == 0


def test_an_unchanged_rebuild_makes_nothing_and_loads_nothing(library: Shelf) -> None:
    first = library.build()
    library.bag.uses, library.read_files = 0, []
    library.bag.embedded.clear()
    again = library.build()
    assert again.generation == first.generation
    assert counts(again) == (0, 0, 43, 0)
    assert (again.documents, again.chunks) == (first.documents, first.chunks)
    assert (library.bag.uses, library.read_files, library.bag.embedded) == (0, [], [])


def test_what_changed_is_counted_and_only_that_is_embedded(library: Shelf) -> None:
    library.build()
    library.read_files.clear()
    library.bag.embedded.clear()
    library.put("cell.txt", CELL[0], CELL[1].replace("pores", "tiny holes"), "wall: cellulose")
    library.drop("plant.txt")
    library.put("sea.txt", "kelp: kelp grows in cold water")
    report = library.build()
    assert counts(report) == (2, 1, 41, 1)
    assert library.read_files == ["cell.txt", "sea.txt"]
    assert not any("mitochondria" in text or "fact" in text for text in library.bag.embedded)
    with open_index(library.root, "biology") as index:
        assert index.manifest.churn > 0
        [found] = index.bm25(["cellulose kelp chloroplasts"], 9)
        assert {index.chunks[row].source for row, _ in found} == {"cell.txt/wall", "sea.txt/kelp"}
        [found] = index.dense(library.bag.encode_queries(["chloroplasts leaf light"]), 43)
        assert "plant.txt/leaf" not in {index.chunks[row].source for row, _ in found}


def test_a_file_that_only_went_away_needs_no_model(library: Shelf) -> None:
    library.build()
    library.bag.uses = 0
    library.drop("plant.txt")
    assert counts(library.build()) == (0, 0, 42, 1)
    assert library.bag.uses == 0


WORDS = st.lists(
    st.sampled_from(
        ["cell", "leaf", "atom", "king", "salt", "tide", "wolf", "iron", "moon", "corn"]
    ),
    min_size=1,
    max_size=20,
).map(" ".join)
SHELVES = st.dictionaries(
    st.sampled_from(["a.txt", "b.txt", "c.txt"]),
    st.dictionaries(st.sampled_from(["one", "two", "three"]), WORDS, min_size=1),
    min_size=1,
)


@settings(max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(SHELVES, min_size=2, max_size=3))
def test_building_on_gives_what_a_fresh_build_gives(
    shelf: Shelf, tmp_path_factory: pytest.TempPathFactory, states: list[dict[str, dict[str, str]]]
) -> None:
    grown = type(shelf)(tmp_path_factory.mktemp("grown"))
    fresh = type(shelf)(tmp_path_factory.mktemp("fresh"))
    for state in states:
        for path in grown.papers.iterdir():
            path.unlink()
        for label, papers in state.items():
            grown.put(label, *(f"{name}: {text}" for name, text in papers.items()))
        grown.build()
    for label, papers in states[-1].items():
        fresh.put(label, *(f"{name}: {text}" for name, text in papers.items()))
    fresh.build()
    queries = ["wolf moon", "salt", "king of iron and corn"]
    with open_index(grown.root, "biology") as one, open_index(fresh.root, "biology") as other:
        assert list(one.chunks) == list(other.chunks)
        assert (one.vectors == other.vectors).all()
        assert searched(grown, one, queries) == searched(fresh, other, queries)


def test_a_worn_index_is_made_afresh(library: Shelf) -> None:
    library.build()
    seen = []
    for turn in range(4):
        library.put("plant.txt", *(f"leaf {n}: green {turn} and {n}" for n in range(6)))
        manifest = KnowledgeBaseStore(library.root).manifest(library.build().domain)
        assert manifest.churn <= MOST_CHURN * manifest.chunks
        seen.append(manifest.churn)
    assert 0 in seen[1:]
    assert max(seen) > 8


def test_another_chunk_size_cuts_everything_anew(library: Shelf) -> None:
    first = library.build()
    report = library.build(size=4)
    assert report.chunks > first.chunks
    assert counts(report) == (0, 0, 43, 0)
    with open_index(library.root, "biology") as index:
        assert index.manifest.size == 4
        assert max(len(chunk.text.split()) for chunk in index.chunks) == 4


def test_another_model_is_refused_with_both_names(library: Shelf) -> None:
    first = library.build()
    library.bag = replace(library.bag, name="better-bag", digest="sha256:fedcba98", embedded=[])
    with pytest.raises(Misuse, match=r"`word-bag` \(01234567\), not with `better-bag`") as caught:
        library.build()
    assert "`bench kb build biology --rebuild`" in str(caught.value.hint)
    assert KnowledgeBaseStore(library.root).manifest("biology").generation == first.generation
    report = library.build(rebuild=True)
    assert counts(report) == (0, 0, 43, 0)
    assert len(library.bag.embedded) == report.chunks
    assert KnowledgeBaseStore(library.root).manifest("biology").embedder == "better-bag"


def test_a_rebuild_makes_a_new_generation_of_the_same(library: Shelf) -> None:
    first = library.build()
    again = library.build(rebuild=True)
    assert again.generation != first.generation
    # The hash is that of the content.
    assert again.generation.partition("-")[2] == first.generation.partition("-")[2]


def test_real_files_are_read_and_split(shelf: Shelf) -> None:
    shelf.put("cell.md", "# Cell", "", "## Nucleus", "", "It keeps the chromosomes. " * 40)
    shelf.put("junk.txt", "\x00\x01\x02" * 400)
    recipe = replace(shelf.recipe(size=40), load=load_file, split=split_text)
    report = build_index(shelf.root, "biology", shelf.files(), recipe)
    [refused] = report.refused
    assert refused.startswith("junk.txt: ")
    assert report.documents == 1
    with open_index(shelf.root, "biology") as index:
        assert len(index.chunks) > 1
        assert index.chunks[0].heading == "Cell > Nucleus"
        assert max(shelf.bag.count(chunk.indexed) for chunk in index.chunks) <= 40
    shelf.bag.uses = 0
    again = build_index(shelf.root, "biology", shelf.files(), recipe)
    assert (again.generation, again.refused, shelf.bag.uses) == (report.generation, (refused,), 0)


def test_a_data_set_is_known_by_its_documents(library: Shelf) -> None:
    texts = ["the ribosome reads the code", "the vacuole stores water"]
    files = [*library.files(), SourceFile("hf:org/set", None, "", "MIT")]

    def load(file: SourceFile) -> Loaded:
        if file.path is not None:
            return library.load(file)
        credit = {"licence": file.licence}
        documents = (
            Document(text, metadata={"source": f"set#{n}", **credit})
            for n, text in enumerate(texts)
        )
        return Loaded(tuple(documents))

    recipe = replace(library.recipe(), load=load)
    first = build_index(library.root, "biology", files, recipe)
    assert first.documents == 45
    library.bag.uses = 0
    again = build_index(library.root, "biology", files, recipe)
    assert (again.generation, library.bag.uses) == (first.generation, 0)
    texts[0] = "the golgi apparatus packs proteins"
    assert counts(build_index(library.root, "biology", files, recipe)) == (0, 1, 44, 0)


def test_nothing_to_build_is_an_error_and_changes_nothing(library: Shelf) -> None:
    first = library.build()
    for path in list(library.papers.iterdir()):
        path.unlink()
    with pytest.raises(Misuse, match="no text for knowledge base `biology`"):
        library.build()
    assert KnowledgeBaseStore(library.root).manifest("biology").generation == first.generation


def test_a_file_without_text_is_remembered_as_such(library: Shelf) -> None:
    library.put("empty.txt", "")
    library.build()
    library.read_files.clear()
    assert counts(library.build()) == (0, 0, 43, 0)
    assert library.read_files == []


def test_the_same_chunk_twice_stands_once(library: Shelf) -> None:
    library.put("plant.txt", *PLANT, *PLANT)
    report = library.build()
    assert report.documents == 43
    with open_index(library.root, "biology") as index:
        assert len({chunk.id for chunk in index.chunks}) == len(index.chunks) == report.chunks


def test_progress_is_told_by_stage(library: Shelf) -> None:
    told: dict[str, tuple[int, int]] = {}

    def progress(stage: str, done: int, total: int) -> None:
        assert 0 <= done <= total
        told[stage] = (done, total)

    report = library.build(progress=progress)
    chunks = (report.chunks, report.chunks)
    stages = {"read": (3, 3), "embed": chunks, "words": chunks, "vectors": chunks}
    assert told == {**stages, "weight": (1, 1)}


def test_text_of_any_kind_comes_back(shelf: Shelf) -> None:
    shelf.put("odd.txt", 'ödd: grün\u2028\u2028 \x00 🤷 地 \\ud800 " ’', "stop: the of and")
    shelf.build()
    with open_index(shelf.root, "biology") as index:
        assert index.chunks[0].text == 'grün \x00 🤷 地 \\ud800 " ’'
        assert index.chunks[-1].text == "the of and"
        assert index.chunks[-2:] == list(index.chunks)[-2:]


def test_words_that_are_all_stop_words_can_be_built_and_searched(shelf: Shelf) -> None:
    shelf.put("stop.txt", "the: the of and to")
    shelf.build()
    with open_index(shelf.root, "biology") as index:
        assert index.bm25(["the cell", ""], 5) == [[], []]
        assert len(index.dense(shelf.bag.encode_queries(["the"]), 5)[0]) == 1


def test_the_report_is_plain_data(library: Shelf) -> None:
    from dataclasses import asdict

    assert json.loads(json.dumps(asdict(library.build())))["documents"] == 43


def test_files_are_only_read_where_they_are(library: Shelf, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in library.papers.iterdir()}
    library.build()
    assert {path: path.read_bytes() for path in library.papers.iterdir()} == before
    assert {path.name for path in (library.root).iterdir()} == {"biology", ".locks"}
