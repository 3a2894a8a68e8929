"""BIDS data sets that the project did not make, against mne-bids."""

from __future__ import annotations

import csv
import warnings

import numpy as np
import pytest
from real_data import ROOT, needs

from neuropipe.config.models import IngestConfig
from neuropipe.config.recordings import Recording, read_recordings, write_recordings
from neuropipe.errors import IngestError
from neuropipe.io.ingest import ingest_recording
from neuropipe.io.scan import scan
from neuropipe.store.nwb import from_nwb
from neuropipe.store.scaling import physical
from neuropipe.store.schema import check_tree
from neuropipe.store.validate import validate_store
from neuropipe.store.zarr import open_store

TINY = ROOT / "eeg_meg/tiny_bids"
HFO = ROOT / "ieeg/mne_hfo/data"
EXAMPLES = ROOT / "ieeg/bids_examples"
MILLER = EXAMPLES / "ieeg_motorMiller2007"
EPILEPSY = EXAMPLES / "ieeg_epilepsyNWB"


def source_in(root):
    return next(path for path in sorted(root.rglob("sub-*")) if path.suffix in (".vhdr", ".nwb"))


def ingest(root, out, modality, **settings):
    path = source_in(root)
    row = Recording(name=f"sub-01_{modality}", subject="01", modality=modality, path="x")
    output = out / f"{row.name}.zarr"
    report = ingest_recording(row, path, IngestConfig.model_validate(settings), output)
    tree = open_store(output)
    assert check_tree(tree) == []
    assert from_nwb(output.with_suffix(".nwb")).identical(tree)
    for suffix in (".zarr", ".nwb"):
        found = validate_store(output.with_suffix(suffix))
        assert [issue for issue in found if issue.severity == "error"] == []
    return report, tree


def by_mne_bids(root):
    """The same recording as mne-bids reads it."""
    from mne_bids import get_bids_path_from_fname, read_raw_bids

    path = get_bids_path_from_fname(source_in(root))
    path.root = root
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what mne-bids thinks of these files is not at stake
        return read_raw_bids(path, verbose="error")


def table(path):
    with path.open(encoding="utf-8-sig", newline="") as stream:
        return list(csv.DictReader(stream, delimiter="\t"))


@needs(TINY)
def test_eeg_is_what_mne_bids_reads(tmp_path):
    report, tree = ingest(TINY, tmp_path, "eeg")
    raw, mne_raw = tree["raw"].to_dataset(), by_mne_bids(TINY)
    assert list(raw["channel"].values) == mne_raw.ch_names
    assert list(raw["ch_type"].values) == mne_raw.get_channel_types()
    assert sorted(raw["channel"].values[raw["bad"].values]) == sorted(mne_raw.info["bads"])
    assert raw["signal"].dtype == np.int16
    volts = raw["units"].values == "V"
    ours, theirs = physical(raw)[:, volts], mne_raw.get_data()[volts].T
    np.testing.assert_array_max_ulp(ours, theirs, maxulp=1)
    assert raw.attrs["line_freq"] == mne_raw.info["line_freq"] == 60.0
    np.testing.assert_allclose(tree["events/onset"], mne_raw.annotations.onset, atol=1e-12)
    assert list(tree["events/label"].values) == list(mne_raw.annotations.description)
    rows = {row["name"]: row for row in table(next(TINY.rglob("*space-CapTrak_electrodes.tsv")))}
    for k, name in enumerate(raw["channel"].values):
        stated = rows.get(name, {"x": "n/a"})["x"]
        expected = float("nan") if stated == "n/a" else float(stated)
        np.testing.assert_equal(float(raw["x"].values[k]), expected)
    assert raw.attrs["coord_frame"] == "CapTrak"
    assert {"sex": "F", "age": "P29Y"}.items() <= tree.attrs.items()
    assert tree.attrs["session_start"] == "2000-01-01T12:00:00+00:00"
    assert {issue["severity"] for issue in report["issues"]} == {"info"}


