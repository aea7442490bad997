from __future__ import annotations

import html
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from benchmarks.results.comparison import Comparison, compare_runs
from benchmarks.results.flips import FlipKind
from reports.compare_html import MOST_BYTES, ReportSection, render_html
from reports.compare_markdown import render_markdown
from reports.compare_terminal import show_comparison
from tests.helpers import made_runs as made

HOSTILE = {
    "script": "</script><script>document.title = 'taken'</script>",
    "image": "<img src=x onerror=\"document.title = 'taken'\"><svg onload=alert(1)>",
    "link": '"><a href="javascript:alert(1)">go</a><iframe src="https://example.org"></iframe>',
    "style": "</style><style>@import url(https://example.org/x.css);body{display:none}</style>",
    "template": "{{ 7 * 7 }} {% raw %} <!--flips-->",
    "ansi": "\x1b[31mred\x1b[0m\x1b]8;;https://example.org\x07link\x1b]8;;\x07\x07\x00",
    "bidi": "user\u202e\u2066// admin\u2069 \u200f\u2067abc",
    "surrogate": "half \ud83d of a pair",
    "arabic": "ما هي عاصمة فرنسا؟",
}


class Tags(HTMLParser):
    """What a parser makes of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def count(self, tag: str) -> int:
        return sum(found == tag for found, _ in self.found)


@pytest.fixture(scope="module")
def rich(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    """Everything at once: kinds, words, routes, passages, errors, warnings and hostile text."""
    return compare_runs(*_rich_runs(tmp_path_factory.mktemp("rich")))


def _rich_runs(folder: Path) -> tuple[Any, Any]:
    outcomes = {
        "history": made.outcomes(both=50, fixed=40, broken=4, neither=12),
        "law": made.outcomes(both=60, fixed=3, broken=24, neither=20),
        "biology": made.outcomes(both=280, fixed=2, broken=3, neither=60),
        "security & networks": [*made.outcomes(both=20, fixed=4, broken=2), (None, True)],
        "<b>art</b>": [(True, None), (None, None)],
    }
    flat = [(name, pair) for name, pairs in outcomes.items() for pair in pairs]
    texts = list(HOSTILE.values())
    before, after = [], []
    for n, (domain, (old, new)) in enumerate(flat):
        odd = n % 7 == 0
        text = texts[n % len(texts)] if odd else f"Which city has number {n}?"
        options = (texts[n % len(texts)], *made.OPTIONS[1:]) if odd else made.OPTIONS
        asked = made.question(n, domain, text=text, options=options, support="cities.md")
        before.append((asked, made.record(asked, old)))
        after.append((asked, made.record(asked, new, **_help(n, domain, texts))))
    return (
        made.store(folder, "before", before, settings={"seed": 1}),
        made.store(
            folder,
            "after",
            after,
            settings={"treatment": "ensemble", "seed": 2},
            fingerprint={"treatment": "plan"},
        ),
    )


def _help(n: int, domain: str, texts: list[str]) -> dict[str, Any]:
    found = (
        {"id": "c1", "source": "Cities of Europe", "place": "cities.md#Bern", "dense": 0.81},
        {"id": "c2", "source": texts[n % len(texts)], "place": "rivers.md", "dense": 0.42},
    )
    return {
        "treatment": f"rag, adapter {domain}-v0001",
        "passages": ("c1",) if n % 3 else (),
        "searched": True,
        "retrieved": found if n % 2 else (),
        "route": domain if n % 9 else "law",
        "decided_by": ("keywords", "classifier")[n % 2],
        "matched": ("capital", "river", texts[n % len(texts)][:20]),
        "text": texts[n % len(texts)] * 3 if n % 11 == 0 else None,
    }


def _foreign(markdown: str) -> str:
    """The question of a list of one, and the name of its domain."""
    (told,) = [row for row in markdown.splitlines() if row.startswith("- **")]
    return told.split("<br>")[0]


class TestPage:
    def test_nothing_foreign_becomes_markup(self, rich: Comparison) -> None:
        tags = Tags(render_html(rich))
        assert tags.count("script") == tags.count("style") == 1
        for tag in ("img", "iframe", "b", "a", "link", "object", "form"):
            allowed = {"a": 1, "form": 1, "b": tags.count("b")}.get(tag, 0)
            assert tags.count(tag) == allowed, tag
        assert not any(name.startswith("on") for _, attrs in tags.found for name in attrs)
        assert not any("style" in attrs for _, attrs in tags.found)

    def test_no_address_leads_out_of_it(self, rich: Comparison) -> None:
        for _, attrs in Tags(render_html(rich)).found:
            for name in ("src", "href", "action", "xlink:href"):
                assert str(attrs.get(name, "#")).startswith("#")

    @pytest.mark.parametrize("render", [render_html, render_markdown])
    def test_text_commands_nothing(self, render: Any, rich: Comparison) -> None:
        page = render(rich)
        commands = [c for c in page if (ord(c) < 32 and c != "\n") or 0x7F <= ord(c) < 0xA0]
        turns = re.findall("[\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", page)
        assert (commands, turns) == ([], [])
        page.encode("utf-8")

    def test_the_terminal_is_not_commanded(
        self, rich: Comparison, capsys: pytest.CaptureFixture[str]
    ) -> None:
        for kind in FlipKind:
            show_comparison(rich, kind, 50)
        said = capsys.readouterr().out
        assert "\x1b" not in said
        assert not re.search("[\x00-\x09\x0b-\x1f\u202a-\u202e\u2066-\u2069]", said)

    def test_markdown_holds_no_html_and_calls_nobody(self, tmp_path: Path) -> None:
        text = "# <b>@you</b> see https://example.org, www.example.org `x` #12 &#123; GH-7 $x^2$"
        asked = made.question(0, "@all|x", text=text)
        runs = [
            made.store(tmp_path, name, [(asked, made.record(asked, right))])
            for name, right in (("b", True), ("a", False))
        ]
        said = render_markdown(compare_runs(*runs))
        assert not re.search(r"@\w|<b>|https://|www\.|#12|GH-|(?<!\\)\||(?<!\\)\$", _foreign(said))
        # Names and numbers are looked for once entities are resolved, and must stay broken.
        assert not re.search(r"[@#]\w|GH-", html.unescape(_foreign(said)))
        assert "&amp;#&#8203;123;" in said

    def test_an_id_commands_no_terminal(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        asked = made.question(0, id="\x1b[31mred" + "x" * 100)
        runs = [
            made.store(tmp_path, name, [(asked, made.record(asked, right))])
            for name, right in (("b", True), ("a", False))
        ]
        show_comparison(compare_runs(*runs))
        said = capsys.readouterr().out
        assert "\x1b" not in said
        assert "[31mred" in said
        assert "x" * 90 not in said

    def test_arabic_stays_arabic(self, rich: Comparison) -> None:
        assert HOSTILE["arabic"] in render_html(rich)

    def test_the_policy_allows_its_own_script_only(self, rich: Comparison) -> None:
        (policy,) = [
            attrs["content"]
            for tag, attrs in Tags(render_html(rich)).found
            if attrs.get("http-equiv") == "Content-Security-Policy"
        ]
        assert policy is not None
        assert policy.startswith("default-src 'none'; style-src 'sha256-")
        assert "unsafe" not in policy

    def test_the_order_of_the_contents(self, rich: Comparison) -> None:
        page = render_html(rich, [ReportSection("The gate", ("check", "result"), [("gain", "+5")])])
        ids = ("verdict", "domains", "chart", "differences", "unanswered", "flips", "routes")
        ids += ("retrieval", "costs", "h-more-1", "provenance")
        places = [page.index(f'id="{each}"') for each in ids]
        assert places == sorted(places)

    def test_what_is_told_of_both_runs_stands_under_their_names(self, rich: Comparison) -> None:
        heads = re.findall(r"<thead><tr>(.*?)</tr>\s*<tr>(.*?)</tr>", render_html(rich))
        assert len(heads) == 3
        for runs, columns in heads:
            widths = [int(width) for width in re.findall(r'colspan="(\d+)"', runs)]
            assert sum(widths) == columns.count("<th")
            assert len(set(widths)) == 1

    def test_sections_are_shown_and_escaped(self, rich: Comparison) -> None:
        rows = [("<i>gain</i>", 5), ("p", 0.01)]
        page = render_html(
            rich, [ReportSection("The <b>gate</b>", ("check", "x"), rows, "one\ntwo")]
        )
        for text in ("The &lt;b&gt;gate", "&lt;i&gt;gain", "<td>0.01</td>", "one\ntwo"):
            assert text in page

    def test_the_same_runs_make_the_same_page(self, rich: Comparison) -> None:
        assert render_html(rich) == render_html(rich)

    def test_words_and_signs_stand_beside_colours(self, rich: Comparison) -> None:
        page = render_html(rich)
        for word in ("▲</span> better", "▼</span> worse", "=</span> no change"):
            assert word in page
        assert "○</span> no evidence" in page


class TestSize:
    def test_it_stays_below_a_megabyte(self, tmp_path: Path) -> None:
        asked = [made.question(n, f"domain {n % 300} & " + "é" * 200) for n in range(900)]
        said = {"text": "<&>" * 400_000}
        sides = [
            made.store(tmp_path, name, [(q, made.record(q, right, **said)) for q in asked[:40]])
            for name, right in (("b", True), ("a", False))
        ]
        assert len(render_html(compare_runs(*sides)).encode()) < 1_000_000
        wide = [
            made.store(tmp_path, name, [(q, made.record(q, right)) for q in asked])
            for name, right in (("c", True), ("d", False))
        ]
        page = render_html(compare_runs(*wide, top=2000))
        assert 300_000 < len(page.encode()) <= MOST_BYTES
        assert "and 180 more domains" in page
        assert re.search(r"<b>900</b> broken \(\d+ shown\)", page)

    def test_routes_that_have_no_column_are_counted_together(self, tmp_path: Path) -> None:
        asked = [made.question(n, f"d{n % 130:03}") for n in range(260)]
        before = made.store(tmp_path, "b", [(q, made.record(q, True)) for q in asked])
        # The first half goes home, the second to what comes last in the alphabet.
        rows = [
            (q, made.record(q, True, route=q.domain if n < 130 else "zoo", decided_by="keywords"))
            for n, q in enumerate(asked)
        ]
        page = render_html(compare_runs(before, made.store(tmp_path, "a", rows)))
        matrix = page.split('id="routes"')[1].split("</section>")[0]
        heads = re.findall(r'<th scope="col"><bdi>(.*?)</bdi>', matrix)
        assert len(heads) == 26
        assert heads[-3:] == ["zoo", "other routes", "base"]
        cells = {
            name: [int(n) if n != "·" else 0 for n in re.findall(r">(\d+|·)</td>", row)]
            for name, row in re.findall(
                r"<bdi>(d\d+)</bdi></th>(.*)</tr>", matrix.split("</table>")[0]
            )
        }
        assert len(cells) == 120
        assert cells["d000"] == [1] + [0] * 22 + [1, 0, 0]
        assert cells["d119"] == [0] * 23 + [1, 1, 0]
        assert 's3">1</td><td class="other s3">1</td><td class="other s0">·</td></tr>' in matrix
        assert matrix.count("and 10 more domains") == 2

    def test_long_output_is_cut_with_a_note(self, tmp_path: Path) -> None:
        asked = made.question(0)
        runs = [
            made.store(tmp_path, name, [(asked, made.record(asked, right, text="x" * 10**6))])
            for name, right in (("b", True), ("a", False))
        ]
        assert "more characters)" in render_html(compare_runs(*runs))


class TestCases:
    @pytest.mark.parametrize(
        "outcomes",
        [
            {"law": [(True, None)]},
            {"law": [(False, True)]},
            {"law": [(None, None)], "art": [(True, True)]},
            {"law": [(True, True)] * 3},
        ],
        ids=["errors only", "one question", "a domain without answers", "nothing moved"],
    )
    def test_small_runs_have_a_page(
        self, outcomes: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        found = compare_runs(*made.two(tmp_path, outcomes))
        for page in (render_html(found), render_markdown(found)):
            assert not re.search(r"\b(?:nan|inf|None)\b", page)
        show_comparison(found)
        assert capsys.readouterr().out


@pytest.fixture(scope="module")
def file(rich: Comparison, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page on the disk."""
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(render_html(rich, [ReportSection("More", ("a",), [("b",)])]), encoding="utf-8")
    return path


