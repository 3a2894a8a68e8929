"""Where the real recordings lie, and how their files are read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(os.environ.get("NEUROPIPE_REAL_DATA") or Path(__file__).parents[3] / "shared/data")
CALCIUM = ROOT / "calcium"
WORM_FOLDER = CALCIUM / "celegans_dag2023"
FOUR_WORMS = CALCIUM / "celegans_nsm_swf702_4animals.h5"

# `trace_array_original` holds the traces before any normalisation, hence fluorescence; those
# of `traces_array_F_F20` would be a ratio to a baseline, which preprocessing computes itself.
DAG = {
    "kind": "fluorescence",
    "index_base": 1,
    "datasets": {
        "traces": "gcamp/trace_array_original",
        "time": "timing/timestamp_confocal",
        "behavior": {
            "velocity": "behavior/velocity",
            "body_angle": "behavior/body_angle",
            "reversal": "behavior/reversal_vec",
        },
        "intervals": {"reversal": {"path": "behavior/reversal_events", "index_base": 0}},
    },
}
FOUR = {
    "kind": "dff",
    "datasets": {
        "traces": "dff_z",
        "time": "time_s",
        "names": "neuron",
        "confidence": "id_confidence",
        "behavior": {"velocity": "behavior_velocity"},
    },
}


def needs(path: Path) -> pytest.MarkDecorator:
    """Return a mark that skips a test, with a reason that can be seen, where `path` is absent."""
    reason = f"real data absent: {path} (set NEUROPIPE_REAL_DATA)"
    return pytest.mark.skipif(not path.exists(), reason=reason)
