"""MATLAB files of a fly that turns on a ball: two-colour calcium of 16 wedges, and its heading."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.io
from real_data import CALCIUM, needs

from neuropipe.config.models import IngestConfig
from neuropipe.config.recordings import Recording
from neuropipe.errors import IngestError
from neuropipe.io.ingest import ingest_recording
from neuropipe.io.registry import match
from neuropipe.store.validate import validate_store
from neuropipe.store.zarr import open_store

FOLDER = CALCIUM / "fly_heading"
FILES = sorted(FOLDER.glob("*.mat"))
pytestmark = needs(FOLDER)
CLOCK_HZ = 10_000.0
PLANES = 7
HEADING = {"path": "positionDat.OffsetRot", "time": "positionDat.t", "stream": "ball"}
DATASETS = {
    "traces": "RROIaveMax",
    "time": {"path": "positionDat.tFrameGrab", "rate_hz": CLOCK_HZ, "every": PLANES},
    "behavior": {"heading": HEADING},
}
SETTINGS = {"kind": "fluorescence", "datasets": DATASETS}


def ingest(path, out, offset_s):
    row = Recording(name="sub-fly1_calcium", subject="fly1", modality="calcium", path="x")
    override = {"datasets": {"time": {"offset_s": offset_s}}}
    config = IngestConfig(readers={"matlab": SETTINGS}, overrides={row.name: override})
    report = ingest_recording(row, path, config, out / f"{row.name}.zarr")
    assert validate_store(out / f"{row.name}.zarr") == []
    return report, open_store(out / f"{row.name}.zarr")


def offset(data):
    """Return what brings sample numbers to the clock of the ball: the first frame of the arena."""
    return float(data["t"][0] - data["tVR"][0] / CLOCK_HZ)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem[-10:])
def test_wedges_and_heading_are_those_that_scipy_reads(path, tmp_path):
    assert match(path)[0].name == "matlab"
    source = scipy.io.loadmat(path, simplify_cells=True)
    ball = source["positionDat"]
    report, tree = ingest(path, tmp_path, offset(ball))
    assert report["sizes"] == {"time": 750, "roi": 16}
    np.testing.assert_array_equal(tree["raw/fluorescence"].values, source["RROIaveMax"].T)
    heading = tree["behavior/heading"]
    np.testing.assert_array_equal(heading.values, ball["OffsetRot"])
    assert heading.dims == ("time_ball",)
    # Both clocks move together to the first volume.
    start = tree.attrs["t0_source"]
    np.testing.assert_allclose(tree["behavior/time_ball"].values, ball["t"] - start, atol=1e-9)
    volumes = ball["tFrameGrab"][::PLANES] / CLOCK_HZ
    np.testing.assert_allclose(tree["raw/time"].values, volumes - volumes[0], atol=1e-9)
    assert 11 < 1 / np.median(np.diff(volumes)) < 12


def test_the_bump_follows_the_heading(tmp_path):
    """The clocks are right: the phase of the wedges turns with the fly, best near no lag."""
    path = FOLDER / "Fly1_9day_6fx37F06_jRGC1ax60D05_1x_00001.mat"
    ball = scipy.io.loadmat(path, simplify_cells=True)["positionDat"]
    _, tree = ingest(path, tmp_path, offset(ball))
    wedges, time = tree["raw/fluorescence"].values, tree["raw/time"].values
    angle = np.angle(wedges @ np.exp(2j * np.pi * np.arange(16) / 16))
    clock, heading = tree["behavior/time_ball"].values, tree["behavior/heading"].values
    turned = np.deg2rad(heading)

    def locked(lag):
        at = np.interp(time + lag, clock, np.unwrap(turned))
        return max(abs(np.exp(1j * (angle - sign * at)).mean()) for sign in (1, -1))

    lags = np.arange(-6, 6.1, 0.5)
    best = lags[int(np.argmax([locked(lag) for lag in lags]))]
    assert abs(best) <= 1.0
    assert locked(0) > 0.5


def test_a_field_that_is_not_there_is_named(tmp_path):
    row = Recording(name="sub-fly1_calcium", subject="fly1", modality="calcium", path="x")
    wrong = {**SETTINGS, "datasets": {**DATASETS, "traces": "RROIaveMx"}}
    with pytest.raises(IngestError, match="did you mean 'RROIaveMax'"):
        ingest_recording(
            row, FILES[0], IngestConfig(readers={"matlab": wrong}), tmp_path / "a.zarr"
        )
