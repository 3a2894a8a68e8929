"""Commands of the pages that no test can run as they stand, each with what is run instead.

Every other command of the README and of the documentation runs word by word. ``$CHECKOUT`` is the
folder of the code, ``$RECIPE`` a recipe whose archive is a server on this machine.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["INSTEAD"]


class Instead(NamedTuple):
    """What runs in place of a command, and why the command itself does not."""

    run: str
    why: str


def _extra(name: str) -> Instead:
    """Return the check that a package extra exists."""
    code = f"from importlib.metadata import metadata as m; {name!r} in m('neuropipe').get_all("
    run = f"python -c \"{code}'Provides-Extra') or exit(1)\""
    return Instead(run, "installs packages; the extra exists")


_ENVIRONMENT = Instead(
    "python -c \"import yaml; known = yaml.safe_load(open('$CHECKOUT/envs/convert.yaml')); "
    "exit(known['name'] != 'neuropipe-convert' or not known['dependencies'])\"",
    "another environment, from the network; its file has this name",
)
_QUEUE = "needs a cluster, tests/workflow/test_slurm.py has one; planned for it"

INSTEAD = {
    "make demo": Instead("make -n -C $CHECKOUT demo", "minutes; .ci/run does it, twice"),
    "PYTHON=python3.12 make demo": Instead(
        "PYTHON=python3.12 make -n -C $CHECKOUT VENV=none demo | grep 'python3.12 -m venv none'",
        "sets up an environment; it would be of this interpreter",
    ),
    "make notebooks": Instead("make -n -C $CHECKOUT notebooks", "a minute; .ci/run does it"),
    "make test": Instead("make -n -C $CHECKOUT test", "it is what runs this test"),
    "snakemake -s <checkout>/Snakefile": Instead(
        "snakemake -s $CHECKOUT/Snakefile", "the folder is the reader's"
    ),
    "neuropipe fetch mc_maze": Instead(
        "neuropipe fetch mc_maze -n && neuropipe fetch $RECIPE/mc_maze",
        "691 MB from the network; planned, then a small recipe of this name from this machine",
    ),
    "neuropipe fetch FOLDER": Instead(
        "neuropipe fetch $RECIPE/mc_maze --directory from_folder", "the folder is the reader's"
    ),
    "neuropipe export STORE --to FORMAT [--output FOLDER]": Instead(
        "for format in temporaldata neuralset bids csv; do "
        "neuropipe export sub-01_eeg --to $format --output exported/$format; done",
        "a pattern; run for every format",
    ),
    "neuropipe step ...": Instead("neuropipe step --help", "a pattern"),
    "neuropipe run --profile slurm": Instead("neuropipe run --profile slurm -n", _QUEUE),
    "neuropipe run --profile slurm-batched": Instead(
        "neuropipe run --profile slurm-batched -n", _QUEUE
    ),
    "neuropipe run --profile ./ourcluster": Instead(
        "cp -r $CHECKOUT/profiles/slurm ourcluster && neuropipe run --profile ./ourcluster -n",
        _QUEUE,
    ),
    "tools/slurm-test-cluster up": Instead(
        "bash -n $CHECKOUT/tools/slurm-test-cluster", "root, installs Slurm; .ci/run does it"
    ),
    "pytest tests/workflow/test_slurm.py -m slurm": Instead(
        "cd $CHECKOUT && pytest --collect-only -q tests/workflow/test_slurm.py -m slurm",
        "needs the cluster that the line before it makes; .ci/run does it",
    ),
    "conda env create -f envs/convert.yaml": _ENVIRONMENT,
    "conda activate neuropipe-convert": _ENVIRONMENT,
    'pip install "neuropipe[slurm]"': _extra("slurm"),
    "pip install neuropipe[export]": _extra("export"),
    'pip install -e ".[bench]"': _extra("bench"),
    "python benchmarks/ntf.py ...": Instead("python benchmarks/ntf.py --help", "a pattern"),
    "neuropipe step ntf affinity": Instead(
        "neuropipe step ntf affinity --help", "named, not shown"
    ),
    "neuropipe step ntf fit": Instead("neuropipe step ntf fit --help", "named, not shown"),
}
