from __future__ import annotations

import errno
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domainlift.errors import BenchError
from domainlift.files import (
    atomic_folder,
    disk_errors,
    leads_out,
    safe_join,
    sha256,
    stays_inside,
    write_json,
    write_text,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(JSON)
def test_json_is_read_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, value: object
) -> None:
    path = tmp_path_factory.getbasetemp() / "value.json"
    write_json(path, value)
    assert json.loads(path.read_text(encoding="utf-8")) == value


def test_half_a_surrogate_pair_can_be_stored(tmp_path: Path) -> None:
    write_json(tmp_path / "value.json", "\ud800")
    assert json.loads((tmp_path / "value.json").read_text(encoding="utf-8")) == "\ud800"


def test_a_file_is_replaced_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "note.txt"
    write_text(path, "old\n")
    write_text(path, "grün\n")
    assert path.read_bytes() == "grün\n".encode()
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_write_leaves_the_old_content(tmp_path: Path) -> None:
    path = tmp_path / "note.txt"
    write_text(path, "old")
    with pytest.raises(TypeError):
        write_json(path, {"x": object()})
    with pytest.raises(BenchError, match=r"`.*note\.txt.*` cannot be written: "):
        write_text(path / "below", "new")
    assert path.read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_has_its_own_sentence(number: int, tmp_path: Path) -> None:
    with pytest.raises(BenchError) as caught, disk_errors(tmp_path):
        raise OSError(number, os.strerror(number))
    assert caught.value.what == f"the disk is full at `{tmp_path}`; everything before is stored"
    assert caught.value.hint is not None
    assert caught.value.hint.startswith("make room and repeat the same command")


def test_a_short_write_of_numpy_is_a_full_disk_too(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="the disk is full"), disk_errors(tmp_path):
        raise OSError("1000 requested and 24 written")


def test_another_failure_of_the_disk_says_what_it_was(tmp_path: Path) -> None:
    with (
        pytest.raises(BenchError, match="cannot be written: Permission denied"),
        disk_errors(tmp_path),
    ):
        raise PermissionError(errno.EACCES, "Permission denied")


@pytest.mark.parametrize("name", ["run", "run-2", "a/b", "a/../b"])
def test_a_name_inside_is_a_path(name: str, tmp_path: Path) -> None:
    assert safe_join(tmp_path, name).is_relative_to(tmp_path.resolve())


@pytest.mark.parametrize("name", ["..", "../x", "/etc", "a/../..", "", ".", "a/.."])
def test_a_name_that_leads_out_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="leads out of"):
        safe_join(tmp_path, name)


def test_a_new_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "made"

    def fail() -> None:
        with atomic_folder(target) as build:
            (build / "part").write_text("half", encoding="utf-8")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert list(target.parent.iterdir()) == []
    with atomic_folder(target) as build:
        (build / "part").write_text("whole", encoding="utf-8")
        assert not target.exists()
    assert (target / "part").read_text(encoding="utf-8") == "whole"
    assert list(target.parent.iterdir()) == [target]


def test_a_folder_that_exists_is_never_written_over(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="exists already"), atomic_folder(tmp_path):
        pass
    target = tmp_path / "made"

    def be_late() -> None:
        with atomic_folder(target) as build:
            (build / "mine").write_text("", encoding="utf-8")
            target.mkdir()
            (target / "theirs").write_text("", encoding="utf-8")

    with pytest.raises(BenchError):
        be_late()
    assert [path.name for path in target.iterdir()] == ["theirs"]


LEAVE = """
import os, sys
from pathlib import Path
from domainlift.files import atomic_folder
with atomic_folder(Path(sys.argv[1])) as build:
    (build / "part").write_text("half", encoding="utf-8")
    os._exit(9)
"""


def test_what_a_killed_process_left_goes_with_the_next(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", LEAVE, str(tmp_path / "a")], check=False)
    assert len(list(tmp_path.iterdir())) == 2
    with atomic_folder(tmp_path / "b") as build, atomic_folder(tmp_path / "c"):
        assert build.is_dir()  # one that lives is left alone
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b", "c"]


@pytest.mark.parametrize(
    ("number", "said"), [(errno.ENOSPC, "the disk is full"), (errno.EIO, "cannot be written")]
)
def test_errors_of_rust_are_errors_of_the_disk(number: int, said: str) -> None:
    error = RuntimeError(f"Error while serializing: I/O error: it failed (os error {number})")
    with pytest.raises(BenchError, match=said), disk_errors(Path("x")):
        raise error


def test_other_errors_pass(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="mine"), disk_errors(tmp_path):
        raise RuntimeError("mine")


def test_the_sum_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256(tmp_path / "a") == hashlib.sha256(b"abc").hexdigest()


@pytest.mark.parametrize(
    "name", ["", "  ", "..", "a/../b", "/etc", "C:\\x", "\\\\host\\x", "..\\x"]
)
def test_a_name_with_a_root_or_a_step_up_leads_out_on_any_system(name: str) -> None:
    assert leads_out(name)
    assert not leads_out("a/b.c")


def test_a_link_is_followed_before_it_is_inside(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "link").symlink_to(tmp_path)
    (tmp_path / "root" / "loop").symlink_to(tmp_path / "root" / "loop")
    assert stays_inside(tmp_path / "root" / "a", tmp_path / "root")
    assert not stays_inside(tmp_path / "root" / "link" / "a", tmp_path / "root")