@pytest.fixture
def tab(page: Any, file: Path) -> Iterator[Any]:
    """The page in a browser; afterwards nothing was complained of, and nothing was asked for."""
    page.scripts(True)
    page.open(file)
    yield page
    assert page.complaints == []
    assert page.requests == [file.as_uri()]


_SHOWN = "[...document.querySelectorAll('.flip')].filter(f => f.offsetParent !== null)"


class TestBrowser:
    def test_table_and_chart_are_drawn(self, tab: Any) -> None:
        assert tab.run("document.querySelectorAll('#domains tbody tr').length") == 5
        assert tab.run("document.querySelectorAll('#chart .chart').length") == 2
        assert tab.run("document.querySelectorAll('#chart g').length") == 8
        assert (
            tab.run("document.querySelector('#chart .chart').getBoundingClientRect().width") > 300
        )
        assert tab.run("document.title").startswith("No evidence")

    def test_filters(self, tab: Any) -> None:
        everything = tab.run(f"{_SHOWN}.length")
        assert everything > 50
        tab.run("document.querySelector('#f-domain').value = 'law'")
        tab.run("document.querySelector('.filters').dispatchEvent(new Event('input'))")
        domains = tab.run(f"[...new Set({_SHOWN}.map(f => f.dataset.domain))]")
        assert domains == ["law"]
        for kind in ("broken", "neither", "both"):
            tab.run(f"document.querySelector('input[value={kind}]').click()")
        assert tab.run(f"[...new Set({_SHOWN}.map(f => f.dataset.kind))]") == ["fixed"]
        assert tab.run("document.querySelector('#f-count').textContent").startswith("3 of ")
        tab.run("document.querySelector('#f-text').value = 'no such words'")
        tab.run("document.querySelector('.filters').dispatchEvent(new Event('input'))")
        assert tab.run(f"{_SHOWN}.length") == 0
        assert tab.run("document.querySelector('#f-none').offsetParent !== null")

    def test_the_list_opens_and_closes(self, tab: Any) -> None:
        assert tab.run("document.querySelectorAll('.flip[open]').length") == 2
        tab.run("document.querySelector('#f-open').click()")
        total = tab.run("document.querySelectorAll('.flip').length")
        assert tab.run("document.querySelectorAll('.flip[open]').length") == total
        tab.run("document.querySelector('#f-close').click()")
        assert tab.run("document.querySelectorAll('.flip[open]').length") == 0

    def test_the_keyboard_reaches_filters_and_list(self, tab: Any) -> None:
        tab.run("document.querySelector('#f-close').click()")
        tab.run("document.querySelector('#f-close').focus()")
        tab.press("Tab", 9)
        assert tab.run("document.activeElement.tagName") == "SUMMARY"
        assert tab.run("getComputedStyle(document.activeElement).outlineStyle") == "solid"

    def test_no_part_is_wider_than_a_phone(self, tab: Any, file: Path) -> None:
        tab.open(file, width=360, height=700)
        assert tab.run("document.documentElement.scrollWidth") <= 360

    def test_dark_mode(self, tab: Any, file: Path) -> None:
        def paper() -> Any:
            return tab.run("getComputedStyle(document.body).backgroundColor")

        tab.open(file, prefers_color_scheme="light")
        assert paper() == "rgb(255, 255, 255)"
        tab.open(file, prefers_color_scheme="dark")
        assert paper() == "rgb(18, 22, 28)"

    def test_without_scripts_everything_is_shown(self, tab: Any, file: Path) -> None:
        tab.scripts(False)
        tab.open(file)
        assert tab.run("document.querySelector('.filters').offsetParent") is None
        closed = tab.run("document.querySelectorAll('.flip:not([open])').length")
        assert (closed, tab.run(f"{_SHOWN}.length")) == (
            0,
            tab.run("document.querySelectorAll('.flip').length"),
        )

    def test_it_prints(self, tab: Any) -> None:
        assert tab.print().startswith(b"%PDF")
