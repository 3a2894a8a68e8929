"""Run ingest on a damaged recording and say whether what came of it may be."""

from __future__ import annotations

import json
import shutil
import traceback
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from formats import Case, Format, Source, damages, generator

__all__ = ["Outcome", "judge", "prepare"]

CLOCKED = {"raw/time": 0, "events/onset": 0, "trials/start": 0, "trials/stop": 0}
LOOSE = (*CLOCKED, "events/duration")
SCALED = ("raw/signal", "raw/x", "raw/y", "raw/z")
# Issues that say that samples are missing or were left out.
ACCOUNTED = {"TRUNCATED", "TRIMMED", "LAST_LINE_OPEN", "HEADER", "UNITS"}
ABSENT = "MISSING_SIDECAR"


@dataclass
class Outcome:
    """What came of a case; `fault` is empty when that may be."""

    end: str
    code: str = ""
    message: str = ""
    fault: str = ""


def prepare(entry: Format, folder: Path) -> Source:
    """Write the undamaged recording, and another one under ``.other``."""
    folder.mkdir(parents=True)
    source = entry.write(folder, 0)
    (folder / ".other").mkdir()
    entry.write(folder / ".other", 1)
    text = {"path": source.path, "settings": source.settings, "override": source.override}
    (folder / ".source.json").write_text(json.dumps(text))
    return source


def _ingest(entry: Format, folder: Path, source: Source, out: Path) -> dict[str, Any]:
    """Run what the steps `ingest` and `connectome` run."""
    if entry.modality == "connectome":
        from neuropipe.config.models import ConnectomeConfig
        from neuropipe.io.connectome.ingest import ingest_connectome

        config = ConnectomeConfig(path=str(folder / source.path), **source.settings)
        return ingest_connectome(config, out / "worm.zarr")
    from neuropipe.config.models import IngestConfig
    from neuropipe.config.recordings import Recording
    from neuropipe.io.ingest import ingest_recording

    name = f"sub-01_{entry.modality}"
    row = Recording(
        name=name, subject="01", modality=entry.modality, path=source.path, reader=entry.reader
    )
    overrides = {name: dict(source.override)} if source.override else {}
    config = IngestConfig(readers={entry.reader: dict(source.settings)}, overrides=overrides)
    return ingest_recording(row, folder / source.path, config, out / f"{name}.zarr")


def _stored(entry: Format, store: Path, keys: set[str]) -> dict[str, np.ndarray]:
    if entry.modality == "connectome":
        return _stored_connectome(store)
    from neuropipe.store.zarr import open_store

    tree = open_store(store)
    found = {}
    for key in keys:
        group, _, name = key.partition("/")
        if group in tree.children and name in tree[group].variables:
            values = np.asarray(tree[key].values)
            if group == "raw" and name == "signal":
                from neuropipe.store.scaling import physical

                values = physical(tree["raw"].to_dataset())
            found[key] = values + tree.attrs["t0_source"] if key in CLOCKED else values
    return found


def _stored_connectome(store: Path) -> dict[str, np.ndarray]:
    from neuropipe.store.connectome import open_connectome

    ds = open_connectome(store)
    if "chemical" not in ds["kind"].values:
        return {"chemical": np.array([], dtype=object)}
    weight = ds["weight"].sel(kind="chemical").values
    names = ds["pre"].values
    rows = [
        f"{names[i]}>{names[j]}={np.float32(weight[i, j])!r}"
        for i, j in zip(*np.nonzero(np.nan_to_num(weight)), strict=True)
    ]
    return {"chemical": np.array(sorted(rows), dtype=object)}


def _equal(key: str, one: np.ndarray, two: np.ndarray, prefix: bool = False) -> bool:
    """Tell whether two arrays hold the same values; of the shorter one, if so asked."""
    one, two = np.asarray(one), np.asarray(two)
    if prefix and one.ndim == two.ndim and one.ndim:
        two = two[: len(one)]
    if one.shape != two.shape:
        return False
    if one.dtype.kind in "OTUS" or two.dtype.kind in "OTUS":
        return [str(v) for v in one.ravel()] == [str(v) for v in two.ravel()]
    one, two = one.astype(np.float64), two.astype(np.float64)
    if key in SCALED:  # another library multiplies in another order
        return np.allclose(one, two, rtol=1e-9, atol=1e-19, equal_nan=True)
    if key in LOOSE:  # the start was subtracted and added again
        return np.allclose(one, two, rtol=1e-12, atol=1e-9, equal_nan=True)
    return np.array_equal(one, two, equal_nan=True)


