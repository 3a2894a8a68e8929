"""Run the claims of `claims.toml`, keep a record of each, and write docs/benchmarks.md from them.

    python benchmarks/page.py                     # every claim, then the page; hours
    python benchmarks/page.py ntf trsa-speed      # the sections or claims that are named
    python benchmarks/page.py --up-to 60          # those of at most 60 CPU seconds
    python benchmarks/page.py --page              # nothing is run: the page and its plots alone
    python benchmarks/page.py --list

A claim whose command fails, is interrupted or lacks its peer keeps the record it had. Figures that
were measured before there were records are under `records/transcribed`, one file a section.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shlex
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil
from claims import HERE, RECORDS, ROOT, Claim, catalogue
from page_text import PAGE, write_page

THREADS = ("OMP", "OPENBLAS", "MKL", "NUMBA", "VECLIB_MAXIMUM")
ALWAYS = ("numpy", "scipy", "numba", "torch")


def machine() -> dict[str, Any]:
    """Return processor, cores and memory; no names of hosts."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file() and (found := re.search(r"model name\s*:\s*(.+)", info.read_text())):
        cpu = found[1].strip()
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9),
        "system": platform.system(),
    }


def versions(claim: Claim) -> dict[str, str]:
    """Return the versions that count; raises `PackageNotFoundError` where a peer is missing."""
    own = {"python": platform.python_version(), "neuropipe": version("neuropipe")}
    return own | {name: version(name) for name in (*ALWAYS, *claim.packages)}


def commit() -> tuple[str, bool]:
    """Return the commit that is checked out, and whether code differs from it."""

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    page = (f":!benchmarks/{name}.py" for name in ("page", "page_text", "growth_plots", "claims"))
    code = ("src", "benchmarks/*.py", "Snakefile", "workflow", *page)
    return git("rev-parse", "--short", "HEAD"), bool(git("status", "--porcelain", "--", *code))


def anonymous(text: str, data: Path) -> str:
    """Return what was printed without folders of this machine and its name."""
    for folder, name in ((data.resolve(), "DATA"), (ROOT, "."), (Path.home(), "~")):
        if folder != Path(folder.anchor):
            text = text.replace(str(folder), name)
    return text.replace(platform.node(), "host") if platform.node() else text


def run(claim: Claim, data: Path) -> dict[str, Any]:
    """Run a claim's command on one thread and return its record."""
    words = shlex.split(claim.command.replace("DATA", shlex.quote(str(data.resolve()))))
    command = [sys.executable, str(HERE / words[0]), *words[1:]]
    environment = os.environ | {f"{name}_NUM_THREADS": "1" for name in THREADS}
    found = {"claim": claim.id, "command": claim.command, "versions": versions(claim)}
    found["commit"], found["uncommitted"] = commit()
    load, begin = os.getloadavg()[0], time.time()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        assert process.stdout is not None
        with process.stdout as pipe:
            output = pipe.read()
    except BaseException:
        process.kill()
        process.wait()
        raise
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return found | {
        "date": time.strftime("%Y-%m-%d", time.gmtime(begin)),
        "status": process.returncode,
        "cpu_s": round(usage.ru_utime + usage.ru_stime, 1),
        "peak_mb": round(usage.ru_maxrss / 1024),
        "load": [round(load, 1), round(os.getloadavg()[0], 1)],
        "threads": 1,
        "machine": machine(),
        "output": [line.rstrip() for line in anonymous(output, data).strip().splitlines()],
    }


def measure(claims: list[Claim], data: Path) -> int:
    """Run claims one after the other; return how many gave no new record."""
    missing = 0
    for number, claim in enumerate(claims, 1):
        print(f"{number} of {len(claims)}: {claim.id}, about {claim.cpu_s:g} CPU s", flush=True)
        try:
            found = run(claim, data)
        except PackageNotFoundError as error:
            print(f"  not run: {error.name} is not installed (extra `bench`)")
            missing += 1
            continue
        if found["status"] or not found["output"]:
            print(f"  failed, exit status {found['status']}: the former record stays")
            missing += 1
            continue
        RECORDS.mkdir(exist_ok=True)
        text = json.dumps(found, indent=1, ensure_ascii=False) + "\n"
        claim.record.write_text(text, encoding="utf-8")
        print(f"  {found['cpu_s']} CPU s, peak {found['peak_mb']} MB", flush=True)
    return missing


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", nargs="*", help="sections or claims; all without any")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared/data",
                        help="folder of public recordings")  # fmt: skip
    parser.add_argument("--up-to", type=float, default=float("inf"), metavar="CPU_S",
                        help="leave out claims that cost more")  # fmt: skip
    parser.add_argument("--page", action="store_true", help="run nothing")
    parser.add_argument("--list", action="store_true", help="print the claims")
    given = parser.parse_args()
    sections = catalogue()
    every = [claim for section in sections for claim in section.claims]
    if unknown := set(given.names) - {n for c in every for n in (c.id, c.section)}:
        parser.error(f"no such claim or section: {', '.join(sorted(unknown))}; --list names them")
    chosen = [
        claim
        for claim in every
        if (not given.names or {claim.id, claim.section} & set(given.names))
        and claim.cpu_s <= given.up_to
        and ("DATA" not in claim.command or given.data.is_dir())
    ]
    if given.list:
        print("\n".join(f"{c.id:26} {c.cpu_s:6g} CPU s  {c.command}" for c in chosen))
        return 0
    missing = 0 if given.page else measure(chosen, given.data)
    write_page(sections)
    print(PAGE.relative_to(ROOT))
    return int(missing > 0)


if __name__ == "__main__":
    sys.exit(main())
