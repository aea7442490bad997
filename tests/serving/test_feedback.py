"""Feedback and metrics over HTTP, and by command."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from bench.app import main
from domainlift.files import sha256
from improve.feedback.marks import FeedbackStore
from improve.feedback.reply_log import ReplyLog
from improve.versions.decision_log import Decision, DecisionLog, ProbeLook
from serving.assistant import Assistant, version_name
from serving.prometheus import BUCKETS, Metrics
from tests.serving.conftest import Garden, Serve

LEEK = {"model": "auto", "messages": [{"role": "user", "content": "When are leeks sown?"}]}


def chat(url: str, **more: object) -> httpx.Response:
    return httpx.post(f"{url}/v1/chat/completions", json={**LEEK, **more}, timeout=20)


def mark(url: str, **body: object) -> httpx.Response:
    return httpx.post(f"{url}/v1/feedback", json=body, timeout=20)


def test_a_reply_is_marked_with_its_version_and_passages(
    serve: Serve, assistant: Assistant, garden: Garden
) -> None:
    url = serve(assistant).url
    told = chat(url).json()
    answer = told["choices"][0]["message"]["content"]
    said = mark(url, id=told["id"], verdict="wrong", correction="in March")
    assert said.json() == {
        "object": "feedback",
        "id": told["id"].removeprefix("chatcmpl-"),
        "verdict": "wrong",
        "state": "queued",
    }
    (made,) = FeedbackStore(garden.root).marks()
    assert (made.reply.question, made.reply.answer) == ("When are leeks sown?", answer.strip())
    assert (made.reply.version, made.reply.domain) == ("first", "garden")
    assert made.reply.plan == sha256(garden.root / "plans" / "first.yaml")
    assert [p["source"] for p in made.reply.passages] == ["garden.txt/leek"]
    assert made.correction == "in March"


def test_a_streamed_reply_can_be_marked_too(serve: Serve, assistant: Assistant) -> None:
    url = serve(assistant).url
    found = re.search(r'"id": "(chatcmpl-\w+)"', chat(url, stream=True).text)
    assert found is not None
    assert mark(url, id=found[1], verdict="right").status_code == 200


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"id": "latest", "verdict": "right"}, 404),
        ({"id": "chatcmpl-" + "0" * 24, "verdict": "right"}, 404),
        ({"verdict": "right"}, 404),
        ({"id": 3, "verdict": "right"}, 400),
        ({"id": "0" * 24, "verdict": "right", "more": 1}, 400),
        ([], 400),
    ],
)
def test_what_is_no_mark_is_refused_over_http(
    serve: Serve, assistant: Assistant, body: object, status: int
) -> None:
    url = serve(assistant).url
    assert chat(url).status_code == 200
    assert httpx.post(f"{url}/v1/feedback", json=body).status_code == status


def test_a_verdict_must_be_one(serve: Serve, assistant: Assistant) -> None:
    url = serve(assistant).url
    said = mark(url, id=chat(url).json()["id"], verdict="maybe")
    assert (said.status_code, "right or wrong" in said.text) == (400, True)


def test_the_switch_keeps_nothing(serve: Serve, assistant: Assistant, garden: Garden) -> None:
    url = serve(assistant, kept=0).url
    assert mark(url, id=chat(url).json()["id"], verdict="right").status_code == 404
    assert not ReplyLog(garden.root).path.exists()


def test_metrics_tell_what_happened(serve: Serve, assistant: Assistant) -> None:
    url = serve(assistant, strict=True).url
    first = chat(url).json()
    chat(url, messages=[{"role": "user", "content": "Who won the cup of 1970?"}])
    mark(url, id=first["id"], verdict="wrong")
    httpx.get(f"{url}/nowhere")
    said = httpx.get(f"{url}/metrics")
    assert said.headers["content-type"].startswith("text/plain; version=0.0.4")
    values = dict(line.rsplit(" ", 1) for line in said.text.splitlines() if line[0] != "#")
    wanted = {
        'domainlift_requests_total{endpoint="/v1/chat/completions",status="200"}': "2",
        'domainlift_requests_total{endpoint="other",status="404"}': "1",
        'domainlift_routes_total{domain="garden"}': "1",
        'domainlift_routes_total{domain="none"}': "1",
        'domainlift_replies_total{supported="no"}': "1",
        "domainlift_refusals_total": "1",
        'domainlift_gate_total{domain="garden",passages="let in"}': "1",
        'domainlift_feedback{verdict="wrong",state="queued"}': "1",
        'domainlift_request_seconds_count{endpoint="/v1/chat/completions"}': "2",
        'domainlift_request_seconds_bucket{endpoint="/v1/chat/completions",le="+Inf"}': "2",
    }
    assert {key: values.get(key) for key in wanted} == wanted
    assert int(values['domainlift_tokens_total{kind="output"}']) > 0
    assert 'domainlift_version_info{version="first"' in said.text


def test_metrics_have_the_last_probe_of_the_watch(
    serve: Serve, assistant: Assistant, garden: Garden
) -> None:
    url, log = serve(assistant).url, DecisionLog(garden.root)
    look = ProbeLook("v0001", "r", "promised", 100, 0.8, (0.71, 0.87), 0.8, 1.0, 0.01, False)
    assert "probe" not in httpx.get(f"{url}/metrics").text
    for accuracy in (0.8, 0.75):
        log.append(Decision("2026", "nothing", "", probe=replace(look, accuracy=accuracy)))
        said = httpx.get(f"{url}/metrics").text
        assert f'domainlift_probe_accuracy{{version="v0001"}} {accuracy}' in said
    assert 'domainlift_probe_accuracy_low{version="v0001"} 0.71' in said
    assert 'domainlift_decisions{decision="nothing"} 2' in said


def test_metrics_need_the_key(serve: Serve, assistant: Assistant) -> None:
    url = serve(assistant, key="secret").url
    assert httpx.get(f"{url}/metrics").status_code == 401
    headers = {"Authorization": "Bearer secret"}
    said = httpx.get(f"{url}/metrics", headers=headers).text
    assert 'domainlift_requests_total{endpoint="/metrics",status="401"} 1' in said


def test_the_text_is_well_formed() -> None:
    metrics = Metrics()
    metrics.count("domainlift_routes_total", 3_000_001, domain='a"b\\c\nd')
    for seconds in (0.05, 0.051, 1e6):
        metrics.observe("/health", 200, seconds)
    lines = metrics.text().splitlines()
    assert 'domainlift_routes_total{domain="a\\"b\\\\c\\nd"} 3000001' in lines
    buckets = [line for line in lines if "_bucket" in line]
    assert len(buckets) == len(BUCKETS) + 1
    assert buckets[0].endswith('le="0.05"} 1')
    assert buckets[1].endswith('le="0.1"} 2')
    assert buckets[-1].endswith('le="+Inf"} 3')
    assert [line.split()[3] for line in lines if line.startswith("# TYPE")] == [
        *("counter", "histogram", "counter")
    ]
    sample = re.compile(r'\w+(\{\w+="(?:[^"\\\n]|\\.)*"(?:,\w+="(?:[^"\\\n]|\\.)*")*\})? [\d.e+]+')
    assert all(line.startswith("#") or sample.fullmatch(line) for line in lines)


def test_a_version_is_named_by_its_folder() -> None:
    assert version_name(Path("w/versions/v0003/plan.yaml")) == "v0003"
    assert version_name(Path("w/plans/tiny-1a2b.yaml")) == "tiny-1a2b"


def test_commands(
    serve: Serve, assistant: Assistant, garden: Garden, capsys: pytest.CaptureFixture[str]
) -> None:
    url = serve(assistant).url
    chat(url)

    def bench(*argv: str) -> tuple[int, str, str]:
        code = main(["feedback", *argv, "--workspace", str(garden.root)])
        return code, *capsys.readouterr()

    assert bench("add", "latest", "wrong", "--correction", "in March")[0] == 0
    (row,) = json.loads(bench("list", "--json")[1])
    assert (row["verdict"], row["correction"], row["domain"]) == ("wrong", "in March", "garden")
    assert "When are leeks sown?" in bench("list")[1]
    assert "passage      garden.txt/leek: leeks are sown in march" in bench("show", row["id"])[1]
    code, out, err = bench("accept", row["id"][:6], "--wrong", "in May")
    assert (code, f"accepted {row['id']}" in out) == (0, True), err
    assert bench("list")[1].splitlines()[-1] == "0 queued, 1 accepted, 0 rejected"
    code, _, err = bench("reject", row["id"])
    assert (code, "decided on already" in err) == (1, True)
    assert bench("show", "nothing")[0] == 2