def _leftovers(out: Path) -> list[str]:
    return sorted(str(p.relative_to(out)) for p in out.rglob("*")) if out.exists() else []


def _refused(
    error: Exception, entry: Format, case: Case, rule: str, source: Source, out: Path
) -> Outcome:
    from neuropipe.errors import ConfigError, IngestError

    text, code = str(error), getattr(error, "code", type(error).__name__)
    outcome = Outcome("refused", code, text)
    names = {Path(case.file).name, Path(source.path).name, Path(case.file).parts[0]}
    if case.damage == "of another recording":  # two files that do not fit: either may be named
        names |= {Path(file).name for file in entry.files}
    if rule == "same":
        outcome.fault = "refused, though nothing is wrong"
    elif left := _leftovers(out):
        outcome.fault = f"left {left}"
    elif not any(name in text for name in names) and not isinstance(error, ConfigError):
        outcome.fault = "the message does not name the file"
    elif isinstance(error, IngestError) and not error.hint:
        outcome.fault = "the message does not say what to do"
    elif "partial" in text:
        outcome.fault = "the message names a temporary store"
    return outcome


def _codes(report: dict[str, Any]) -> Counter[str]:
    return Counter(f"{issue['code']}: {issue['message']}" for issue in report["issues"])


def judge(
    entry: Format, case: Case, pristine: Path, work: Path, usual: Counter[str] | None, deep: bool
) -> tuple[Outcome, Counter[str]]:
    """Damage a copy of a recording, ingest it and judge.

    Parameters
    ----------
    entry, case
        The format and the damage; the damage ``undamaged`` is none.
    pristine : Path
        Folder that `prepare` made.
    work : Path
        Folder to work in; does not exist.
    usual : Counter or None
        Issues of the undamaged recording.
    deep : bool
        Validate the NWB file too, which takes as long as everything else.

    Returns
    -------
    tuple of Outcome and Counter
        And the issues found.
    """
    from neuropipe.errors import UserError

    shutil.copytree(pristine, work, symlinks=True)
    source = Source(**json.loads((work / ".source.json").read_text()))
    rule = "same"
    if case.damage != "undamaged":
        damage = damages(entry)[case.file, case.damage]
        rule = damage.rule
        damage.apply(work / case.file, generator(case))
    if rule == "swap":  # the main file of another recording is a recording
        rule = "content" if case.file == source.path else "swap"
    if case.file in entry.optional and rule == "refused":
        rule = "told"
    out = work / ".out"
    try:
        report = _ingest(entry, work, source, out)
    except UserError as error:
        return _refused(error, entry, case, rule, source, out), Counter()
    except BaseException as error:
        last = traceback.extract_tb(error.__traceback__)
        ours = [f for f in last if "neuropipe" in f.filename]
        place = " < ".join(
            f"{Path(f.filename).name}:{f.lineno}" for f in (*last[-1:], *ours[::-1][:4])
        )
        text = f"{type(error).__name__}: {str(error)[:300]} at {place}"
        return Outcome("traceback", type(error).__name__, text, "traceback"), Counter()
    new = _codes(report) - (usual or Counter())
    new = Counter(text.split(":")[0] for text in new.elements())
    outcome = Outcome("store", "+".join(sorted(new)) if usual is not None else "")
    outcome.fault = _faults(entry, case, rule, pristine, work, source, new, deep)
    return outcome, _codes(report)


