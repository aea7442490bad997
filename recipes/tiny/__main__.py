"""`python -m recipes.tiny [FOLDER]`: make the model into FOLDER, by default where it ships."""

from __future__ import annotations

import sys
from pathlib import Path

from recipes.tiny.train import train

REPOSITORY = Path(__file__).parents[2]

if __name__ == "__main__":
    target = Path(sys.argv[1]) if sys.argv[1:] else REPOSITORY / "engines" / "tiny" / "checkpoint"
    train(REPOSITORY / "knowledge_bases", target)
