"""Rows of data sets as the hub has them, for tasks of lm-eval."""

PRO = {
    "question": "Which one swims?",
    "options": ["carp", *(f"bird {n}" for n in range(9))],
    "answer": "A",
    "answer_index": 0,
    "cot_content": "A: Let's think step by step. Fish swim. The answer is (A).",
    "category": "biology",
}
