"""Units, amplitudes, times and events of channels, each by itself."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from neuropipe.config.models import IngestOverride
from neuropipe.errors import IngestError, Issue
from neuropipe.io.channels.amplitude import Amplitudes
from neuropipe.io.channels.edf_samples import _integers
from neuropipe.io.channels.events import code_of, event_table, step_events, times_of
from neuropipe.io.channels.grid import segment_times, times_at
from neuropipe.io.channels.handle import ChannelHandle
from neuropipe.io.channels.mne_header import call_mne
from neuropipe.io.channels.names import unique_names
from neuropipe.io.channels.opening import open_channels
from neuropipe.io.channels.probing import modality_of_path
from neuropipe.io.channels.source import ChannelSource, ChannelTable, restate_units
from neuropipe.io.channels.units import probable_unit, si_unit
from neuropipe.store.channels import channel_faults
from neuropipe.store.clock import RegularClock
from neuropipe.store.scaling import physical


class Held:
    """Samples in memory."""

    def __init__(self, values, scale=None, offset=None, step=7):
        self.values, self.dtype, self.shape = values, values.dtype, values.shape
        self.scale, self.offset, self._step = scale, offset, step

    def step(self, max_bytes):
        return self._step

    def read(self, start, stop, channels=None):
        return self.values[start:stop] if channels is None else self.values[start:stop, channels]

    def close(self):
        pass


def table_of(types=("eeg", "eeg"), units=("V", "V"), declared=("uV", "uV"), bad=None):
    n = len(types)
    nothing = np.full(n, np.nan)
    return ChannelTable(
        name=tuple(f"E{k}" for k in range(n)), source=tuple(f"E{k}" for k in range(n)),
        ch_type=types, units=units, declared=declared,
        bad=np.zeros(n, bool) if bad is None else np.array(bad), reference=("",) * n,
        position=np.full((n, 3), np.nan), low_cutoff=nothing, high_cutoff=nothing,
    )  # fmt: skip


def source_of(values, table=None, scale=None, **changes):
    n_times, n = values.shape
    table = table or table_of(("eeg",) * n, ("V",) * n, ("uV",) * n)
    offset = None if scale is None else np.zeros(n)
    changes = {"time": RegularClock(0.0, 100.0, n_times), "types_stated": True, **changes}
    return ChannelSource(Path("a.x"), table, Held(values, scale, offset), **changes)


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("uV", ("V", 1e-6)),
        ("\u00b5V", ("V", 1e-6)),
        ("\u03bcV", ("V", 1e-6)),
        ("microV", None),
        ("microvolts", ("V", 1e-6)),
        (" mV ", ("V", 1e-3)),
        ("V", ("V", 1.0)),
        ("fT", ("T", 1e-15)),
        ("T/m", ("T/m", 1.0)),
        ("fT/cm", ("T/m", 1e-13)),
        ("pT/cm", ("T/m", 1e-10)),
        ("C", None),
        ("kV", None),
        ("", None),
        ("V/m", None),
    ],
)
def test_words_of_units(word, expected):
    assert si_unit(word) == expected


@pytest.mark.parametrize(
    ("sd", "unit", "declared", "expected"),
    [
        (20.0, "V", "V", "uV"),
        (2e-5 * 1e-6, "V", "uV", "V"),
        (5e2, "T", "T", "fT"),
        (0.7, "T", "T", "pT"),
        (1e30, "V", "V", ""),
    ],
)
def test_probable_units(sd, unit, declared, expected):
    assert probable_unit(sd, unit, declared) == expected


def test_bounds_of_gradiometers_follow_from_those_of_the_field():
    """A gradient over the baseline of 16.8 mm; 1 fT to 100 pT of field difference."""
    table = table_of(("grad", "mag"), ("T/m", "T"), ("T/m", "T"))
    rng = np.random.default_rng(0)
    usual = rng.standard_normal((500, 2)) * [5e-12, 2e-13]
    judged = Amplitudes(table, None, False)
    judged.add(usual)
    assert judged.verdict("a.fif") == []
    # Gradients given in fT/cm.
    judged = Amplitudes(table, None, False)
    judged.add(usual * [1e13, 1.0])
    with pytest.raises(IngestError, match="units: fT/cm"):
        judged.verdict("a.fif")


@pytest.mark.parametrize("dtype", [np.int16, np.float32, np.float64])
def test_amplitudes_are_the_standard_deviation_whatever_the_blocks(dtype):
    rng = np.random.default_rng(1)
    values = (rng.standard_normal((5000, 3)) * 100 + [12_000, 0, -300]).astype(dtype)
    scale = np.array([1e-7, 2e-7, 1e-6])
    table = table_of(("eeg",) * 3, ("V",) * 3, ("uV",) * 3)
    for step in (5000, 2048, 777):
        judged = Amplitudes(table, scale, False)
        for start in range(0, 5000, step):
            judged.add(values[start : start + step])
        expected = values.astype(np.float64).std(axis=0) * scale
        np.testing.assert_allclose(judged._sd(), expected, rtol=1e-9)


def test_amplitudes_leave_out_what_is_missing_and_other_channels():
    rng = np.random.default_rng(2)
    values = rng.standard_normal((300, 4)) * 1e-5
    values[::3, 1] = np.nan
    values[0, 1], values[5, 0] = np.inf, -np.inf
    values[:, 2] = 1e6
    table = table_of(("eeg", "eeg", "stim", "misc"), ("V",) * 4, ("V",) * 4)
    judged = Amplitudes(table, None, False)
    judged.add(values)
    for k, column in enumerate((0, 1)):
        kept = values[:, column][np.isfinite(values[:, column])]
        np.testing.assert_allclose(judged._sd()[k], kept.std(), rtol=1e-9)
    assert len(judged._sd()) == 2


def test_bad_channels_do_not_decide_the_unit():
    values = np.random.default_rng(3).standard_normal((200, 3)) * [1.0, 1.0, 1e-5]
    names = (("eeg",) * 3, ("V",) * 3, ("V",) * 3)
    judged = Amplitudes(table_of(*names, bad=[True, True, False]), None, False)
    judged.add(values)
    assert [issue.code for issue in judged.verdict("a")] == ["UNITS"]
    judged = Amplitudes(table_of(*names), None, False)
    judged.add(values)
    with pytest.raises(IngestError, match="probably uV"):
        judged.verdict("a")


def test_segments_without_gaps_need_no_array():
    time, issues = segment_times([0.0, 1.0, 2.5], [100, 150, 30], 100.0, "a")
    assert time == RegularClock(0.0, 100.0, 280)
    assert issues == []


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 30), st.integers(0, 50)), min_size=1, max_size=6))
def test_segments_lie_where_counting_puts_them(parts):
    """Each segment is a length and how many samples are missing before it."""
    rate, expected, starts, at = 250.0, [], [], 0
    for k, (length, missing) in enumerate(parts):
        at += missing if k else 0
        starts.append(at / rate)
        expected += list(range(at, at + length))
        at += length
    lengths = [length for length, _ in parts]
    time, _ = segment_times(starts, lengths, rate, "a")
    found = times_at(time, np.arange(sum(lengths)))
    np.testing.assert_array_equal(found, np.array(expected) / rate)


def test_segments_that_overlap_are_refused():
    with pytest.raises(IngestError, match="BAD_TIME.*segment 1 begins at 0.5"):
        segment_times([0.0, 0.5], [100, 10], 100.0, "a")


def test_positions_of_events_do_not_interpolate_across_gaps():
    time = np.array([0.0, 0.1, 5.0, 5.1])
    found = times_of(np.array([-1.0, 1.0, 1.5, 2.0, 6.0]), time, 10.0)
    np.testing.assert_allclose(found, [-0.1, 0.1, 0.15, 5.0, 5.4])


def test_steps_of_trigger_channels_across_blocks():
    line = np.array([5, 5, 0, 0, 1, 1, 3, 3, 0, 0, 2, 0, 2, 2, 0])
    other = np.zeros_like(line)
    other[7] = 1 << 16 | 9
    values = np.stack([line, other], axis=1).astype(np.int32)
    for step in (1, 3, 4, 100):
        places, codes, names = step_events(
            Held(values, step=step), {0: "a", 1: "b"}, mask=(1 << 16) - 1
        )
        assert list(places) == [4, 6, 10, 12, 7]
        assert list(codes) == [1, 3, 2, 2, 9]
        assert names == ["a", "a", "a", "a", "b"]


def test_codes_of_markers():
    words = ["S 12", "S253", "boundary", "", "R  1", "12 s", "S" + "9" * 30]
    assert [code_of(word) for word in words] == [12, 253, -1, -1, 1, -1, -1]


def test_events_are_sorted_and_keep_ties_in_order():
    table = event_table(
        [2.0, 1.0, 1.0], [0, 0, np.nan], ["c", "a", "b"], code=[3, 1, 2], source=["m"] * 3,
        columns={"x_kind": ["z", "x", "y"], "x_value": [3.0, 1.0, 2.0]},
    )  # fmt: skip
    assert list(table["label"].values) == ["a", "b", "c"]
    assert list(table["x_kind"].values) == ["x", "y", "z"]
    assert list(table["x_value"].values) == [1.0, 2.0, 3.0]
    assert table["code"].dtype == np.int64


@given(st.lists(st.sampled_from(["A", "B", "A-0", "A-1", "C"]), max_size=8))
def test_names_become_unique_and_single_ones_stay(names):
    unique, issues = unique_names(names, "a")
    assert len(set(unique)) == len(names)
    assert bool(issues) == (len(set(names)) < len(names))
    for name, new in zip(names, unique, strict=True):
        assert new == name if names.count(name) == 1 else new.startswith(f"{name}-")


def test_24_bit_integers():
    values = np.array([0, 1, -1, 2**23 - 1, -(2**23), 255, -256, 65_536], dtype=np.int32)
    raw = values.astype("<i4").view(np.uint8).reshape(-1, 4)[:, :3]
    np.testing.assert_array_equal(_integers(raw), values)
    assert _integers(raw).dtype == np.int32


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("sub-01_task-x_ieeg.edf", "ieeg"),
        ("sub-01/meg/run.fif", "meg"),
        ("a/b.edf", "eeg"),
        ("sub-1/eeg/sub-1_eeg.vhdr", "eeg"),
    ],
)
def test_modality_of_a_path(path, expected):
    assert modality_of_path(Path(path)) == expected


def test_restating_a_unit_changes_the_scale_and_not_the_numbers():
    numbers = np.array([[1, 2], [3, 4]], dtype=np.int16)
    table = table_of(declared=("V", "uV"))
    source = source_of(numbers, table, scale=np.array([2.0, 3e-6]))
    changed = restate_units(source, {"E0": "uV", "E1": "uV"})
    assert source.gain is None
    handle = ChannelHandle(changed, "eeg")
    raw = handle.schema().raw
    np.testing.assert_allclose(raw["scale_factor"].values, [2e-6, 3e-6], rtol=1e-15)
    assert changed.channels.declared == ("uV", "uV")
    block = next(handle.blocks(100))
    np.testing.assert_array_equal(block.values, numbers)
    with pytest.raises(IngestError, match="no unit"):
        restate_units(source, {"E0": "furlong"})


def test_a_layer_may_replace_what_the_header_says(monkeypatch):
    """What a sidecar knows goes in through `LAYERS`, before types are asked for."""
    from dataclasses import replace

    def layer(source, modality, *_):
        assert modality == "ieeg"
        table = replace(
            source.channels, ch_type=("seeg", "ecog"), bad=np.array([True, False]),
            columns={"electrode_group": ["A", "B"], "contact": np.array([1, 2], np.int32)},
        )  # fmt: skip
        issues = (*source.issues, Issue("SEEN", "channels.tsv", "read"))
        return replace(source, channels=table, types_stated=True, issues=issues)

    values = np.random.default_rng(0).standard_normal((50, 2)) * 1e-5
    bare = source_of(values, table_of(), types_stated=False)
    with pytest.raises(IngestError, match="MISSING_SIDECAR"):
        open_channels(bare, "ieeg", IngestOverride())
    monkeypatch.setattr("neuropipe.io.channels.opening._layer", lambda target: layer)
    monkeypatch.setattr("neuropipe.io.channels.opening.LAYERS", ("a:b",))
    handle = open_channels(bare, "ieeg", IngestOverride())
    raw = handle.schema().raw
    assert list(raw["ch_type"].values) == ["seeg", "ecog"]
    assert list(raw["electrode_group"].values) == ["A", "B"]
    assert raw["contact"].dtype == np.int32
    assert [issue.code for issue in handle.issues] == ["SEEN"]
    assert list(raw["bad"].values) == [True, False]


def test_faults_of_a_sidecar_are_named():
    values = np.zeros((5, 2))
    from dataclasses import replace

    twice = replace(table_of(), name=("A", "A"))
    with pytest.raises(IngestError, match="share the names A"):
        ChannelHandle(source_of(values, twice), "eeg")
    with pytest.raises(IngestError, match="channels 3, columns of samples 2"):
        ChannelHandle(source_of(values, table_of(("eeg",) * 3, ("V",) * 3, ("V",) * 3)), "eeg")
    odd = ChannelHandle(source_of(values, replace(table_of(), ch_type=("eeg", "magic"))), "eeg")
    assert [issue.code for issue in odd.issues] == ["VOCABULARY"]
    with pytest.raises(IngestError, match="EMPTY.*no channels"):
        open_channels(source_of(np.zeros((5, 0)), table_of((), (), ())), "eeg", IngestOverride())


def test_observed_time_ends_at_gaps_and_at_breaks():
    values = np.zeros((8, 2))
    time = np.array([0, 1, 2, 3, 10, 11, 12, 13]) / 100
    handle = ChannelHandle(source_of(values, time=time, breaks=(2, 6)), "eeg")
    observed = handle.schema().raw["observed"].values
    expected = np.array([[0, 1], [2, 3], [10, 11], [12, 13]]) / 100
    np.testing.assert_allclose(observed, expected)
    handle = ChannelHandle(source_of(values, breaks=(5,)), "eeg")
    np.testing.assert_allclose(handle.schema().raw["observed"].values, [[0, 0.04], [0.05, 0.07]])
    assert "observed" not in ChannelHandle(source_of(values), "eeg").schema().raw


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (EOFError("x"), "TRUNCATED"),
        (ValueError("file is truncated"), "TRUNCATED"),
        (KeyError("chs"), "NOT_THIS_FORMAT"),
        (AssertionError(), "NOT_THIS_FORMAT"),
    ],
)
def test_errors_of_mne_keep_their_words(error, code):
    def read(path):
        raise error

    with pytest.raises(IngestError, match=type(error).__name__) as caught:
        call_mne(read, Path("a.con"))
    assert caught.value.code == code


def test_warnings_of_mne_become_issues():
    import warnings

    def read(path):
        warnings.warn("Odd header.", RuntimeWarning, stacklevel=1)
        warnings.warn("will go away", DeprecationWarning, stacklevel=1)
        return 1

    result, issues = call_mne(read, Path("a.con"))
    assert result == 1
    assert [(issue.code, issue.message) for issue in issues] == [("HEADER", "mne: Odd header.")]


@pytest.mark.parametrize("kind", ["ctf", "kit"])
def test_systems_that_mne_decodes(tmp_path, monkeypatch, kind):
    """mne writes neither format, so its readers give a recording made here."""
    import mne

    from neuropipe.io.registry import match

    info = mne.create_info(["MLC11", "MRC11", "UPPT001"], 100.0, ["mag", "mag", "stim"])
    info.set_meas_date(datetime(2024, 1, 1, tzinfo=UTC))
    values = np.random.default_rng(0).standard_normal((3, 200)) * 1e-13
    values[2] = 0
    values[2, 50:60] = 7
    given = mne.io.RawArray(values, info, verbose="error")
    if kind == "ctf":
        path = tmp_path / "sub-01_task-rest_meg.ds"
        path.mkdir()
        for suffix in (".res4", ".meg4"):
            (path / f"a{suffix}").write_bytes(b"MEG4")
        monkeypatch.setattr(mne.io, "read_raw_ctf", lambda path, **_: given)
    else:
        path = tmp_path / "sub-01_task-rest_meg.sqd"
        path.write_bytes(b"\x00\x01" * 100)
        monkeypatch.setattr(mne.io, "read_raw_kit", lambda path, **_: given)
    reader, hit = match(path)
    assert (reader.name, hit.modality, hit.entities["task"]) == (kind, "meg", "rest")
    handle = reader.open_recording(path, reader.settings(), IngestOverride(), "meg")
    blocks = list(handle.blocks(1000))
    np.testing.assert_array_equal(np.concatenate([b.values for b in blocks]), values.T)
    events = handle.events()
    assert (events["onset"].values[0], events["code"].values[0]) == (0.5, 7)
    schema = handle.schema()
    assert schema.clock == RegularClock(0.0, 100.0, 200)
    assert "session_start" not in schema.attrs
    assert [issue.code for issue in handle.issues] == ["NAIVE_SESSION_START"]


def raw_store(**changes):
    n = 2
    words = np.array(["eeg", "eeg"], dtype=object)
    coords = {
        **dict.fromkeys(("ch_type", "units", "reference"), ("channel", words)),
        **{name: ("channel", np.zeros(n)) for name in ("x", "y", "z", "low_cutoff", "high_cutoff")},
        "channel": ("channel", np.array(["a", "b"], dtype=object)),
        "channel_source": ("channel", words),
        "bad": ("channel", np.zeros(n, bool)),
        "scale_factor": ("channel", np.ones(n)),
        "add_offset": ("channel", np.zeros(n)),
    }
    coords |= {name: value for name, value in changes.items() if value is not None}
    coords = {name: v for name, v in coords.items() if changes.get(name, "") is not None}
    signal = np.zeros((3, n), np.int16)
    return xr.Dataset({"signal": (("time", "channel"), signal)}, coords)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, []),
        ({"bad": None}, [("COLUMNS", "bad")]),
        ({"x": ("channel", np.zeros(2, np.int64))}, [("DIMS", "x")]),
        ({"scale_factor": None}, [("SCALE", "scale_factor")]),
        ({"scale_factor": ("channel", np.array([1, np.nan]))}, [("SCALE", "scale_factor")]),
        ({"scale_factor": ("channel", np.array([1.0, 0.0]))}, [("SCALE", "scale_factor")]),
        (
            {"ch_type": ("channel", np.array(["EEG", "eeg"], dtype=object))},
            [("VOCABULARY", "ch_type")],
        ),
        ({"contact": ("channel", np.zeros(2))}, [("DIMS", "contact")]),
    ],
)
def test_faults_of_stores_are_found(changes, expected):
    found = channel_faults(raw_store(**changes))
    assert [(code, name) for code, name, _ in found] == expected


def test_floats_must_not_have_a_scale():
    ds = raw_store()
    ds["signal"] = ds["signal"].astype(np.float64)
    assert [name for _, name, _ in channel_faults(ds)] == ["scale_factor", "add_offset"]
    assert channel_faults(ds.drop_vars(["scale_factor", "add_offset"])) == []


def test_physical_values_of_parts():
    rng = np.random.default_rng(0)
    numbers = rng.integers(-100, 100, (20, 3)).astype(np.int16)
    scale, offset = np.array([0.5, 2.0, 1e-6]), np.array([0.0, 1.0, -1e-5])
    coords = {"scale_factor": ("channel", scale), "add_offset": ("channel", offset)}
    ds = xr.Dataset({"signal": (("time", "channel"), numbers)}, coords)
    expected = numbers * scale + offset
    np.testing.assert_array_equal(physical(ds), expected)
    np.testing.assert_array_equal(physical(ds, slice(1, 3), slice(5, 9)), expected[5:9, 1:3])
    rows = np.array([2, 0])
    np.testing.assert_array_equal(physical(ds, rows), expected[:, rows])
    flags = np.array([True, False, True])
    np.testing.assert_array_equal(physical(ds, flags), expected[:, flags])
    assert physical(ds.drop_vars(["scale_factor", "add_offset"])).dtype == np.float64
