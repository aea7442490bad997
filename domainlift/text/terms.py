"""Terms of a text: what its words say beyond those that stand in any text."""

from __future__ import annotations

from domainlift.optional import need
from domainlift.text.normalise import words

# Words that stand in any text; questions are full of them.
_STOP = frozenset(
    words("""
    a about after all also am an and any are as at be because been before being both but by can
    could did do does during each either for from had has have he her his how if in into is it its
    likely may might more most must neither no nor not of on one only or other our she should so
    some such than that the their them then there these they this those through to under until was
    we were what when where which while who whom whose why will with would you your following
    """)
)


def terms_of(text: str) -> list[str]:
    """The terms of a text in their order: words in normal form, stemmed as English ones."""
    # A stemmer of this call's own: one may not be shared by threads.
    stem = need("Stemmer").Stemmer("english").stemWords
    return list(stem([word for word in words(text) if word not in _STOP]))
