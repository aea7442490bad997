from __future__ import annotations

import pytest

from domainlift.errors import BenchError
from domainlift.optional import need


def test_a_missing_package_says_how_to_get_it() -> None:
    with pytest.raises(BenchError, match="`no_such_package` cannot be imported") as caught:
        need("no_such_package")
    assert caught.value.hint == 'install it: `pip install "domainlift[rag]"`'


def test_a_package_that_is_there_is_given() -> None:
    assert need("json").loads("[1]") == [1]
