"""What the HMM-GLM states recover, and what they cost, beside the demands of their specification.

Run one case at a time::

    OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 python benchmarks/hmm_glm.py acceptance
    OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 python benchmarks/hmm_glm.py reliability
    OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 python benchmarks/hmm_glm.py families
    OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 python benchmarks/hmm_glm.py global
    OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 python benchmarks/hmm_glm.py speed
    OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 python benchmarks/hmm_glm.py peers
    OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=2 python benchmarks/hmm_glm.py threads
    OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 python benchmarks/hmm_glm.py growth
    OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 python benchmarks/hmm_glm.py scale

The peers are no dependencies of the project: ``pip install -e ".[bench]"`` installs them. Times
are CPU seconds of this process (`time.process_time`) unless they are called wall time.
"""

from __future__ import annotations

import argparse
import importlib
import os
from collections.abc import Callable

from neuropipe.threads import one_blas_thread


def _other(module: str, name: str) -> Callable[[], None]:
    """Return a case of a script beside this one, which is read when the case runs."""

    def case() -> None:
        getattr(importlib.import_module(module), name)()

    return case


CASES = {
    "acceptance": _other("hmm_glm_acceptance", "acceptance"),
    "reliability": _other("hmm_glm_acceptance", "reliability"),
    "families": _other("hmm_glm_acceptance", "families"),
    "global": _other("hmm_glm_acceptance", "global_network"),
    "speed": _other("hmm_glm_cost", "speed"),
    "peers": _other("hmm_glm_cost", "peers"),
    "threads": _other("hmm_glm_cost", "threads"),
    "growth": _other("hmm_glm_cost", "growth"),
    "scale": _other("hmm_glm_cost", "scale"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("case", choices=CASES)
    case = parser.parse_args().case
    print(f"{case}: load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    one_blas_thread(CASES[case])()


if __name__ == "__main__":
    main()
