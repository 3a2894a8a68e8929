"""A process that judges damaged files, each in a child: one that hangs or dies takes no other."""

from __future__ import annotations

import json
import os
import resource
import select
import shutil
import signal
import sys
import time
import traceback
import warnings
from collections import Counter
from importlib import import_module
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

# Of processor time, which other programs do not use up; and of time, for what waits and never ends.
LIMIT_CPU_S, LIMIT_S = 40, 600.0
PRELOADED = (
    "h5py", "mne", "mne.io", "nibabel", "nilearn.masking", "nwbinspector", "openpyxl",
    "pandas.io.excel", "pyarrow.parquet", "pymatreader", "pynwb", "scipy.io", "xarray", "zarr",
    "neuropipe.io.connectome.ingest", "neuropipe.io.ingest", "neuropipe.store.nwb",
    "neuropipe.store.validate", "neuropipe.store.zarr",
)  # fmt: skip
MEMORY = 3 << 30


def _import_everything() -> None:
    """Pay for the imports once; nothing is opened, so that children may use all of it."""
    for name in PRELOADED:
        import_module(name)
    from neuropipe.io.registry import readers

    for reader in readers().values():
        import_module(reader.open.partition(":")[0])


def _limit() -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (LIMIT_CPU_S, LIMIT_CPU_S + 1))
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))


def _child(job: dict, usual: dict, stream: int) -> None:
    """Do one job and write the answer."""
    from formats import Case, formats
    from verdict import judge, prepare

    _limit()
    entry = formats()[job["format"]]
    pristine = Path(job["pristine"])
    if job["what"] == "prepare":
        prepare(entry, pristine)
        answer = {}
    else:
        case = Case(job["format"], job["file"], job["damage"], job["number"])
        known = usual.get(job["format"])
        outcome, codes = judge(
            entry, case, pristine, Path(job["work"]),
            None if known is None else Counter(known), job["deep"],
        )  # fmt: skip
        answer = {**outcome.__dict__, "codes": dict(codes)}
    with os.fdopen(stream, "w") as pipe:
        pipe.write(json.dumps(answer))


def _answer(pid: int, reading: int, started: float) -> tuple[bytes, str]:
    """Return what a child writes until it ends, and whether it had to be ended."""
    text = b""
    while True:
        left = LIMIT_S - (time.monotonic() - started)
        if left <= 0 or not select.select([reading], [], [], left)[0]:
            os.kill(pid, signal.SIGKILL)
            return text, f"no answer after {LIMIT_S:.0f} s"
        part = os.read(reading, 1 << 16)
        if not part:
            return text, ""
        text += part


def _do(job: dict, usual: dict) -> dict:
    """Do one job in a child, with an end; its seconds are those of the processor."""
    started = time.monotonic()
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        try:
            nothing = os.open(os.devnull, os.O_RDWR)
            for number in (0, 1, 2):
                os.dup2(nothing, number)
            _child(job, usual, writing)
        except BaseException:
            text = traceback.format_exc()[-800:]
            answer = {"end": "harness", "code": "", "message": text, "fault": "harness"}
            with os.fdopen(writing, "w") as pipe:
                pipe.write(json.dumps(answer))
        finally:
            os._exit(0)
    os.close(writing)
    text, fault = _answer(pid, reading, started)
    os.close(reading)
    _, status, used = os.wait4(pid, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXCPU:
        fault = f"no answer after {LIMIT_CPU_S} s of processor time"
    elif not fault and not text:
        fault = f"died with status {status}"
    if fault:
        answer = {"end": "died", "code": "", "message": "", "fault": fault, "codes": {}}
    else:
        answer = json.loads(text)
    answer["seconds"] = round(used.ru_utime + used.ru_stime, 3)
    if job.get("work") and not answer.get("fault"):
        shutil.rmtree(job["work"], ignore_errors=True)
    return answer


def main() -> None:
    """Answer jobs, one JSON text a line."""
    warnings.simplefilter("ignore")
    _import_everything()
    usual: dict[str, dict] = {}
    for line in sys.stdin:
        job = json.loads(line)
        if job["what"] == "usual":
            usual[job["format"]] = job["codes"]
            continue
        print(json.dumps(_do(job, usual)), flush=True)


if __name__ == "__main__":
    main()
