"""Workers that judge cases side by side, and the table of what came of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from formats import Case, Format

__all__ = ["Pool", "table_of"]

DEEP_EVERY = 12


class Pool:
    """Processes started when first needed; each judges one case at a time.

    Parameters
    ----------
    root : Path
        Folder for the recordings and their copies.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._workers: list[subprocess.Popen[str]] = []
        self._prepared: set[str] = set()

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.stdin.close()
            worker.wait(60)
            worker.stdout.close()

    def _start(self, count: int) -> None:
        script = Path(__file__).with_name("worker.py")
        threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "BLOSC_NTHREADS": "1"}
        while len(self._workers) < count:
            self._workers.append(
                subprocess.Popen(
                    [sys.executable, str(script)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                    env={**os.environ, **threads},
                )
            )

    def _ask(self, worker: subprocess.Popen[str], job: dict[str, Any]) -> dict[str, Any]:
        worker.stdin.write(json.dumps(job) + "\n")
        worker.stdin.flush()
        return json.loads(worker.stdout.readline())

    def judge(self, entry: Format, cases: Sequence[Case], workers: int = 1) -> list[dict[str, Any]]:
        """Return what came of each case, in their order."""
        self._start(workers)
        pristine = self._root / "pristine" / entry.name.replace(" ", "-")
        base = {"format": entry.name, "pristine": str(pristine)}
        first = self._workers[0]
        if entry.name not in self._prepared:
            answer = self._ask(first, {**base, "what": "prepare"})
            assert not answer.get("fault"), answer
            self._prepared.add(entry.name)
        sound = Case(entry.name, next(iter(entry.files)), "undamaged", 0)
        answer = self._ask(first, self._job(base, sound, deep=len(cases) > 100))
        assert not answer["fault"], answer
        for worker in self._workers:
            worker.stdin.write(
                json.dumps({"what": "usual", "format": entry.name, "codes": answer["codes"]}) + "\n"
            )
        jobs = [(case, self._job(base, case, k % DEEP_EVERY == 0)) for k, case in enumerate(cases)]
        return self._spread(jobs, self._workers[:workers])

    def _job(self, base: dict[str, Any], case: Case, deep: bool) -> dict[str, Any]:
        work = self._root / "work" / f"{abs(hash(str(case))):x}"
        return {**base, "what": "judge", "work": str(work), "deep": deep, "file": case.file,
                "damage": case.damage, "number": case.number}  # fmt: skip

    def _spread(
        self, jobs: list[tuple[Case, dict[str, Any]]], workers: list[subprocess.Popen[str]]
    ) -> list[dict[str, Any]]:
        found: list[dict[str, Any] | None] = [None] * len(jobs)
        order, lock = iter(range(len(jobs))), threading.Lock()

        def drive(worker: subprocess.Popen[str]) -> None:
            while True:
                with lock:
                    k = next(order, None)
                if k is None:
                    return
                case, job = jobs[k]
                found[k] = {**case.__dict__, **self._ask(worker, job)}

        threads = [threading.Thread(target=drive, args=(worker,)) for worker in workers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return [entry for entry in found if entry is not None]


def table_of(results: Sequence[dict[str, Any]]) -> list[str]:
    """Return a table: cases per format and per damage, refused, stored, faults, seconds."""
    lines = []
    for column in ("format", "damage"):
        groups: dict[str, list[dict[str, Any]]] = {}
        for result in results:
            groups.setdefault(result[column], []).append(result)
        lines.append(f"{column:32} cases refused stored faults seconds  codes")
        for name, found in [*groups.items(), ("all", list(results))]:
            ends = Counter(result["end"] for result in found)
            codes = Counter(r["code"] for r in found if r["end"] == "refused").most_common(3)
            said = ", ".join(f"{code} {number}" for code, number in codes)
            faults = sum(bool(result["fault"]) for result in found)
            seconds = sum(result["seconds"] for result in found)
            lines.append(
                f"{name[:32]:32} {len(found):5} {ends['refused']:7} {ends['store']:6} {faults:6} "
                f"{seconds:7.1f}  {said}"
            )
        lines.append("")
    return lines[:-1]
