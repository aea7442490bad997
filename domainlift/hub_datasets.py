"""Download of data sets from the Hugging Face hub."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from domainlift.errors import BenchError

#: Seconds to wait for the first answer of the hub.
_PATIENCE = 4.0


def hub_rows(path: str, config: str | None, split: str) -> Sequence[Mapping[str, Any]]:
    """Download one split of a data set, or read it from the cache; none of its code is run.

    Raises BenchError with the reason. Without a connection the library retries for half a minute;
    so it is asked for first, and where there is none, or after the first such failure, this process
    reads the cache only.
    """
    try:
        import datasets

        if not datasets.config.HF_HUB_OFFLINE and not _reachable():
            datasets.config.HF_HUB_OFFLINE = True
        # The one error below reports its retries.
        logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
        rows: Sequence[Mapping[str, Any]] = datasets.load_dataset(path, config, split=split)
        return rows
    except ConnectionError as error:
        datasets.config.HF_HUB_OFFLINE = True
        raise _error(path, config, split, error) from error
    except Exception as error:  # `datasets` has no common class for what can go wrong
        raise _error(path, config, split, error) from error


@lru_cache(maxsize=1)
def _reachable() -> bool:
    """Whether the hub answers at all within seconds; proxies and mirrors are the library's."""
    from huggingface_hub import constants, utils

    client: Any = utils
    try:
        client.get_session().head(constants.ENDPOINT, timeout=_PATIENCE)
    except Exception:  # of whichever client the library uses
        return False
    return True


def reason(error: Exception) -> str:
    """Return the kind of error and the start of its first line."""
    first = (str(error).splitlines() or [""])[0].strip().rstrip(".")
    short = first if len(first) <= 120 else first[:119] + "…"
    return f"{type(error).__name__}: {short}" if short else type(error).__name__


def _error(path: str, config: str | None, split: str, error: Exception) -> BenchError:
    name = path if config is None else f"{path}` `{config}"
    return BenchError(
        f"`{name}` ({split}) cannot be had from the hub ({reason(error)})",
        "go online once; after that it is read from the cache",
    )
