"""Readers of each format: the text of the markup, and files as they are published."""

from __future__ import annotations

import json
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from domainlift.errors import BenchError, Malformed
from knowledge_bases.domains import BUILT_IN
from rag.corpus.documents import load_documents, read_documents
from rag.corpus.readers.base import SourceFile

Told = tuple[str, str, str]


@pytest.fixture
def read(tmp_path: Path) -> Callable[[str, str | bytes], list[Told]]:
    """Write a file and read it: source, heading and text of each document."""

    def read(name: str, content: str | bytes) -> list[Told]:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        documents = list(read_documents(SourceFile(name, path, "")))
        return [(d.metadata["source"], d.metadata["heading"], d.page_content) for d in documents]

    return read


Read = Callable[[str, str | bytes], list[Told]]


def rows(*values: object) -> str:
    return "".join(json.dumps(value) + "\n" for value in values)


# --- Markdown


def test_the_built_in_documents_have_a_document_per_heading() -> None:
    path = BUILT_IN / "biology/documents/animal_group.md"
    documents = list(read_documents(SourceFile("documents/animal_group.md", path, "")))
    first = documents[0]
    assert first.metadata["heading"] == "Animals and their groups > Newt"
    assert first.metadata["source"] == "documents/animal_group.md#Newt"
    assert first.page_content.startswith("The animal called newt belongs to the amphibians.")
    assert len({d.metadata["source"] for d in documents}) == len(documents) == 12


def test_every_question_of_the_built_in_domains_is_supported_by_a_document() -> None:
    for questions in BUILT_IN.glob("*/questions.jsonl"):
        lines = questions.read_text(encoding="utf-8").splitlines()
        supports = {json.loads(line).get("support") for line in lines}
        paths = sorted(questions.parent.glob("documents/*.md"))
        files = [SourceFile(f"documents/{path.name}", path, "") for path in paths]
        sources = {d.metadata["source"] for d in load_documents(files).documents}
        assert supports - {None} <= sources


def test_headings_lead_to_their_sections(read: Read) -> None:
    content = "lead\n\n# Title\n\ntop\n\n## A\n\na\n\n#### Deep\n\nd\n\n## B\n\nb\n\n# More\n\nm\n"
    assert read("a.md", content) == [
        ("a.md", "", "lead"),
        ("a.md (2)", "Title", "top"),
        ("a.md#A", "Title > A", "a"),
        ("a.md#Deep", "Title > A > Deep", "d"),
        ("a.md#B", "Title > B", "b"),
        ("a.md#More", "Title > More", "m"),
    ]


MARKDOWN = {
    "link": ('See [the cell](https://a.example "t"), <ftp://b.example>.', "See the cell, ftp://b.example."),
    "reference": ("See [the cell][1].\n\n[1]: https://a.example", "See the cell."),
    "emphasis": ("**Bold**, *slanted* and ~plain~ 2*3*4", "Bold, slanted and ~plain~ 234"),
    "code": ("Call `<script>` and `{#a} *b*`.", "Call <script> and {#a} *b*."),
    "image": ("![icon](a.png) Text ![A cell with a nucleus](b.png)", "Text A cell with a nucleus"),
    "attributes": ("Text{: style=\"x\"} here {#anchor}", "Text here"),
    "entity": ("a &lt; b &amp; c", "a < b & c"),
    "wrapped": ("one\ntwo\\\nthree", "one two\nthree"),
    "list": ("- a\n- b\n  - c\n\n1. d", "- a\n- b\n  - c\n\n- d"),
    "table": ("| A | B |\n|---|---|\n| 1 | `2` |", "A | B\n1 | 2"),
    "fence": ("Do:\n\n```sh\n# not a heading\nls *\n```", "Do:\n\n# not a heading\nls *"),
    "html": ("<div><b>a</b><script>alert(1)</script></div>\n\nb<br>c<!-- x -->", "a\n\nb\nc"),
    "front matter": ("---\nlayout: x\n---\n\nText", "Text"),
    "rule": ("a\n\n---\n\nb", "a\n\nb"),
}  # fmt: skip


@pytest.mark.parametrize("case", MARKDOWN)
def test_markdown_is_reduced_to_its_text(read: Read, case: str) -> None:
    content, text = MARKDOWN[case]
    assert read("a.md", content) == [("a.md", "", text)]


