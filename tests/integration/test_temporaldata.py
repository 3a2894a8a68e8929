"""Files of temporaldata: written without loss, opened by the packages, read from others."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
from ingests import codes, ingest_source, refusal_check
from sources import source_of

from neuropipe.errors import DataError
from neuropipe.io.registry import match
from neuropipe.simulate.temporaldata_files import write_temporaldata
from neuropipe.store.hashing import content_sha256
from neuropipe.store.temporaldata import from_temporaldata, to_temporaldata

PACKAGES = ("temporaldata", "torch_brain.data")


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """Return an ingested store of every modality that simulated files are read for."""
    found = {}
    for modality in ("spikes", "eeg", "meg", "ieeg", "fmri"):
        folder = tmp_path_factory.mktemp(modality)
        source = source_of(modality, folder / "source")
        found[modality] = ingest_source(source, folder, modality)[1]
    return found


@pytest.mark.parametrize("modality", ["spikes", "eeg", "meg", "ieeg", "fmri"])
def test_export_and_ingest_give_the_same_content(stores, tmp_path, modality):
    tree = stores[modality]
    to_temporaldata(tree, tmp_path / "a.h5")
    assert (
        content_sha256(from_temporaldata(tmp_path / "a.h5")["raw"].to_dataset())
        == (tree.attrs["content_sha256"])
    )
    report, again = ingest_source(tmp_path / "a.h5", tmp_path / "out", modality)
    assert report["reader"]["reader"] == "temporaldata"
    assert report["content_sha256"] == tree.attrs["content_sha256"]
    for group in ("events", "trials", "behavior"):
        if group in tree.children:
            assert again[group].to_dataset().identical(tree[group].to_dataset())


def test_any_calcium_recording_comes_back(any_case, tmp_path):
    tree = any_case.store(tmp_path)
    to_temporaldata(tree, tmp_path / "a.h5")
    read = from_temporaldata(tmp_path / "a.h5")
    assert read.identical(tree)
    assert content_sha256(read["raw"].to_dataset()) == tree.attrs["content_sha256"]


@pytest.fixture(params=PACKAGES)
def package(request):
    """Return the module of either package that opens such files."""
    return pytest.importorskip(request.param, reason=f"{request.param} is not installed")


def test_the_packages_open_spikes_and_slice_them(stores, tmp_path, package):
    tree = stores["spikes"]
    to_temporaldata(tree, tmp_path / "a.h5")
    with package.Data.load(tmp_path / "a.h5") as data:
        window = data.slice(5.0, 9.0)
        times, units = tree["raw/spike_time"].values, tree["raw/spike_unit"].values
        order = np.argsort(times, kind="stable")
        inside = (times[order] >= 5.0) & (times[order] < 9.0)
        np.testing.assert_array_equal(window.spikes.unit_index, units[order][inside])
        # The package subtracts the start of the window: one rounding of float64.
        np.testing.assert_allclose(
            window.spikes.timestamps, times[order][inside] - 5.0, rtol=0, atol=1e-12
        )
        assert list(data.units.id) == [str(unit) for unit in tree["raw/unit"].values]
        assert len(data.trials) == tree["trials"].sizes["trial"]
        np.testing.assert_array_equal(data.trials.start, tree["trials/start"].values)
        assert data.session.id == "sub-01_spikes"
        assert data.domain.start[0] == tree["raw/observed"].values[0, 0]


@pytest.mark.parametrize("modality", ["eeg", "meg", "ieeg"])
def test_the_packages_open_channels_and_slice_them(stores, tmp_path, package, modality):
    tree = stores[modality]
    to_temporaldata(tree, tmp_path / "a.h5")
    data = package.Data.load(tmp_path / "a.h5", lazy=False)
    series = getattr(data, modality)
    np.testing.assert_array_equal(series.signal, tree["raw/signal"].values)
    np.testing.assert_allclose(series.timestamps, tree["raw/time"].values, rtol=0, atol=1e-9)
    assert series.sampling_rate == tree.attrs["rate"]
    half = float(tree["raw/time"].values[tree["raw"].sizes["time"] // 2])
    assert 0 < len(getattr(data.slice(0.0, half), modality)) < len(series)
    assert list(data.channels.id) == list(tree["raw/channel"].values)


def test_the_packages_open_every_edge_case(any_case, tmp_path, package):
    tree = any_case.store(tmp_path)
    to_temporaldata(tree, tmp_path / "a.h5")
    data = package.Data.load(tmp_path / "a.h5", lazy=False)
    name = "df_over_f" if any_case.series == ("dff",) else any_case.series[0]
    values = getattr(data.calcium_traces, name)
    np.testing.assert_array_equal(values, tree["raw"][any_case.series[0]].values)
    times = data.calcium_traces.timestamps
    np.testing.assert_allclose(times, tree["raw/time"].values, rtol=0, atol=1e-9)
    assert len(data.rois) == any_case.n_rois
    # Text of the format is ASCII; the exact text is kept beside it.
    assert data.rois.label_source[0] == "AVAL"


def test_torch_brain_makes_a_dataset_of_a_folder(stores, tmp_path):
    datasets = pytest.importorskip(
        "torch_brain.datasets", reason="torch_brain or ray is not installed"
    )
    to_temporaldata(stores["spikes"], tmp_path / "sub-01_spikes.h5")

    class Spiking(datasets.SpikingDatasetMixin, datasets.Dataset):
        """Spikes of a folder."""

    found = Spiking(tmp_path)
    assert found.recording_ids == ["sub-01_spikes"]
    assert found.get_unit_ids() == sorted(str(u) for u in stores["spikes"]["raw/unit"].values)
    sample = found[datasets.DatasetIndex("sub-01_spikes", 2.0, 3.0)]
    times = stores["spikes"]["raw/spike_time"].values
    assert len(sample.spikes) == int(((times >= 2.0) & (times < 3.0)).sum())


def test_a_preprocessed_store_is_exported_without_our_record(calcium_case, tmp_path):
    tree = calcium_case(clock="regular").store(tmp_path)
    raw = tree["raw"].to_dataset().rename(fluorescence="activity")
    import xarray as xr

    root = xr.Dataset({"activity": raw["activity"]}, {"time": raw["time"], "roi": raw["roi"]})
    made = xr.DataTree.from_dict({"/": root.assign_attrs(tree.attrs)})
    to_temporaldata(made, tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5") as file:
        assert "manifest" not in file["neuropipe"]
        np.testing.assert_array_equal(file["calcium_traces/activity"][...], raw["activity"].values)
    with pytest.raises(DataError, match="no ingested recording"):
        from_temporaldata(tmp_path / "a.h5")


def test_what_is_no_recording_is_not_exported(calcium_case, tmp_path):
    tree = calcium_case().store(tmp_path)
    del tree["raw"]
    with pytest.raises(DataError, match="expected the store of a recording"):
        to_temporaldata(tree, tmp_path / "a.h5")
    assert not (tmp_path / "a.h5").exists()


# --- files of others -------------------------------------------------------------------------


OPEN = {"eeg": {"override": {"units": "V"}}}


@pytest.mark.parametrize("modality", ["spikes", "calcium", "eeg"])
def test_a_file_of_others_is_read_by_its_classes(tmp_path, modality):
    write_temporaldata(tmp_path / "a.h5")
    report, tree = ingest_source(
        tmp_path / "a.h5", tmp_path / "out", modality, **OPEN.get(modality, {})
    )
    assert report["reader"]["reader"] == "temporaldata"
    with h5py.File(tmp_path / "a.h5") as file:
        if modality == "spikes":
            times, owner = file["spikes/timestamps"][...], file["spikes/unit_index"][...]
            order = np.lexsort([times, owner])
            np.testing.assert_array_equal(tree["raw/spike_time"].values, times[order])
            assert list(tree["raw/region"].values) == ["M1", "PMd", "M1"]
            assert tree["raw/observed"].values.tolist() == [[0.0, 20.0]]
        elif modality == "calcium":
            np.testing.assert_array_equal(tree["raw/dff"].values, file["calcium_traces/df_over_f"])
            assert tree.attrs["rate"] == 10.0
        else:
            np.testing.assert_array_equal(tree["raw/signal"].values, file["eeg/signal"])
            assert list(tree["raw/channel"].values) == ["Cz", "Pz"]
            assert set(tree["raw/units"].values) == {"V"}
        np.testing.assert_array_equal(tree["behavior/pos"].values, file["cursor/pos"])
        assert list(tree["behavior"].data_vars) == ["pos"]
    assert list(tree["trials/target"].values) == ["left", "right"]
    assert list(tree["events/label"].values) == ["movement_phases"]
    assert (tree.attrs["species"], tree.attrs["dataset"]) == ("Macaca mulatta", "perich")
    assert "NAIVE_SESSION_START" in codes(report)


def test_the_header_tells_subject_and_modality(tmp_path):
    write_temporaldata(tmp_path / "a.h5")
    reader, hit = match(tmp_path / "a.h5")
    assert (reader.name, hit.modality, hit.entities["subject"]) == (
        "temporaldata", "spikes", "monkeyM",
    )  # fmt: skip


check_refusal = refusal_check(ingest_source)


def spoil(path, place, change):
    with h5py.File(path, "r+") as file:
        change(file, place)


def replaced(values):
    def change(file, place):
        attrs = dict(file[place].attrs)
        del file[place]
        file[place] = values
        file[place].attrs.update(attrs)

    return change


def added(values):
    def change(file, place):
        file[place] = values

    return change


def without(file, place):
    del file[place]


FAULTS = {
    "no rate": ("calcium", "calcium_traces", lambda f, p: f[p].attrs.pop("sampling_rate"),
                "MISSING_SIDECAR", "sampling_rate"),
    "no times": ("spikes", "spikes/timestamps", without, "MISSING_SIDECAR", "timestamps"),
    "no units": ("spikes", "units", without, "MISSING_SIDECAR", "no table 'units'"),
    "no spikes": ("spikes", "spikes", without, "EMPTY", "no spikes"),
    "no domain": ("spikes", "spikes/domain", without, "MISSING_SIDECAR", "domain"),
    "no unit of samples": ("eeg", "channels/id", lambda f, p: None, "UNITS", "nothing states"),
    "times not numbers": ("spikes", "spikes/timestamps", replaced(np.full(400, np.nan)),
                          "BAD_TIME", "not finite"),
    "times of another length": ("spikes", "spikes/timestamps", replaced(np.arange(7.0)),
                                "LENGTH_MISMATCH", "7"),
    "times in ms": ("spikes", "spikes/timestamps", replaced(np.linspace(0, 20_000, 400)),
                    "BAD_TIME", "domain from 0 to 20"),
    "unknown unit": ("spikes", "spikes/unit_index", replaced(np.full(400, 9)),
                     "LENGTH_MISMATCH", "among the 3 units"),
    "domain backwards": ("spikes", "spikes/domain/end", replaced(np.array([-1.0])),
                         "BAD_TIME", "ends before it starts"),
    "rows of another length": ("spikes", "units/id", replaced(np.array([b"a"])),
                               "LENGTH_MISMATCH", "units"),
    "samples cut": ("calcium", "calcium_traces/df_over_f", replaced(np.zeros((50, 4))),
                    "LENGTH_MISMATCH", "50 samples"),
    "another class": ("spikes", "/", lambda f, p: f.attrs.modify("object", "Interval"),
                      "NOT_THIS_FORMAT", "temporaldata"),
    "arrays of two lengths": ("spikes", "cursor/vel", added(np.zeros(7)),
                              "LENGTH_MISMATCH", "pos 400, vel 7"),
    "trial backwards": ("spikes", "trials/end", replaced(np.array([0.5, 9.0])),
                        "BAD_TIME", "back to 0.5"),
    "fMRI of others": ("fmri", "channels", lambda f, p: None, "NOT_THIS_FORMAT", "fmri"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_named(tmp_path, fault):
    modality, place, change, code, fragment = FAULTS[fault]
    write_temporaldata(tmp_path / "a.h5")
    spoil(tmp_path / "a.h5", place, change)
    check_refusal(
        code, fragment, tmp_path / "a.h5", tmp_path / "out", modality,
        row={"reader": "temporaldata"},
    )  # fmt: skip


def test_several_series_are_chosen_by_name(tmp_path):
    write_temporaldata(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        file.copy("spikes", "spikes_2")
    source, out = tmp_path / "a.h5", tmp_path / "out"
    check_refusal("SEVERAL_SERIES", "spikes, spikes_2", source, out, "spikes")
    _, tree = ingest_source(source, out, "spikes", override={"series": "spikes_2"})
    assert tree["raw"].sizes["spike"] == 400


def test_our_file_of_another_modality_is_refused(stores, tmp_path):
    to_temporaldata(stores["eeg"], tmp_path / "a.h5")
    check_refusal("NOT_THIS_FORMAT", "as eeg", tmp_path / "a.h5", tmp_path / "out", "spikes")
