"""Words that say nothing of a domain: function words, words of exams, and words said of anything.

None is learned as a keyword. Function words speak for whatever source the questions came from,
and exams have reading passages and excerpts in one subject that texts elsewhere have in all.
"""

from __future__ import annotations

from ensemble.router.tokenize import singular

_FUNCTION_WORDS = """
a an the this that these those such same other another each every either neither both all any some
no none not nor only own i me my mine myself we us our ours ourselves you your yours yourself he him
his himself she her hers herself it its itself they them their theirs themselves one ones oneself
someone somebody something anyone anybody anything everyone everybody everything nobody nothing
who whom whose which what when where why how whether whoever whatever whichever whenever wherever
am is are was were be been being do does did doing done has have had having can could may might
must shall should will would ought cannot and or but if then else because as until while of at by
for with about against between into through during before after to from up down in out on off over
under again further once here there than too very so just also still even ever never always often
sometimes already yet however therefore thus hence although though unless since upon within without
across along among around behind beside besides beyond despite except inside near onto outside per
toward towards via more most less least much many few several enough rather quite almost well
better best let get got gets make makes made go goes went come came take took give gave given use
used using say says said see seen s t d m ll re ve don doesn didn isn aren wasn weren won wouldn
couldn shouldn hasn haven hadn
"""
_EXAM_WORDS = """
above below passage excerpt text paragraph statement following question answer choice option
source line sentence according author correct incorrect true false refer referred describe
described word called name named best likely example please thank thanks hello hi
"""
# What is said of persons and things of every kind; in a phrase it may tell.
_GENERAL_WORDS = """
famous great new old young big small large little long short high low good bad first second third
last next early late main major important popular common different similar special real original
know known become became begin began start end happen happened appear appeared believe consider
include including based found show feature bring brought keep hold put turn give won
write written wrote book work thing kind type sort form part side piece amount
name title day night week month year time age place world life home hand today now ago later
everyday following whole full single various certain able way like want need
"""
#: English function words, as terms.
FUNCTION_WORDS = frozenset(map(singular, _FUNCTION_WORDS.split()))
_UNTOLD = FUNCTION_WORDS | frozenset(map(singular, _EXAM_WORDS.split()))
_UNTOLD_ALONE = frozenset(map(singular, _GENERAL_WORDS.split()))


def tells(term: str) -> bool:
    """Whether a term may be learned as a keyword: what is said of anything may in a phrase."""
    return term not in _UNTOLD_ALONE and _UNTOLD.isdisjoint(term.split(" "))
