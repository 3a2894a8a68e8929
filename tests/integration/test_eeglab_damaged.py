"""Damaged EEGLAB files end in an error or in what another library reads; none ends the process."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

# The seed goes out before each damage, so that the last one is known if the process ends.
CHILD = """
import json, sys
from collections import Counter
from pathlib import Path
import mne, numpy as np, scipy.io
from neuropipe.config.models import IngestOverride
from neuropipe.errors import IngestError
from neuropipe.io.channels.eeglab import EeglabSettings, open_source
from neuropipe.simulate.channel_files import simulate_channels, write_eeglab

def read(path):
    source = open_source(path, EeglabSettings(), IngestOverride())
    values = source.samples.read(0, source.samples.shape[0])
    return values, list(source.channels.name)

def as_mne_reads(path):
    raw = mne.io.read_raw_eeglab(path, preload=True, verbose="error")
    return raw.get_data().T, raw.ch_names

def equal(one, two):
    same = one[0].shape == two[0].shape and one[1] == two[1]
    return same and np.allclose(one[0], two[0], rtol=1e-6, atol=0, equal_nan=True)

path, inside, compressed = Path(sys.argv[1]), sys.argv[2] == "True", sys.argv[3] == "True"
channels = simulate_channels(3, 1.0, rate_hz=50.0, bad=(), seed=0)
write_eeglab(channels, path, separate=not inside)
if compressed:
    content = {"EEG": scipy.io.loadmat(path)["EEG"]}
    scipy.io.savemat(path, content, appendmat=False, do_compression=True)
data, whole, ends = path.read_bytes(), read(path), Counter()
for seed in range(500):
    rng = np.random.default_rng(seed)
    damaged, at = bytearray(data), int(rng.integers(len(data)))
    way = int(rng.integers(5))
    if way == 0:
        damaged[at] = int(rng.integers(256))
    elif way == 1:
        damaged[at] ^= 1 << int(rng.integers(8))
    elif way == 2:
        del damaged[max(at, 1):]
    elif way == 3:
        damaged[at : at + 8] = rng.integers(0, 20, len(damaged[at : at + 8])).astype("u1").tobytes()
    else:
        damaged[at : at + 64] = bytes(len(damaged[at : at + 64]))
    path.write_bytes(damaged)
    print(seed, file=sys.stderr, flush=True)
    try:
        found = read(path)
    except IngestError:
        ends["refused"] += 1
        continue
    same = equal(found, whole)
    ends["same" if same else "as mne" if equal(found, as_mne_reads(path)) else "other"] += 1
print(json.dumps(ends))
"""


@pytest.mark.parametrize("inside", [False, True], ids=["samples beside", "samples inside"])
@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "compressed"])
def test_two_thousand_damaged_files(tmp_path, inside, compressed):
    child = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", CHILD, str(tmp_path / "a.set"), str(inside),
         str(compressed)],
        capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert child.returncode == 0, child.stderr[-800:]
    ends = json.loads(child.stdout.splitlines()[-1])
    assert sum(ends.values()) == 500
    assert ends["refused"] > 350
    # Only what has no sum can be another content: that of samples, names and numbers themselves.
    assert set(ends) <= {"refused", "same"} | (set() if compressed else {"as mne"})
