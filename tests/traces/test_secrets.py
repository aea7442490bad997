"""Secrets are masked, and nothing else. The samples are joined of pieces, so that no scanner that
looks through this repository takes them for real ones."""

from __future__ import annotations

import json
import random
import string
from dataclasses import replace
from time import perf_counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers.made_traces import call, made_trace, result, said, user
from traces.secret_finder import find_secrets
from traces.secret_values import kind_of_name
from traces.secrets import masked
from traces.trace import Trace


def drawn(length: int, letters: str = string.ascii_letters + string.digits, seed: int = 0) -> str:
    """Letters and digits that look drawn; a digit and both cases are among them."""
    source = random.Random(f"{length} {letters} {seed}")
    made = "".join(source.choice(letters) for _ in range(length - 3))
    ends = [next((c for c in letters if test(c)), letters[0]) for test in KINDS_OF_LETTERS]
    return made[: len(made) // 2] + "".join(ends) + made[len(made) // 2 :]


KINDS_OF_LETTERS = (str.isdigit, str.isupper, str.islower)
UPPER, HEX = string.ascii_uppercase + "234567", "0123456789abcdef"
URL64 = string.ascii_letters + string.digits + "_-"
PEM = "".join(("-----BEGIN RSA PRIVATE", " KEY-----\n", drawn(64), "\n", drawn(64), "\n"))
PEM_END = "-----END RSA PRIVATE" + " KEY-----"
JWT = ".".join(("eyJ" + drawn(30), "eyJ" + drawn(60), drawn(43, URL64)))
DRAWN, PASSWORD = drawn(32), "hunt" + "er2x"

#: Text with `@` in place of the secret, the secret, its kind.
BY_FORM = [
    ("{}", "AKIA" + drawn(16, UPPER), "aws"),
    ("key {}, region eu", "ASIA" + drawn(16, UPPER), "aws"),
    ("git clone https://{}@github.com/a/b", "ghp_" + drawn(36), "github"),
    ("{}", "gho_" + drawn(36), "github"),
    ("token: {}", "ghs_" + drawn(36), "github"),
    ("({})", "github_pat_" + drawn(22) + "_" + drawn(59), "github"),
    ("{}", "glpat-" + drawn(20, URL64 + "0"), "gitlab"),
    ("{}", "gldt-" + drawn(20), "gitlab"),
    ("HF_TOKEN={}", "hf_" + drawn(34, string.ascii_letters), "huggingface"),
    ("login(token='{}')", "hf_" + drawn(34), "huggingface"),
    ("{}", "sk-" + drawn(48), "openai"),
    ("{}", "sk-proj-" + drawn(74, URL64) + "T3", "openai"),
    ("{}", "sk-ant-api03-" + drawn(93, URL64) + "AA", "anthropic"),
    ("?key={}", "AIza" + drawn(35, URL64), "google"),
    ("{}", "ya29." + drawn(60, URL64), "google"),
    ("{}", "GOCSPX-" + drawn(28, URL64), "google"),
    ("{}", "xoxb-" + "-".join((drawn(12, string.digits), drawn(24))), "slack"),
    ("{}", "xapp-1-" + drawn(11, UPPER) + "-" + drawn(64, HEX), "slack"),
    ("post to {}", "https://hooks.slack" + ".com/services/" + drawn(9) + "/" + drawn(24), "slack"),
    ("{}", "sk_" + "live_" + drawn(24), "stripe"),
    ("{}", "rk_" + "test_" + drawn(24), "stripe"),
    ("{}", "whsec_" + drawn(32), "stripe"),
    ("//registry/:_authToken={}", "npm_" + drawn(36), "npm"),
    ("{}", "pypi-AgE" + "IcHlwaS5vcmc" + drawn(80, URL64), "pypi"),
    ("{}", drawn(3) + "8Q~" + drawn(34), "azure"),
    ("https://a.blob/c?sv=2022&sig={}&se=1", drawn(43) + "%3D", "azure"),
    ("{}", drawn(9, string.digits) + ":AA" + drawn(33, URL64), "telegram"),
    ("{}", "SK" + drawn(32, HEX), "twilio"),
    ("{}", "SG." + drawn(22, URL64) + "." + drawn(43, URL64), "sendgrid"),
    ("Cookie: s={}", JWT, "jwt"),
    ("{}", "gsk_" + drawn(52), "service"),
    ("{}", "shpat_" + drawn(32, HEX), "service"),
    ("credentials='{}'", "xai-" + drawn(80), "service"),
    ("Authorization: Bearer {}", JWT, "jwt"),
    ("{}", PEM + PEM_END, "private-key"),
    ("the key is\n{}[cut off]", PEM, "private-key"),
    ("{} and so on", PEM.replace("Y-----", "Y-----\nProc-Type: 4,ENCRYPTED"), "private-key"),
    ("{}", PEM.replace("RSA ", "OPENSSH ") + PEM_END.replace("RSA ", "OPENSSH "), "private-key"),
    ("%3D{}", "ghp_" + drawn(36), "github"),
    (r"line\n{}\n", "ghp_" + drawn(36), "github"),
]  # fmt: skip
BY_CONTEXT = [
    ("postgres://app:{}@db:5432/x", "s3cr" + "et", "url"),
    ("see https://me:{}@host.example/a and b@c", "pa@ss" + "word", "url"),
    ("redis://:{}@cache", DRAWN, "url"),
    ("Authorization: Bearer {}", DRAWN, "bearer"),
    ('{{"Authorization": "Bearer {}"}}', DRAWN, "bearer"),
    ("-H 'authorization: token {}'", DRAWN, "bearer"),
    ("Authorization: Basic {}", "dXNlc" + "jpwYXNzMQ==", "bearer"),
    ("use bearer {} there", DRAWN, "bearer"),
    ("curl -s -u admin:{} http://x", PASSWORD, "password"),
    ("sshpass -p {} ssh host", PASSWORD, "password"),
    ("docker login -u me -p {} host", PASSWORD, "password"),
    ("mysql -u root -p{} db", PASSWORD, "password"),
    ("machine a login me password {}", PASSWORD, "password"),
    ('"private_key_password": "{}"', PASSWORD, "password"),
    ("gcp_credentials: '{}'", DRAWN, "credential"),
    ("credentials=https://me:{}@host", DRAWN, "url"),
    ("password={}", PASSWORD, "password"),
    ("password = '{}'", PASSWORD, "password"),
    ("Password: {}", PASSWORD, "password"),
    ("my password is {}.", PASSWORD, "password"),
    ("DB_PASSWORD={}\nX=1", "letme" + "inplease", "password"),
    ("export PGPASSWORD={}", PASSWORD, "password"),
    ('{{"user": "bob", "password": "{}"}}', "corr" + "ecthorse", "password"),
    (r'{{\"password\": \"{}\"}}', PASSWORD, "password"),
    ("db:\n  password: {}\n  user: bob", "letme" + "in", "password"),
    ('password = """{}"""', PASSWORD, "password"),
    ("**Password:** {}", PASSWORD, "password"),
    ("| password | {} |", PASSWORD, "password"),
    ('const SECRET_KEY: &str = "{}";', DRAWN, "key"),
    ("api_key: str = '{}'", DRAWN, "key"),
    ('$env:API_KEY = "{}"', DRAWN, "key"),
    ("passphrase: '{}'", "corr" + "ect horse battery staple", "password"),
    ("Server=x;Password={};Database=y", PASSWORD, "password"),
    ("<password>{}</password>", "letme" + "in", "password"),
    ('<input name="password" value="{}">', PASSWORD, "password"),
    ("mysql --password {} -h x", PASSWORD, "password"),
    ("os.environ['DB_PASSWORD'] = '{}'", PASSWORD, "password"),
    ("user?password={}&x=1", PASSWORD, "password"),
    ("userPassword => '{}'", PASSWORD, "password"),
    ("api_key: {}", DRAWN, "key"),
    ("API_KEY={}", DRAWN, "key"),
    ("apiKey = \"{}\"", DRAWN, "key"),
    ("X-Api-Key: {}", DRAWN, "key"),
    ("?api_key={}", drawn(32, HEX), "key"),
    ("OPENWEATHER_APIKEY={}", drawn(32, HEX), "key"),
    ("aws_secret_access_key = {}", drawn(40, string.ascii_letters + "0/+"), "key"),
    ("AccountKey={}==", drawn(86, string.ascii_letters + "0/+"), "key"),
    ("secret_key_base: {}", drawn(64, HEX), "key"),
    ("- name: STRIPE_SECRET\n  value: {}", DRAWN, "secret"),
    ('"client_secret": "{}"', DRAWN, "secret"),
    ("secret: {}", DRAWN, "secret"),
    ("TOKEN={}", DRAWN, "token"),
    ('"access_token": "{}"', DRAWN, "token"),
    ("auth_token={}", drawn(32, HEX), "token"),
    ("--token {}", DRAWN, "token"),
    ("accessToken: '{}',", "0123abcd-45ef-" + "6789-abcd-0123456789ab", "token"),
]  # fmt: skip
NO_SECRETS = [
    "",
    "How warm is it in Oslo?",
    "da39a3ee5e6b4b0d3255bfef95601890afd80709",
    "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "commit 3a20e6d, id 123e4567-e89b-12d3-a456-426614174000",
    "data:image/png;base64," + drawn(400, string.ascii_letters + string.digits + "+/") + "==",
    '{"properties": {"password": {"type": "string"}, "token": {"type": "string"}}}',
    '{"password": "string", "api_key": "string"}',
    "password: string",
    "password: str = Field(...)",
    "password: Optional[str] = None",
    "password: SecretStr\n",
    "token = tokenizer(x)",
    "token = tokens[3]",
    "token = next_token2",
    "tokens = 1234; max_tokens=4096",
    "password = getpass.getpass()",
    "password = os.environ['PASSWORD']",
    "password=config.db_password",
    "login(user, password=password)",
    "api_key=self.api_key",
    "api_key: YOUR_KEY",
    "API_KEY=your-api-key-here",
    "OPENAI_API_KEY=sk-...",
    "key: sk-xxxxxxxxxxxxxxxxxxxxxxxx",
    "export GITHUB_TOKEN=ghp_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
    "password: ***",
    "password=<password>",
    "password: ${DB_PASSWORD}",
    "password: $PASSWORD",
    "token: ${{ secrets.GITHUB_TOKEN }}",
    "api_key: {{ api_key }}",
    'headers={"Authorization": f"Bearer {token}"}',
    "Authorization: Bearer $TOKEN",
    "Authorization: Bearer <token>",
    "Bearer authentication is described below",
    "Authorization: required",
    "Password: required",
    "Enter your password: ",
    "the password is required, the token was missing",
    "The password must have 8 characters; your token is valid.",
    '{"password": "Enter your password"}',
    '"secret": "The name of the secret to read"',
    "secret: arn:aws:secretsmanager:eu-west-1:123456789012:secret:db-Ab12Cd",
    "private_key: /etc/ssl/private/server1.key",
    "PASSWORD_FILE=/run/secrets/db",
    "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABgQ" + drawn(300) + " me@host",
    "-----BEGIN PUBLIC KEY-----\n" + drawn(64) + "\n-----END PUBLIC KEY-----",
    "https://example.com:8080/a?x=b@c.de",
    "https://example.com/path:with/colon and a@b.de",
    "https://user:$PASSWORD@host, https://user:***@host",
    "ssh://git@github.com:22/a/b",
    "docker run -u 1000:1000 image; mysql -u root -p -h host; ssh -p 2222 host",
    "the nvapi-and-other-words-of-a-long-name, hvs.example",
    "login and password are required",
    ":param Ed25519PrivateKey|Ed25519PublicKey key: to sign with",
    '_START = b"-----BEGIN OPENSSH PRIVATE KEY-----"\n_END = b"-----END OPENSSH PRIVATE KEY-----"',
    'nextPageToken": "CAUQAA1234567890", "next_page_token=abc123def456',
    'pad_token="<pad>", eos_token: "</s>", "unk_token": "[UNK12345]"',
    '"primary_key": "user_id_12345", "cache_key": "a1b2c3d4e5"',
    "compass=12345678a bypass: 9876abcd",
    '<div class="sk-folding-cube-and-more-classes">',
    "the_keyboard_token_type: bearer2000",
    'key = "value1234567"',
    "password_hash = bcrypt12345",
    "token: TEST_DATA_BASE64, token = f'image-{uuid4().hex}-12345678'",
    "OAuth 2.0 Device Authorization RFC8628.",
    "grep -n password README.md",
    "x == y; password == other",
    "password: 'password'",
    "[masked: github] and password=[masked: password]",
]  # fmt: skip


def kinds(text: str) -> list[str]:
    return [found.kind for found in find_secrets(text)]


@pytest.mark.parametrize(("text", "secret", "kind"), BY_FORM + BY_CONTEXT)
def test_a_secret_is_masked_wherever_it_stands(text: str, secret: str, kind: str) -> None:
    full = text.format(secret)
    assert kinds(full) == [kind]
    trace, counts = masked(
        made_trace(
            user(full),
            said("", reasoning=f"It says\n{full}\n"),
            call({"command": full, "n": 1}),
            result(f"Done.\n{full}"),
            said(full),
        )
    )
    assert secret.rstrip("=.") not in shown(trace)
    assert json.dumps(secret)[1:-1] not in shown(trace)
    assert counts == {kind: 1}
    assert trace.messages[0]["content"].count(f"[masked: {kind}]") == 1
    assert set(arguments(trace)) == {"command", "n"}
    assert masked(trace) == (trace, {})


@pytest.mark.parametrize("text", NO_SECRETS)
def test_a_text_without_secrets_stays_as_it_is(text: str) -> None:
    assert kinds(text) == []
    trace = made_trace(
        user(text), call({"command": text}), result(text), said(text, reasoning=text)
    )
    assert masked(trace) == (trace, {})


def shown(trace: Trace) -> str:
    """Everything of a trace as one text, and as JSON in it."""
    messages = (message.get("content", "") for message in trace.messages)
    return "\n".join((*messages, json.dumps([trace.messages, trace.tools])))


def arguments(trace: Trace) -> dict[str, Any]:
    (text,) = (c["function"]["arguments"] for m in trace.messages for c in m.get("tool_calls", ()))
    return dict(json.loads(text))


def test_what_was_found_once_is_masked_everywhere() -> None:
    trace, counts = masked(
        made_trace(
            user(f"password={PASSWORD}"),
            said(f"I log in with {PASSWORD}; x{PASSWORD} is another word."),
            call({"url": f"https://host/?q={PASSWORD}%21"}),
            result("ok"),
        )
    )
    assert trace.messages[1]["content"] == (
        f"I log in with [masked: password]; x{PASSWORD} is another word."
    )
    assert arguments(trace) == {"url": "https://host/?q=[masked: password]%21"}
    assert counts == {"password": 1}
    weak, _ = masked(made_trace(user('{"password": "admin"}'), said("The admin page is open.")))
    assert [message["content"] for message in weak.messages] == [
        '{"password": "[masked: password]"}',
        "The admin page is open.",
    ]


def test_a_secret_with_signs_is_found_in_its_other_forms() -> None:
    secret = 'p"a\\s/s' + "w0rd+long"
    trace, counts = masked(
        made_trace(
            user("log in"),
            call({"password": secret}),
            result(json.dumps({"echo": secret}) + " p%22a%5Cs%2Fs" + "w0rd%2Blong"),
        )
    )
    assert trace.messages[2]["content"] == '{"echo": "[masked: password]"} [masked: password]'
    assert arguments(trace) == {"password": "[masked: password]"}
    assert counts == {"password": 1}


def test_arguments_that_are_no_json_are_masked_as_text() -> None:
    trace, counts = masked(made_trace(user(), call('{"password": "' + PASSWORD), result()))
    assert trace.messages[1]["tool_calls"][0]["function"]["arguments"].endswith(
        "[masked: password]"
    )
    assert counts == {"password": 1}


def test_numbers_lists_and_tools_are_looked_through() -> None:
    tool = {"type": "function", "function": {"name": "f", "description": f"password={PASSWORD}"}}
    given_ = {"password": 12345678, "max_tokens": 12345678, "secret": [DRAWN], "on": True}
    trace, counts = masked(made_trace(user(), call(given_), result(), tools=(tool,)))
    assert arguments(trace) == {
        "password": "[masked: password]", "max_tokens": 12345678,
        "secret": ["[masked: secret]"], "on": True,
    }  # fmt: skip
    assert trace.tools[0]["function"]["description"] == "password=[masked: password]"
    assert counts == {"password": 2, "secret": 1}


def test_values_of_the_environment_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_SERVICE_TOKEN", DRAWN)
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false-12345678")
    trace = made_trace(user(f"It printed {DRAWN} and false-12345678."), said())
    found, counts = masked(replace(trace, task=DRAWN, why=DRAWN))
    assert found.messages[0]["content"] == "It printed [masked: environment] and false-12345678."
    assert (found.task, found.why) == ("[masked: environment]", "[masked: environment]")
    assert counts == {"environment": 1}


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *(("DB_PASSWORD", "password"), ("userPassword", "password"), ("dbpass", "")),
        ("pwd", "password"),
        *(("api-key", "key"), ("APIKEY", "key"), ("x.api.key", "key"), ("key", ""), ("keys", "")),
        *(("secret", "secret"), ("SECRET_NAME", ""), ("client_secret_2", "secret")),
        *(("accessToken", "token"), ("max_tokens", ""), ("tokenizer", ""), ("nextPageToken", "")),
        *(("credentials", "credential"), ("", ""), ("123", ""), ("authToken", "token")),
    ],
)  # fmt: skip
def test_names_that_say_that_they_hold_a_secret(name: str, kind: str) -> None:
    assert kind_of_name(name) == kind


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    st.lists(st.sampled_from(NO_SECRETS), max_size=3),
    st.lists(st.sampled_from(BY_FORM), min_size=1, max_size=3),
    st.sampled_from(("\n", " \n", "\n\n")),
)
def test_no_secret_survives_among_other_text(
    texts: list[str], secrets: list[tuple[str, str, str]], between: str
) -> None:
    full = between.join((*texts, *(text.format(secret) for text, secret, _ in secrets), *texts))
    trace, counts = masked(made_trace(user(full), call({"a": [full]}), result(full)))
    assert not [secret for _, secret, _ in secrets if secret in shown(trace)]
    assert sum(counts.values()) == len({secret for _, secret, _ in secrets})
    for text in texts:
        assert trace.messages[0]["content"].count(text) >= 2


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=300), st.recursive(st.text() | st.integers(), st.lists, max_leaves=5))
def test_any_text_is_survived_and_arguments_stay_json(text: str, value: Any) -> None:
    trace = made_trace(user(text), call({"x": value, "password": text}), result(text))
    found, _ = masked(trace)
    assert arguments(found).keys() == {"x", "password"}


@pytest.mark.parametrize(
    "text",
    [
        *("a", "password=", "-----BEGIN PRIVATE KEY-----", "x:", '\\"', "-eyJ", "sk-"),
        *(
            "curl ",
            "\n",
            " ",
            'password="',
            "authorization:",
            "bearer ",
            "token: a1",
            "-",
            "a.",
            "[[",
        ),
    ],
)
def test_long_texts_take_a_moment(text: str) -> None:
    before = perf_counter()
    find_secrets(text * (100_000 // len(text)))
    assert perf_counter() - before < 5


def test_text_after_a_cut_key_stays() -> None:
    trace, _ = masked(made_trace(user(f"{PEM}and here the text goes on"), said()))
    assert trace.messages[0]["content"] == "[masked: private-key]and here the text goes on"
