"""Pieces of long jobs: what was done before a kill is read, and the end is the same bit by bit."""

from __future__ import annotations

import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import xarray as xr

from neuropipe.analyses import hmm_glm, ntf
from neuropipe.analyses.hmm_glm import fitting
from neuropipe.analyses.hmm_glm import stages as hmm_stages
from neuropipe.analyses.ntf import stages as ntf_stages
from neuropipe.analyses.ntf.kernels import bootstrap as bootstrap_kernel
from neuropipe.analyses.ntf.kernels import factorise
from neuropipe.analyses.ntf.kernels import rank as rank_kernel
from neuropipe.simulate.planted_calcium import planted_calcium
from neuropipe.store import pieces
from neuropipe.store.pieces import Pieces, signature_of


class KilledError(Exception):
    """What stands for a kill."""


class Pair(NamedTuple):
    left: np.ndarray
    right: float


@dataclass(frozen=True)
class Nest:
    pair: Pair
    trace: tuple[float, ...]
    note: str | None
    parts: tuple[Pair, ...] = ()


@pytest.fixture(autouse=True)
def _keep_all(monkeypatch):
    monkeypatch.setattr(pieces, "LEAST_S", 0.0)


def nest() -> Nest:
    table = np.arange(6, dtype=np.float32).reshape(2, 3)
    pair = Pair(np.asfortranarray(table), np.float64(0.1) + 0.2)
    return Nest(pair, (1.5, -np.inf), None, (Pair(table[:, ::2], 2.0), Pair(np.empty(0), np.nan)))


def test_a_piece_is_computed_once_and_read_back_with_values_types_and_layout(tmp_path):
    calls = []

    def compute() -> Nest:
        calls.append(1)
        return nest()

    first = Pieces(tmp_path, "s", (Pair, Nest))("a", compute)
    second = Pieces(tmp_path, "s", (Pair, Nest))("a", compute)
    assert len(calls) == 1
    assert isinstance(second, Nest)
    assert isinstance(second.pair, Pair)
    assert (second.trace, second.note) == (first.trace, None)
    assert second.pair.right == first.pair.right == 0.1 + 0.2
    for one, other in zip((first.pair, *first.parts), (second.pair, *second.parts), strict=True):
        np.testing.assert_array_equal(one.left, other.left)
        assert one.left.dtype == other.left.dtype
        assert one.left.strides == other.left.strides


def test_what_nobody_keeps_has_the_layout_of_what_is_kept():
    assert not nest().parts[0].left.flags.contiguous
    assert Pieces(None)("a", nest).parts[0].left.flags.c_contiguous


@pytest.mark.parametrize("damage", ["other signature", "cut", "empty", "no form"])
def test_a_piece_of_another_job_or_a_damaged_one_is_computed_again(tmp_path, damage):
    Pieces(tmp_path, "s")("a", lambda: np.ones(3))
    file = tmp_path / "a.npz"
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:-40])
    elif damage == "empty":
        file.write_bytes(b"")
    elif damage == "no form":
        np.savez(file, a0=np.ones(3))
    found = Pieces(tmp_path, "t" if damage == "other signature" else "s")("a", lambda: np.zeros(3))
    np.testing.assert_array_equal(found, np.zeros(3))


def test_pieces_within_a_piece_go_when_it_is_whole(tmp_path):
    keep = Pieces(tmp_path, "s")

    def whole() -> float:
        inner = keep.within("fold")
        return inner("x", lambda: 1.0) + inner("y", lambda: 2.0)

    assert keep("fold", whole) == 3.0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fold.npz"]


def test_a_piece_of_a_moment_is_not_written(tmp_path, monkeypatch):
    monkeypatch.setattr(pieces, "LEAST_S", 60.0)
    assert Pieces(tmp_path / "x", "s")("a", lambda: 1.0) == 1.0
    assert not (tmp_path / "x").exists()


def test_no_object_is_written_or_read(tmp_path):
    with pytest.raises(TypeError, match="holds a PosixPath"):
        Pieces(tmp_path, "s")("a", Path)
    np.savez(tmp_path / "b.npz", form=np.array({"signature": "s"}, dtype=object))
    assert Pieces(tmp_path, "s")("b", lambda: 4.0) == 4.0


def test_signatures_tell_type_shape_and_order():
    found = {
        signature_of(1, "a"), signature_of("1", "a"), signature_of("a", 1), signature_of(1.0, "a"),
        signature_of(np.zeros(2)), signature_of(np.zeros((1, 2))),
        signature_of(np.zeros(2, np.float32)), signature_of(None),
    }  # fmt: skip
    assert len(found) == 8


def killed_at(count: int, function):
    """Return the function, which raises when it is called once more than so often."""
    calls = []

    def limited(*args, **kwargs):
        calls.append(1)
        if len(calls) > count:
            raise KilledError
        return function(*args, **kwargs)

    return limited


HMM = hmm_glm.Settings(
    states=[1, 2], cv_folds=2, restarts=3, max_iter=14, history={"bins": 2}, prior="gaussian"
)


@pytest.fixture(scope="module")
def counts() -> xr.Dataset:
    return hmm_glm.simulate(1)[0].isel(trial=slice(0, 4), time=slice(0, 150), unit=slice(0, 4))


@pytest.fixture(scope="module")
def whole_fit(counts) -> xr.Dataset:
    return hmm_stages.fit(counts, HMM, 5, {}, states=2)


