"""Spikes of MATLAB files and of the formats that Neo reads."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import quantities as pq
from ingests import ingest_source, refusal_check

from neuropipe.errors import ConfigError, IngestError, MissingDependency
from neuropipe.io.registry import match
from neuropipe.io.scan import scan
from neuropipe.simulate.matlab_files import write_matlab
from neuropipe.simulate.plexon_files import sample_times, write_plexon
from neuropipe.simulate.spike_files import simulate_spikes
from neuropipe.store.spikes import spikes_of

SPIKES = simulate_spikes()
VERSIONS = pytest.mark.parametrize("version", ["5", "7.3"])
NAME = "sub-01_spikes"


def ingest(source, out, reader="", settings=None, **override):
    name = reader or match(source, "spikes")[0].name
    readers = {name: settings or {}}
    return ingest_source(
        source, out, "spikes", override=override, row={"reader": reader}, readers=readers
    )


check_refusal = refusal_check(ingest)


# -- MATLAB -----------------------------------------------------------------------------------


def cells(path, version, **more):
    content = {"times": list(SPIKES.times), "fs": np.array([[30_000.0]]), **more}
    write_matlab(path, {"sorted": content}, version)
    return path


@VERSIONS
@pytest.mark.parametrize("unit", ["s", "ms", "samples"])
def test_a_cell_array_in_any_unit(tmp_path, version, unit):
    scale = {"s": 1.0, "ms": 1e3, "samples": 30_000.0}[unit]
    values = list(SPIKES.samples) if unit == "samples" else [t * scale for t in SPIKES.times]
    path = cells(tmp_path / "a.mat", version, times=values)
    fields = {"times": "sorted.times", "rate": "sorted.fs"}
    settings = {"datasets": fields, "time_unit": unit, "duration_s": 60}
    report, tree = ingest(path, tmp_path / "o", settings=settings)
    assert report["issues"][0]["code"] == "NO_SESSION_START"
    assert len(report["issues"]) == 1
    assert list(tree["raw/unit"].values) == [1, 2, 3, 4]
    assert tree["raw/n_spikes"].values[3] == 0
    for k, times in enumerate(SPIKES.times):
        tolerance = 1e-14 if unit == "ms" else 0
        np.testing.assert_allclose(spikes_of(tree, k), times, rtol=tolerance)
    assert tree["raw"].attrs["sample_rate"] == 30_000


@VERSIONS
def test_names_quality_and_region_of_units(tmp_path, version):
    path = cells(tmp_path / "a.mat", version, id=list("abcd"), q=SPIKES.quality, r=SPIKES.region)
    fields = {"times": "times", "names": "id", "quality": "q", "region": "r"}
    settings = {"group": "sorted", "datasets": fields, "time_unit": "s", "duration_s": 60}
    _, tree = ingest(path, tmp_path / "o", settings=settings)
    assert list(tree["raw/unit"].values) == list("abcd")
    assert list(tree["raw/quality"].values) == SPIKES.quality
    assert list(tree["raw/region"].values) == SPIKES.region


@VERSIONS
def test_units_are_named_by_text_or_numbers(tmp_path, version):
    fields = {"times": "sorted.times", "names": "sorted.id"}
    settings = {"datasets": fields, "time_unit": "s", "duration_s": 60}
    numbers = [1234567.0, 7.0, 8.0, 9.0]
    for number, ids in enumerate((np.array([numbers]), [np.array([[n]]) for n in numbers])):
        path = cells(tmp_path / "a.mat", version, id=ids)
        _, tree = ingest(path, tmp_path / str(number), settings=settings)
        assert list(tree["raw/unit"].values) == [1234567, 7, 8, 9]
    path = cells(tmp_path / "a.mat", version, id=["a", "b", "c", np.array([[1.0, 2.0]])])
    check_refusal("NOT_THIS_FORMAT", "a cell holds", path, tmp_path / "o", settings=settings)


@VERSIONS
def test_two_vectors(tmp_path, version):
    owner = np.repeat([7, 9, 11], [len(t) for t in SPIKES.times[:3]])
    times = np.concatenate(SPIKES.times[:3])
    order = np.argsort(times, kind="stable")
    content = {"ts": times[order][:, None], "clu": owner[order][:, None].astype(float)}
    write_matlab(tmp_path / "a.mat", {"s": content}, version)
    settings = {"datasets": {"times": "s.ts", "units": "s.clu"}, "time_unit": "s"}
    _, tree = ingest(tmp_path / "a.mat", tmp_path / "o", settings={**settings, "duration_s": 60})
    assert list(tree["raw/unit"].values) == [7, 9, 11]
    for k in range(3):
        np.testing.assert_array_equal(spikes_of(tree, k), SPIKES.times[k])
    with pytest.raises(ConfigError, match="name the unit of each"):
        ingest(
            tmp_path / "a.mat", tmp_path / "p",
            settings={"datasets": {"times": "s.ts"}, "time_unit": "s"},
        )  # fmt: skip


def test_units_with_one_spike_or_as_many_as_others(tmp_path):
    for version in ("5", "7.3"):
        same = [np.array([1.0, 2.0]), np.array([0.5, 3.0]), np.array([2.5])]
        write_matlab(tmp_path / "a.mat", {"s": {"t": same}}, version)
        settings = {"datasets": {"times": "s.t"}, "time_unit": "s", "duration_s": 4}
        _, tree = ingest(tmp_path / "a.mat", tmp_path / version, settings=settings)
        for k, times in enumerate(same):
            np.testing.assert_array_equal(spikes_of(tree, k), times)


def test_faults_of_matlab_spikes(tmp_path):
    path, out = cells(tmp_path / "a.mat", "5"), tmp_path / "o"
    fields = {"times": "sorted.times"}
    stated = {"datasets": fields, "time_unit": "s"}
    check_refusal("MISSING_SIDECAR", "time_unit", path, out, settings={"datasets": fields})
    samples = {**stated, "time_unit": "samples"}
    check_refusal("MISSING_SIDECAR", "sample rate", path, out, settings=samples)
    wrong = {**stated, "datasets": {"times": "sorted.tims"}}
    check_refusal("MISSING_SIDECAR", "did you mean 'sorted.times'", path, out, settings=wrong)
    short = {**stated, "datasets": {**fields, "quality": "sorted.fs"}}
    check_refusal("LENGTH_MISMATCH", "1 values for 4 units", path, out, settings=short)
    far = {**stated, "duration_s": 0.06}
    check_refusal("UNITS", "milliseconds", path, out, settings=far)
    with pytest.raises(ConfigError, match=r"Fields: sorted\.fs, sorted\.times"):
        ingest(path, out, settings={"time_unit": "s"})
    path.write_bytes(path.read_bytes()[:-400])
    check_refusal("TRUNCATED", "said to follow", path, out, settings=stated)


def test_a_matlab_file_is_calcium_unless_the_table_says_spikes(tmp_path):
    path = cells(tmp_path / "sub-01.mat", "5")
    assert match(path)[0].name == "matlab"
    assert match(path, "spikes")[0].name == "matlab_spikes"
    found = scan([tmp_path])
    assert [row["reader"] for row in found.rows] == ["matlab"]
    assert [issue.code for issue in found.issues] == ["MODALITY_ASSUMED"]


# -- Neo --------------------------------------------------------------------------------------


def test_plexon(tmp_path):
    write_plexon(SPIKES, tmp_path / "a.plx", events=(1.5, 20.25))
    report, tree = ingest(tmp_path / "a.plx", tmp_path / "o")
    raw = tree["raw"].to_dataset()
    # A channel without spikes has no unit in the file.
    assert raw.sizes["unit"] == 3
    for k in range(3):
        np.testing.assert_array_equal(spikes_of(tree, k), sample_times(SPIKES, k))
    np.testing.assert_array_equal(raw["observed"].values, [[0.0, 60.0]])
    assert raw.attrs["sample_rate"] == 30_000
    assert list(raw["quality"].values) == ["unsorted"] * 3
    found = tree["events"].to_dataset()
    np.testing.assert_array_equal(found["onset"].values, [1.5, 20.25, 60.0])
    assert list(found["code"].values) == [7, 7, 9]
    assert set(found["label"].values) == set(found["source"].values) == {"Strobed"}
    codes = [issue["code"] for issue in report["issues"]]
    assert codes == ["NAIVE_SESSION_START", "NO_SESSION_START"]
    assert match(tmp_path / "a.plx")[0].name == "neo"


def test_a_cut_plexon_file_is_refused(tmp_path):
    write_plexon(SPIKES, tmp_path / "a.plx")
    whole = (tmp_path / "a.plx").read_bytes()
    (tmp_path / "a.plx").write_bytes(whole[:-5])
    check_refusal("TRUNCATED", "PlexonIO cannot read it", tmp_path / "a.plx", tmp_path / "o")
    (tmp_path / "a.plx").write_bytes(b"XELP" + whole[4:])
    check_refusal("NOT_THIS_FORMAT", "no reader", tmp_path / "a.plx", tmp_path / "o")


def neo_block(n_segments=1, unit=pq.ms):
    import neo

    block = neo.Block(name="day 1")
    for s in range(n_segments):
        segment = neo.Segment(name=f"part {s}")
        block.segments.append(segment)
        for k, times in enumerate(SPIKES.times):
            scaled = (times * pq.s).rescale(unit)
            train = neo.SpikeTrain(scaled, t_stop=(60 + s) * pq.s, units=unit, name=f"u{k}")
            segment.spiketrains.append(train)
        events = neo.Event(np.array([2.0, 3.0]) * pq.s, labels=np.array(["cue", "go"]), name="e")
        epoch = neo.Epoch(
            np.array([4000.0]) * pq.ms, durations=np.array([500.0]) * pq.ms,
            labels=np.array(["stim"]), name="p",
        )  # fmt: skip
        segment.events.append(events)
        segment.epochs.append(epoch)
    return block


def written(block, path):
    import neo

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        neo.io.NeoMatlabIO(filename=str(path)).write_block(block)
    return path


def test_times_come_in_the_unit_that_neo_states(tmp_path):
    path = written(neo_block(), tmp_path / "a.mat")
    settings = {"format": "NeoMatlabIO"}
    _, tree = ingest(path, tmp_path / "o", "neo", settings)
    assert list(tree["raw/unit"].values) == ["u0", "u1", "u2", "u3"]
    for k, times in enumerate(SPIKES.times):
        np.testing.assert_allclose(spikes_of(tree, k), times, rtol=1e-15)
    np.testing.assert_array_equal(tree["raw/observed"].values, [[0.0, 60.0]])


def test_one_of_several_segments_is_named(tmp_path):
    path = written(neo_block(2), tmp_path / "a.mat")
    settings = {"format": "NeoMatlabIO"}
    arguments = {"reader": "neo", "settings": settings}
    listed = r"2 segments.*0/0 \(part 0\), 0/1 \(part 1\)"
    check_refusal("SEVERAL_SERIES", listed, path, tmp_path / "o", **arguments)
    for number, name in enumerate(("0/1", "part 1")):
        _, tree = ingest(path, tmp_path / f"o{number}", series=name, **arguments)
        np.testing.assert_array_equal(tree["raw/observed"].values, [[0.0, 61.0]])
    check_refusal("EMPTY", "named '0/7'", path, tmp_path / "o", series="0/7", **arguments)


def test_events_and_epochs_of_neo():
    from neuropipe.io.spikes.neo import _events

    table = _events(neo_block().segments[0])
    np.testing.assert_array_equal(table["onset"].values, [2.0, 3.0, 4.0])
    np.testing.assert_array_equal(table["duration"].values, [0.0, 0.0, 0.5])
    assert list(table["label"].values) == ["cue", "go", "stim"]


def test_classes_of_neo_are_checked(tmp_path):
    path = written(neo_block(), tmp_path / "a.mat")
    check_refusal("UNSAFE", "unpickles", path, tmp_path / "o", reader="neo",
           settings={"format": "PickleIO"})  # fmt: skip
    with pytest.raises(ConfigError, match="no class of neo.io"):
        ingest(path, tmp_path / "o", "neo", {"format": "PlexonIo"})
    with pytest.raises(ConfigError, match="several classes"):
        ingest(path, tmp_path / "o", "neo")
    (tmp_path / "a.nix").write_bytes(b"\x89HDF\r\n\x1a\n" + b"\0" * 600)
    with pytest.raises((MissingDependency, IngestError)):
        ingest(tmp_path / "a.nix", tmp_path / "o", "neo")
