"""Clocks of devices, and behaviour, events and trials in tables beside a recording."""

from __future__ import annotations

import json

import numpy as np
import pytest
import xarray as xr
from ingests import START, codes, ingest_source, refusal_check

from neuropipe.config.models import IngestConfig
from neuropipe.config.recordings import Recording
from neuropipe.errors import ConfigError, IngestError
from neuropipe.io.ingest import ingest_recording
from neuropipe.simulate.spike_files import simulate_spikes, write_spike_nwb, write_spike_table
from neuropipe.store.nwb import from_nwb
from neuropipe.store.spikes import BY_TIME, spikes_between, spikes_of
from neuropipe.store.validate import validate_store
from neuropipe.store.zarr import open_store

SPIKES = simulate_spikes()
SCALE, OFFSET = 1.00025, -12.5
PAIR = {"a": SCALE, "b": OFFSET}
DEVICE_START = 1_833_319.25


def spikes_beside(folder):
    write_spike_nwb(SPIKES, folder / "a.nwb")
    return folder / "a.nwb"


def calcium_beside(folder, n=400, step=0.1, start=DEVICE_START):
    time = start + step * np.arange(n)
    table = np.column_stack([time, np.sin(time), np.cos(time)])
    lines = ["time,r1,r2", *(",".join(repr(float(x)) for x in row) for row in table)]
    (folder / "c.csv").write_text("\n".join(lines) + "\n")
    return folder / "c.csv", time


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path.name


def columns(path, **values):
    rows = zip(*values.values(), strict=True)
    lines = [",".join(values), *(",".join(str(cell) for cell in row) for row in rows)]
    return write(path, "\n".join(lines) + "\n")


def ingest(source, out, *, others=(), start=START, **override):
    modality = "calcium" if source.suffix == ".csv" else "spikes"
    readers = {"table": {"kind": "dff"}, "spike_table": {}}
    return ingest_source(
        source, out, modality, override=override, row={"session_start": start}, others=others,
        readers=readers,
    )  # fmt: skip


check_refusal = refusal_check(ingest)


def steps_of(tree):
    return [step for step in json.loads(tree.attrs["pipeline"]) if step["step"] == "clock"]


# -- clocks -----------------------------------------------------------------------------------


def test_without_settings_the_session_begins_with_the_first_sample(tmp_path):
    source, time = calcium_beside(tmp_path)
    _, tree = ingest(source, tmp_path / "o")
    np.testing.assert_array_equal(tree["raw/time"].values, time - time[0])
    assert tree.attrs["clock_scale"] == 1.0
    assert tree.attrs["clock_offset"] == -time[0]
    assert tree.attrs["t0_source"] == time[0]
    assert steps_of(tree) == []


@pytest.mark.parametrize("pair", [PAIR, {"a": 0.99987, "b": 3.0}, {"b": -DEVICE_START}, {"a": 1.0}])
def test_device_times_come_back_from_the_stored_pair(tmp_path, pair):
    source, time = calcium_beside(tmp_path, start=1_000.0)
    _, tree = ingest(source, tmp_path / "o", clock=pair | ({"b": 1.0} if len(pair) == 1 else {}))
    a, b = tree.attrs["clock_scale"], tree.attrs["clock_offset"]
    session = tree["raw/time"].values
    np.testing.assert_array_equal(session, a * time + b)
    # One rounding forth and two back, each of half an ulp of the larger of both clocks.
    ulp = np.spacing(max(np.abs(session).max(), time.max()))
    np.testing.assert_allclose((session - b) / a, time, rtol=0, atol=2 * ulp)
    assert tree.attrs["t0_source"] == time[0]
    assert steps_of(tree)[0] == {"step": "clock", "by": "settings", "a": a, "b": b}


