"""A duration that a sidecar states tells of samples that are missing."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest

from neuropipe.errors import IngestError
from neuropipe.io.bids.duration import duration_issues, stated_duration
from neuropipe.store.clock import RegularClock

RATE = 100.0
TRUNCATED = ["TRUNCATED"]


@dataclass
class Source:
    """What is asked of a source of channels."""

    path: Path
    time: object
    length_stated: bool = False
    samples: object = field(default_factory=SimpleNamespace)
    source_files: tuple[Path, ...] = ()


def codes(tmp_path, count, duration, *, allow=True, name="a_eeg.json", **source):
    path = tmp_path / name
    content = {"RecordingDuration": duration, **source.pop("content", {})}
    path.write_text(json.dumps(content))
    time = source.pop("time", RegularClock(0.0, RATE, count))
    found = Source(tmp_path / "a_eeg.vhdr", time, **source)
    return [issue.code for issue in duration_issues(found, [path], allow)]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"RecordingDuration": 4.9995}, (4.9995, 1e-4)),
        ({"RecordingDuration": 300}, (300.0, 1.0)),
        ({"RecordingDuration": 300.0}, (300.0, 1.0)),
        ({"RecordingDuration": 5, "RecordingType": "Continuous"}, (5.0, 1.0)),
        ({"RecordingDuration": 5, "RecordingType": "epoched"}, None),
        ({"RecordingDuration": "5 s"}, None),
        ({"RecordingDuration": True}, None),
        ({"RecordingDuration": -5}, None),
        ({}, None),
    ],
)
def test_what_a_sidecar_states(content, expected):
    assert stated_duration(content) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("count", "duration", "expected"),
    [
        (1000, 10.0, []),
        (1000, 9.99, []),  # the time of the last sample, as mne-bids writes it
        (1000, 10.01, []),
        (1000, 11, []),  # rounded up to seconds
        (1000, 11.1, TRUNCATED),
        (1000, 376.4, TRUNCATED),
        (995, 9.99, TRUNCATED),  # four samples of a thousand
        (1, 10.0, TRUNCATED),
        (1000, 8, ["DURATION_DIFFERS"]),
        (1000, "n/a", []),
    ],
)
def test_samples_against_the_duration(tmp_path, count, duration, expected):
    assert codes(tmp_path, count, duration) == expected


def test_a_file_that_is_too_short_is_refused(tmp_path):
    with pytest.raises(IngestError, match="500 samples make 5 s.*says 10.5 s") as caught:
        codes(tmp_path, 500, 10.5, allow=False, source_files=("a_eeg.vhdr", tmp_path / "a_eeg.eeg"))
    assert "allow_truncated: true" in caught.value.hint
    assert str(tmp_path / "a_eeg.eeg") in str(caught.value)
    # Channels one after the other lie elsewhere in a file that was cut.
    with pytest.raises(IngestError, match="TRUNCATED"):
        codes(tmp_path, 500, 10.5, samples=SimpleNamespace(multiplexed=False))


def test_a_header_that_states_its_length_is_believed(tmp_path):
    assert codes(tmp_path, 500, 10, allow=False, length_stated=True) == ["DURATION_DIFFERS"]


def test_a_sidecar_of_several_recordings_and_gaps_say_nothing(tmp_path):
    assert codes(tmp_path, 500, 10, name="task-rest_eeg.json") == []
    assert codes(tmp_path, 500, 10, time=[0.0, 0.01, 3.0]) == []
    assert codes(tmp_path, 500, 10, content={"RecordingType": "discontinuous"}) == []