@needs(HFO)
def test_intracranial_eeg_with_a_mark_and_without_electrodes(tmp_path):
    report, tree = ingest(HFO, tmp_path, "ieeg")
    raw, mne_raw = tree["raw"].to_dataset(), by_mne_bids(HFO)
    assert list(raw["channel"].values) == mne_raw.ch_names
    assert set(raw["ch_type"].values) == {"ecog"} == set(mne_raw.get_channel_types())
    np.testing.assert_array_max_ulp(physical(raw), mne_raw.get_data().T, maxulp=1)
    events = table(next(HFO.glob("sub-01/**/*_events.tsv")))
    np.testing.assert_array_equal(tree["events/onset"], [float(row["onset"]) for row in events])
    assert list(tree["events/label"].values) == [row["trial_type"] for row in events]
    groups = dict(zip(raw["channel"].values, raw["electrode_group"].values, strict=True))
    assert (groups["IAR1"], groups["PHR8"]) == ("IAR", "PHR")
    assert np.isnan(raw["x"].values).all()
    codes = {issue["code"] for issue in report["issues"]}
    # The header says µV, the table V: the data would be a million times too large.
    assert {"MISSING_SIDECAR", "UNITS_DIFFER", "GROUP_INFERRED"} <= codes
    assert tree.attrs["dataset"].startswith("Fedele")


@needs(EXAMPLES)
def test_spaces_of_electrodes_are_a_choice(tmp_path):
    # 376.4 s by its sidecar, two samples in the file: the examples come without their data.
    with pytest.raises(IngestError, match=r"TRUNCATED.*says 376.4 s"):
        ingest(MILLER, tmp_path / "cut", "ieeg")
    cut = {"sub-01_ieeg": {"allow_truncated": True}}
    report, tree = ingest(MILLER, tmp_path / "a", "ieeg", overrides=cut)
    spaces = [i["message"] for i in report["issues"] if i["code"] == "SEVERAL_SPACES"]
    assert spaces == ["electrodes are given in the spaces ACPC, Talairach; ACPC is taken"]
    for space in ("ACPC", "Talairach"):
        _, tree = ingest(MILLER, tmp_path / space, "ieeg", bids={"space": space}, overrides=cut)
        rows = table(next(MILLER.rglob(f"*space-{space}_electrodes.tsv")))
        names = list(tree["raw/channel"].values)
        for row in rows:
            found = float(tree["raw/x"].values[names.index(row["name"])])
            assert found == pytest.approx(1e-3 * float(row["x"]), rel=1e-12)
        assert tree["raw"].attrs["space"] == space
    with pytest.raises(IngestError, match=r"NO_SUCH_SPACE.*ACPC, Talairach"):
        ingest(MILLER, tmp_path / "x", "ieeg", bids={"space": "MNI"}, overrides=cut)


@needs(EXAMPLES)
def test_metadata_without_data_are_told(tmp_path):
    with pytest.raises(IngestError, match=r"EMPTY.*no electrical series"):
        ingest(EPILEPSY, tmp_path, "ieeg")
    found = scan([EPILEPSY])
    assert found.rows == []
    assert [(i.code, i.severity) for i in found.issues] == [("EMPTY", "error")]


@needs(ROOT / "ieeg")
def test_a_scan_gives_rows_that_can_be_used(tmp_path):
    found = scan([TINY, HFO, EXAMPLES])
    write_recordings(tmp_path / "recordings.tsv", found.rows)
    rows = read_recordings(tmp_path / "recordings.tsv")
    assert [row.name for row in rows] == [
        "sub-01_ses-eeg_task-rest_eeg",
        "sub-01_ses-interictalsleep_run-01_ieeg",
        "sub-bp_ses-01_task-motor_run-01_ieeg",
    ]
    assert {row.reader for row in rows} == {"brainvision"}