def test_everything_of_a_spike_recording_moves_along(tmp_path):
    source = spikes_beside(tmp_path)
    report, tree = ingest(source, tmp_path / "o", clock=PAIR)
    raw = tree["raw"].to_dataset()
    for k, times in enumerate(SPIKES.times):
        np.testing.assert_array_equal(spikes_of(tree, k), SCALE * times + OFFSET)
    np.testing.assert_array_equal(raw["observed"].values, [[OFFSET, SCALE * 60 + OFFSET]])
    np.testing.assert_array_equal(raw["obs_stop"].values, np.full((1, 4), SCALE * 60 + OFFSET))
    np.testing.assert_array_equal(tree["trials/start"].values, SCALE * SPIKES.trials[:, 0] + OFFSET)
    times, _ = spikes_between(tree, OFFSET, 0.0)
    assert len(times) == sum(int((SCALE * t + OFFSET < 0).sum()) for t in SPIKES.times)
    assert report["duration_s"] == pytest.approx(60 * SCALE)
    again = from_nwb(tmp_path / "o/sub-01_spikes.nwb")
    assert again.identical(tree.drop_nodes(BY_TIME))
    assert validate_store(tmp_path / "o/sub-01_spikes.nwb") == []


def test_our_own_file_stays_on_the_session_clock(tmp_path):
    first, tree = ingest(spikes_beside(tmp_path), tmp_path / "o", clock=PAIR)
    again, copy = ingest(tmp_path / "o/sub-01_spikes.nwb", tmp_path / "p")
    assert again["content_sha256"] == first["content_sha256"]
    for key in ("clock_scale", "clock_offset", "t0_source"):
        assert copy.attrs[key] == tree.attrs[key]
    with pytest.raises(ConfigError, match="already"):
        ingest(tmp_path / "o/sub-01_spikes.nwb", tmp_path / "q", clock=PAIR)


def pulses(seed=0, n=60):
    return np.cumsum(np.random.default_rng(seed).uniform(0.3, 1.0, n))


def test_shared_pulses_give_the_clock(tmp_path):
    session = pulses()
    device = (session - OFFSET) / SCALE
    columns(tmp_path / "mine.csv", ttl=np.delete(device, [4, 5, 30]) * 1e3)
    columns(tmp_path / "theirs.csv", time_s=np.append(np.delete(session, 11), 99.0))
    clock = {
        "pulses": {"path": "mine.csv", "column": "ttl", "time_unit": "ms"},
        "reference": {"path": "theirs.csv"},
    }
    report, tree = ingest(spikes_beside(tmp_path), tmp_path / "o", clock=clock)
    assert tree.attrs["clock_scale"] == pytest.approx(SCALE, abs=1e-9)
    assert tree.attrs["clock_offset"] == pytest.approx(OFFSET, abs=1e-6)
    assert codes(report) == ["CLOCK_FIT"]
    assert (
        "56 pulses matched, 1 of the device and 4 of the reference"
        in report["issues"][0]["message"]
    )
    (step,) = steps_of(tree)
    assert (step["by"], step["matched"]) == ("pulses", 56)
    assert step["rms_s"] < 1e-9
    assert {entry["path"] for entry in report["source"]} == {"a.nwb", "mine.csv", "theirs.csv"}


def test_pulses_among_events_and_in_the_store_of_another_recording(tmp_path):
    session = pulses()
    columns(
        tmp_path / "ttl.csv", onset_s=[*session, 5.0], label=["sync"] * len(session) + ["reward"]
    )
    _, reference = ingest(spikes_beside(tmp_path), tmp_path / "o", events={"path": "ttl.csv"})
    assert set(reference["events/label"].values) == {"sync", "reward"}
    device = (session - OFFSET) / SCALE
    frames = np.searchsorted(np.arange(12.0, 80.0, 0.001), device)
    source, _ = calcium_beside(tmp_path, n=68_000, step=0.001, start=12.0)
    columns(tmp_path / "frames.csv", frame=frames[frames < 68_000] + 1)
    clock = {
        "pulses": {"label": "sync"},
        "reference": {"recording": "sub-01_spikes", "label": "sync"},
    }
    events = {"path": "frames.csv", "onset": "frame", "name": "sync"}
    events |= {"time_unit": "samples", "index_base": 1}
    report, tree = ingest(
        source, tmp_path / "p", others=[tmp_path / "o/sub-01_spikes.zarr"], clock=clock,
        events=events,
    )  # fmt: skip
    # Frames are 1 ms apart: a pulse is known to one frame, the line through 60 to much less.
    at = tree.attrs["clock_scale"] * device + tree.attrs["clock_offset"]
    assert np.abs(at - session).max() < 1e-3
    np.testing.assert_allclose(tree["events/onset"].values, session, atol=1.1e-3)
    assert "CLOCK_FIT" in codes(report)
    with pytest.raises(IngestError, match="ingest that recording first"):
        ingest(source, tmp_path / "q", clock=clock, events=events)