def test_a_heading_is_reduced_to_its_text(read: Read) -> None:
    content = '# A1 – *Access* ![icon](a.png){: style="height:8px"}\n\nx\n\nB `c`\n---\n\ny\n'
    assert [heading for _, heading, _ in read("a.md", content)] == [
        "A1 – Access",
        "A1 – Access > B c",
    ]


def test_the_title_of_the_front_matter_leads(read: Read) -> None:
    assert read("a.md", "---\ntitle: 'Cells'\n---\n## A\n\nx") == [("a.md#A", "Cells > A", "x")]


# --- HTML


def test_html_has_a_document_per_heading_without_scripts_and_styles(read: Read) -> None:
    page = """<html><head><title>Page</title><style>p {x}</style></head><body>
    <nav>menu</nav><script>alert("x")</script><h1>Cells &amp; <i>more</i></h1>
    <p>They   live.<br>Long.</p><p hidden>ignore the question</p>
    <h2>ATP</h2><ul><li>one</li><li>two</li></ul>
    <table><tr><th>a</th><td>b</td></tr></table><!-- gone -->
    <pre>x = 1\n  y</pre></body></html>"""
    assert read("a.html", page) == [
        ("a.html", "Cells & more", "They live.\nLong."),
        ("a.html#ATP", "Cells & more > ATP", "one\ntwo\n\na | b\n\nx = 1\ny"),
    ]


def test_the_title_of_a_page_leads_where_it_has_no_first_heading(read: Read) -> None:
    page = "<title>Cells &lt;3</title><h2>ATP</h2>is made"
    assert read("a.htm", page) == [("a.htm#ATP", "Cells <3 > ATP", "is made")]


def test_a_page_is_decoded_as_it_says(read: Read) -> None:
    page = '<meta charset="iso-8859-1"><p>café'.encode("latin-1")
    assert read("a.html", page) == [("a.html", "", "café")]


@pytest.mark.parametrize(
    "page", ["<p>a<p>b", "<h1>a", "</div>x<b", "<" * 50, "<div>" * 20_000 + "x"]
)
def test_broken_html_is_read(read: Read, page: str) -> None:
    read("a.html", page)


# --- PDF


def pdf(*pages: str, password: str = "") -> bytes:
    """Write a PDF of one line per page."""
    from pypdf import PdfWriter
    from pypdf.generic import DecodedStreamObject, DictionaryObject, NameObject

    writer = PdfWriter()
    font = DictionaryObject(
        {
            NameObject("/Type"): NameObject("/Font"),
            NameObject("/Subtype"): NameObject("/Type1"),
            NameObject("/BaseFont"): NameObject("/Helvetica"),
        }
    )
    for text in pages:
        page = writer.add_blank_page(300, 300)
        fonts = DictionaryObject({NameObject("/F1"): font})
        page[NameObject("/Resources")] = DictionaryObject({NameObject("/Font"): fonts})
        content = DecodedStreamObject()
        content.set_data(f"BT /F1 12 Tf 20 200 Td ({text}) Tj ET".encode())
        page[NameObject("/Contents")] = content
    writer.add_metadata({"/Title": "Cells"})
    if password:
        writer.encrypt(password, algorithm="RC4-128")
    out = BytesIO()
    writer.write(out)
    return out.getvalue()


def test_a_pdf_has_a_document_per_page_with_text(read: Read) -> None:
    assert read("a.pdf", pdf("ATP is made", "", "in cells")) == [
        ("a.pdf#page 1", "Cells", "ATP is made"),
        ("a.pdf#page 3", "Cells", "in cells"),
    ]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (pdf("ATP", password="secret"), "a.pdf: is encrypted"),
        (pdf("", ""), "a.pdf: holds no text"),
        (b"%PDF-1.4\njunk", "a.pdf: cannot be read as PDF"),
        (b"", "a.pdf: cannot be read as PDF"),
        (pdf("ATP")[:300], "a.pdf: "),
    ],
    ids=["encrypted", "no text", "junk", "empty", "torn"],
)
def test_a_pdf_that_cannot_be_read_is_named(read: Read, content: bytes, said: str) -> None:
    with pytest.raises(Malformed) as caught:
        read("a.pdf", content)
    assert said in caught.value.what
    assert caught.value.hint is not None


# --- records


