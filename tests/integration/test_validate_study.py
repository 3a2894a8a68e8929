"""`validate` tells what a step would refuse later: settings, labels, confounds, files."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from neuropipe.analyses.trsa import spec_limits
from neuropipe.analyses.trsa.kernels.compare import WHITENED
from neuropipe.analyses.trsa.kernels.rdm import MEASURES
from neuropipe.analyses.trsa.kernels.searchlight import LINEAR
from neuropipe.cli.main import main
from neuropipe.cli.validate_command import study_issues
from neuropipe.errors import ConfigError
from neuropipe.simulate.channel_files import simulate_channels, write_brainvision
from neuropipe.simulate.fmri_files import simulate_fmri, write_atlas, write_bids_fmri
from neuropipe.study import load_study

CONFIG = "study: s\npreprocess: {{fmri: {{confounds: {confounds}}}}}\nanalyses:\n  trsa:\n{block}"
LABELS = "[face, house, cat, shoe]"


@pytest.fixture(scope="module")
def bids(tmp_path_factory):
    """Return a study folder of two runs; `shoe` is a label of one of them."""
    root = tmp_path_factory.mktemp("bids")
    rows = ["subject\trun\tmodality\tpath"]
    for number in ("1", "2"):
        run = simulate_fmri(4, 60, shape=(6, 6, 4), seed=int(number))
        image = write_bids_fmri(run, root / "bids", subject="f01", number=number)
        rows.append(f"f01\t{number}\tfmri\t{image.relative_to(root)}")
    events = image.with_name(image.name.replace("_bold.nii.gz", "_events.tsv"))
    events.write_text(events.read_text() + "100\t2\tshoe\n")
    (root / "config").mkdir()
    (root / "config/recordings.tsv").write_text("\n".join(rows) + "\n")
    return root


def issues(root, block: str, confounds: str = "6p"):
    text = CONFIG.format(confounds=confounds, block=block)
    (root / "config/config.yaml").write_text(text)
    return study_issues(load_study(root))


def test_a_study_that_runs_has_no_issues(bids):
    assert issues(bids, f"    input: {{labels: {LABELS}}}\n") == []
    assert main(["validate", "--directory", str(bids)]) == 0


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ("    rdm: {noise: diag}\n", r"analyses.trsa.input.labels: names no condition"),
        ("    input: {labels: [face, house, cat]}\n", "3 conditions .*RDMs need 4 or more"),
        (
            f"    input: {{labels: {LABELS}, keep_time: true}}\n",
            "input.keep_time: patterns of fmri",
        ),
        (f"    input: {{labels: {LABELS}}}\n    categories: {{fase: a}}\n", "fase: not among"),
        (
            f"    input: {{labels: {LABELS}}}\n    searchlight: {{radius_mm: 8}}\n",
            "needs a fixed model",
        ),
        (
            f"    input: {{labels: {LABELS}, regions: a.nii.gz}}\n"
            "    searchlight: {keep_rdms: true}\n    rdm: {measure: cosine}\n",
            "(?s)input.regions: null.*searchlights offer correlation",
        ),
        (
            f"    input: {{labels: {LABELS}}}\n    rdm: {{measure: correlation}}\n"
            "    compare: cosine_w\n    time: {window_s: 0.1}\n",
            "(?s)made for squared distances.*windows need a time axis",
        ),
        (
            f"    input: {{labels: {LABELS}}}\n"
            "    models: [{name: m, path: m.nc, kind: weighted}]\n",
            "they need 12 labels, found 4",
        ),
    ],
)
def test_settings_that_no_recording_could_fulfil_are_errors(bids, block, message):
    with pytest.raises(ConfigError, match=message):
        issues(bids, block)
    assert main(["validate", "--directory", str(bids)]) == 2


def test_labels_that_no_recording_has_are_told_with_those_found(bids):
    (found,) = issues(bids, "    input: {labels: [face, hose, cat, shoe]}\n")
    assert (found.code, found.severity) == ("UNKNOWN_LABEL", "error")
    assert "'hose': no recording of cohort-all has such an event" in found.message
    assert "cat, face, house, shoe" in found.message
    assert found.hint == "did you mean 'house'?"
    one = f"    input: {{labels: {LABELS}, recordings: {{run: 1}}}}\n"
    (found,) = issues(bids, one)
    assert "'shoe'" in found.message
    column = f"    input: {{labels: {LABELS}, column: kind}}\n"
    assert {i.code for i in issues(bids, column)} == {"UNKNOWN_LABEL"}


def test_missing_motion_is_told_before_anything_runs(bids, tmp_path):
    run = simulate_fmri(4, 40, shape=(6, 6, 4))
    image = write_bids_fmri(run, tmp_path / "bids", subject="f01")
    (table,) = image.parent.glob("*_desc-confounds_timeseries.tsv")
    head, *lines = table.read_text().splitlines()
    columns = head.split("\t")
    kept = [k for k, name in enumerate(columns) if not name.startswith("rot_")]
    rows = [[line.split("\t")[k] for k in kept] for line in [head, *lines]]
    table.write_text("".join("\t".join(row) + "\n" for row in rows))
    (tmp_path / "config").mkdir()
    rows = f"subject\tmodality\tpath\nf01\tfmri\t{image.relative_to(tmp_path)}\n"
    (tmp_path / "config/recordings.tsv").write_text(rows)
    block = "    input: {labels: [face, house, cat, none]}\n"
    first = issues(tmp_path, block, "24p")[0]
    assert (first.code, first.severity) == ("NO_MOTION", "error")
    assert "lack rot_x, rot_y, rot_z (columns found: " in first.message
    assert "trans_x" in first.message
    assert "NO_MOTION" not in {i.code for i in issues(tmp_path, block, "none")}


def test_files_that_an_analysis_names_must_exist(bids):
    block = (
        f"    input: {{labels: {LABELS}, regions: regions.nii.gz}}\n"
        "    models: [{name: animacy, path: models/animacy.csv}]\n"
    )
    found = issues(bids, block)
    assert {i.path for i in found} == {
        "analyses.trsa: regions.nii.gz", "analyses.trsa: models/animacy.csv"
    }  # fmt: skip
    assert {i.code for i in found} == {"MISSING_FILE"}
    write_atlas(simulate_fmri(4, 60, shape=(6, 6, 4)), bids / "regions.nii.gz")
    assert len(issues(bids, block)) == 1


def test_tables_of_models_must_name_the_conditions(bids):
    block = (
        f"    input: {{labels: {LABELS}}}\n"
        "    models: [{name: animacy, path: animacy.csv}, {name: noise, path: noise.txt}]\n"
    )
    (bids / "noise.txt").write_text("")
    (bids / "animacy.csv").write_text(",face,house,cat\nface,0,1,0\nhouse,1,0,1\ntree,0,1,0\n")
    found = issues(bids, block)
    assert {i.code for i in found} == {"FILE_CONTENT"}
    text = " ".join(i.message for i in found)
    assert "models: animacy: animacy.csv: conditions shoe are missing; it has face, house" in text
    assert "first row and first column must be the same labels" in text
    assert "models: noise: noise.txt: expected .csv or .nc" in text


def test_limits_of_the_checks_are_those_of_the_kernels():
    assert set(spec_limits.CROSSVALIDATED) == {n for n, m in MEASURES.items() if m.crossvalidated}
    assert set(spec_limits.SQUARED) == {n for n, m in MEASURES.items() if m.squared}
    assert set(spec_limits.MAPPED) == {"correlation", *LINEAR}
    assert set(spec_limits.WHITENED_COMPARATORS) == set(WHITENED)


def test_an_atlas_of_one_slice_is_an_atlas(tmp_path):
    from neuropipe.preprocess.fmri_parcels import load_atlas_image

    labels = np.zeros((5, 4, 1), dtype=np.int16)
    labels[1:3], labels[3:] = 1, 2
    for name, values in (("slice", labels), ("volume", labels[..., None])):
        nib.save(nib.Nifti1Image(values, np.eye(4)), tmp_path / f"{name}.nii.gz")
        atlas = load_atlas_image(str(tmp_path / f"{name}.nii.gz"))
        assert atlas.labels.shape == (5, 4, 1)
        assert atlas.index.tolist() == [1, 2]


def channel_study(root, band: str, duration_s: float = 8.0):
    write_brainvision(simulate_channels(4, duration_s, rate_hz=100.0), root / "a.vhdr")
    (root / "config").mkdir(exist_ok=True)
    rows = "".join(f"{s}\teeg\ta.vhdr\n" for s in ("a", "b"))
    (root / "config/recordings.tsv").write_text("subject\tmodality\tpath\n" + rows)
    text = f"study: s\npreprocess: {{eeg: {{bandpass_hz: {band}}}}}\n"
    (root / "config/config.yaml").write_text(text)
    return study_issues(load_study(root))


def test_a_filter_longer_than_a_recording_is_told_before_anything_runs(tmp_path, capsys):
    first, second = channel_study(tmp_path, "[0.1, 40]")
    assert (first.code, first.severity) == ("SHORT_RECORDING", "error")
    assert first.path == "sub-a_eeg: a.vhdr"
    # 3.3 transition bands of 0.1 Hz, as mne designs them.
    assert "bandpass_hz is 33 s long, the recording 8 s" in first.message
    assert main(["validate", "--directory", str(tmp_path)]) == 2
    told = capsys.readouterr().out
    assert told.count("33 s long") == 1
    assert "SHORT_RECORDING: 2 times: " in told
    assert f"\n  {first.path}\n  {second.path}\n" in told
    assert channel_study(tmp_path, "[1, 40]") == []
    assert [i.code for i in channel_study(tmp_path, "[1, 50]")] == ["BAND", "BAND"]
    assert channel_study(tmp_path, "[null, null]") == []


def test_a_notch_longer_than_a_recording_is_told_too(tmp_path):
    # Stop bands with transitions of 0.5 Hz: 3.3 / 0.5 s.
    found, _ = channel_study(tmp_path, "[null, 40], line_hz: 45", duration_s=5.0)
    assert (found.code, found.path) == ("SHORT_RECORDING", "sub-a_eeg: a.vhdr")
    assert "eeg.line_hz is 6.6" in found.message
    assert channel_study(tmp_path, "[null, 40], line_hz: null", duration_s=5.0) == []


def test_a_fault_of_a_source_names_the_recording_that_a_remedy_needs(tmp_path):
    channel_study(tmp_path, "[1, 40]")
    (tmp_path / "a.eeg").write_bytes((tmp_path / "a.eeg").read_bytes()[:-3])
    found = study_issues(load_study(tmp_path))
    assert [issue.path.split(": ")[0] for issue in found] == ["sub-a_eeg", "sub-b_eeg"]


def test_labels_that_trials_are_cut_around_must_be_somewhere(bids):
    def found(labels: str, more: str = "") -> list[tuple[str, str]]:
        text = (
            "study: s\npreprocess: {fmri: {confounds: none}}\nanalyses:\n  hmm_glm: {input: "
            f"{{trials: {{by: events, labels: {labels}, window_s: [0, 2]{more}}}}}}}\n"
        )
        (bids / "config/config.yaml").write_text(text)
        return [(i.code, i.hint) for i in study_issues(load_study(bids))]

    assert found("[face, hose]") == [("UNKNOWN_LABEL", "did you mean 'house'?")]
    # `shoe` is in one of the two runs: that is enough.
    assert found("[face, shoe]") == []
    assert found("[face]", ", column: kind") == [("UNKNOWN_LABEL", "correct it, or leave it out")]


def test_an_analysis_without_recordings_says_what_it_takes(bids, capsys):
    (bids / "config/config.yaml").write_text(
        "study: s\npreprocess: {fmri: {confounds: none}}\nanalyses:\n  bicluster: {}\n"
    )
    (issue,) = study_issues(load_study(bids))
    assert (issue.code, issue.severity) == ("NO_RECORDINGS", "warning")
    assert issue.hint.startswith("bicluster takes spikes; ")
    assert main(["validate", "--directory", str(bids)]) == 0
    assert "s: 2 recordings, 0 analysis jobs: valid, 1 issue\n" in capsys.readouterr().out


def test_tabs_in_the_configuration_are_told_with_the_remedy(bids):
    (bids / "config/config.yaml").write_text("study: s\nanalyses:\n\ttrsa: {}\n")
    with pytest.raises(ConfigError, match="indent with spaces"):
        load_study(bids)