def test_pulses_that_do_not_fit_are_refused(tmp_path):
    source = spikes_beside(tmp_path)
    columns(tmp_path / "mine.csv", time_s=pulses(1))
    columns(tmp_path / "theirs.csv", time_s=pulses(2))
    clock = {"pulses": {"path": "mine.csv"}, "reference": {"path": "theirs.csv"}}
    check_refusal("CLOCK_MISMATCH", "clock", source, tmp_path / "o", clock=clock)
    columns(tmp_path / "theirs.csv", time_s=pulses(1)[:2])
    check_refusal(
        "CLOCK_MISMATCH", "2 pulses of the reference", source, tmp_path / "o", clock=clock
    )
    clock["pulses"] = {"label": "ttl"}
    check_refusal("MISSING_SIDECAR", "label 'ttl'", source, tmp_path / "o", clock=clock)


def test_residuals_beyond_2_ms_warn_and_beyond_a_sample_are_refused(tmp_path):
    rng = np.random.default_rng(3)
    device = pulses(4, 200)
    columns(tmp_path / "mine.csv", time_s=device)
    columns(tmp_path / "theirs.csv", time_s=np.sort(device + rng.normal(0, 0.004, len(device))))
    clock = {"pulses": {"path": "mine.csv"}, "reference": {"path": "theirs.csv"}}
    clock["tolerance_ms"] = 20
    source, _ = calcium_beside(tmp_path, start=0.0)
    report, _ = ingest(source, tmp_path / "o", clock=clock)
    assert "CLOCK_RESIDUAL" in codes(report)
    source, _ = calcium_beside(tmp_path, start=0.0, step=0.002, n=2000)
    check_refusal("CLOCK_MISMATCH", "more than one sample", source, tmp_path / "p", clock=clock)


def test_moments_give_an_offset(tmp_path):
    clock = {"session_start": "2024-01-01T08:58:30+00:00"}
    _, tree = ingest(spikes_beside(tmp_path), tmp_path / "o", clock=clock)
    assert (tree.attrs["clock_scale"], tree.attrs["clock_offset"]) == (1.0, 90.0)
    assert tree.attrs["session_start"] == clock["session_start"]
    np.testing.assert_array_equal(spikes_of(tree, 0), SPIKES.times[0] + 90.0)
    clock["device_zero"] = "2024-01-01T10:58:40.5+02:00"
    _, tree = ingest(spikes_beside(tmp_path), tmp_path / "p", clock=clock)
    assert tree.attrs["clock_offset"] == 10.5
    clock = {"session_start": "2023-12-30T08:58:30+00:00"}
    check_refusal("CLOCK_MISMATCH", "a day", spikes_beside(tmp_path), tmp_path / "q", clock=clock)
    clock = {"session_start": "2023-12-30T08:58:30"}
    check_refusal(
        "NAIVE_SESSION_START", "offset", spikes_beside(tmp_path), tmp_path / "q", clock=clock
    )


@pytest.mark.parametrize(
    ("clock", "fragment"),
    [
        ({}, "needs one of"),
        ({"a": 1.0, "session_start": "2024-01-01T00:00:00+00:00"}, "needs one of"),
        ({"pulses": {"label": "x"}}, "go together"),
        ({"a": 0.0}, "greater than 0"),
        ({"a": 60.0}, "max_drift"),
        ({"a": 1.0, "ofset": 3}, "unknown key"),
        ({"pulses": {"label": "x", "path": "y"}, "reference": {"label": "x"}}, "one of the two"),
        ({"device_zero": "2024-01-01T00:00:00+00:00", "a": 1.0}, "goes with"),
    ],
)
def test_a_clock_is_described_in_one_way(tmp_path, clock, fragment):
    with pytest.raises(ConfigError, match=fragment):
        ingest(spikes_beside(tmp_path), tmp_path / "o", clock=clock)


# -- behaviour --------------------------------------------------------------------------------

GAZE = np.arange(0, 60.0, 0.25)


def gaze(folder, time=GAZE, **more):
    sides = ["left" if k % 3 else "right" for k in range(len(time))]
    values = {"time_ms": time * 1e3, "x": np.sin(time), "zone": np.arange(len(time)) % 4}
    return columns(folder / "gaze.csv", **values, side=sides, **more)


