"""EEG, MEG and intracranial EEG in NWB: no loss, and the values that other tools read."""

from __future__ import annotations

import tracemalloc
from dataclasses import dataclass, field

import h5py
import numpy as np
import pytest
import xarray as xr
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from neuropipe.errors import DataError
from neuropipe.store.hashing import content_sha256
from neuropipe.store.nwb import from_nwb, to_nwb
from neuropipe.store.series import Block, SeriesSpec
from neuropipe.store.validate import validate_store
from neuropipe.store.zarr import open_store, write_recording

UNITS = {"mag": "T", "grad": "T/m", "misc": "", "stim": ""}
NAMES = ("Fp1", "Čz", "電極", "a b", "x", "id", "A'3", "e\u0301")


@dataclass
class Recording:
    """A hand-made recording: channels of the types given, in that order."""

    modality: str = "eeg"
    kinds: tuple[str, ...] = ("eeg", "eeg", "eog", "eeg", "stim")
    n_times: int = 50
    dtype: str = "int16"
    clock: str = "regular"
    nan_runs: bool = False
    scales: str = "same"
    events: int = 2
    attrs: dict = field(default_factory=dict)

    def __post_init__(self):
        self.rng = np.random.default_rng(len(self.kinds) + self.n_times)
        shape = (self.n_times, len(self.kinds))
        dtype = np.dtype(self.dtype)
        if dtype.kind == "i":
            bounds = np.iinfo(dtype)
            self.values = self.rng.integers(bounds.min, bounds.max, shape, dtype, endpoint=True)
        else:
            self.values = (1e-5 * self.rng.normal(size=shape)).astype(dtype)
        if self.nan_runs:
            self.values[1:3, 0] = np.nan
            self.values[-1:, -1] = np.nan

    @property
    def time(self):
        if self.clock == "regular":
            return np.arange(self.n_times) / 512.0
        return self.rng.uniform(0.001, 0.002, self.n_times).cumsum()

    @property
    def scale(self):
        n = np.arange(len(self.kinds), dtype=np.float64)
        return {"same": 0 * n + 5e-8, "each": (n + 1) * 1e-8}[self.scales]

    @property
    def offset(self):
        return np.where(np.arange(len(self.kinds)) % 3 == 1, 2.5e-7, 0.0)

    @property
    def raw(self):
        n = len(self.kinds)
        text = lambda words: ("channel", np.array([*words], dtype=object))  # noqa: E731
        names = [f"{NAMES[k]}" if k < len(NAMES) else f"c{k}" for k in range(n)]
        coords = {
            "time": ("time", self.time, {"units": "s"}),
            "channel": text(names),
            "channel_source": text(names),
            "ch_type": text(self.kinds),
            "units": text(UNITS.get(kind, "V") for kind in self.kinds),
            "bad": ("channel", np.arange(n) % 2 == 1),
            "reference": text(["Cz"] * n),
            "x": ("channel", self.rng.normal(size=n), {"units": "m"}),
            "y": ("channel", np.full(n, np.nan), {"units": "m"}),
            "z": ("channel", self.rng.normal(size=n), {"units": "m"}),
            "low_cutoff": ("channel", np.full(n, 0.1)),
            "high_cutoff": ("channel", np.full(n, np.nan)),
            "x_note": text(["schön"] * n),
        }
        if np.dtype(self.dtype).kind == "i":
            coords["scale_factor"] = ("channel", self.scale)
            coords["add_offset"] = ("channel", self.offset)
        if self.modality == "ieeg":
            coords |= {
                "electrode_group": text("A/B'" if k % 2 else "" for k in range(n)),
                "contact": ("channel", np.arange(n, dtype=np.int32)),
                "anat_label": text(["left hippocampus"] * n),
                "is_white_matter": ("channel", np.full(n, -1, dtype=np.int8)),
                "impedance": ("channel", np.full(n, 1e4)),
            }
        return xr.Dataset(coords=coords)

    def write(self, path, block=13):
        onset = np.arange(self.events) * 0.01
        events = {
            "onset": ("event", onset),
            "duration": ("event", onset * 0),
            "label": ("event", np.array(["blå"] * self.events, dtype=object)),
        }
        attrs = {"subject_id": "a", "species": "Homo sapiens", "sex": "F", "age": "P30Y"}
        attrs |= {"line_freq": 50.0, "projectors": "[]", "dev_head_t": [1.0, 0.0], **self.attrs}
        return write_recording(
            path,
            modality=self.modality,
            attrs=attrs,
            raw=self.raw,
            series=[
                SeriesSpec("signal", ("time", "channel"), self.values.shape, self.values.dtype)
            ],
            blocks=(
                Block("signal", start, self.values[start : start + block])
                for start in range(0, self.n_times, block)
            ),
            groups={"events": xr.Dataset(events)},
        )


