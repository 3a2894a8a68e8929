"""Each row of the error table, fed through the step: its code, exit status 2, and nothing left.

What a code means in detail is tested beside each format; here stands that no row is without one.
"""

from __future__ import annotations

import json

import h5py
import numpy as np
import pytest

from neuropipe.cli.main import main
from neuropipe.simulate.bids_files import simulate_seeg, write_bids_recording, write_bids_root
from neuropipe.simulate.channel_files import simulate_channels, write_brainvision, write_edf
from neuropipe.simulate.fmri_files import simulate_fmri, write_bids_fmri
from neuropipe.simulate.spike_files import (
    simulate_spikes,
    write_phy_folder,
    write_spike_nwb,
    write_spike_table,
)

HTML = "<!DOCTYPE html><html><body>404</body></html>"
TIME = np.arange(40) / 4
HDF5 = {"datasets": {"traces": "f", "time": "t", "behavior": {"v": {"path": "v", "time": "c"}}},
        "kind": "dff"}  # fmt: skip
SECONDS = {"time_unit": "s", "duration_s": 5.0}


def spikes():
    return simulate_spikes((5.0, 9.0), 5.0, trials=2)


def calcium(folder, **fields):
    values = np.random.default_rng(0).standard_normal((40, 3))
    with h5py.File(folder / "a.h5", "w") as file:
        for name, value in ({"f": values, "t": TIME, "v": TIME, "c": TIME} | fields).items():
            file[name] = value
    return "a.h5", "hdf5", HDF5


def text(folder, name, content, reader, settings, encoding="utf-8"):
    (folder / name).write_text(content, encoding=encoding)
    return name, reader, settings


def cut(folder, case, share=0.5):
    name, *rest = case
    path = folder / name
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    return name, *rest


def spike_table(folder, unit="s"):
    write_spike_table(spikes(), folder / "a.csv", unit=unit)
    return "a.csv", "spike_table", SECONDS


def spike_nwb(folder):
    write_spike_nwb(spikes(), folder / "a.nwb")
    return "a.nwb", "nwb_units", {}


def phy(folder, **damaged):
    write_phy_folder(spikes(), folder / "phy")
    for name, content in damaged.items():
        (folder / "phy" / name.replace("__", ".")).write_bytes(content)
    return "phy", "phy", {"duration_s": 5.0}


def brainvision(folder, unit="µV"):
    write_brainvision(
        simulate_channels(3, 3.0, rate_hz=100.0, bad=()), folder / "a.vhdr", unit=unit
    )
    return "a.vhdr", "brainvision", {}


def edf(folder, **keys):
    channels = simulate_channels(3, 3.0, rate_hz=100.0, bad=())
    write_edf(channels, folder / "a.edf", **keys)
    return "a.edf", "edf", {}


def seeg(folder, without=""):
    write_bids_root(folder, {"01": ("31", "F", "human")})
    recording = simulate_seeg(2.0, rate_hz=200.0)
    path = write_bids_recording(folder, recording, {"sub": "01", "task": "go"})
    for other in folder.rglob(f"*{without}") if without else ():
        other.unlink()
    return str(path.relative_to(folder)), "brainvision", {}


def fmri(folder, **metadata):
    path = write_bids_fmri(simulate_fmri(3, 30, shape=(6, 5, 4)), folder)
    side = path.with_name(path.name.replace(".nii.gz", ".json"))
    side.write_text(json.dumps(json.loads(side.read_text()) | metadata))
    return str(path.relative_to(folder)), "nifti", {}


def without_tr(folder):
    import nibabel as nib

    values = np.random.default_rng(0).normal(100, 10, (5, 5, 4, 30)).astype(np.float32)
    image = nib.Nifti1Image(values, np.eye(4))
    image.header.set_xyzt_units("mm", "unknown")
    image.header["pixdim"][4] = 0
    nib.save(image, folder / "a.nii.gz")
    return "a.nii.gz", "nifti", {"mask": "all"}