def test_streams_keep_their_own_clock_and_kinds(tmp_path):
    source = spikes_beside(tmp_path)
    gaze(tmp_path)
    lick = np.linspace(0.1, 59.9, 77)
    columns(tmp_path / "lick.tsv".replace("tsv", "csv"), t=lick, force=lick**2)
    behavior = {
        "gaze": {"path": "gaze.csv", "units": {"x": "deg"}, "categorical": ["zone"]},
        "lick": {"path": "lick.csv", "time_unit": "s", "columns": ["force"]},
    }
    report, tree = ingest(source, tmp_path / "o", behavior=behavior, clock=PAIR)
    found = tree["behavior"].to_dataset()
    np.testing.assert_array_equal(found["time_gaze"].values, SCALE * (GAZE * 1e3 / 1e3) + OFFSET)
    np.testing.assert_array_equal(found["x"].values, np.sin(GAZE))
    np.testing.assert_array_equal(found["force"].values, lick**2)
    assert found["force"].dims == ("time_lick",)
    assert found["x"].attrs["units"] == "deg"
    assert found["zone"].dtype == np.int64
    assert [n for n in found.data_vars if found[n].attrs.get("categorical")] == ["side", "zone"]
    assert report["issues"] == []
    again = from_nwb(tmp_path / "o/sub-01_spikes.nwb")
    assert again["behavior"].to_dataset().identical(found)
    assert validate_store(tmp_path / "o/sub-01_spikes.nwb") == []


def test_a_stream_may_have_a_clock_of_its_own(tmp_path):
    source = spikes_beside(tmp_path)
    gaze(tmp_path, GAZE + 40)
    behavior = {"gaze": {"path": "gaze.csv", "clock": {"a": 0.9999, "b": -39.0}}}
    _, tree = ingest(source, tmp_path / "o", behavior=behavior)
    device = (GAZE + 40) * 1e3 / 1e3
    np.testing.assert_array_equal(tree["behavior/time_gaze"].values, 0.9999 * device - 39)
    (step,) = steps_of(tree)
    assert (step["of"], step["b"]) == ("behavior.gaze", -39.0)


def test_a_camera_finds_its_clock_through_events_of_the_recording(tmp_path):
    source = spikes_beside(tmp_path)
    led = pulses()
    columns(tmp_path / "ttl.csv", onset_s=led, label=["led"] * len(led))
    columns(tmp_path / "seen.csv", time_s=np.delete((led - 7) / 1.0004, [3, 9]))
    gaze(tmp_path, (GAZE - 7) / 1.0004)
    clock = {"pulses": {"path": "seen.csv"}, "reference": {"label": "led"}}
    _, tree = ingest(
        source, tmp_path / "o", events={"path": "ttl.csv"},
        behavior={"gaze": {"path": "gaze.csv", "clock": clock}},
    )  # fmt: skip
    np.testing.assert_allclose(tree["behavior/time_gaze"].values, GAZE, atol=1e-9)


def test_behaviour_that_runs_at_another_time_is_refused(tmp_path):
    source = spikes_beside(tmp_path)
    gaze(tmp_path, GAZE[:100])
    stream = {"path": "gaze.csv"}
    check_refusal("CLOCK_MISMATCH", "41%", source, tmp_path / "o", behavior={"gaze": stream})
    _, tree = ingest(source, tmp_path / "o", behavior={"gaze": {**stream, "min_overlap": 0.3}})
    assert tree["behavior"].sizes["time_gaze"] == 100
    gaze(tmp_path, GAZE + 90_000)
    check_refusal(
        "CLOCK_MISMATCH", "start offset", source, tmp_path / "p", behavior={"gaze": stream}
    )


def test_names_collide_nowhere(tmp_path):
    source = spikes_beside(tmp_path)
    gaze(tmp_path)
    two = {"gaze": {"path": "gaze.csv"}, "pupil": {"path": "gaze.csv"}}
    check_refusal("DUPLICATE_VARIABLE", "'side'", source, tmp_path / "o", behavior=two)
    columns(tmp_path / "trials.csv", start_s=[0.0], stop_s=[1.0])
    check_refusal(
        "DUPLICATE_VARIABLE", "trials", source, tmp_path / "o", trials={"path": "trials.csv"}
    )


