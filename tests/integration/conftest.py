"""Recordings of calcium made by hand, for the tests of stores."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from neuropipe.store.series import Block, SeriesSpec
from neuropipe.store.zarr import open_store, write_recording

# Import mode `importlib` puts no folder of tests on the path.
sys.path.insert(0, str(Path(__file__).parent))

LABELS = ("AVAL", "", "ÄÖß", "神経", "RMED", "a b", "NaN", "e\u0301")

pytest.register_assert_rewrite("ingests")


@dataclass
class Case:
    """A calcium recording: `parts` are the arguments of `write_recording`."""

    n_times: int = 40
    n_rois: int = 5
    dtype: str = "float32"
    clock: str = "irregular"
    n_events: int = 3
    n_trials: int | None = 2
    behavior: bool = True
    series: tuple[str, ...] = ("fluorescence",)
    nan_runs: bool = False
    block: int = 7
    attrs: dict = field(default_factory=dict)
    seed: int = 0

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)
        self.time = self._time()
        self.values = {name: self._samples() for name in self.series}

    def _time(self) -> np.ndarray:
        steps = self.rng.uniform(0.2, 0.4, self.n_times)
        if self.clock == "irregular":
            return np.cumsum(steps) - steps[0]
        grid = np.arange(self.n_times + (4 if self.clock == "gaps" else 0)) / 7.3
        if self.clock == "gaps":
            grid = np.delete(grid, [2, 3, self.n_times, self.n_times + 1])
        return grid

    def _samples(self) -> np.ndarray:
        shape, dtype = (self.n_times, self.n_rois), np.dtype(self.dtype)
        if dtype.kind in "iu":
            limits = np.iinfo(dtype)
            return self.rng.integers(limits.min, limits.max, shape, dtype, endpoint=True)
        values = self.rng.normal(size=shape).astype(dtype)
        if self.nan_runs:
            values[1:4, 0] = np.nan
            values[-1, -1] = np.inf
        return values

    @property
    def raw(self) -> xr.Dataset:
        """Coordinates of ``/raw``."""
        n = self.n_rois
        text = np.array([LABELS[k % len(LABELS)] for k in range(n)], dtype=object)
        coords = {
            "time": ("time", self.time, {"units": "s"}),
            "roi": ("roi", np.arange(n) * 3 + 7),
            "label_source": ("roi", text),
            "label": ("roi", np.where(text == "AVAL", text, "").astype(object)),
            "label_confidence": ("roi", np.where(np.arange(n) % 2, np.nan, 0.75)),
            "label_inferred": ("roi", np.zeros(n, dtype=bool)),
            "is_cell": ("roi", np.arange(n) % 2 == 0),
            "plane": ("roi", np.arange(n, dtype=np.int16)),
            "x": ("roi", self.rng.normal(size=n), {"units": "m", "space": "individual"}),
        }
        return xr.Dataset(coords=coords)

    @property
    def specs(self) -> list[SeriesSpec]:
        """Series in order."""
        attrs = {"units": "a.u.", "scale_factor": 0.25, "add_offset": -3.0, "range": [0.0, np.nan]}
        shape = (self.n_times, self.n_rois)
        return [
            SeriesSpec(name, ("time", "roi"), shape, np.dtype(self.dtype), attrs)
            for name in self.series
        ]

    def blocks(self) -> Iterator[Block]:
        """Samples in blocks that end nowhere near the ends of chunks."""
        for name, values in self.values.items():
            for start in range(0, self.n_times, self.block):
                yield Block(name, start, values[start : start + self.block])

    @property
    def groups(self) -> dict[str, xr.Dataset | None]:
        """Events, trials and behaviour."""
        n, m = self.n_events, 11
        words = np.array(["go", "schön", ""] * n, dtype=object)[:n]
        events = {
            "onset": ("event", np.sort(self.rng.uniform(0, 9, n)), {"units": "s"}),
            "duration": ("event", np.where(np.arange(n) % 2, np.nan, 0.1)),
            "label": ("event", words),
            "code": ("event", np.arange(n, dtype=np.int64) - 1),
            "x_tags": ("event", words[::-1].copy()),
        }
        groups: dict[str, xr.Dataset | None] = {"events": xr.Dataset(events), "trials": None}
        if self.n_trials is not None:
            start = np.arange(self.n_trials, dtype=np.float64)
            trials = {
                "start": ("trial", start),
                "stop": ("trial", start + 0.7),
                "tags": ("trial", np.array(["left"] * self.n_trials, dtype=object)),
                "correct": ("trial", np.ones(self.n_trials, dtype=bool)),
            }
            groups["trials"] = xr.Dataset(trials)
        if self.behavior:
            coords = {
                "time_velocity": self.rng.uniform(0.01, 0.02, m).cumsum(),
                "time_head": np.arange(m + 2) * 0.5,
            }
            data = {
                "velocity": ("time_velocity", self.rng.normal(size=m), {"units": "m/s"}),
                "moving": ("time_velocity", np.arange(m) % 2 == 0),
                "head_angle": ("time_head", np.arange(m + 2, dtype=np.float32)),
                "state": ("time_head", np.array(["run"] * (m + 2), dtype=object)),
                "reversal": (("reversal_index", "edge"), np.array([[1.0, 2.0], [3.0, 4.5]])),
                "strain": ((), np.array("N2", dtype=object)),
                "pixel_size": ((), np.float32(0.1)),
            }
            groups["behavior"] = xr.Dataset(data, coords, {"camera": "ä", "gain": float("nan")})
        return groups

    def write(self, path: Path) -> str:
        """Write the store; return the content hash."""
        attrs = {
            "subject_id": "w01",
            "species": "Caenorhabditis elegans",
            "sex": "XX",
            "age": "P3D",
            "session_start": "2022-08-02T10:00:00+02:00",
            "indicator": "GCaMP6s",
            **self.attrs,
        }
        return write_recording(
            path,
            modality="calcium",
            attrs=attrs,
            raw=self.raw,
            series=self.specs,
            blocks=self.blocks(),
            groups=self.groups,
            issues=[],
        )

    def store(self, folder: Path) -> xr.DataTree:
        """Write the store into a folder and open it."""
        self.write(folder / "recording.zarr")
        return open_store(folder / "recording.zarr")


CASES = {
    "plain": {},
    "no events": {"n_events": 0},
    "no trials": {"n_trials": None},
    "empty trials": {"n_trials": 0},
    "no behavior": {"behavior": False},
    "one roi": {"n_rois": 1},
    "one sample": {"n_times": 1},
    "one sample of one roi": {"n_times": 1, "n_rois": 1, "n_events": 1},
    "two samples": {"n_times": 2, "clock": "regular"},
    "NaN runs": {"nan_runs": True},
    "int16": {"dtype": "int16"},
    "uint16": {"dtype": "uint16"},
    "float64": {"dtype": "float64", "nan_runs": True},
    "regular": {"clock": "regular"},
    "gaps": {"clock": "gaps"},
    "all series": {"series": ("fluorescence", "neuropil", "dff", "deconvolved")},
    "dff only": {"series": ("dff",), "clock": "regular"},
    "bare": {"n_events": 0, "n_trials": None, "behavior": False, "clock": "regular"},
    "unknown subject": {"attrs": {"sex": "", "age": "", "species": "", "session_start": ""}},
    "source clock": {"attrs": {"t0_source": 1.8e6}},
}


@pytest.fixture
def calcium_case() -> type[Case]:
    """Class of hand-made calcium recordings."""
    return Case


@pytest.fixture(params=CASES.values(), ids=CASES.keys())
def any_case(request: pytest.FixtureRequest) -> Case:
    """Each of the edge cases in turn."""
    return Case(**request.param)
