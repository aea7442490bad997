"""Who may see the pages, and who may send a form."""

from __future__ import annotations

import pytest
from starlette.testclient import TestClient

from serving.ui.page_guard import form_token
from tests.serving.ui.conftest import BASE, TOKEN, form_fields

PATHS = ("/", "/runs", "/improve", "/knowledge", "/adapters", "/exams", "/static/ui.js")


def test_the_token_becomes_a_cookie_and_leaves_the_address(stranger: TestClient) -> None:
    found = stranger.get(f"/runs?text=a+b&token={TOKEN}")
    assert (found.status_code, found.headers["location"]) == (303, "/runs?text=a+b")
    cookie = found.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert stranger.get("/runs").status_code == 200


@pytest.mark.parametrize("path", [*PATHS, "/?token=wrong", "/?token=", "/improve/x/progress"])
def test_nothing_is_shown_without_the_token(stranger: TestClient, path: str) -> None:
    found = stranger.get(path)
    assert found.status_code == 403
    assert "bench ui" in found.text


@pytest.mark.parametrize("path", PATHS)
def test_pages_load_and_run_nothing_foreign(client: TestClient, path: str) -> None:
    found = client.get(path)
    assert found.status_code == 200
    policy = found.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert found.headers["x-content-type-options"] == "nosniff"
    assert "://" not in found.text
    assert " on" not in {part[:3] for part in found.text.split("<")[1:]}
    assert "<script>" not in found.text


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 403),
        ({"Host": "127.0.0.1.evil.example:8001"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": BASE}, 200),
        ({}, 200),
    ],
)
def test_pages_of_other_sites_are_refused(
    client: TestClient, headers: dict[str, str], status: int
) -> None:
    assert client.get("/runs", headers=headers).status_code == status


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://127.0.0.1:9999"},
        {"Origin": "http://localhost:8001"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "cross-site"},
    ],
)
def test_a_form_of_another_port_of_this_machine_is_refused(
    client: TestClient, headers: dict[str, str]
) -> None:
    fields = {**form_fields(client.get("/improve").text), "model": "x", "suite": "demo"}
    assert client.post("/improve", data=fields, headers=headers).status_code == 403
    assert "None yet" in client.get("/improve").text


@pytest.mark.parametrize(
    "path", ["/improve", "/improve/x/stop", "/improve/x/again", "/exams/x/drop", "/exams/x/edit"]
)
@pytest.mark.parametrize("token", [{}, {"form_token": "wrong"}, {"form_token": TOKEN}])
def test_every_form_needs_its_own_token(
    client: TestClient, path: str, token: dict[str, str]
) -> None:
    found = client.post(path, data={"model": "x", "suite": "demo", **token})
    assert found.status_code == 400
    assert "earlier session" in found.text


def test_the_stream_of_answers_needs_it_too(client: TestClient, stranger: TestClient) -> None:
    assert client.post("/ask/stream", data={"question": "x"}).status_code == 400
    stranger.cookies.clear()
    fields = {"question": "x", "form_token": form_token(TOKEN)}
    assert stranger.post("/ask/stream", data=fields).status_code == 403


@pytest.mark.parametrize("body", [b"\xff=\xff", b"a=%ff", b"&".join([b"a=1"] * 300), b"a" * 2**20])
def test_what_is_no_form_is_told(client: TestClient, body: bytes) -> None:
    found = client.post("/improve", content=body)
    assert found.status_code == 400
    assert "the form" in found.text


@pytest.mark.parametrize("path", ["/nope", "/static/..%2fui_app.py", "/static/secret", "/runs/no"])
def test_an_unknown_address_is_told_on_a_page(client: TestClient, path: str) -> None:
    found = client.get(path)
    assert found.status_code == 404
    assert "That was not done" in found.text