@pytest.mark.parametrize(
    ("text", "settings", "code", "fragment"),
    [
        (None, {}, "MISSING_SIDECAR", "no such file"),
        ("a,b\n1,2\n", {}, "MISSING_SIDECAR", "no column of times"),
        ("time,b\n1,2\n", {}, "MISSING_SIDECAR", "state the unit"),
        ("time_s,b\n1,2\n1,3\n", {}, "BAD_TIME", "repeats"),
        ("time_s,b\n1,2\n,3\n", {}, "BAD_TIME", "not finite"),
        ("time_s,b\n1,2\n2\n", {}, "TRUNCATED", "1 cells, 2 expected"),
        ("time_s,b\n", {}, "EMPTY", "no rows"),
        ("time_s\n1\n", {}, "EMPTY", "no columns"),
        ("time_s,b\nsoon,2\n", {}, "NOT_THIS_FORMAT", "'soon'"),
        ("time_s,b,b\n1,2,3\n", {}, "DUPLICATE_COLUMN", "two columns are named 'b'"),
        ("time_s,b,\n1,2,3\n", {}, "NOT_THIS_FORMAT", "column 3 of the header has no name"),
        ("time_s,b\n1,a\x00\n", {}, "ENCODING", "NUL"),
        ("time_s,b\n1_000,2\n", {}, "NOT_THIS_FORMAT", "'1_000'"),
        ("<html>", {}, "NOT_THIS_FORMAT", "HTML"),
    ],
)
def test_faults_of_a_stream(tmp_path, text, settings, code, fragment):
    source = spikes_beside(tmp_path)
    if text is not None:
        write(tmp_path / "b.csv", text)
    stream = {"path": "b.csv", **settings}
    check_refusal(code, fragment, source, tmp_path / "o", behavior={"b": stream})


def test_a_column_that_counts_the_rows_is_no_variable(tmp_path):
    source, text = spikes_beside(tmp_path), "{},time_s,b\n{},0,2\n{},60,3\n"
    write(tmp_path / "b.csv", text.format("", 0, 1))
    _, tree = ingest(source, tmp_path / "o", behavior={"b": {"path": "b.csv"}})
    assert list(tree["behavior"].data_vars) == ["b"]
    write(tmp_path / "b.csv", text.format("", 4, 7))  # numbers of something else
    stream = {"b": {"path": "b.csv"}}
    check_refusal("NOT_THIS_FORMAT", "has no name", source, tmp_path / "p", behavior=stream)


def test_a_table_without_events_is_told(tmp_path):
    source = spikes_beside(tmp_path)
    write(tmp_path / "e.csv", "onset_s,label\n")
    report, _ = ingest(source, tmp_path / "o", events={"path": "e.csv"})
    assert "a header without events" in [issue["message"] for issue in report["issues"]]


def test_settings_of_a_stream_name_columns_that_exist(tmp_path):
    source = spikes_beside(tmp_path)
    gaze(tmp_path)
    for key in ({"columns": ["y"]}, {"units": {"y": "m"}}, {"time": "y"}):
        with pytest.raises(ConfigError, match="no column 'y'"):
            ingest(source, tmp_path / "o", behavior={"gaze": {"path": "gaze.csv", **key}})
    check_refusal(
        "UNSAFE", "leads out", source, tmp_path / "o", behavior={"g": {"path": "../g.csv"}}
    )


def test_parquet_with_missing_values_and_text(tmp_path):
    import pandas as pd

    source = spikes_beside(tmp_path)
    frame = pd.DataFrame({"time_s": GAZE, "n": pd.array([None, *range(239)], dtype="Int64")})
    frame["word"] = [None, *["ü"] * 239]
    frame.to_parquet(tmp_path / "b.parquet")
    _, tree = ingest(source, tmp_path / "o", behavior={"b": {"path": "b.parquet"}})
    found = tree["behavior"].to_dataset()
    np.testing.assert_array_equal(found["n"].values, [np.nan, *range(239)])
    assert list(found["word"].values[:2]) == ["", "ü"]


# -- events and trials ------------------------------------------------------------------------


