"""Readers of source formats, and which of them fits a file."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

from neuropipe.config.models import IngestConfig, IngestOverride, StrictModel
from neuropipe.errors import ConfigError, DataError, IngestError, Issue, MissingInput
from neuropipe.io.faults import readable
from neuropipe.store.hdf5_heap import refuse_endless_heaps

if TYPE_CHECKING:
    from neuropipe.store.series import RecordingHandle

__all__ = ["Reader", "ReaderMatch", "match", "reader_settings", "readers"]

GROUP = "neuropipe.readers"
HEAP_WINDOW = 128 << 20
TABLE_KEYS = ("events", "trials")


def _load(target: str) -> Callable[..., Any]:
    module, _, name = target.partition(":")
    return getattr(import_module(module), name)


@dataclass(frozen=True)
class ReaderMatch:
    """A reader that recognises a file from its header.

    Attributes
    ----------
    reader, modality : str
        Name of the reader, and what it would read.
    path : Path
        The file or folder.
    entities : mapping of str to str
        BIDS entities found in the header or the name (``subject``, ``session``, ...).
    issues : tuple of Issue
        What stands in the way of reading it without settings.
    sure : bool
        The header shows that it is of this modality; one that is not sure gives way to one that is.
    assumed : bool
        Nothing in the file says what it holds; the modality is the usual one of such files.
    """

    reader: str
    modality: str
    path: Path
    entities: Mapping[str, str] = field(default_factory=dict)
    issues: tuple[Issue, ...] = ()
    sure: bool = True
    assumed: bool = False


@dataclass(frozen=True)
class Reader:
    """One source format.

    Attributes
    ----------
    name : str
        Key under ``ingest.readers`` and value of the column ``reader``.
    modalities : tuple of str
        What it can read.
    extensions : tuple of str
        Extensions that it looks at, lower case with the dot; ``""`` for folders.
    settings : type of StrictModel
        Its keys.
    probe, open : str
        ``module:function``; ``probe(path) -> ReaderMatch | None`` reads the header only,
        ``open(path, settings, override) -> RecordingHandle`` no samples. A reader of several
        modalities is also told which: ``open(..., modality=...)``.
    stated_only : bool
        The header fits too many files: only where the modality or the reader is stated.
    explain : str
        ``module:function``, called with a path that no reader recognises; it may raise an
        `IngestError` that says why.
    """

    name: str
    modalities: tuple[str, ...]
    extensions: tuple[str, ...]
    settings: type[StrictModel]
    probe: str
    open: str
    stated_only: bool = False
    explain: str = ""

    def matches(self, path: Path) -> ReaderMatch | None:
        """Return what the reader makes of a path, or None."""
        return self.recognise(path) if self._looks_at(path) else None

    def recognise(self, path: Path) -> ReaderMatch | None:
        """Return what the reader makes of a path of any name, or None.

        Raises
        ------
        IngestError
            The file is damaged.
        """
        with readable(path):
            refuse_endless_heaps(path)
            return _load(self.probe)(path)

    def open_recording(
        self,
        path: Path,
        settings: BaseModel,
        override: IngestOverride,
        modality: str | None = None,
    ) -> RecordingHandle:
        """Open a source; nothing large is read.

        `modality` is that of the recordings table; None leaves it to a reader of several.
        """
        told = {"modality": modality} if len(self.modalities) > 1 else {}
        with readable(path):
            refuse_endless_heaps(path, HEAP_WINDOW)
            return _load(self.open)(path, settings, override, **told)

    def refuse(self, path: Path) -> None:
        """Raise when the reader knows why it does not recognise a path."""
        if self.explain and self._looks_at(path):
            with readable(path):
                _load(self.explain)(path)

    def _looks_at(self, path: Path) -> bool:
        """Tell whether the extension is one of the reader's; "" means folders, no bare names."""
        is_folder = path.is_dir()
        suffix = "" if is_folder else path.suffix.lower()
        return suffix in self.extensions and (is_folder or bool(suffix))


def _refuse_damaged(path: Path) -> None:
    """Raise for what no reader can recognise because there are no data, or not all of them."""
    from neuropipe.io.checks import HDF5_MAGIC, has_magic, open_hdf5, refuse_pointers

    refuse_pointers(path)
    if has_magic(path, HDF5_MAGIC):
        open_hdf5(path).close()


@lru_cache(maxsize=1)
def _installed() -> tuple[Reader, ...]:
    found = sorted(entry_points(group=GROUP), key=lambda point: point.name)
    loaded = []
    for point in found:
        reader = point.load()
        if reader.name != point.name:
            raise ConfigError(
                f"entry point {GROUP}:{point.name} gives a reader named {reader.name!r}; "
                "both names must agree"
            )
        loaded.append(reader)
    return tuple(loaded)


def readers() -> dict[str, Reader]:
    """Return the installed readers by name, sorted."""
    return {reader.name: reader for reader in _installed()}


def _named(name: str) -> Reader:
    known = readers()
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"Did you mean {close[0]!r}?" if close else f"One of {', '.join(known)}."
        raise ConfigError(f"reader: {name!r} is unknown. {hint}")
    return known[name]