def _faults(
    entry: Format, case: Case, rule: str, pristine: Path, work: Path, source: Source,
    new: Counter[str], deep: bool,
) -> str:  # fmt: skip
    from neuropipe.store.validate import validate_store

    out = work / ".out"
    stores = [path for path in sorted(out.iterdir()) if path.suffix == ".zarr"]
    stores += [path for path in sorted(out.iterdir()) if path.suffix == ".nwb" and deep]
    errors = [i for path in stores for i in validate_store(path) if i.severity == "error"]
    if errors:
        return f"not valid: {errors[0].code} {errors[0].path} {errors[0].message}"
    if (case.file in entry.bare and rule in ("refused", "swap")) or (
        case.file in entry.alone and rule == "swap"
    ):
        rule = "content"
    if rule == "refused":
        return "accepted, though it is no data"
    whole = entry.read(pristine, source)
    try:
        damaged = entry.read(work, source)
    except BaseException as error:
        damaged, reason = {}, f"{type(error).__name__}: {str(error)[:120]}"
    else:
        reason = ""
    stored = _stored(entry, stores[0], set(whole))
    left = (work / case.file).read_bytes()[-1:] if (work / case.file).is_file() else b""
    if rule == "cut" and entry.files[case.file] == "table" and left in (b"\n", b"\r"):
        rule = "content"  # cut between two lines, which does not show
    if rule in ("told", "swap") and not new:
        if not all(k in stored and _equal(k, stored[k], whole[k]) for k in whole):
            return "another content, and no issue says so"
        return "" if rule == "swap" or _same(whole, damaged) else "no issue"
    accounted = frozenset(whole) if set(new) & ACCOUNTED else _held(entry, case, new)
    kind = entry.files[case.file]
    return _wrong_values(rule, kind, stored, whole, damaged, reason, new, accounted)


def _held(entry: Format, case: Case, new: Counter[str]) -> frozenset[str]:
    """Return the variables of the file that an issue calls absent: the damaged one, if it holds
    any, else those that the damaged one names."""
    if ABSENT not in new:
        return frozenset()
    files = [case.file] if case.file in entry.holds else entry.holds
    return frozenset().union(*(entry.holds[file] for file in files))


def _same(whole: dict[str, np.ndarray], damaged: dict[str, np.ndarray]) -> bool:
    return set(whole) == set(damaged) and all(_equal(k, whole[k], damaged[k]) for k in whole)


def _wrong_values(
    rule: str, kind: str, stored: dict[str, np.ndarray], whole: dict[str, np.ndarray],
    damaged: dict[str, np.ndarray], reason: str, new: Counter[str], accounted: frozenset[str],
) -> str:  # fmt: skip
    for key, expected in whole.items():
        if key not in stored:
            if new or (damaged and key not in damaged):
                continue
            return f"{key} is gone, and no issue says so"
        found = stored[key]
        if _equal(key, found, expected) or key in accounted:
            continue
        # A table cut between two lines does not show that it was cut.
        shorter = kind in ("table", "text") and new.total()
        if rule == "cut" and kind in ("table", "text") and _part(key, found, expected):
            continue
        if rule == "cut" and not shorter:
            return f"{key}: {found.shape}, the undamaged {expected.shape}, and no issue says so"
        if key in damaged and _equal(key, found, damaged[key]):
            continue
        # Events without an onset are left out, and an issue says which.
        if key == "events/onset" and key in damaged and "BAD_TIME" in new:
            known = damaged[key][np.isfinite(damaged[key])]
            if _equal(key, found, known):
                continue
        text = f"another library: {reason}" if reason else "another library reads others"
        return f"{key}: values {_show(found)} are not the undamaged ones {_show(expected)}; {text}"
    return ""


def _part(key: str, found: np.ndarray, expected: np.ndarray) -> bool:
    """Tell whether values are the first of the undamaged ones, or the others are without text."""
    if _equal(key, found, expected, prefix=True):
        return True
    if found.shape != expected.shape or found.dtype.kind not in "OTUS":
        return False
    return all(str(a) in ("", str(b)) for a, b in zip(found.ravel(), expected.ravel(), strict=True))


def _show(values: np.ndarray) -> str:
    flat = np.asarray(values).ravel()
    return f"{values.shape} {values.dtype} {[str(v) for v in flat[:3]]}"
