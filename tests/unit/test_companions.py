"""Files that belong to a recording by their names, found without opening any."""

from __future__ import annotations

from neuropipe.io.companions import companions
from neuropipe.simulate.bids_files import write_eeg_dataset, write_seeg_dataset
from neuropipe.simulate.fmri_files import simulate_fmri, write_bids_fmri


def test_parts_of_a_loose_recording(tmp_path):
    for name in ("b.vhdr", "b.eeg", "b.vmrk", "b2.eeg", "c.eeg", "b_events.tsv"):
        (tmp_path / name).touch()
    (tmp_path / "x").mkdir()
    assert companions(tmp_path, "b.vhdr") == ["b.eeg", "b.vmrk"]
    assert companions(tmp_path / "x", "../b.vhdr") == ["../b.eeg", "../b.vmrk"]
    assert companions(tmp_path, "absent/b.vhdr") == []


def test_sidecars_of_a_bids_tree_and_of_no_other_recording(tmp_path):
    write_eeg_dataset(tmp_path / "set")
    (tmp_path / "set/task-flash_eeg.json").write_text("{}")
    (tmp_path / "set/task-other_eeg.json").write_text("{}")
    folder = "set/sub-01/eeg/sub-01"
    found = companions(tmp_path, f"{folder}_task-flash_run-1_eeg.vhdr")
    assert found == sorted(
        [f"{folder}_task-flash_run-1_{end}" for end in
         ("channels.tsv", "eeg.eeg", "eeg.json", "eeg.vmrk", "events.tsv")]
        + [f"{folder}_space-CapTrak_{end}" for end in ("coordsystem.json", "electrodes.tsv")]
        + ["set/task-flash_eeg.json"]
    )  # fmt: skip


def test_every_space_of_electrodes_counts(tmp_path):
    write_seeg_dataset(tmp_path)
    path = next(p for p in tmp_path.rglob("sub-01*_ieeg.vhdr")).relative_to(tmp_path)
    tables = {f"{p.relative_to(tmp_path)}" for p in tmp_path.rglob("sub-01*_electrodes.tsv")}
    assert tables
    assert tables <= set(companions(tmp_path, str(path)))


def test_confounds_and_mask_of_a_run(tmp_path):
    image = write_bids_fmri(simulate_fmri(parcels=2, n_times=50, shape=(8, 9, 5)), tmp_path)
    names = {p.rsplit("_", 1)[-1] for p in companions(tmp_path, str(image.relative_to(tmp_path)))}
    assert {"bold.json", "events.tsv", "timeseries.tsv", "mask.nii.gz"} <= names
