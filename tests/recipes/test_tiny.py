"""The embedded model: how it is made, and the profile that the whole project builds on."""

import re
from dataclasses import replace
from itertools import islice
from pathlib import Path
from random import Random

import pytest

from benchmarks.results.domain_scores import evaluate_run
from benchmarks.runs.runner import EvalSettings, execute_run, open_run, prepare_job
from benchmarks.runs.store import RunStore
from benchmarks.tasks.registry import load_task
from benchmarks.treatments.base import BASE_POLICY, TreatmentPolicy
from domainlift.stats.intervals import wilson
from domainlift.types import Passage, Treatment
from engines.registry import open_engine, tiny_folder
from knowledge_bases.authoring import exercises, facts
from knowledge_bases.domains import load_domains
from recipes.tiny.corpus import World, readings, short
from recipes.tiny.train import Recipe

pytest.importorskip("torch")

DOMAINS = load_domains()
IGNORANT = ("biology", "history", "security")
ABLE = ("mathematics", "philosophy")
FAMILIES = ("sum", "difference", "product", "larger", "conditional", "chain", "order")


def world():
    return World.load(DOMAINS["biology"].folder.parent)


def pattern_of(wording):
    """What a wording can look like, each of its fields with its own kind of text."""
    clause = (
        "(?i:" + "|".join(text for pair in exercises._words()["clauses"] for text in pair) + ")"
    )
    fields = {
        **dict.fromkeys(("p", "q", "q_cap", "fact", "fact_low"), clause),
        "chain": r"(?:Every \w+ is a \w+\. ?)+",
        "order": r"(?:\w+ is \w+ than \w+\. ?)+",
        "s": ".+",
    }
    parts = re.split(r"\{(\w+)\}", wording)
    texts, names = list(map(re.escape, parts[::2])), [fields.get(n, r"\w+") for n in parts[1::2]]
    return re.compile("".join(x for pair in zip(texts, [*names, ""], strict=True) for x in pair))


@pytest.fixture(scope="module")
def tiny():
    engine = open_engine("tiny")
    yield engine
    engine.close()


def supporting_passage(question):
    """The section of the domain's documents that states the fact asked for."""
    path, heading = question.support.split("#")
    text = (DOMAINS[question.domain].folder / path).read_text(encoding="utf-8")
    title = re.match("# (.*)", text)[1]
    body = text.split(f"## {heading}\n")[1].split("## ")[0]
    return Passage(" ".join(body.split()), f"{title} > {heading}")


def with_passage(questions):
    return [Treatment(passages=(supporting_passage(q),), reason="oracle") for q in questions]


ORACLE = TreatmentPolicy("oracle", "oracle", with_passage)


def scores(engine, folder: Path, names, policy=BASE_POLICY):
    tasks = [load_task(f"own:{name}", data=None, domains=DOMAINS) for name in names]
    job = replace(prepare_job(tasks, EvalSettings("demo"), engine.info), policy=policy)
    run = open_run(job, engine.info, RunStore(folder))
    execute_run(job, engine, run, lambda _: None)
    return evaluate_run(run).domains


class TestCorpus:
    def test_no_held_out_wording_is_ever_seen(self):
        wordings = [
            *(relation.questions for _, relation in world().relations),
            *(exercises._words()[name] for name in FAMILIES),
        ]
        held_out = [
            pattern_of(wording)
            for family in wordings
            for split in ("validation", "test")
            for wording in family[split]
        ]
        assert any(
            pattern.fullmatch("If you add 3 and 4, what is the sum?") for pattern in held_out
        )
        for stage in Recipe().stages:
            for stream in (readings, short):
                for example in islice(stream(world(), Random(5), stage.mix), 2000):
                    asked = example.prompt.split("Question: ")[1].split("\n")[0]
                    asked = asked.removesuffix("<|im_end|>")
                    assert not any(pattern.fullmatch(asked) for pattern in held_out), asked

    def test_facts_are_true_no_more_often_than_by_luck(self):
        """3,000 readings over 21 relations: the odds of 15 % or more true ones are below 1e-9."""
        true = {(s, o) for _, r in world().relations for s, o in r.facts.items()}
        sections = [facts.heading(s) for s, _ in true]
        assert len(set(sections)) == len(true)
        hits = total = 0
        for example in islice(readings(world(), Random(6)), 3000):
            answer = re.split(r"<\|", example.completion)[0].strip()
            asked = example.prompt.split("Question: ")[1]
            subjects = [s for s, _ in true if s in asked]
            if len(subjects) == 1:
                total += 1
                hits += (subjects[0], answer) in true
        assert total > 2000
        assert hits / total < 0.15

    def test_the_same_seed_gives_the_same_examples(self):
        a, b = (list(islice(readings(world(), Random(1)), 50)) for _ in range(2))
        assert a == b


class TestCheckpoint:
    def test_it_is_small_and_safe(self):
        files = list(tiny_folder().iterdir())
        assert sum(f.stat().st_size for f in files) <= 8e6
        assert {f.suffix for f in files} <= {".safetensors", ".json", ".jinja"}

    def test_digits_are_single_tokens_and_any_text_can_be_spelled(self):
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(tiny_folder())
        assert len(tokenizer("1945").input_ids) == 4
        for text in ("Ωmega → 漢字 🙂\t\n", "naïve <b>&amp;</b>", "\x00\x1b[31m"):
            assert tokenizer.decode(tokenizer(text).input_ids) == text
        for special in ("<|im_start|>", "<|im_end|>", "<|endoftext|>"):
            assert len(tokenizer(special).input_ids) == 1


class TestProfile:
    """On the test wordings, which the model's training never used."""

    def test_it_reckons_and_reasons(self, tiny, tmp_path):
        for name, score in scores(tiny, tmp_path, ABLE).items():
            assert score.accuracy >= 0.85, name

    def test_it_knows_no_facts(self, tiny, tmp_path):
        for name, score in scores(tiny, tmp_path, IGNORANT).items():
            assert score.n >= 60
            assert score.chance in wilson(score.correct, score.n), name

    def test_it_reads_a_passage(self, tiny, tmp_path):
        for name, score in scores(tiny, tmp_path, IGNORANT, ORACLE).items():
            assert score.accuracy >= 0.80, name
