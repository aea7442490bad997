"""What names say of their values, and which values are secrets rather than their placeholders."""

from __future__ import annotations

import re
from collections.abc import Iterable

_PARTS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


#: Kinds of secrets that are known by the names they are under.
NAMED_KINDS = ("password", "secret", "token", "key", "credential")
_PASSWORDS = _words("password passwd pwd pass passphrase passcode pw")
_SECRETS = _words("secret token credential credentials")
#: `key` alone says nothing: it is also that of a map, a table, or a lock.
_KEYS = _words(
    "access account admin api app auth client deploy encryption license master private secret "
    "service shared signing storage subscription"
)
#: Tokens of texts and pages, which are no secrets.
_NO_TOKENS = _words(
    "next page continuation sync cursor pad eos bos unk sep cls mask stop start end special max "
    "min num input output prompt completion first last current previous prev"
)
_JOINED = re.compile(
    r"\w*(password|passwd|passphrase|apikey|secretkey|accesskey|authtoken|accesstoken)"
)
#: Values that are words about a value.
_WORDS = _words(
    "none null nil undefined true false yes no on off string str bytes text int integer float "
    "number bool boolean object array list dict any optional required hidden secret password "
    "token key passwd pwd value changeme dummy todo tbd fixme unset empty default auto enabled "
    "disabled input prompt forgot forgotten invalid incorrect wrong missing expired reset is was "
    "the a an to not and or for with must should needs will can has uint8 int32 int64 utf8 sha256 "
    "sha1 sha512 md5 base64 oauth2"
)
_NAMES = _words("password passwd pwd pass secret token key credential credentials auth")
#: Parts of placeholders, and parts of placeholders where no digit is among them.
_TELLING = _words("your insert replace placeholder redacted changeme removed masked")
_DOUBTFUL = _words("my some example sample dummy fake test this here the user")
_REFERENCE = re.compile(
    r"\$\{?\w+\}?|\$\(.*|\$\{.*|%\w+%|#?\{.*|<.*|\[.*|@\w+|&\w+|\(.*|!(?:vault|secret|ref)\b.*"
    r"|(?:https?|arn|vault|op|sm|keyring|file|env):.*|projects/.*"
    r"|(?:~|\.{1,2})?(?:/[\w.-]{1,30}){2,}/?|[a-z]:\\.*|(?:process\.env|os\.environ|os\.getenv)\b.*",
    re.IGNORECASE | re.DOTALL,
)
_HIDDEN = re.compile(r"[xX]{4,}|\*{3,}|\.{3}|…|•{3}|^(.)\1*$|^[xX*._\-]+$", re.DOTALL)
_SYMBOL = re.compile(r"[!@#$%^&*+~?]")
#: Names of programs: `self.password`, `TEST_DATA_BASE64`.
_OF_CODE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+|[A-Z][A-Z0-9]*(_[A-Z0-9]+)+")
_TEMPLATE = re.compile(r"\{\w[^}]*\}|\$\(")


def kind_of_name(name: str) -> str:
    """The kind of secret that a name says it holds, of `NAMED_KINDS`; "" for none."""
    parts: list[str] = [part.lower() for part in _PARTS.findall(name)]
    while parts and (parts[-1].isdigit() or parts[-1] == "base"):
        parts.pop()
    if not parts:
        return ""
    *before, last = parts
    if last in _PASSWORDS:
        return "password"
    if last in _SECRETS and not _NO_TOKENS.intersection(before):
        return last.removesuffix("s")
    if last == "key" and before and before[-1] in _KEYS:
        return "key"
    joined = _JOINED.fullmatch(last)
    return "" if joined is None else "password" if "pass" in joined[1] else "key"


def is_hidden(value: str) -> bool:
    """Whether dots, stars or `xxxx` stand in place of a secret."""
    return _HIDDEN.search(value) is not None


def is_reference(value: str) -> bool:
    """Whether a value only says where a secret is, as variables and paths do, or is hidden."""
    return is_hidden(value) or _REFERENCE.fullmatch(value) is not None


def is_placeholder(value: str) -> bool:
    """Whether a value only holds the place of a secret, as `YOUR_KEY` and `my-token` do."""
    if is_reference(value) or value.lower() in _WORDS or _TEMPLATE.search(value):
        return True
    parts = _parts(value)
    doubtful = not any(map(str.isdigit, value)) and parts & (_DOUBTFUL | _NAMES)
    return bool(parts & _TELLING or (doubtful and len(parts) > 1))


def is_secret_value(value: str, kind: str) -> bool:
    """Whether a whole value, in quotes or by itself, under a name of this kind is a secret."""
    if is_placeholder(value):
        return False
    if any(map(str.isspace, value)):
        return kind in ("password", "secret") and _is_passphrase(value)
    if kind in ("password", "secret"):
        return len(value) >= (4 if kind == "password" else 8)
    long_word = len(value) >= 16 and value.isalnum()
    return len(value) >= 8 and (_has_digit_and_letter(value) or long_word)


def is_bare_secret(value: str, kind: str, *, spaced: bool, setting: bool) -> bool:
    """Whether a value without quotes is a secret, and neither code nor a word of a text.

    `spaced` says that there is space around its `=`, as in code; `setting` that the line is one,
    as in a shell or in YAML.
    """
    if not is_secret_value(value, kind) or re.search(r"[(\[]", value):
        return False
    if _OF_CODE.fullmatch(value) or (value.isidentifier() and _parts(value) & _NAMES):
        return False
    if kind == "password":
        drawn = any(map(str.isdigit, value)) or _SYMBOL.search(value) is not None
        return drawn or setting
    in_code = spaced and value.isidentifier() and len(value) < 16
    return (_has_digit_and_letter(value) and not in_code) or setting


def is_telling(secret: str) -> bool:
    """Whether a text that is met elsewhere must be that secret, and no word of the language."""
    return len(secret) >= 12 or (len(secret) >= 6 and not secret.isalpha())


def environment_secrets(variables: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The values of variables whose names say that they are secrets, with their kind."""
    return {
        value: "environment"
        for name, value in variables
        if (kind := kind_of_name(name)) and is_secret_value(value, kind) and len(value) >= 8
    }


def _parts(value: str) -> set[str]:
    return {part.lower() for part in _PARTS.findall(value)}


def _is_passphrase(value: str) -> bool:
    words = value.split(" ")
    return len(words) >= 3 and all(
        word.isalnum() and word.islower() and word not in _WORDS | _DOUBTFUL | _TELLING | _NAMES
        for word in words
    )


def _has_digit_and_letter(value: str) -> bool:
    return any(map(str.isdigit, value)) and any(map(str.isalpha, value))
