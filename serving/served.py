"""What is kept of a served reply, so that it can be marked."""

from __future__ import annotations

from domainlift.files import timestamp
from improve.feedback.reply_log import ServedReply
from rag.treatment import best_cosine
from serving.assistant import PreparedReply

#: Of one text, in characters: a log of replies is no store of documents.
_LONGEST = 20_000


def served_reply(id_: str, question: str, answer: str, prepared: PreparedReply) -> ServedReply:
    """The reply with the exact version and passages that it came from."""
    treatment = prepared.treatment
    return ServedReply(
        id=id_,
        when=timestamp(),
        version=prepared.version,
        plan=prepared.plan,
        model=prepared.model,
        question=question[:_LONGEST],
        answer=answer.strip()[:_LONGEST],
        domain=treatment.route,
        adapter=treatment.adapter,
        supported=prepared.supported,
        cosine=best_cosine(treatment.retrieved),
        passages=tuple({"source": p.place, "text": p.text} for p in treatment.passages),
        routed=prepared.routed,
    )