MEG = ("mag", "grad", "grad", "stim", "mag", "eeg", "misc", "ref_meg")
CASES = {
    "eeg of int16": Recording(),
    "int32, a scale each": Recording(dtype="int32", scales="each"),
    "float32": Recording(dtype="float32", nan_runs=True),
    "float64, irregular": Recording(dtype="float64", nan_runs=True, clock="irregular"),
    "one sample": Recording(n_times=1),
    "one channel": Recording(kinds=("eeg",), events=0),
    "one sample of one channel": Recording(kinds=("stim",), n_times=1),
    "nothing but others": Recording(kinds=("misc", "stim", "misc")),
    "meg": Recording("meg", MEG, dtype="float64"),
    "meg of int32": Recording("meg", MEG, dtype="int32"),
    "ieeg": Recording("ieeg", ("seeg", "seeg", "ecog", "seeg", "ecg"), clock="irregular"),
    "ieeg, a scale each": Recording("ieeg", ("ecog",) * 7, scales="each"),
    "types nobody knows": Recording(
        kinds=("signal", "a/b", "signal_valid", "signal_columns", "eeg")
    ),
}


def kinds_of(ds):
    return {n: v.dtype.kind in "OT" or v.dtype for n, v in ds.variables.items()}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_round_trip_is_identical_and_valid(case, tmp_path):
    content = case.write(tmp_path / "a.zarr")
    tree = open_store(tmp_path / "a.zarr")
    to_nwb(tree, tmp_path / "a.nwb")
    read = from_nwb(tmp_path / "a.nwb")
    assert read.identical(tree)
    assert kinds_of(read["raw"]) == kinds_of(tree["raw"])
    assert list(read["raw"].coords) == list(tree["raw"].coords)
    assert content_sha256(read["raw"].to_dataset()) == content
    np.testing.assert_array_equal(read["raw/signal"].values, case.values)
    found = validate_store(tmp_path / "a.nwb")
    assert [issue for issue in found if issue.severity == "error"] == []