def test_events_join_those_of_the_source_in_the_order_of_onset(tmp_path):
    source = spikes_beside(tmp_path)
    text = (
        "onset\tduration\ttrial_type\tvalue\tside\n3.5\tn/a\tgo\t7\tleft\n1.25\t0.5\tcue\t2\tn/a\n"
    )
    write(tmp_path / "events.tsv", text)
    events = {"path": "events.tsv", "time_unit": "s"}
    _, tree = ingest(source, tmp_path / "o", events=events, clock=PAIR)
    found = tree["events"].to_dataset()
    np.testing.assert_array_equal(found["onset"].values, SCALE * np.array([1.25, 3.5]) + OFFSET)
    np.testing.assert_array_equal(found["duration"].values, [0.5 * SCALE, np.nan])
    assert list(found["label"].values) == ["cue", "go"]
    assert list(found["code"].values) == [2, 7]
    assert list(found["x_side"].values) == ["", "left"]
    assert set(found["source"].values) == {"events.tsv"}
    again = from_nwb(tmp_path / "o/sub-01_spikes.nwb")
    assert again["events"].to_dataset().identical(found)


def test_joined_events_fill_what_one_side_lacks():
    from neuropipe.io.behavior.sidecars import join_events

    def table(onset, label, **more):
        base = {"onset": onset, "label": np.array([label] * len(onset), dtype=object)}
        return xr.Dataset({k: ("event", np.asarray(v)) for k, v in (base | more).items()})

    one = table([2.0, 5.0], "a", code=np.array([1, 2]), x_level=[0.5, 0.25])
    two = table([3.0], "b", x_word=np.array(["w"], dtype=object))
    joined = join_events([one, None, two], "here")
    np.testing.assert_array_equal(joined["onset"].values, [2, 3, 5])
    np.testing.assert_array_equal(joined["x_level"].values, [0.5, np.nan, 0.25])
    assert list(joined["x_word"].values) == ["", "w", ""]
    assert list(joined["code"].values) == [1, -1, 2]
    with pytest.raises(IngestError, match="'a' stands in the source"):
        join_events([one, table([9.0], "a")], "here")


@pytest.mark.parametrize("base", [0, 1])
def test_intervals_of_sample_numbers_become_seconds(tmp_path, base):
    source, time = calcium_beside(tmp_path)
    columns(tmp_path / "rev.csv", first=[10 + base, 0 + base], last=[25 + base, 4 + base])
    events = {"path": "rev.csv", "onset": "first", "stop": "last", "name": "reversal"}
    events |= {"time_unit": "samples", "index_base": base}
    _, tree = ingest(source, tmp_path / "o", events=events)
    session = time - time[0]
    np.testing.assert_array_equal(tree["events/onset"].values, session[[0, 10]])
    np.testing.assert_allclose(tree["events/duration"].values, [0.4, 1.5], atol=1e-9)
    columns(tmp_path / "rev.csv", first=[399 + base], last=[400 + base])
    check_refusal("LENGTH_MISMATCH", "400 samples", source, tmp_path / "p", events=events)


def test_intervals_may_count_the_samples_of_a_stream(tmp_path):
    source = spikes_beside(tmp_path)
    gaze(tmp_path, GAZE + 40)
    columns(tmp_path / "rev.csv", first=[1, 100], last=[2, 120])
    events = {"path": "rev.csv", "onset": "first", "stop": "last", "name": "reversal"}
    events |= {"time_unit": "samples", "index_base": 1}
    behavior = {"gaze": {"path": "gaze.csv", "clock": {"b": -40.0}}}
    _, tree = ingest(source, tmp_path / "o", behavior=behavior, events={**events, "of": "gaze"})
    np.testing.assert_array_equal(tree["events/onset"].values, GAZE[[0, 99]])
    np.testing.assert_array_equal(tree["events/duration"].values, [0.25, 5.0])
    with pytest.raises(ConfigError, match="no samples to count"):
        ingest(source, tmp_path / "p", behavior=behavior, events=events)
    with pytest.raises(ConfigError, match="no behaviour stream"):
        ingest(source, tmp_path / "p", behavior=behavior, events={**events, "of": "gazes"})
    with pytest.raises(ConfigError, match="index_base"):
        ingest(source, tmp_path / "p", events={"path": "rev.csv", "time_unit": "samples"})