ROWS = {
    ("TRUNCATED", "calcium"): lambda f: cut(f, calcium(f), 0.9),
    ("TRUNCATED", "spikes"): lambda f: cut(f, spike_nwb(f)),
    ("TRUNCATED", "eeg"): lambda f: cut(f, edf(f)),
    ("TRUNCATED", "fmri"): lambda f: cut(f, fmri(f)),
    ("NOT_THIS_FORMAT", "calcium"): lambda f: text(f, "a.h5", HTML, "hdf5", HDF5),
    ("NOT_THIS_FORMAT", "spikes"): lambda f: text(f, "a.csv", HTML, "spike_table", SECONDS),
    ("NOT_THIS_FORMAT", "eeg"): lambda f: text(f, "a.vhdr", HTML, "brainvision", {}),
    ("NOT_THIS_FORMAT", "meg"): lambda f: text(f, "a_meg.fif", HTML, "fif", {}),
    ("NOT_THIS_FORMAT", "fmri"): lambda f: text(f, "a.nii.gz", HTML, "nifti", {}),
    ("MISSING_SIDECAR", "calcium"): lambda f: (*calcium(f)[:2], {**HDF5, "names_table": "n.csv"}),
    ("MISSING_SIDECAR", "spikes"): lambda f: (*spike_table(f)[:2], {}),
    ("MISSING_SIDECAR", "ieeg"): lambda f: seeg(f, "_channels.tsv"),
    ("MISSING_SIDECAR", "fmri"): without_tr,
    ("UNITS", "spikes"): lambda f: spike_table(f, "ms"),
    ("UNITS", "eeg"): lambda f: brainvision(f, "mV"),
    ("TR_MISMATCH", "fmri"): lambda f: fmri(f, RepetitionTime=2.5),
    ("NAN_IN_DATA", "calcium"): lambda f: calcium(f, f=np.full((40, 3), np.nan)),
    ("BAD_TIME", "calcium"): lambda f: calcium(f, t=TIME[::-1].copy()),
    ("BAD_TIME", "spikes"): lambda f: text(
        f, "a.csv", "unit,time\na,1\na,3\na,2\n", "spike_table", SECONDS
    ),
    ("LENGTH_MISMATCH", "calcium"): lambda f: calcium(f, t=TIME[:-2]),
    ("LENGTH_MISMATCH", "spikes"): lambda f: (
        phy(f), np.save(f / "phy/spike_clusters.npy", np.zeros(3, np.int32))
    )[0],
    ("CLOCK_MISMATCH", "calcium"): lambda f: calcium(f, c=TIME + 5.0),
    ("MIXED_RATES", "eeg"): lambda f: edf(f, slower={"Fp1": 2}),
    ("EMPTY", "calcium"): lambda f: text(f, "a.h5", "", "hdf5", HDF5),
    ("EMPTY", "spikes"): lambda f: text(f, "a.csv", "unit,time\n", "spike_table", SECONDS),
    ("EMPTY", "eeg"): lambda f: text(f, "a.edf", "", "edf", {}),
    ("EMPTY", "fmri"): lambda f: text(f, "a.nii.gz", "", "nifti", {}),
    ("ENCODING", "calcium"): lambda f: text(
        f, "a.csv", "time,ä\n0,1\n1,2\n", "table", {"kind": "dff"}, "latin-1"
    ),
    ("ENCODING", "spikes"): lambda f: text(
        f, "a.csv", "unit,time\nä,1\n", "spike_table", SECONDS, "latin-1"
    ),
    ("UNSAFE", "calcium"): lambda f: (
        *calcium(f)[:2],
        {"datasets": {"traces": "f", "time": "t"}, "names_table": "../n.csv", "index_base": 0},
    ),
    ("UNSAFE", "spikes"): lambda f: phy(f, params__py=b"sample_rate = float('30000')\n"),
}  # fmt: skip


def step(folder, modality, source, reader, settings):
    """Run ``neuropipe step ingest`` in this process; return its status."""
    name = f"sub-01_{modality}"
    row = {"name": name, "subject": "01", "modality": modality, "path": source, "reader": reader}
    given = json.dumps({"recording": row, "ingest": {"readers": {reader: settings}}})
    output = folder / "out" / f"{name}.zarr"
    words = ["--source", str(folder / source), "--output", str(output), "--settings", given]
    return main(["step", "ingest", *words]), output


@pytest.mark.parametrize(("code", "modality"), ROWS, ids="-".join)
def test_each_row_ends_with_its_code_and_status_2_and_leaves_nothing(
    tmp_path, capfd, code, modality
):
    source, reader, settings = ROWS[code, modality](tmp_path)
    status, output = step(tmp_path, modality, source, reader, settings)
    said = capfd.readouterr().err
    assert status == 2, said
    assert f"neuropipe: {code}: " in said
    assert "Traceback" not in said
    assert not output.parent.exists() or not list(output.parent.iterdir())


def test_output_of_another_content_stays(tmp_path, capfd):
    for values in (1.0, 2.0):
        source, reader, settings = calcium(tmp_path, f=np.full((40, 3), values))
        status, output = step(tmp_path, "calcium", source, reader, settings)
    assert status == 2
    assert "neuropipe: EXISTS: " in capfd.readouterr().err
    assert sorted(p.suffix for p in output.parent.iterdir()) == [".json", ".nwb", ".zarr"]