def match(
    path: Path | str, modality: str | None = None, name: str | None = None
) -> tuple[Reader, ReaderMatch]:
    """Return the one reader that fits a path.

    Parameters
    ----------
    path : Path or str
        File or folder.
    modality : str, optional
        Only readers of this modality.
    name : str, optional
        The reader to use (column ``reader`` of the recordings table), which settles a draw.

    Returns
    -------
    tuple of Reader and ReaderMatch

    Raises
    ------
    MissingInput
        The path does not exist.
    IngestError
        ``NOT_THIS_FORMAT``: the named reader, or no reader at all, recognises the path.
    DataError
        Several readers match; the message names them.
    ConfigError
        The named reader is unknown, or does not read the modality.
    """
    path = Path(path)
    if not path.exists():
        if path.is_symlink():
            _refuse_damaged(path)
        raise MissingInput(f"{path}: no such file or folder; check the column `path`")
    if name:
        return _match_named(path, modality, _named(name))
    fitting = [
        r
        for r in readers().values()
        if (not r.stated_only if modality is None else modality in r.modalities)
    ]
    found: list[tuple[Reader, ReaderMatch]] = []
    faults: list[IngestError] = []
    for reader in fitting:
        try:
            hit = reader.matches(path)
        except IngestError as error:  # another reader may still recognise it
            faults.append(error)
            continue
        found += [] if hit is None else [(reader, hit)]
    if any(hit.sure for _, hit in found):
        found = [(reader, hit) for reader, hit in found if hit.sure]
    if len(found) > 1:
        names = " and ".join(repr(reader.name) for reader, _ in found)
        raise DataError(
            f"{path}: the readers {names} both match; name one in the column `reader` of the "
            "recordings table"
        )
    if not found:
        raise _no_reader(path, modality, fitting, faults)
    return found[0]


def _match_named(path: Path, modality: str | None, reader: Reader) -> tuple[Reader, ReaderMatch]:
    if modality is not None and modality not in reader.modalities:
        raise ConfigError(
            f"reader: {reader.name!r} reads {', '.join(reader.modalities)}, not {modality}"
        )
    hit = reader.recognise(path)
    if hit is None:
        _refuse_damaged(path)
        reader.refuse(path)
        raise IngestError(
            "NOT_THIS_FORMAT",
            path,
            f"reader {reader.name!r} does not recognise it",
            "correct the column `reader`, or leave it empty to let the readers decide",
        )
    return reader, hit


def _no_reader(
    path: Path, modality: str | None, fitting: list[Reader], faults: list[IngestError]
) -> IngestError:
    _refuse_damaged(path)
    if faults:
        return faults[0]
    for reader in fitting:
        reader.refuse(path)
    of = f" of {modality}" if modality else ""
    known = "; ".join(f"{r.name}: {' '.join(e or 'folder' for e in r.extensions)}" for r in fitting)
    return IngestError(
        "NOT_THIS_FORMAT",
        path,
        f"no reader{of} recognises it",
        f"readers{of}: {known or 'none'}; other formats come in through NWB",
    )


def _merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return `base` with `over` laid on it, mappings key by key."""
    merged = dict(base)
    for key, value in over.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _merge(merged[key], value) if both else value
    return merged


def _check_keys(given: Mapping[str, Any], known: list[str], where: str) -> None:
    problems = []
    for key in given:
        if key not in known:
            close = difflib.get_close_matches(str(key), known, n=1)
            hint = f"Did you mean {close[0]!r}?" if close else f"Known keys: {', '.join(known)}."
            problems.append(f"{where}.{key}: unknown key. {hint}")
    if problems:
        raise ConfigError("\n".join(problems))


def _field_names(model: type[BaseModel], path: tuple[Any, ...]) -> list[str]:
    """Return the keys of the model that lies at `path` inside `model`."""
    for part in path:
        annotation = model.model_fields[part].annotation if part in model.model_fields else None
        inner = [annotation, *getattr(annotation, "__args__", ())]
        models = [t for t in inner if isinstance(t, type) and issubclass(t, BaseModel)]
        if not models:
            return []
        model = models[0]
    return list(model.model_fields)


def _validated(model: type[BaseModel], values: Mapping[str, Any], where: str) -> Any:
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        problems = []
        for fault in error.errors():
            place = ".".join(str(part) for part in fault["loc"])
            text = fault["msg"]
            if fault["type"] == "extra_forbidden":
                names = _field_names(model, fault["loc"][:-1])
                close = difflib.get_close_matches(str(fault["loc"][-1]), names, n=1)
                text = "unknown key" + (f". Did you mean {close[0]!r}?" if close else "")
            problems.append(f"{where}.{place}: {text} (found {fault['input']!r})")
        raise ConfigError("\n".join(problems)) from error


def reader_settings(
    reader: Reader, config: IngestConfig, recording: str
) -> tuple[StrictModel, IngestOverride]:
    """Return the settings of a reader for one recording, and the recording's overrides.

    ``ingest.readers.<reader>`` holds for all recordings; ``ingest.overrides.<recording>`` is laid
    on it, key by key, and may also hold the keys of `IngestOverride`.

    Raises
    ------
    ConfigError
        An unknown reader or key (with the closest known one), or a wrong value.
    """
    for name in config.readers:
        _named(name)
    common = config.readers.get(reader.name, {})
    own = config.overrides.get(recording, {})
    setting_keys = list(reader.settings.model_fields)
    override_keys = list(IngestOverride.model_fields)
    _check_keys(common, setting_keys, f"ingest.readers.{reader.name}")
    where = f"ingest.overrides.{recording}"
    _check_keys(own, sorted({*setting_keys, *override_keys}), where)
    # Of keys that are both, `events: {path: ...}` describes a table, `events: x.tsv` names the one
    # that the reader knows how to read.
    both = {key for key in setting_keys if key in override_keys and key in TABLE_KEYS}
    tables = {key for key in both if isinstance(own.get(key), Mapping)}
    merged = _merge(
        common, {k: value for k, value in own.items() if k in setting_keys and k not in tables}
    )
    override = {
        **config.bids.model_dump(exclude_defaults=True),
        **{k: v for k, v in own.items() if k in override_keys and (k not in both or k in tables)},
    }
    settings = _validated(reader.settings, merged, f"ingest.readers.{reader.name}")
    return settings, _validated(IngestOverride, override, where)
