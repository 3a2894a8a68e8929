"""What every rule asks for: threads, memory and time, more for larger data and further attempts."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from neuropipe.analyses.registry import analyses
from neuropipe.plan import make_plan
from neuropipe.study import load_study
from neuropipe.workflow import Workflow

ROOT = Path(__file__).resolve().parents[2]
RULES = sorted((ROOT / "workflow" / "rules").glob("*.smk"))
BLOCK = re.compile(r"^rule (\w+):|^    rule:", re.MULTILINE)
ALL = {
    "ntf": {"input": {"scope": "recording", "align": "single"}, "rank": [2, 3]},
    "hmm_glm": {"states": 2},
    "gp_vae": {"input": {"scope": "recording", "modalities": ["spikes"]}},
    "bicluster": {"mcmc": {"chains": 1}},
    "trsa": {"input": {"scope": "subject", "labels": list("abcd")}},
}
# Peaks of jobs on recordings of real animals and people: rule -> MB of the input, MB of the peak.
# Calcium imaging of four worms, EEG, spikes of 63 units, fMRI; `benchmarks/<rule>/*.tsv`.
MEASURED = {
    "ingest_recording": (6.8, 365), "preprocess_recording": (6.8, 290),
    "ntf_affinity": (2.48, 463), "ntf_rank": (2.48, 367), "ntf_fit": (2.47, 362),
    "ntf_communities": (2.47, 393), "hmm_glm_fit": (0.61, 393), "hmm_glm_summary": (0.61, 353),
    "bicluster_chain": (0.38, 594), "bicluster_summary": (0.38, 348),
    "trsa_rdm": (0.05, 287), "trsa_summary": (0.05, 337),
}  # fmt: skip
# Larger runs of benchmarks/: analysis -> MB of the input dataset, MB of the peak.
LARGE = {"ntf": (20.0, 3200), "hmm_glm": (10.0, 3100), "gp_vae": (4.0, 1100)}


@pytest.fixture(scope="module")
def flow(tmp_path_factory):
    """Return the workflow of a recording of spikes and one of EEG, every file that is read large.

    Sparse files: they say their size and take no room.
    """
    folder = tmp_path_factory.mktemp("sizes")
    (folder / "config").mkdir()
    (folder / "raw").mkdir()
    rows = ["subject\tmodality\tpath"]
    for subject, modality, source in (("a", "spikes", "raw/a.nwb"), ("b", "eeg", "raw/b.edf")):
        (folder / source).touch()
        rows.append(f"{subject}\t{modality}\t{source}")
    (folder / "raw" / "wires.tsv").touch()
    (folder / "config" / "recordings.tsv").write_text("\n".join(rows) + "\n")
    connectome = {"c": {"path": "raw/wires.tsv"}}
    config = {"study": "sizes", "analyses": ALL, "ingest": {"connectomes": connectome}}
    (folder / "config" / "config.yaml").write_text(yaml.safe_dump(config))
    return Workflow(config, folder)


def resize(flow, megabytes):
    """Give every file of the study that is no folder a size."""
    products = [path for job in flow.plan.values() for path in job.outputs]
    sources = ["raw/a.nwb", "raw/b.edf", "raw/wires.tsv"]
    for path in [*sources, *(path for path in products if Path(path).suffix)]:
        if not path.endswith(".zarr"):
            file = flow.study.root / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
            os.truncate(file, int(megabytes * 1e6))


def remote(flow):
    """Return the jobs that go to a cluster."""
    return [job for job in flow.plan.values() if job.rule not in ("ingest_index", "analysis_table")]


@pytest.mark.parametrize("path", RULES, ids=lambda path: path.stem)
def test_every_rule_says_threads_memory_and_time_or_runs_here(path):
    starts = [match.start() for match in BLOCK.finditer(path.read_text())]
    ends = [*starts[1:], None]
    for start, end in zip(starts, ends, strict=True):
        block = path.read_text()[start:end]
        asks = all(word in block for word in ("threads:", "mem_mb=flow.", "runtime=flow."))
        assert asks or "localrule: True" in block, block[:40]
        assert "retries" not in block  # they belong into the profile


def test_every_attempt_gets_more_memory_and_time(flow):
    for job in remote(flow):
        for ask in (flow.mem_mb(job.rule), flow.minutes(job.rule)):
            first, second, third, later = (ask(job.wildcards, attempt) for attempt in (1, 2, 3, 4))
            assert 0 < first < second < third == later, job.name
        assert flow.threads(job.rule)(job.wildcards) >= 1


def test_larger_files_get_more_memory_and_time_once_they_are_there(flow):
    asked = {}
    for megabytes in (1, 4000):
        resize(flow, megabytes)
        asked[megabytes] = {
            job.name: (job.resources.mem_mb, job.resources.minutes) for job in remote(flow)
        }
    for name, (memory, minutes) in asked[4000].items():
        assert memory > asked[1][name][0], name
        assert minutes > asked[1][name][1], name


@pytest.mark.parametrize("name", sorted(analyses()))
def test_settings_that_cost_get_more_time(name):
    costly = {
        "ntf": {"restarts": 80}, "hmm_glm": {"restarts": 40}, "gp_vae": {"max_epochs": 1000},
        "bicluster": {"mcmc": {"draws": 75_000}}, "trsa": {"inference": {"permutations": 100_000}},
    }  # fmt: skip
    analysis = analyses()[name]
    plain, more = (analysis.settings(**values) for values in ({}, costly[name]))
    sizes = {"input_mb": 1.0}
    assert analysis.resources(more, sizes).minutes > analysis.resources(plain, sizes).minutes


@pytest.mark.parametrize("rule", sorted(MEASURED))
def test_requests_are_above_measured_peaks_of_real_recordings(flow, rule):
    megabytes, peak = MEASURED[rule]
    resize(flow, megabytes)
    asked = [job.resources.mem_mb for job in flow.plan.values() if job.rule == rule]
    assert asked
    assert min(asked) > 1.2 * peak


@pytest.mark.parametrize("name", sorted(LARGE))
def test_requests_of_large_inputs_are_above_measured_peaks(name):
    megabytes, peak = LARGE[name]
    analysis = analyses()[name]
    asked = analysis.resources(analysis.settings(), {"input_mb": megabytes}).mem_mb
    assert asked > peak


def test_libraries_keep_to_the_threads_of_the_step():
    code = (
        "from neuropipe.cli.step_command import limit_threads; limit_threads(1)\n"
        "import numba, numpy, torch; from threadpoolctl import threadpool_info\n"
        "numpy.ones((2, 2)) @ numpy.ones((2, 2))\n"
        "pools = [pool['num_threads'] for pool in threadpool_info()]\n"
        "print(numba.get_num_threads(), torch.get_num_threads(), max(pools))"
    )
    free = {key: value for key, value in os.environ.items() if not key.endswith("_THREADS")}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=free
    )
    assert done.stdout.split() == ["1", "1", "1"]


def test_the_plan_and_the_rules_ask_for_the_same(template):
    flow = Workflow(yaml.safe_load((template / "config" / "config.yaml").read_text()), template)
    plan = make_plan(load_study(template))
    for job in flow.plan.values():
        assert plan[job.name].resources == job.resources
