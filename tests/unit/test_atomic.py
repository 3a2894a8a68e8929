"""What killed processes left beside a file goes; what a living one writes stays."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from neuropipe.store.atomic import atomic_path, partial_sibling, write_text

LEAVE = """
import os, sys
from neuropipe.store.atomic import atomic_path
with atomic_path(sys.argv[1]) as partial:
    partial.mkdir()
    (partial / "large").write_text("x")
    os._exit(9)
"""

WRITE_ON = """
import sys, threading, time
from neuropipe.store.atomic import atomic_path
def write_on(folder):
    for k in range(20):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / str(k)).write_text("x")
        time.sleep(0.02)
with atomic_path(sys.argv[1]) as partial:
    threading.Thread(target=write_on, args=[partial / "raw" / "c"]).start()
    time.sleep(0.1)
    raise KeyboardInterrupt
"""


def partials(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.partial-*"))


def test_the_partial_of_a_killed_process_goes_at_the_next_success(tmp_path: Path) -> None:
    target = tmp_path / "a[1].zarr"
    assert subprocess.run([sys.executable, "-c", LEAVE, str(target)], check=False).returncode == 9
    assert len(partials(tmp_path)) == 1
    with pytest.raises(KeyError), atomic_path(target):
        raise KeyError
    assert len(partials(tmp_path)) == 1
    write_text(target, "whole")
    assert partials(tmp_path) == []
    assert target.read_text() == "whole"


def test_threads_that_write_on_after_an_interrupt_leave_nothing(tmp_path: Path) -> None:
    target = tmp_path / "a.zarr"
    command = [sys.executable, "-c", WRITE_ON, str(target)]
    ended = subprocess.run(command, check=False, capture_output=True, text=True)
    assert "KeyboardInterrupt" in ended.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_partial_of_a_living_process_stays_however_old(tmp_path: Path) -> None:
    target = tmp_path / "a.json"
    living = partial_sibling(target)
    living.write_text("half")
    os.utime(living, (time.time() - 200_000,) * 2)
    write_text(target, "whole")
    assert partials(tmp_path) == [living.name]


@pytest.mark.parametrize("word", ["0badc0de-1-abc", "abcdef123456"])
def test_partials_of_other_hosts_go_a_day_after_the_last_write(tmp_path: Path, word: str) -> None:
    target = tmp_path / "a.zarr"
    left = tmp_path / f"a.zarr.partial-{word}"
    left.mkdir()
    (left / "chunk").write_text("x")
    other = tmp_path / f"b.zarr.partial-{word}"
    other.mkdir()
    old = (time.time() - 90_000,) * 2
    os.utime(left, old)
    os.utime(other, old)
    write_text(target, "1")
    assert left.exists(), "a chunk was written just now"
    os.utime(left / "chunk", old)
    os.utime(left, old)
    write_text(target, "2")
    assert partials(tmp_path) == [other.name]