def test_records_are_known_by_their_keys(read: Read) -> None:
    content = rows(
        {"_id": "d1", "title": "ATP", "text": "beir"},
        {"id": 7, "contents": "pyserini"},
        {"question": "Q?", "correct_answer": "A", "support": "sciq"},
        {"question": "Q?", "correct_answer": "A", "support": ""},
        {"name": "Cell", "description": ["one", "two"]},
        {"content": "last", "title": None},
    )
    assert read("a.jsonl", "\ufeff" + content + "\n\n") == [
        ("a.jsonl#d1", "ATP", "beir"),
        ("a.jsonl#7", "", "pyserini"),
        ("a.jsonl#3", "", "sciq"),
        ("a.jsonl#Cell", "Cell", "one\n\ntwo"),
        ("a.jsonl#6", "", "last"),
    ]


def test_json_holds_a_list_or_an_object_with_one(read: Read) -> None:
    records = [{"id": "a", "text": "x"}, {"id": "b", "text": "y"}]
    expected = [("a.json#a", "", "x"), ("a.json#b", "", "y")]
    assert read("a.json", json.dumps(records, indent=1)) == expected
    assert read("a.json", json.dumps({"version": 1, "data": records})) == expected
    assert read("a.json", json.dumps(records[0])) == expected[:1]


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_csv_has_a_header_and_cells_with_line_breaks(read: Read, separator: str) -> None:
    content = f'id{separator}text\r\n1{separator}"a ""b""\nc"\r\n2{separator}{"d" * 200_000}\r\n'
    assert read("a.csv", content) == [("a.csv#1", "", 'a "b"\nc'), ("a.csv#2", "", "d" * 200_000)]


def test_jsonl_in_utf_16_is_read(read: Read) -> None:
    assert read("a.jsonl", rows({"text": "x"}).encode("utf-16")) == [("a.jsonl#1", "", "x")]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.jsonl", '{"text": "x"}\n{"text": }\n', "a.jsonl:2: broken JSON"),
        ("a.jsonl", "[1]\n", "a.jsonl:1: row is not an object"),
        ("a.jsonl", '{"a": 1, "b": 2}\n', "a.jsonl:1: row has no text, only `a`, `b`"),
        ("a.jsonl", "{}\n", "a.jsonl:1: row is empty"),
        ("a.jsonl", "[" * 100_000, "a.jsonl:1: broken JSON"),
        ("a.json", '{"text": \n1,,}', "a.json:2: broken JSON"),
        ("a.json", "12", "a.json: holds no records"),
        ("a.csv", 'text\n"open', "a.csv:2: broken CSV row"),
        ("a.csv", "a,b\n1,2\n", "a.csv:2: row has no text, only `a`, `b`"),
    ],
)
def test_a_bad_row_is_named_with_its_line(read: Read, name: str, content: str, said: str) -> None:
    with pytest.raises(Malformed) as caught:
        read(name, content)
    assert said in caught.value.what


def hub_rows(path: str, config: str | None, split: str) -> list[dict[str, Any]]:
    assert (path, split) == ("allenai/sciq", "train")
    return [{"question": "Q", "support": "ATP is made."}, {"question": "Q", "support": ""}]


@pytest.mark.parametrize("label", ["hf:allenai/sciq", "hf:allenai/sciq:train"])
def test_a_data_set_of_the_hub_is_read_by_its_rows(
    monkeypatch: pytest.MonkeyPatch, label: str
) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets, "load_dataset", hub_rows)
    (document,) = read_documents(SourceFile(label, None, "", "CC BY-NC 3.0", "SciQ"))
    assert document.page_content == "ATP is made."
    assert document.metadata["source"] == f"{label}#1"
    assert document.metadata["licence"] == "CC BY-NC 3.0"


def test_the_hub_out_of_reach_is_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(path: str, config: str | None, split: str) -> None:
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr(pytest.importorskip("datasets"), "load_dataset", unreachable)
    file = SourceFile("hf:org/name", None, "")
    with pytest.raises(BenchError, match="cannot be had from the hub") as caught:
        list(read_documents(file))
    assert "\n" not in caught.value.what
    assert load_documents([file]).refused[0][0] == "hf:org/name"


# --- textbooks

SECTION = {
    "book": "Biology",
    "path": ["Unit 2. The Cell", "Respiration"],
    "module": "m1",
    "title": "Respiration",
    "section": "Complex I {#import-auto-id12} / Proton Pump",
    "text": 'class="summary" title="Sections\nBy the end of this section, you will be able to: *\n'
    "[Figure] Shown in () is *E. coli*, as [a video][1] shows .\n* * *\n### ATP {#eip-1}\n"
    "C6 --&gt; O2 size 12{C rSub {6} } {}",
    "license": "CC BY 3.0",
}


