"""MMLU: 57 subjects, four options each, five examples per subject."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.tasks.multiple_choice import Choice, MultipleChoice, choice_columns

SUBJECTS = (
    "abstract_algebra", "anatomy", "astronomy", "business_ethics", "clinical_knowledge",
    "college_biology", "college_chemistry", "college_computer_science", "college_mathematics",
    "college_medicine", "college_physics", "computer_security", "conceptual_physics",
    "econometrics", "electrical_engineering", "elementary_mathematics", "formal_logic",
    "global_facts", "high_school_biology", "high_school_chemistry",
    "high_school_computer_science", "high_school_european_history", "high_school_geography",
    "high_school_government_and_politics", "high_school_macroeconomics",
    "high_school_mathematics", "high_school_microeconomics", "high_school_physics",
    "high_school_psychology", "high_school_statistics", "high_school_us_history",
    "high_school_world_history", "human_aging", "human_sexuality", "international_law",
    "jurisprudence", "logical_fallacies", "machine_learning", "management", "marketing",
    "medical_genetics", "miscellaneous", "moral_disputes", "moral_scenarios", "nutrition",
    "philosophy", "prehistory", "professional_accounting", "professional_law",
    "professional_medicine", "professional_psychology", "public_relations", "security_studies",
    "sociology", "us_foreign_policy", "virology", "world_religions",
)  # fmt: skip


def _from_csv(cells: Sequence[str]) -> Choice:
    if len(cells) != 6:
        raise ValueError(f"row has {len(cells)} cells instead of 6")
    letter = cells[5].strip()
    if letter not in tuple("ABCD"):
        raise ValueError(f"answer `{letter}` is not A, B, C or D")
    return cells[0], cells[1:5], "ABCD".index(letter)


MMLU = MultipleChoice(
    name="mmlu",
    hub="cais/mmlu",
    subjects={subject: subject for subject in SUBJECTS},
    # The five examples are all there is to train on.
    splits={
        "train": ("dev", "mmlu/dev/{}_dev.csv"),
        "validation": ("validation", "mmlu/val/{}_val.csv"),
        "test": ("test", "mmlu/test/{}_test.csv"),
    },
    from_hub=choice_columns(options="choices", answer="answer"),
    from_mirror=_from_csv,
    description="The following are multiple choice questions (with answers) about {}.\n\n",
    shots=5,
    passages=True,
)
