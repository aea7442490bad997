from __future__ import annotations

import subprocess
import sys

import pytest

CHILD = "from domainlift.process_memory import peak_resident; print(peak_resident())"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the system says nothing better")
def test_the_peak_of_a_process_is_its_own_and_not_that_of_who_started_it() -> None:
    held = b"x" * 2**28
    out = subprocess.run([sys.executable, "-c", CHILD], capture_output=True, text=True, check=True)
    assert 2**20 < int(out.stdout) < len(held)