@pytest.mark.parametrize("done", [1, 4, 6, 12])
def test_a_killed_fit_of_states_resumes_with_the_same_result(
    counts, whole_fit, tmp_path, monkeypatch, done
):
    """15 runs: 3 starts and the 2 best to the end, of all data and of both folds."""
    run = fitting.run
    with monkeypatch.context() as patch:
        patch.setattr(fitting, "run", killed_at(done, run))
        with pytest.raises(KilledError):
            hmm_stages.fit(counts, HMM, 5, {}, states=2, checkpoint=tmp_path)
    assert any(tmp_path.rglob("*.npz"))
    with monkeypatch.context() as patch:
        patch.setattr(fitting, "run", killed_at(15 - done, run))
        resumed = hmm_stages.fit(counts, HMM, 5, {}, states=2, checkpoint=tmp_path)
    xr.testing.assert_identical(resumed, whole_fit)


def test_a_fit_of_other_settings_seed_or_data_starts_anew(counts, whole_fit, tmp_path):
    hmm_stages.fit(counts, HMM, 5, {}, states=2, checkpoint=tmp_path)
    other = HMM.model_copy(update={"max_iter": 3})
    short = hmm_stages.fit(counts, other, 5, {}, states=2, checkpoint=tmp_path)
    xr.testing.assert_identical(short, hmm_stages.fit(counts, other, 5, {}, states=2))
    fewer = counts.isel(trial=slice(0, 3))
    found = hmm_stages.fit(fewer, HMM, 5, {}, states=2, checkpoint=tmp_path)
    xr.testing.assert_identical(found, hmm_stages.fit(fewer, HMM, 5, {}, states=2))


NTF = ntf.Settings(rank=[2, 3], restarts=3, cv_folds=2, max_iter=15, bootstrap=2)


@pytest.fixture(scope="module")
def tensor() -> xr.Dataset:
    data, _ = planted_calcium(0, n_neurons=24, n_subjects=3, duration=120.0, n_motifs=2)
    return ntf_stages.affinity(data, NTF, 5, {})


@pytest.mark.parametrize("done", [1, 3, 5])
def test_a_killed_rank_resumes_with_the_same_result(tensor, tmp_path, monkeypatch, done):
    """9 runs: 3 starts of each of the 2 folds, then 3 restarts."""
    parts, empty = {"affinity": [tensor]}, xr.Dataset()
    whole = ntf_stages.rank(empty, NTF, 5, parts, rank=2)
    hals, fold_hals = factorise.hals, rank_kernel.hals
    with monkeypatch.context() as patch:
        patch.setattr(rank_kernel, "hals", killed_at(3 * done, fold_hals))
        patch.setattr(factorise, "hals", killed_at(done - 3, hals))
        with pytest.raises(KilledError):
            ntf_stages.rank(empty, NTF, 5, parts, rank=2, checkpoint=tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(rank_kernel, "hals", killed_at(max(6 - 3 * done, 0), fold_hals))
        patch.setattr(factorise, "hals", killed_at(min(3, 6 - done), hals))
        resumed = ntf_stages.rank(empty, NTF, 5, parts, rank=2, checkpoint=tmp_path)
    xr.testing.assert_identical(resumed, whole)


@pytest.mark.parametrize("done", [2, 4])
def test_a_killed_factorisation_resumes_with_the_same_result(tensor, tmp_path, monkeypatch, done):
    """3 restarts, then 2 draws of animals."""
    settings, parts = NTF.model_copy(update={"rank": 2}), {"affinity": [tensor]}
    whole = ntf_stages.fit(xr.Dataset(), settings, 5, parts)
    hals, refit = factorise.hals, bootstrap_kernel.hals
    with monkeypatch.context() as patch:
        patch.setattr(factorise, "hals", killed_at(done, hals))
        patch.setattr(bootstrap_kernel, "hals", killed_at(done - 3, refit))
        with pytest.raises(KilledError):
            ntf_stages.fit(xr.Dataset(), settings, 5, parts, checkpoint=tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(factorise, "hals", killed_at(max(3 - done, 0), hals))
        patch.setattr(bootstrap_kernel, "hals", killed_at(min(2, 5 - done), refit))
        resumed = ntf_stages.fit(xr.Dataset(), settings, 5, parts, checkpoint=tmp_path)
    xr.testing.assert_identical(resumed, whole)


def test_a_step_that_is_killed_resumes_and_leaves_no_checkpoint(counts, tmp_path):
    """A real SIGKILL of the process of a step, after two pieces; then the step again."""
    from neuropipe.store.provenance import read_dataset, write_dataset

    write_dataset(counts, tmp_path / "in.nc", {"settings": {}})
    settings = HMM.model_dump_json()

    def step(collection: str, kill_after: int) -> int:
        code = (
            "import os, signal, sys; from neuropipe.store import pieces; pieces.LEAST_S = 0\n"
            "save, done = pieces.Pieces._save, []\n"
            "def kept(*args):\n"
            "    save(*args); done.append(1)\n"
            "    if len(done) == int(sys.argv[1]): os.kill(os.getpid(), signal.SIGKILL)\n"
            "pieces.Pieces._save = kept\n"
            "from neuropipe.cli.main import main; sys.exit(main(sys.argv[2:]))"
        )
        words = [
            "step", "hmm_glm", "fit", "--input", "in.nc", "--key", "states=2", "--seed", "5",
            "--output", f"work/{collection}/hmm_glm/fit/states-2.nc", "--settings", settings,
        ]  # fmt: skip
        command = [sys.executable, "-c", code, str(kill_after), *words]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, check=False).returncode

    assert step("a", kill_after=2) == -signal.SIGKILL
    checkpoint = tmp_path / "work/a/hmm_glm/checkpoint/fit_states-2"
    assert len(list(checkpoint.glob("start-*.npz"))) == 2
    assert step("a", kill_after=-1) == step("b", kill_after=-1) == 0
    assert not checkpoint.exists()
    results = [read_dataset(tmp_path / f"work/{c}/hmm_glm/fit/states-2.nc") for c in "ab"]
    xr.testing.assert_equal(*results)
