"""The BIDS layer: sidecars override what a header of channels says, and each override is told."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from neuropipe.config.models import IngestConfig, IngestOverride
from neuropipe.errors import IngestError
from neuropipe.io.arrays import object_array
from neuropipe.io.bids.contacts import contact_of, white_matter
from neuropipe.io.bids.layer import apply
from neuropipe.io.channels.source import ChannelSource, ChannelTable
from neuropipe.io.registry import reader_settings, readers
from neuropipe.simulate.bids_files import (
    simulate_eeg,
    simulate_seeg,
    write_bids_recording,
    write_bids_root,
)


class NoSamples:
    """Samples that may not be read: the layer works on headers."""

    dtype = np.dtype(np.int16)

    def __init__(self, shape):
        self.shape = shape
        self.scale, self.offset = np.full(shape[1], 1e-7), np.zeros(shape[1])


def header_of(path, recording, **changes):
    """What a BrainVision header states: names and µV, every channel of type eeg."""
    n = len(recording.names)
    nan = np.full(n, np.nan)
    table = ChannelTable(
        name=recording.names,
        source=recording.names,
        ch_type=("eeg",) * n,
        units=("V",) * n,
        declared=("µV",) * n,
        bad=np.zeros(n, dtype=bool),
        reference=("",) * n,
        position=np.full((n, 3), np.nan),
        low_cutoff=nan,
        high_cutoff=nan,
    )
    table = replace(table, **{k: v for k, v in changes.items() if hasattr(table, k)})
    n_times = len(recording.microvolts)
    source = ChannelSource(
        path=path,
        channels=table,
        samples=NoSamples((n_times, n)),
        time=np.arange(n_times) / recording.rate_hz,
        types_stated=False,
        source_files=[path],
    )
    return replace(source, **{k: v for k, v in changes.items() if not hasattr(table, k)})


@pytest.fixture
def seeg(tmp_path):
    recording = simulate_seeg(1.0)
    write_bids_root(tmp_path / "set", {"01": ("31", "F", "n/a")})
    names = {"sub": "01", "ses": "a", "task": "go"}
    return recording, write_bids_recording(tmp_path / "set", recording, names)


@pytest.fixture
def eeg(tmp_path):
    recording = simulate_eeg(2.0)
    write_bids_root(tmp_path / "set", {"01": ("31", "F", "human")})
    names = {"sub": "01", "task": "flash"}
    path = write_bids_recording(tmp_path / "set", recording, names, spaces=("CapTrak",))
    return recording, path


def layered(source, modality="ieeg", **override):
    return apply(source, modality, IngestOverride(**override))


def codes(source):
    return [issue.code for issue in source.issues]


def beside(path, suffix):
    return next(path.parent.glob(f"*_{suffix}"))


def rewrite(path, change):
    lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join(change(lines)) + "\n", encoding="utf-8")


def test_intracranial_contacts_get_all_that_is_known(seeg):
    recording, path = seeg
    found = layered(header_of(path, recording))
    table, names = found.channels, list(recording.names)
    assert found.types_stated
    assert list(table.ch_type) == ["seeg"] * 11 + ["ecg"]
    assert list(np.array(names)[table.bad]) == ["LB2"]
    assert list(table.columns["electrode_group"]) == ["LA"] * 4 + ["LB"] * 3 + ["R'"] * 4 + [""]
    assert list(table.columns["contact"]) == [1, 2, 3, 4, 1, 2, 3, 1, 2, 3, 4, -1]
    assert table.columns["contact"].dtype == np.int32
    for k, name in enumerate(names):
        expected = recording.position_mm.get(name, (np.nan,) * 3)
        np.testing.assert_allclose(table.position[k], 1e-3 * np.array(expected), rtol=1e-12)
    assert list(table.columns["is_white_matter"]) == [
        {"": -1, "n/a": -1, "Left-Cerebral-White-Matter": 1}.get(recording.anat_label.get(n, ""), 0)
        if n in recording.position_mm
        else -1
        for n in names
    ]
    np.testing.assert_allclose(table.columns["size"][:-2], 5e-6)
    np.testing.assert_allclose(table.columns["impedance"][:-2], 1e4)
    assert np.isnan(table.columns["impedance"][-1])
    np.testing.assert_array_equal(table.low_cutoff, 0.1)
    assert set(table.reference[:11]) == {"mastoid"}
    assert found.attrs["line_freq"] == 50.0
    assert (found.attrs["space"], found.attrs["reference_scheme"]) == ("ACPC", "mastoid")
    np.testing.assert_array_equal(found.events["onset"], [t for t, *_ in recording.events])
    assert {"sex": "F", "age": "P31Y", "species": "Homo sapiens"}.items() <= found.attrs.items()
    assert set(codes(found)) == {"GROUP_INFERRED", "CONTACTS_DIFFER", "SPECIES_ASSUMED"}
    read = {file.name.rsplit("_", 1)[-1] for file in found.source_files}
    assert read == {
        "ieeg.vhdr", "ieeg.json", "channels.tsv", "electrodes.tsv", "coordsystem.json",
        "events.tsv", "participants.tsv",
    }  # fmt: skip
    assert not any(str(path.parents[3]) in issue.path for issue in found.issues)


def test_sidecars_can_be_left_alone(seeg):
    recording, path = seeg
    header = header_of(path, recording, types_stated=True, ch_type=("seeg",) * 12)
    found = layered(header, sidecars=False)
    assert found.events is None
    assert found.source_files == [path]
    assert list(found.channels.columns["electrode_group"])[:1] == ["LA"]
    assert codes(found) == ["GROUP_INFERRED"]


def test_outside_a_data_set_nothing_is_applied(seeg, tmp_path):
    recording, path = seeg
    loose = tmp_path / path.name
    loose.write_bytes(path.read_bytes())
    header = header_of(loose, recording)
    assert layered(header, "eeg") is header


def test_missing_tables_are_told(seeg):
    recording, path = seeg
    beside(path, "channels.tsv").unlink()
    beside(path, "electrodes.tsv").unlink()
    found = layered(header_of(path, recording))
    assert not found.types_stated  # for iEEG the error MISSING_SIDECAR of whoever opens it
    assert codes(found).count("MISSING_SIDECAR") == 2
    assert np.isnan(found.channels.position).all()
    assert list(found.channels.columns["is_white_matter"]) == [-1] * 12


def test_a_table_without_all_types_states_no_types(seeg):
    recording, path = seeg
    table = beside(path, "channels.tsv")
    rewrite(table, lambda lines: [line.replace("\tECG\t", "\tn/a\t") for line in lines])
    assert not layered(header_of(path, recording)).types_stated


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        (
            lambda lines: lines[:-1],
            "LENGTH_MISMATCH",
            "11 rows.*12 channels; only in the header: E",
        ),
        (lambda lines: [*lines, lines[-1].replace("ECG", "X1")], "LENGTH_MISMATCH", "table: X1"),
        (
            lambda lines: [*lines[:-1], lines[-1].replace("ECG", "EKG")],
            "NAME_MISMATCH",
            "only in the header: ECG; only in the table: EKG",
        ),
        (
            lambda lines: [lines[0].replace("low_cutoff", "low"), *lines[1:-1]],
            "LENGTH_MISMATCH",
            "11 rows",
        ),
        (lambda lines: [lines[0].replace("type", "kind"), *lines[1:]], "NOT_THIS_FORMAT", "type"),
    ],
)
def test_a_table_of_other_channels_is_refused(seeg, change, code, words):
    recording, path = seeg
    rewrite(beside(path, "channels.tsv"), change)
    with pytest.raises(IngestError, match=words) as caught:
        layered(header_of(path, recording))
    assert caught.value.code == code
    assert "channels.tsv" in caught.value.path


def test_rows_are_joined_by_name(seeg):
    recording, path = seeg
    rewrite(beside(path, "channels.tsv"), lambda lines: [lines[0], *lines[:0:-1]])
    rewrite(beside(path, "electrodes.tsv"), lambda lines: [lines[0], *lines[:0:-1]])
    found = layered(header_of(path, recording)).channels
    assert found.ch_type[-1] == "ecg"
    np.testing.assert_allclose(found.position[0], 1e-3 * np.array(recording.position_mm["LA1"]))


def test_renamed_duplicates_are_joined_by_their_place(seeg):
    recording, path = seeg
    rewrite(
        beside(path, "channels.tsv"), lambda lines: [s.replace("LA2\t", "LA1\t") for s in lines]
    )
    source = ("LA1", "LA1", *recording.names[2:])
    name = ("LA1-0", "LA1-1", *recording.names[2:])
    found = layered(header_of(path, recording, source=source, name=name))
    assert list(found.channels.ch_type)[:2] == ["seeg", "seeg"]


def units(path, word):
    rewrite(beside(path, "channels.tsv"), lambda lines: [s.replace("µV", word) for s in lines])


@pytest.mark.parametrize(
    ("declared", "word", "gain", "issue"),
    [
        ("µV", "uV", None, False),
        ("µV", "microvolts", None, False),
        ("µV", "V", None, True),  # what mne-bids writes for files that it converted
        ("µV", "mV", 1e3, True),
        ("V", "µV", 1e-6, True),
        ("", "µV", 1e-6, False),
        ("", "V", None, False),
        ("µV", "n/a", None, False),
        ("µV", "boolean", None, False),
    ],
)
def test_units_of_the_table_override_those_of_the_header(seeg, declared, word, gain, issue):
    recording, path = seeg
    units(path, word)
    found = layered(header_of(path, recording, declared=(declared,) * 12))
    if gain is None:
        assert found.gain is None
    else:
        np.testing.assert_allclose(found.gain, gain)
    assert set(found.channels.units) == {"V"}
    assert ("UNITS_DIFFER" in codes(found)) == issue


def test_formats_that_fix_the_unit_are_not_restated(seeg):
    recording, path = seeg
    header = header_of(path, recording, declared=("V",) * 12, units_stated=False)
    found = layered(header)
    assert found.gain is None
    told = [issue.severity for issue in found.issues if issue.code == "UNITS_DIFFER"]
    assert told == ["info"]


def test_overridden_types_and_bads_are_told(eeg):
    recording, path = eeg
    kinds = ("eeg",) * 6 + ("misc",)
    bad = np.array([True, *[False] * 6])
    header = header_of(path, recording, ch_type=kinds, types_stated=True, bad=bad)
    found = layered(header, "eeg")
    assert list(found.channels.ch_type) == ["eeg"] * 6 + ["eog"]
    assert list(np.array(recording.names)[found.channels.bad]) == ["O2"]
    told = [issue.message for issue in found.issues if issue.code == "OVERRIDDEN"]
    assert any("'misc' of the header is 'eog' of 1" in text for text in told)
    assert any("good or bad" in text for text in told)


def test_header_values_that_differ_are_told(eeg):
    recording, path = eeg
    stated = {"line_freq": 60.0, "sex": "M", "species": "Homo sapiens"}
    found = layered(header_of(path, recording, attrs=stated), "eeg")
    assert found.attrs["line_freq"] == 50.0
    told = " ".join(issue.message for issue in found.issues if issue.code == "OVERRIDDEN")
    assert "line_freq" in told
    assert "sex" in told
    assert "species" not in told


def test_a_rate_that_differs_is_told(eeg):
    recording, path = eeg
    header = header_of(path, recording)
    found = layered(replace(header, time=header.time * 2), "eeg")
    assert "RATE_DIFFERS" in codes(found)


def test_exchanged_cutoffs_are_told(eeg):
    recording, path = eeg
    rewrite(
        beside(path, "channels.tsv"), lambda lines: [s.replace("0.1\t200", "9\t1") for s in lines]
    )
    found = layered(header_of(path, recording), "eeg")
    assert "CUTOFFS" in codes(found)
    assert set(found.channels.low_cutoff) == {9.0}


@pytest.fixture
def spaces(tmp_path):
    recording = simulate_seeg(1.0)
    write_bids_root(tmp_path / "set", {"01": ("31", "F", "human")})
    names = {"sub": "01", "task": "go"}
    path = write_bids_recording(tmp_path / "set", recording, names, spaces=("MNI", "ACPC"))
    return recording, path


@pytest.mark.parametrize(("space", "moved"), [("MNI", 0.0), ("ACPC", 1.0)])
def test_the_space_is_a_setting(spaces, space, moved):
    recording, path = spaces
    found = layered(header_of(path, recording), space=space)
    expected = 1e-3 * (np.array(recording.position_mm["LA1"]) + moved)
    np.testing.assert_allclose(found.channels.position[0], expected)
    assert found.attrs["space"] == space
    assert "SEVERAL_SPACES" not in codes(found)


def test_several_spaces_are_listed(spaces):
    recording, path = spaces
    found = layered(header_of(path, recording))
    assert found.attrs["space"] == "ACPC"
    issue = next(issue for issue in found.issues if issue.code == "SEVERAL_SPACES")
    assert "ACPC, MNI" in issue.message
    with pytest.raises(IngestError, match=r"NO_SUCH_SPACE.*'scanner'; there are ACPC, MNI"):
        layered(header_of(path, recording), space="scanner")


@pytest.mark.parametrize("unit", [None, "pixels", "n/a"])
def test_positions_without_a_unit_are_left_out(seeg, unit):
    recording, path = seeg
    system = beside(path, "coordsystem.json")
    if unit is None:
        system.unlink()
    else:
        system.write_text(json.dumps({"iEEGCoordinateUnits": unit}))
    found = layered(header_of(path, recording))
    assert np.isnan(found.channels.position).all()
    assert "MISSING_SIDECAR" in codes(found)


def test_groups_that_are_stated_are_not_inferred(seeg):
    recording, path = seeg
    table = beside(path, "channels.tsv")
    rewrite(table, lambda lines: [f"{lines[0]}\tgroup", *(f"{line}\tG1" for line in lines[1:])])
    found = layered(header_of(path, recording))
    assert set(found.channels.columns["electrode_group"][:11]) == {"G1"}
    assert found.channels.columns["contact"][2] == 3
    assert "GROUP_INFERRED" not in codes(found)


def test_groups_of_the_electrodes_come_second(seeg):
    recording, path = seeg
    table = beside(path, "electrodes.tsv")
    rewrite(table, lambda lines: [f"{lines[0]}\tgroup", *(f"{line}\tG2" for line in lines[1:])])
    found = layered(header_of(path, recording)).channels
    assert set(found.columns["electrode_group"][:10]) == {"G2"}
    assert found.columns["electrode_group"][10] == "R'"


def test_what_the_format_states_of_contacts_is_kept(seeg, tmp_path):
    recording, path = seeg
    beside(path, "electrodes.tsv").unlink()
    stated = {"anat_label": object_array(["V1"] * 12)}
    found = layered(header_of(path, recording, columns=stated)).channels
    assert list(found.columns["anat_label"]) == ["V1"] * 12
    assert list(found.columns["is_white_matter"]) == [0] * 12


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("LA1", ("LA", 1)), ("A'3", ("A'", 3)), ("TB12", ("TB", 12)), ("LA_01", ("LA", 1)),
        ("POL A5", ("A", 5)), ("EEG LA1-Ref", ("LA", 1)), ("R1A5", ("R1A", 5)),
        ("v'14", ("v'", 14)),
        ("A1-A2", ("", -1)), ("12", ("", -1)), ("ECG", ("", -1)), ("", ("", -1)),
    ],
)  # fmt: skip
def test_names_of_contacts_are_parsed(name, expected):
    assert contact_of(name) == expected


def test_words_for_white_matter():
    labels = ["Left-Cerebral-White-Matter", "WM", "wm-lh-insula", "white matter", "Hippocampus",
              "swmoke", "", "Unknown", "ctx_lh_G_front"]  # fmt: skip
    assert list(white_matter(labels)) == [1, 1, 1, 1, 0, 0, -1, -1, 0]


def test_settings_of_the_study_and_of_a_recording():
    reader = next(iter(readers().values()))
    config = IngestConfig.model_validate(
        {"bids": {"space": "MNI", "sidecars": False}, "overrides": {"a": {"space": "ACPC"}}}
    )
    _, common = reader_settings(reader, config, "b")
    assert (common.sidecars, common.space) == (False, "MNI")
    assert reader_settings(reader, config, "a")[1].space == "ACPC"
