"""MMLU-Pro: 14 categories, up to ten options, five examples per category."""

from benchmarks.tasks.multiple_choice import MultipleChoice, choice_columns

# Category -> the domain that it belongs to.
CATEGORIES = {
    "biology": "biology", "business": "economics", "chemistry": "chemistry",
    "computer_science": "computer_science", "economics": "economics", "engineering": "physics",
    "health": "medicine", "history": "history", "law": "law", "math": "mathematics",
    "other": "general", "philosophy": "philosophy", "physics": "physics",
    "psychology": "psychology",
}  # fmt: skip

MMLU_PRO = MultipleChoice(
    name="mmlu_pro",
    hub="TIGER-Lab/MMLU-Pro",
    subjects={"": "", **{name: name.replace("_", " ") for name in CATEGORIES}},
    # The five examples per category, which are called its validation split, are the train split.
    splits={
        "train": ("validation", "mmlu_pro/validation.jsonl"),
        "test": ("test", "mmlu_pro/test.jsonl"),
    },
    from_hub=choice_columns(options="options", answer="answer_index"),
    category="category",
    description="The following are multiple choice questions (with answers) about {}.\n\n",
    shots=5,
    domains=CATEGORIES,
)
