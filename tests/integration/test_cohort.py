"""Preprocessed stores to the array of a cohort."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from neuropipe.assemble.cohort import Input, cohort
from neuropipe.config.models import PreprocessConfig
from neuropipe.errors import ConfigError, DataError, MissingInput
from neuropipe.preprocess.chain import preprocess
from neuropipe.store.zarr import open_store, write_tree

DT = 0.5
PROTOCOL = (("odour", 10.0, 5.0), ("light", 30.0, 10.0))


def text(values) -> np.ndarray:
    array = np.empty(len(values), dtype=object)
    array[:] = list(values)
    return array


def store(
    subject: str,
    labels: list[str],
    n: int = 100,
    *,
    events=PROTOCOL,
    time=None,
    values=None,
    modality: str = "calcium",
    row: str = "roi",
    **attrs,
) -> xr.DataTree:
    """Return a preprocessed store; the trace of a label is a function of subject and label."""
    time = np.arange(n) * DT if time is None else np.asarray(time, dtype=float)
    if values is None:
        seeds = [int(hashlib.sha256(f"{subject}{x}{i * (not x)}".encode()).hexdigest()[:8], 16)
                 for i, x in enumerate(labels)]  # fmt: skip
        values = np.stack([np.random.default_rng(s).normal(size=len(time)) for s in seeds], axis=1)
    ids = np.arange(len(labels)) * 3 if modality == "calcium" else text(labels)
    ds = xr.Dataset(
        {
            "activity": (("time", row), values, {"units": "1"}),
            f"{row}_ok": (row, np.ones(len(labels), dtype=bool)),
        },
        coords={"time": time, row: ids, "label": (row, text(labels))},
        attrs={
            "schema": f"neuropipe.{modality}",
            "recording": f"sub-{subject}_{modality}",
            "subject_id": subject,
            "species": "Caenorhabditis elegans",
            "all_valid": True,
            **attrs,
        },
    )
    if not np.isfinite(values).all():
        ds["valid"] = (("time", row), np.isfinite(values))
        del ds.attrs["all_valid"]
    tree = {"/": ds}
    if events:
        tree["/events"] = xr.Dataset(
            {
                "onset": ("event", [e[1] for e in events]),
                "duration": ("event", [e[2] for e in events]),
                "label": ("event", text([e[0] for e in events])),
            }
        )
    return xr.DataTree.from_dict(tree)


def pair() -> list[xr.DataTree]:
    return [
        store("w02", ["RID", "AVAL", "", "VB2"], 90),
        store("w01", ["AVAL", "", "AWBR", "VB10"], 100),
    ]


def codes(ds: xr.Dataset) -> list[str]:
    return [issue["code"] for issue in json.loads(ds.attrs["issues"])]


# --- names -----------------------------------------------------------------------------------


def test_neurons_stand_in_canonical_order_and_only_if_some_subject_has_them():
    ds = cohort(pair(), Input())
    assert ds["activity"].dims == ("subject", "neuron", "time")
    assert ds["neuron"].values.tolist() == ["AVAL", "AWBR", "RID", "VB10", "VB2"]
    assert ds["subject"].values.tolist() == ["w01", "w02"]
    assert ds["recording"].values.tolist() == ["sub-w01_calcium", "sub-w02_calcium"]
    assert set(ds["unit_kind"].values.tolist()) == {"roi"}
    assert ds["neuron_class"].values.tolist() == ["inter", "sensory", "inter", "motor", "motor"]


def test_a_slot_without_a_measured_neuron_is_nan_everywhere():
    ds = cohort(pair(), Input())
    labelled = ds["labelled"].values
    np.testing.assert_array_equal(labelled, [[1, 1, 0, 1, 0], [1, 0, 1, 0, 1]])
    activity = ds["activity"].values
    assert np.isnan(activity[~labelled]).all()
    np.testing.assert_array_equal(ds["valid"].values, np.isfinite(activity))


def test_values_are_those_of_the_store_and_shorter_recordings_are_padded():
    first, second = pair()
    ds = cohort([first, second], Input())
    row = ds.sel(subject="w02", neuron="VB2")["activity"].values
    np.testing.assert_array_equal(row[:90], first["activity"].values[:, 3])
    assert np.isnan(row[90:]).all()
    assert ds.sizes["time"] == 100


def test_unlabelled_traces_never_enter_canonical_slots():
    changed = pair()
    changed[0]["activity"][:, 2] = 1e9
    xr.testing.assert_identical(cohort(pair(), Input()), cohort(changed, Input()))


@given(st.randoms(use_true_random=False))
@settings(max_examples=20, deadline=None)
def test_permuting_rows_and_recordings_changes_nothing(random):
    reference = cohort(pair(), Input())
    shuffled = []
    for tree in pair():
        order = list(range(4))
        random.shuffle(order)
        tree.dataset = tree.to_dataset().isel(roi=order)
        shuffled.append(tree)
    random.shuffle(shuffled)
    xr.testing.assert_identical(cohort(shuffled, Input()), reference)


def digest() -> str:
    ds = cohort(pair(), Input())
    names = str(ds["neuron"].values.tolist()).encode()
    return hashlib.sha256(ds["activity"].values.tobytes() + names).hexdigest()


def test_two_processes_give_the_same_bytes():
    folder = str(Path(__file__).parent)
    code = f"import sys; sys.path.insert(0, {folder!r})\nimport test_cohort as t; print(t.digest())"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == digest()


def test_where_chooses_rows_by_their_type_and_says_what_it_left_out():
    where = {"units": {"where": "neuron_class != 'motor'"}}
    ds = cohort(pair(), Input.model_validate(where))
    assert ds["neuron"].values.tolist() == ["AVAL", "AWBR", "RID"]
    excluded = [e for e in json.loads(ds.attrs["excluded"]) if e["reason"] != "unlabelled"]
    assert [entry["names"] for entry in excluded] == [["VB10"], ["VB2"]]
    kept = cohort([t.copy() for t in pair()], Input()).sel(neuron=["AVAL", "AWBR", "RID"])
    np.testing.assert_array_equal(ds["activity"], kept["activity"])


def test_traces_that_are_not_ok_are_left_out_and_named():
    trees = pair()
    trees[1]["roi_ok"][0] = False
    ds = cohort(trees, Input())
    assert not bool(ds["labelled"].sel(subject="w01", neuron="AVAL"))
    entry = json.loads(ds.attrs["excluded"])[1]
    assert entry["names"] == ["AVAL"]
    assert entry["reason"] == "roi_ok is False"


def test_a_name_that_stands_twice_in_a_recording_is_an_error():
    with pytest.raises(DataError, match="'AVAL' stands for 2 rows"):
        cohort([store("w01", ["AVAL", "AVAL"])], Input())


def test_names_of_other_species_and_modalities_are_sorted():
    kinds = {"species": "Homo sapiens", "modality": "fmri", "row": "parcel"}
    ds = cohort([store("h1", ["V1_L", "A1_R"], **kinds), store("h2", ["A1_R"], **kinds)], Input())
    assert ds["neuron"].values.tolist() == ["A1_R", "V1_L"]
    assert set(ds["unit_kind"].values.tolist()) == {"parcel"}


# --- refusals --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("modality", "row", "reason"),
    [
        ("spikes", "unit", "spike units have no names"),
        ("ieeg", "channel", "intracranial contacts"),
        ("fmri", "voxel", "rows of dim 'voxel'"),
    ],
)
def test_rows_without_shared_names_are_refused_with_the_reason(modality, row, reason):
    with pytest.raises(ConfigError, match=reason):
        cohort([store("s1", ["a", "b"], modality=modality, row=row)], Input())


def test_two_recordings_of_a_subject_are_an_error_that_names_them():
    first = store("w01", ["AVAL"], run="1")
    second = store("w01", ["AVAL"], run="2")
    first.attrs["recording"], second.attrs["recording"] = "sub-w01_run-1_x", "sub-w01_run-2_x"
    with pytest.raises(ConfigError, match=r"sub-w01_run-1_x, sub-w01_run-2_x.*\{run: '1'\}"):
        cohort([first, second], Input())


def test_modalities_are_not_mixed_and_no_recording_is_an_error():
    trees = [store("w01", ["AVAL"]), store("w02", ["AVAL"], modality="fmri", row="parcel")]
    with pytest.raises(ConfigError, match="one modality, found calcium, fmri"):
        cohort(trees, Input())
    with pytest.raises(ConfigError, match="nothing to assemble"):
        cohort([], Input())


def test_spike_criteria_do_not_apply():
    with pytest.raises(ConfigError, match="counts spikes"):
        cohort(pair(), Input.model_validate({"units": {"min_rate_hz": 1.0}}))


@pytest.mark.parametrize(
    ("given_input", "message"),
    [
        ({"align": "epochs"}, "needs `epochs"),
        ({"align": "epochs", "epochs": ["a", "a"]}, "twice"),
        ({"scope": "recording", "align": "absolute"}, "align: single"),
        ({"scope": "cohort", "align": "single"}, "scope: recording"),
        ({"alin": "single"}, "alin"),
        ({"bin_ms": "twenty"}, "no number of milliseconds"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(given_input, message):
    with pytest.raises(ValidationError, match=message):
        Input.model_validate(given_input)


# --- exclusion -------------------------------------------------------------------------------


def test_short_and_unlabelled_recordings_are_excluded_with_the_reason():
    trees = [*pair(), store("w03", ["", ""]), store("w04", ["AVAL"])]
    trees[3]["activity"].attrs.update(raw_samples=100, min_samples=600)
    ds = cohort(trees, Input())
    assert ds["subject"].values.tolist() == ["w01", "w02"]
    excluded = json.loads(ds.attrs["excluded"])
    reasons = {e["subject"]: e["reason"] for e in excluded if e["kind"] == "recording"}
    assert reasons["w03"] == "no labels"
    assert reasons["w04"].startswith("too short: 100 raw samples")


def test_each_recording_left_out_is_an_issue_but_rows_are_not():
    trees = [*pair(), store("w03", ["", ""]), store("w04", ["AVAL"])]
    trees[3]["activity"].attrs.update(raw_samples=100, min_samples=600)
    ds = cohort(trees, Input.model_validate({"units": {"where": "label != 'VB2'"}}))
    issues = json.loads(ds.attrs["issues"])
    assert [(i["code"], i["path"], i["severity"]) for i in issues[:2]] == [
        ("RECORDING_LEFT_OUT", "sub-w03_calcium", "warning"),
        ("RECORDING_LEFT_OUT", "sub-w04_calcium", "warning"),
    ]
    assert issues[0]["message"] == "no labels"
    assert "names table" in issues[0]["hint"]
    assert "min_samples" in issues[1]["hint"]
    assert all("`exclude`" in issue["hint"] for issue in issues[:2])
    assert "RECORDING_LEFT_OUT" not in codes(cohort(pair(), Input()))


def test_a_cohort_of_one_subject_is_an_issue():
    ds = cohort([pair()[0], store("w03", ["", ""])], Input())
    assert codes(ds)[:2] == ["RECORDING_LEFT_OUT", "ONE_SUBJECT"]
    alone = cohort(pair()[:1], Input.model_validate({"scope": "recording"}))
    assert "ONE_SUBJECT" not in codes(alone)
    assert "ONE_SUBJECT" not in codes(cohort(pair(), Input()))


def test_nothing_left_is_an_error_that_lists_the_reasons():
    with pytest.raises(DataError, match="sub-w03_calcium: no labels"):
        cohort([store("w03", [""])], Input())
    with pytest.raises(DataError, match=r"0 samples within input\.span_s"):
        cohort(pair(), Input.model_validate_json('{"span_s": [1000, 2000]}'))


# --- time ------------------------------------------------------------------------------------


def test_a_shared_protocol_is_recognised():
    ds = cohort(pair(), Input(epochs=["odour", "light"]))
    assert ds.attrs["time_aligned"] == 1
    assert codes(ds) == []
    assert ds["epoch_name"].values.tolist() == ["odour", "light"]
    assert ds["epoch_subject"].values.tolist() == ["*", "*"]
    np.testing.assert_array_equal(ds["epoch_start"], [10.0, 30.0])
    np.testing.assert_array_equal(ds["epoch_stop"], [15.0, 40.0])
    assert "epoch_name" not in cohort(pair(), Input())


@pytest.mark.parametrize(
    "events",
    [None, (("light", 10.0, 5.0), ("odour", 30.0, 10.0)), (("odour", 12.0, 5.0),)],
)
def test_without_a_shared_protocol_time_is_not_aligned(events):
    ds = cohort([pair()[0], store("w03", ["AVAL"], events=events)], Input(epochs=["odour"]))
    assert ds.attrs["time_aligned"] == 0
    (issue,) = json.loads(ds.attrs["issues"])
    assert issue["code"] == "TIME_NOT_ALIGNED"
    assert issue["message"] == (
        "time is not aligned across animals; shared time factors have no common meaning"
    )
    assert "align: single" in issue["hint"]
    assert set(ds["epoch_subject"].values.tolist()) <= {"w02", "w03"}


def test_events_that_are_not_epochs_do_not_count():
    reversal = (*PROTOCOL, ("reversal", 22.0, 1.0))
    trees = [store("w01", ["AVAL"]), store("w02", ["AVAL"], events=reversal)]
    assert cohort(trees, Input(epochs=["odour", "light"])).attrs["time_aligned"] == 1
    assert cohort(trees, Input()).attrs["time_aligned"] == 0


def test_one_animal_is_aligned_with_itself():
    assert cohort([store("w01", ["AVAL"], events=None)], Input()).attrs["time_aligned"] == 1


def test_jitter_is_an_error_with_the_remedy():
    time = np.arange(100) * DT
    time[40] += 0.01
    with pytest.raises(DataError, match=r"sub-w03_calcium.*preprocess\.calcium\.resample"):
        cohort([pair()[0], store("w03", ["AVAL"], time=time)], Input())


def test_different_steps_and_shifted_grids_are_errors_with_the_remedy():
    other = store("w03", ["AVAL"], time=np.arange(100) * 0.51)
    with pytest.raises(DataError, match=r"time grids differ.*preprocess\.calcium\.resample"):
        cohort([pair()[0], other], Input())
    shifted = store("w03", ["AVAL"], time=np.arange(100) * DT + 0.2)
    with pytest.raises(DataError, match=r"time grids differ.*preprocess\.calcium\.resample"):
        cohort([pair()[0], shifted], Input())


def test_missing_samples_of_a_regular_recording_leave_a_hole():
    keep = np.r_[0:40, 43:100]
    whole = store("w01", ["AVAL"])
    holed = store("w02", ["AVAL"], time=np.arange(100)[keep] * DT)
    ds = cohort([whole, holed], Input())
    gap = np.isnan(ds["activity"].sel(subject="w02", neuron="AVAL").values)
    np.testing.assert_array_equal(np.flatnonzero(gap), [40, 41, 42])


def test_recordings_that_start_later_keep_their_place_on_the_clock():
    late = store("w03", ["AVAL"], time=10 + np.arange(50) * DT)
    ds = cohort([store("w01", ["AVAL"]), late], Input())
    row = ds["activity"].sel(subject="w03", neuron="AVAL").values
    np.testing.assert_array_equal(np.flatnonzero(np.isfinite(row)), np.arange(20, 70))
    np.testing.assert_allclose(np.diff(ds["time"]), DT, rtol=1e-12)
    assert ds.attrs["dt_s"] == DT


def test_span_cuts_every_recording_alike():
    ds = cohort(pair(), Input.model_validate_json('{"span_s": [10, 20]}'))
    np.testing.assert_allclose(ds["time"], 10 + np.arange(20) * DT)


def test_resampling_is_the_remedy_for_an_irregular_clock():
    rng = np.random.default_rng(0)
    trees = []
    for subject in ("w01", "w02"):
        time = np.cumsum(rng.uniform(0.5, 0.7, 200))
        tree = store(subject, ["AVAL", "RID"], time=time - time[0])
        raw = tree.to_dataset().rename(activity="dff")
        attrs = {**tree.attrs, "pipeline": "[]", "issues": "[]"}
        trees.append(xr.DataTree.from_dict({"/": xr.Dataset(attrs=attrs), "/raw": raw}))
    plain = PreprocessConfig()
    with pytest.raises(DataError, match=r"preprocess\.calcium\.resample"):
        cohort([preprocess(tree, plain) for tree in trees], Input())
    steps = PreprocessConfig.model_validate({"calcium": {"resample": {"dt_s": 0.3333}}})
    ds = cohort([preprocess(tree, steps) for tree in trees], Input())
    assert ds.sizes["subject"] == 2
    np.testing.assert_allclose(np.diff(ds["time"]), 0.3333, rtol=1e-9)


# --- epochs ----------------------------------------------------------------------------------


def ramp(subject: str, events, n: int = 100) -> xr.DataTree:
    return store(subject, ["AVAL"], n, events=events, values=np.arange(n, dtype=float)[:, None])


def test_epochs_are_cut_and_put_in_canonical_order():
    trees = [
        ramp("w01", (("a", 5.0, 5.0), ("b", 20.0, 4.0))),
        ramp("w02", (("b", 5.0, 3.0), ("a", 30.0, 5.0))),
    ]
    ds = cohort(trees, Input(align="epochs", epochs=["a", "b"]))
    assert ds.sizes["time"] == 10 + 8
    first, second = ds["activity"].values[:, 0]
    np.testing.assert_array_equal(first, np.r_[10:20, 40:48])
    np.testing.assert_array_equal(second[:16], np.r_[60:70, 10:16])
    assert np.isnan(second[16:]).all()
    assert ds["epoch_name"].values.tolist() == ["a", "b"]
    np.testing.assert_array_equal(ds["epoch_start"], [0.0, 5.0])
    np.testing.assert_array_equal(ds["epoch_stop"], [5.0, 9.0])
    assert ds.attrs["time_aligned"] == 1
    assert ds.attrs["align"] == "epochs"


def test_presentations_of_one_label_follow_each_other_and_missing_ones_are_nan():
    trees = [
        ramp("w01", (("a", 5.0, 2.0), ("b", 10.0, 2.0), ("a", 20.0, 2.0))),
        ramp("w02", (("a", 7.0, 2.0),)),
    ]
    ds = cohort(trees, Input(align="epochs", epochs=["b", "a"]))
    assert ds["epoch_name"].values.tolist() == ["b", "a", "a"]
    first, second = ds["activity"].values[:, 0]
    np.testing.assert_array_equal(first, np.r_[20:24, 10:14, 40:44])
    assert np.isnan(second[:4]).all() and np.isnan(second[8:]).all()
    np.testing.assert_array_equal(second[4:8], np.arange(14, 18))


def test_an_epoch_without_a_duration_lasts_until_the_next_or_the_end():
    events = (("a", 10.0, 0.0), ("other", 11.0, 1.0), ("b", 20.0, np.nan))
    ds = cohort([ramp("w01", events, 60)], Input(align="epochs", epochs=["a", "b"]))
    np.testing.assert_array_equal(ds["activity"].values[0, 0], np.arange(20, 60))
    np.testing.assert_array_equal(ds["epoch_stop"], [10.0, 20.0])


@given(offset=st.floats(0, 0.499), duration=st.floats(1, 10))
@settings(max_examples=30, deadline=None)
def test_epochs_of_equal_duration_have_equal_lengths_wherever_they_start(offset, duration):
    trees = [ramp("w01", (("a", 5.0 + offset, duration),)), ramp("w02", (("a", 9.0, duration),))]
    ds = cohort(trees, Input(align="epochs", epochs=["a"]))
    assert ds.sizes["time"] == round(duration / DT)
    assert np.isfinite(ds["activity"].values).all()


def test_a_hole_in_an_epoch_stays_a_hole():
    keep = np.r_[0:12, 14:100]
    tree = store("w01", ["AVAL"], time=np.arange(100)[keep] * DT, values=keep[:, None] * 1.0,
                 events=(("a", 5.0, 5.0),))  # fmt: skip
    ds = cohort([tree], Input(align="epochs", epochs=["a"]))
    found = ds["activity"].values[0, 0]
    np.testing.assert_array_equal(found, [10, 11, np.nan, np.nan, *range(14, 20)])


def test_a_label_that_no_recording_has_is_an_issue():
    ds = cohort(pair(), Input(epochs=["odour", "ligth"]))
    (issue,) = json.loads(ds.attrs["issues"])
    assert issue["code"] == "EPOCH_NOT_FOUND"
    assert "light, odour" in issue["hint"]


def test_subjects_without_the_epochs_are_excluded():
    trees = [ramp("w01", (("a", 5.0, 2.0),)), ramp("w02", (("b", 5.0, 2.0),))]
    ds = cohort(trees, Input(align="epochs", epochs=["a"]))
    assert ds["subject"].values.tolist() == ["w01"]
    assert "epochs" in json.loads(ds.attrs["excluded"])[0]["reason"]


# --- one recording ---------------------------------------------------------------------------


def test_in_one_recording_unlabelled_rows_stand_too():
    tree = store("w01", ["VB2", "", "AVAL", "", ""])
    ds = cohort([tree], Input.model_validate({"scope": "recording"}))
    assert ds.attrs["align"] == "single"
    assert ds["neuron"].values.tolist() == ["AVAL", "VB2", "3", "9", "12"]
    assert ds["labelled"].values.tolist() == [[True, True, False, False, False]]
    assert ds.attrs["all_valid"] == 1 and "valid" not in ds
    np.testing.assert_array_equal(
        ds["activity"].sel(neuron="12").values[0], tree["activity"].values[:, 4]
    )


def test_rows_of_any_modality_may_stand_in_one_recording():
    tree = store("s1", ["u1", "u2"], modality="ieeg", row="channel")
    ds = cohort([tree], Input.model_validate({"scope": "recording"}))
    assert set(ds["unit_kind"].values.tolist()) == {"channel"}
    assert ds.sizes["neuron"] == 2


def test_single_takes_one_recording():
    with pytest.raises(ConfigError, match="takes one recording"):
        cohort(pair(), Input(align="single"))


# --- file and connectome ---------------------------------------------------------------------


def test_the_dataset_is_written_and_read_back(tmp_path):
    ds = cohort(pair(), Input(epochs=["odour"]))
    ds.to_netcdf(tmp_path / "a.nc", engine="h5netcdf")
    with xr.open_dataset(tmp_path / "a.nc", engine="h5netcdf") as back:
        xr.testing.assert_equal(back.load(), ds)
        assert back.attrs["time_aligned"] == 1
        assert json.loads(back.attrs["excluded"])[0] == {
            "recording": "sub-w01_calcium",
            "subject": "w01",
            "kind": "rows",
            "reason": "unlabelled",
            "count": 1,
            "names": ["3"],
        }


def test_stores_on_disk_give_what_stores_in_memory_give(tmp_path):
    chosen = Input.model_validate(
        {"units": {"where": "neuron_class != 'motor' and label != 'RID'"}, "epochs": ["odour"]}
    )
    opened = []
    for i, tree in enumerate(pair()):
        write_tree(tree, tmp_path / f"{i}.zarr")
        opened.append(open_store(tmp_path / f"{i}.zarr"))
    xr.testing.assert_identical(cohort(opened, chosen), cohort(pair(), chosen))


def test_a_connectome_is_copied_onto_the_neurons_of_the_cohort():
    weight = np.array([[[0, 3.0], [1.0, 0]]])
    names = text(["AVAL", "RID"])
    weights = xr.Dataset(
        {"weight": (("kind", "pre", "post"), weight)},
        coords={"kind": text(["chemical"]), "pre": names, "post": names},
    )
    chosen = Input(connectome="white1986")
    ds = cohort(pair(), chosen, connectome=weights)
    table = ds["connectome_weight"].sel(kind="chemical")
    assert float(table.sel(neuron="AVAL", neuron_2="RID")) == 3.0
    assert np.isnan(table.sel(neuron="AVAL", neuron_2="VB2"))
    with pytest.raises(MissingInput, match=r"ingest\.connectomes"):
        cohort(pair(), chosen)


def test_stores_are_not_changed():
    trees = pair()
    copies = [tree.copy(deep=True) for tree in trees]
    cohort(trees, Input.model_validate({"units": {"where": "neuron_class != 'motor'"}}))
    for tree, copy in zip(trees, copies, strict=True):
        xr.testing.assert_identical(tree, copy)


# --- spikes ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def spike_store(tmp_path_factory):
    from neuropipe.config.models import IngestConfig
    from neuropipe.config.recordings import Recording
    from neuropipe.io.ingest import ingest_recording
    from neuropipe.simulate.spike_files import simulate_spikes, write_spike_nwb
    from neuropipe.store.zarr import open_store

    folder = tmp_path_factory.mktemp("spikes")
    write_spike_nwb(simulate_spikes(), folder / "a.nwb")
    row = Recording(name="sub-01_spikes", subject="01", modality="spikes", path="x")
    ingest_recording(row, folder / "a.nwb", IngestConfig(), folder / "a.zarr")
    return open_store(folder / "a.zarr"), simulate_spikes()


def single(**keys):
    return Input.model_validate({"scope": "recording", **keys})


def test_spike_rates_of_one_recording_are_its_activity(spike_store):
    tree, spikes = spike_store
    ds = cohort([tree], single(bin_ms=500))
    assert ds["activity"].attrs["units"] == "Hz"
    assert ds.attrs["dt_s"] == 0.5
    assert ds["neuron"].values.tolist() == ["10", "11", "12", "13"]
    assert ds["region"].values.tolist() == spikes.region
    assert set(ds["unit_kind"].values.tolist()) == {"unit"}
    edges = np.arange(121) * 0.5
    for k, times in enumerate(spikes.times):
        expected = np.histogram(times, edges)[0] / 0.5
        np.testing.assert_array_equal(ds["activity"].values[0, k], expected)
    np.testing.assert_array_equal(ds["time"].values, edges[:-1] + 0.25)


def test_silent_units_are_left_out_with_the_reason(spike_store):
    import json

    tree, spikes = spike_store
    rates = [len(times) / 60 for times in spikes.times]
    least = sorted(rates)[2]
    ds = cohort([tree], single(units={"min_rate_hz": least}))
    kept = [str(10 + k) for k, rate in enumerate(rates) if rate >= least]
    assert ds["neuron"].values.tolist() == kept
    (entry,) = [e for e in json.loads(ds.attrs["excluded"]) if e["kind"] == "rows"]
    assert entry["reason"].startswith("units.min_rate_hz")
    assert entry["count"] == 2
    few = cohort([tree], single(units={"min_spikes": 1, "where": "region != ''"}))
    assert "13" not in few["neuron"].values.tolist()


def test_spikes_never_make_a_cohort(spike_store, tmp_path):
    with pytest.raises(ConfigError, match=r"spike units have no names.*scope: recording"):
        cohort([spike_store[0]], Input())
    from neuropipe.study import load_study

    (tmp_path / "config").mkdir()
    table = "subject\tmodality\tpath\na\tspikes\tx.nwb\n"
    (tmp_path / "config/recordings.tsv").write_text(table)
    with pytest.raises(ConfigError, match=r"analyses.ntf.input.scope.*spike units have no names"):
        load_study(tmp_path, {"study": "x", "analyses": {"ntf": {}}})
    study = load_study(
        tmp_path, {"study": "x", "analyses": {"ntf": {"input": {"scope": "recording"}}}}
    )
    assert [c.name for c in study.runs[0].collections] == ["sub-a_spikes"]
