"""What the tests of faults share: a worker that can be killed, small disks, and whole files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import psutil

# Loads everything once, then runs steps of a study in a child of its own per request: what a job
# of the workflow does, without the seconds that its imports take.
WORKER = """
import json, os, resource, sys
import h5netcdf, matplotlib.backends.backend_pdf, matplotlib.backends.backend_svg, numba, pandas
import pynwb, scipy.optimize, scipy.signal, scipy.stats, xarray, zarr
import neuropipe.io.ingest, neuropipe.preprocess.chain, neuropipe.report.page
import neuropipe.store.nwb.write, neuropipe.analyses.ntf.stages, neuropipe.plotting.save
from neuropipe.cli.main import main
from neuropipe.cli.run_here import closure
from neuropipe.plan import make_plan
from neuropipe.status import job_cells
from neuropipe.study import load_study

def steps(request):
    study = load_study()
    plan = make_plan(study)
    if "jobs" in request:
        return [["step", *plan[name].arguments] for name in request["jobs"]]
    states = {n: c.state for n, c in zip(plan, job_cells(study, plan), strict=True)}
    todo = [name for name in closure(plan, request["up_to"]) if states[name] != "done"]
    return [["step", *plan[name].arguments] for name in [*todo, "report_page/all"]]

for line in sys.stdin:
    request = json.loads(line)
    pid = os.fork()
    if pid == 0:
        log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.chdir(request["folder"])
        if request.get("max_bytes"):
            resource.setrlimit(resource.RLIMIT_FSIZE, (request["max_bytes"],) * 2)
        code = 0
        for words in steps(request):
            code = code or main(words)
        sys.exit(code)
    print(pid, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


class Worker:
    """Runs steps of studies in child processes."""

    def __init__(self, environment: dict[str, str], log: Path) -> None:
        self.log = log
        self.process = subprocess.Popen(
            [sys.executable, "-c", WORKER], env=environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip

    def start(self, folder: Path, **request: Any) -> psutil.Process:
        """Begin steps in a study and return their process."""
        line = json.dumps({"folder": str(folder), "log": str(self.log), **request})
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return psutil.Process(int(self.process.stdout.readline()))

    def wait(self) -> int:
        """Return the exit code of the steps; negative: the signal that killed them."""
        return int(self.process.stdout.readline())

    def run(self, folder: Path, **request: Any) -> tuple[int, str]:
        """Run steps and return their exit code and their log."""
        self.start(folder, **request)
        return self.wait(), self.log.read_text()

    def run_and_kill(self, folder: Path, cpu_s: float, **request: Any) -> bool:
        """Kill the steps after so much work; return whether they ended before."""
        child = self.start(folder, **request)
        while child.status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
            times = child.cpu_times()
            if times.user + times.system >= cpu_s:
                child.kill()
                break
            time.sleep(0.002)
        return self.wait() == 0

    def close(self) -> None:
        """End the worker."""
        self.process.stdin.close()
        self.process.wait(timeout=60)
        self.process.stdout.close()


ENDS = {".svg": "</svg>", ".pdf": "%%EOF", ".html": "</html>", ".tsv": "\n", ".md": "\n"}
PRODUCTS = ("stores", "preprocessed", "inputs", "work", "results", "report")


def products(folder: Path) -> list[Path]:
    """Return every product under its final name: stores, files, and what lies beside them."""
    found = [path for name in PRODUCTS for path in (folder / name).rglob("*")]
    names = [[*path.relative_to(folder).parts] for path in found]
    outer = [
        path
        for path, parts in zip(found, names, strict=True)
        if not any(".partial-" in part for part in parts)
        and not any(part.endswith(".zarr") for part in parts[:-1])
    ]
    return sorted(path for path in outer if path.is_file() or path.suffix == ".zarr")


def outputs_of_jobs(folder: Path, environment: dict[str, str]) -> dict[str, list[str]]:
    """Return job -> its products, as paths in the study folder."""
    program = (
        "import json; from neuropipe.plan import make_plan; from neuropipe.study import load_study;"
        "print(json.dumps({n: job.outputs for n, job in make_plan(load_study()).items()}))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program], cwd=folder, env=environment, text=True, check=True,
        stdout=subprocess.PIPE,
    )  # fmt: skip
    return json.loads(answer.stdout)


def leftovers(folder: Path) -> list[str]:
    """Return what carries the name of something unfinished."""
    return [str(path) for path in folder.rglob("*.partial-*")]


def assert_whole(folder: Path) -> None:
    """Read every product to its end."""
    for path in products(folder):
        READERS.get(path.suffix, _read_text)(path)


def _read_store(path: Path) -> None:
    from neuropipe.store.zarr import open_store

    tree = open_store(path)
    assert tree.load().nbytes > 0, path


def _read_netcdf(path: Path) -> None:
    from neuropipe.store.provenance import read_dataset, read_provenance

    assert read_dataset(path) is not None
    assert read_provenance(path)["content_sha256"], path


def _read_nwb(path: Path) -> None:
    with h5py.File(path, "r") as file:
        assert "nwb_version" in file.attrs, path


def _read_json(path: Path) -> None:
    assert json.loads(path.read_text(encoding="utf-8")), path


def _read_text(path: Path) -> None:
    content = path.read_bytes().decode("latin-1")
    assert content.rstrip(" ").endswith(ENDS[path.suffix]) or content.rstrip().endswith(
        ENDS[path.suffix]
    ), path


READERS = {
    ".zarr": _read_store,
    ".nc": _read_netcdf,
    ".nwb": _read_nwb,
    ".json": _read_json,
}


def size_of(paths: Sequence[Path]) -> int:
    """Return the bytes that files and folders take on disk, in blocks of 4 KiB."""
    found = [f for path in paths for f in ([path] if path.is_file() else path.rglob("*"))]
    return sum(4096 * (1 + file.stat().st_size // 4096) for file in found if file.is_file())


def can_mount() -> bool:
    """Tell whether small disks can be mounted here: root, and not forbidden by a container."""
    if os.geteuid() != 0 or sys.platform != "linux":
        return False
    done = subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False)
    return done.returncode == 0


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Path]:
    """Yield a disk of its own, in memory."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
    subprocess.run(mount, check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def leave_free(folder: Path, free_bytes: int) -> None:
    """Shrink a small disk so that no more than this is free."""
    facts = os.statvfs(folder)
    used = (facts.f_blocks - facts.f_bfree) * facts.f_frsize
    options = f"remount,size={(used + free_bytes) // 1024}k"
    subprocess.run(["mount", "-o", options, str(folder)], check=True)


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Let nothing be written below a folder; root does not heed the bits of a folder."""
    if can_mount():
        subprocess.run(["mount", "--bind", str(folder), str(folder)], check=True)
        subprocess.run(["mount", "-o", "remount,ro,bind", str(folder)], check=True)
        try:
            yield
        finally:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)
        return
    folders = [folder, *(path for path in folder.rglob("*") if path.is_dir())]
    for path in folders:
        path.chmod(0o555)
    try:
        yield
    finally:
        for path in folders:
            path.chmod(0o755)
