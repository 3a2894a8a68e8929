"""channels.tsv beside every format: types and units of the table, numbers of the file."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from ingests import ingest_source

from neuropipe.errors import IngestError
from neuropipe.io.scan import scan
from neuropipe.simulate.bids_files import write_bids_root
from neuropipe.simulate.channel_files import (
    simulate_channels,
    write_brainvision,
    write_edf,
    write_eeglab,
    write_fif,
)
from neuropipe.store.scaling import physical

WRITERS = {
    ".vhdr": write_brainvision,
    ".edf": write_edf,
    ".set": write_eeglab,
    ".fif": write_fif,
}
MEG_WORDS = {"mag": "MEGMAG", "grad": "MEGGRADPLANAR"}


def write(root, modality, extension, channels, kinds, unit):
    """A data set with one recording and the table of its channels."""
    write_bids_root(root, {"01": ("30", "F", "human")})
    folder = root / "sub-01" / modality
    folder.mkdir(parents=True)
    path = folder / f"sub-01_task-x_{modality}{extension}"
    WRITERS[extension](channels, path)
    rows = [
        f"{name}\t{kind}\t{unit}\t{'bad' if k == 1 else 'good'}"
        for k, (name, kind) in enumerate(zip(channels.names, kinds, strict=True))
    ]
    # The writer of FIF adds the channel of triggers, and a table lists what the file holds.
    rows += ["STI 014\tTRIG\tn/a\tgood"] if extension == ".fif" else []
    table = folder / "sub-01_task-x_channels.tsv"
    table.write_text("\n".join(["name\ttype\tunits\tstatus", *rows]) + "\n", encoding="utf-8")
    return path


def ingest(path, out, modality):
    report, tree = ingest_source(path, out, modality)
    return report, tree["raw"].to_dataset()


@pytest.mark.parametrize("extension", WRITERS)
@pytest.mark.parametrize("unit", ["µV", "V", "n/a"])
def test_the_table_states_types_and_the_file_the_numbers(tmp_path, extension, unit):
    channels = simulate_channels(4, 4.0, bad=())
    kinds = ("SEEG", "SEEG", "ECOG", "EOG")
    path = write(tmp_path / "set", "ieeg", extension, channels, kinds, unit)
    assert [row["modality"] for row in scan([tmp_path / "set"]).rows] == ["ieeg"]
    _, raw = ingest(path, tmp_path / "out", "ieeg")
    picks = [list(raw["channel"].values).index(name) for name in channels.names]
    assert list(raw["ch_type"].values[picks]) == ["seeg", "seeg", "ecog", "eog"]
    assert list(raw["bad"].values[picks]) == [False, True, False, False]
    # Half a step of the coarsest format.
    np.testing.assert_allclose(
        physical(raw)[: channels.n_times, picks], channels.values, rtol=1e-5, atol=1e-7
    )


@pytest.mark.parametrize("unit", ["T", "fT", "n/a"])
def test_sensors_of_meg_keep_their_units(tmp_path, unit):
    channels = simulate_channels(6, 4.0, kind="meg", bad=())
    kinds = [MEG_WORDS[kind] for kind in channels.types]
    path = write(tmp_path / "set", "meg", ".fif", channels, kinds, unit)
    _, raw = ingest(path, tmp_path / "out", "meg")
    picks = [list(raw["channel"].values).index(name) for name in channels.names]
    assert list(raw["ch_type"].values[picks]) == list(channels.types)
    assert list(raw["units"].values[picks]) == list(channels.units)
    np.testing.assert_allclose(physical(raw)[:, picks], channels.values, rtol=1e-6)


def test_a_header_that_lies_is_corrected_by_the_table(tmp_path):
    channels = simulate_channels(4, 4.0, bad=())
    path = write(tmp_path / "set", "ieeg", ".vhdr", channels, ("SEEG",) * 4, "µV")
    write_brainvision(channels, path, unit="mV")
    report, raw = ingest(path, tmp_path / "out", "ieeg")
    np.testing.assert_allclose(physical(raw), channels.values, atol=1e-7)
    assert "UNITS_DIFFER" in {issue["code"] for issue in report["issues"]}


def test_a_table_that_lies_is_refused_by_the_amplitudes(tmp_path):
    channels = simulate_channels(4, 4.0, bad=())
    channels = replace(channels, values=200 * channels.values)
    path = write(tmp_path / "set", "ieeg", ".vhdr", channels, ("SEEG",) * 4, "mV")
    with pytest.raises(IngestError) as caught:
        ingest(path, tmp_path / "out", "ieeg")
    assert caught.value.code == "UNITS"
    assert "in ingest.overrides" in caught.value.hint