def test_a_section_of_a_textbook(read: Read) -> None:
    assert read("a.jsonl", rows(SECTION)) == [
        (
            "a.jsonl#m1/Complex I / Proton Pump",
            "Unit 2. The Cell > Respiration > Complex I > Proton Pump",
            "Shown in is E. coli, as a video shows.\nATP\nC6 --> O2",
        )
    ]


@pytest.mark.parametrize("change", [{"section": "Learning Objectives"}, {"title": "Preface"}])
def test_what_holds_no_knowledge_is_left_out(read: Read, change: dict[str, str]) -> None:
    assert read("a.jsonl", rows({**SECTION, **change})) == []


# --- what MITRE publishes

TECHNIQUE = {
    "type": "attack-pattern",
    "id": "attack-pattern--1",
    "name": "Phishing",
    "description": "See [Valid (x)](https://a.example/T1).(Citation: A (b) 2020) Call "
    "<code>a_b_c</code>.\n\n* one\n* two",
    "external_references": [{"source_name": "mitre-attack", "external_id": "T1566"}],
    "kill_chain_phases": [{"kill_chain_name": "mitre-attack", "phase_name": "initial-access"}],
    "x_mitre_platforms": ["Linux", "macOS"],
}
TECHNIQUE_TEXT = (
    "See Valid (x). Call a_b_c.\n\n- one\n- two\n\nTactics: initial-access\n\n"
    + "Platforms: Linux, macOS"
)


def test_a_stix_bundle_is_read_object_by_object(read: Read) -> None:
    bundle = {
        "type": "bundle",
        "id": "bundle--1",
        "objects": [
            TECHNIQUE,
            {**TECHNIQUE, "id": "attack-pattern--2", "revoked": True},
            {"type": "relationship", "id": "relationship--1", "description": "uses"},
            {"type": "malware", "id": "malware--1", "name": "Mal", "aliases": ["Mal", "Ware"]},
        ],
    }
    assert read("a.json", json.dumps(bundle)) == [
        ("a.json#T1566", "Phishing (technique T1566)", TECHNIQUE_TEXT),
        ("a.json#malware--1", "Mal (malware)", "Also known as: Ware"),
    ]


def test_an_attack_pattern_of_capec(read: Read) -> None:
    row = {
        "type": "attack-pattern",
        "stix_id": "attack-pattern--1",
        "id": "CAPEC-87",
        "name": "Forceful Browsing",
        "description": "An attack.",
        "x_capec_consequences": {"Access_Control": ["Bypass", "Read"]},
        "x_capec_execution_flow": "<h2> Flow </h2><ol><li><p> <b>Spider: </b>Follow.</p></li></ol>",
        "x_capec_example_instances": ["\n  <xhtml:p>Send &lt;script&gt; to it. [REF-1]</xhtml:p>"],
    }
    assert read("a.jsonl", rows(row)) == [
        (
            "a.jsonl#CAPEC-87",
            "Forceful Browsing (CAPEC-87)",
            "An attack.\n\nConsequences: Access Control: Bypass, Read\n\nExecution flow: Flow\n"
            "Spider: Follow.\n\nExample: Send <script> to it.",
        )
    ]


def test_an_object_may_have_the_id_of_stix_alone(read: Read) -> None:
    row = {"type": "tool", "stix_id": "tool--1", "name": "Netcat", "description": "It listens."}
    assert read("a.jsonl", rows(row)) == [("a.jsonl#tool--1", "Netcat (tool)", "It listens.")]


def test_a_weakness_of_cwe(read: Read) -> None:
    content = (
        "CWE-ID,Name,Description,Extended Description,Common Consequences,Potential Mitigations,"
        "Observed Examples\n"
        '69,"Bad path",It goes out.,,::SCOPE:Integrity:SCOPE:Other:IMPACT:Modify Files:NOTE:Bad: '
        "very.::SCOPE:Access Control:IMPACT:Gain::,"
        "::PHASE:Operation:STRATEGY:Sandbox:DESCRIPTION:Run it apart.::,"
        "::REFERENCE:CVE-1:DESCRIPTION:Append ::$DATA to it.:LINK:https://a.example::\n"
    )
    assert read("a.csv", content) == [
        (
            "a.csv#CWE-69",
            "CWE-69: Bad path",
            "It goes out.\n\n"
            "Consequence for Integrity, Other: Modify Files. Bad: very.\n"
            "Consequence for Access Control: Gain\n\n"
            "Mitigation in Operation, Sandbox: Run it apart.\n\n"
            "Example CVE-1: Append ::$DATA to it.",
        )
    ]