@settings(max_examples=8, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(
    kinds=st.lists(st.sampled_from(["eeg", "eog", "mag", "grad", "stim", "seeg"]), min_size=1),
    n_times=st.integers(1, 20),
    dtype=st.sampled_from(["int16", "int32", "float32", "float64"]),
    clock=st.sampled_from(["regular", "irregular"]),
    scales=st.sampled_from(["same", "each"]),
)
def test_any_recording_comes_back(tmp_path_factory, kinds, n_times, dtype, clock, scales):
    folder = tmp_path_factory.mktemp("generated")
    case = Recording("meg", tuple(kinds), n_times, dtype, clock, scales=scales)
    case.write(folder / "a.zarr")
    tree = open_store(folder / "a.zarr")
    to_nwb(tree, folder / "a.nwb")
    assert from_nwb(folder / "a.nwb").identical(tree)


@pytest.mark.parametrize("name", ["ieeg, a scale each", "int32, a scale each", "ieeg"])
def test_pynwb_reads_source_integers_and_their_volts(name, tmp_path):
    from pynwb import NWBHDF5IO
    from pynwb.ecephys import ElectricalSeries

    case = CASES[name]
    case.write(tmp_path / "a.zarr")
    to_nwb(tree := open_store(tmp_path / "a.zarr"), tmp_path / "a.nwb")
    raw, seen = tree["raw"].to_dataset(), []
    with NWBHDF5IO(tmp_path / "a.nwb", "r") as stream:
        nwb = stream.read()
        for series in nwb.acquisition.values():
            if not isinstance(series, ElectricalSeries):
                continue
            rows = series.electrodes.to_dataframe()
            columns = [list(raw["channel"].values).index(n) for n in rows["channel_name"]]
            seen += columns
            np.testing.assert_array_equal(series.data[:], case.values[:, columns])
            factor = series.conversion * (
                1.0 if series.channel_conversion is None else series.channel_conversion[:]
            )
            np.testing.assert_allclose(
                series.data[:] * factor + series.offset,
                case.values[:, columns] * case.scale[columns] + case.offset[columns],
                rtol=1e-15,
            )
            # NWB states positions in micrometres.
            np.testing.assert_allclose(rows["x"], 1e6 * raw["x"].values[columns], rtol=1e-15)
        table = nwb.acquisition["signal_columns"].to_dataframe()
        assert list(table["channel"]) == list(raw["channel"].values)
    electrical = [k for k, kind in enumerate(case.kinds) if kind in ("eeg", "seeg", "ecog")]
    assert sorted(seen) == electrical


def test_a_series_holds_one_unit(tmp_path):
    case = CASES["meg"]
    case.write(tmp_path / "a.zarr")
    to_nwb(open_store(tmp_path / "a.zarr"), tmp_path / "a.nwb")
    with h5py.File(tmp_path / "a.nwb") as file:
        units = {
            name: group["data"].attrs["unit"]
            for name, group in file["acquisition"].items()
            if "data" in group
        }
        rate = file["acquisition/mag/starting_time"].attrs["rate"]
    assert units == {
        "mag": "T", "grad": "T/m", "stim": "n.a.", "eeg": "volts", "misc": "n.a.", "ref_meg": "V",
    }  # fmt: skip
    assert rate == 512.0


def test_large_recordings_stream_and_come_back_lazily(tmp_path):
    kinds = ("eeg",) * 40 + ("stim",) + ("eeg",) * 30
    case = Recording("eeg", kinds, n_times=150_000)
    case.write(tmp_path / "a.zarr", block=9_999)
    to_nwb(tree := open_store(tmp_path / "a.zarr"), tmp_path / "a.nwb", compression="lzf")
    tracemalloc.start()
    to_nwb(tree, tmp_path / "a.nwb", compression="lzf")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # 21 MB of samples pass in stretches of 9 MB, held once whole and once per series.
    assert peak < 60e6
    read = from_nwb(tmp_path / "a.nwb")["raw/signal"]
    assert "values with dtype" in repr(read.variable)
    for key in [
        np.s_[100:200, 3], np.s_[::-50_000, [5, 41, 40]], np.s_[7], np.s_[:5, 40:42],
        np.s_[3, 40], np.s_[:9:2, ::-7],
    ]:  # fmt: skip
        np.testing.assert_array_equal(read[key].values, read.values[key])
    np.testing.assert_array_equal(read.values, case.values)
    assert (
        content_sha256(from_nwb(tmp_path / "a.nwb")["raw"].to_dataset())
        == (tree.attrs["content_sha256"])
    )


def test_a_lost_series_is_a_data_error(tmp_path):
    CASES["meg"].write(tmp_path / "a.zarr")
    to_nwb(open_store(tmp_path / "a.zarr"), tmp_path / "a.nwb")
    with h5py.File(tmp_path / "a.nwb", "r+") as file:
        del file["acquisition/mag/data"]
        file["acquisition/mag/data"] = np.zeros((50, 3))
    with pytest.raises(DataError, match="shape"):
        from_nwb(tmp_path / "a.nwb")