def test_trials_with_moments_among_their_columns(tmp_path):
    source, _ = calcium_beside(tmp_path, start=100.0)
    columns(
        tmp_path / "trials.csv", start=[101.0, 110.0], stop=[105.0, 112.0], go_time=[102.0, 111.0],
        choice=["left", "right"], correct=[1, 0],
    )  # fmt: skip
    trials = {"path": "trials.csv", "time_unit": "s", "times": ["go_time"]}
    report, tree = ingest(source, tmp_path / "o", trials=trials)
    found = tree["trials"].to_dataset()
    np.testing.assert_array_equal(found["start"].values, [1.0, 10.0])
    np.testing.assert_array_equal(found["go_time"].values, [2.0, 11.0])
    assert list(found["choice"].values) == ["left", "right"]
    assert "SOURCE_CLOCK" not in codes(report)
    columns(tmp_path / "trials.csv", start=[2.0], stop=[1.0])
    trials = {"path": "trials.csv", "time_unit": "s"}
    check_refusal("BAD_TIME", "before it starts", source, tmp_path / "p", trials=trials)
    columns(tmp_path / "trials.csv", start=[2.0], stop=["inf"])
    check_refusal("BAD_TIME", "infinite", source, tmp_path / "p", trials=trials)


def test_trials_may_tell_durations_instead_of_ends(tmp_path):
    source, _ = calcium_beside(tmp_path, start=100.0)
    columns(tmp_path / "trials.csv", onset=[101.0, 110.0], duration=[4.0, 2.5], label=["a", "b"])
    trials = {"path": "trials.csv", "time_unit": "s"}
    _, tree = ingest(source, tmp_path / "o", trials=trials)
    found = tree["trials"].to_dataset()
    np.testing.assert_array_equal(found["stop"].values, [5.0, 12.5])
    assert "duration" not in found
    columns(tmp_path / "trials.csv", onset=[101.0], label=["a"])
    check_refusal("MISSING_SIDECAR", "ends or durations", source, tmp_path / "p", trials=trials)
    columns(tmp_path / "trials.csv", onset=[101.0], duration=[-1.0], label=["a"])
    check_refusal("BAD_TIME", "before it starts", source, tmp_path / "p", trials=trials)


@pytest.mark.parametrize(
    ("text", "settings", "code", "fragment"),
    [
        ("onset,label\n1,a\n", {}, "MISSING_SIDECAR", "state the unit"),
        ("onset_s\n1\n", {}, "MISSING_SIDECAR", "no column of labels"),
        ("when,label\n1,a\n", {}, "MISSING_SIDECAR", "no column of onsets"),
        ("onset_s,label\n,a\n", {}, "BAD_TIME", "row 2"),
        ("onset_s,duration_s,label\n1,inf,a\n", {}, "BAD_TIME", "infinite"),
        ("onset_s,stop_s,label\n2,1,a\n", {"stop": "stop_s"}, "BAD_TIME", "before it starts"),
    ],
)
def test_faults_of_events(tmp_path, text, settings, code, fragment):
    write(tmp_path / "e.csv", text)
    events = {"path": "e.csv", **settings}
    check_refusal(code, fragment, spikes_beside(tmp_path), tmp_path / "o", events=events)


def test_a_spike_table_takes_the_same_settings(tmp_path):
    write_spike_table(SPIKES, tmp_path / "s.csv")
    gaze(tmp_path)
    name = "sub-01_spikes"
    row = Recording(name=name, subject="01", modality="spikes", path="x")
    override = {"time_unit": "s", "behavior": {"gaze": {"path": "gaze.csv"}}, "clock": PAIR}
    ingest_recording(
        row, tmp_path / "s.csv", IngestConfig(overrides={name: override}), tmp_path / "o.zarr"
    )
    tree = open_store(tmp_path / "o.zarr")
    np.testing.assert_array_equal(spikes_of(tree, 0), SCALE * SPIKES.times[0] + OFFSET)
    assert tree["behavior"].sizes["time_gaze"] == len(GAZE)


def test_a_regular_clock_stays_regular_on_the_session_clock():
    from neuropipe.io.recording_clock import session_grid
    from neuropipe.io.session_clock import SessionClock
    from neuropipe.store.clock import RegularClock

    regular = RegularClock(100.0, 1000.0, 5_000)
    moved = session_grid(regular, SessionClock(SCALE, OFFSET))
    assert moved is not None
    times = SCALE * (100.0 + np.arange(5_000) / 1000) + OFFSET
    np.testing.assert_allclose(moved.at(np.arange(5_000)), times, rtol=0, atol=1e-12)
    assert session_grid(regular, SessionClock(offset=-100.0)) == RegularClock(0.0, 1000.0, 5_000)
