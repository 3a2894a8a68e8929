"""What tables beside a recording add to it, put onto the session clock with everything else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from neuropipe.errors import ConfigError, IngestError, Issue
from neuropipe.io.arrays import object_array
from neuropipe.io.behavior.tables import read_events, read_stream, read_trials
from neuropipe.io.checks import check_overlap, inside
from neuropipe.io.frames import column_of, read_frame, units_per_second
from neuropipe.io.session_clock import SessionClock, event_times, find_clock

if TYPE_CHECKING:
    import xarray as xr

    from neuropipe.config.models import IngestOverride
    from neuropipe.config.sidecars import ClockConfig, PulseTimes
    from neuropipe.store.clock import RegularClock

__all__ = ["Sidecars", "join_events", "move_table", "on_session_clock"]

PULSE_COLUMNS = ("time", "time_s", "time_ms", "onset", "onset_s", "timestamp", "timestamp_s")


@dataclass
class Sidecars:
    """Tables beside a recording, read once and on demand.

    Attributes
    ----------
    source : Path
        The recording; paths are relative to its folder.
    override : IngestOverride
        Its settings.
    times : numpy.ndarray, RegularClock or None
        Sample times of the recording on its device clock; None where nothing is sampled.
    others : mapping of str to Path
        Stores of other recordings of the session, whose events may be the reference.
    files : list of Path
        Every table read.
    """

    source: Path
    override: IngestOverride
    times: np.ndarray | RegularClock | None
    others: Mapping[str, Path] = field(default_factory=dict)
    files: list[Path] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.streams: dict[str, xr.Dataset] = {}
        for name, settings in sorted(self.override.behavior.items()):
            if not name.isidentifier():
                raise ConfigError(
                    f"ingest.overrides: behavior.{name}: a stream is named by letters, digits, _"
                )
            self.streams[name] = read_stream(name, self.path(settings.path), settings)
        self.events: xr.Dataset | None = None
        self.trials: xr.Dataset | None = None
        self.moments: list[str] = []
        self.issues: list[Issue] = []
        if self.override.events is not None:
            settings_e = self.override.events
            path_e = self.path(settings_e.path)
            self.events = read_events(path_e, settings_e, self.samples)
            if not self.events.sizes["event"]:
                text, hint = "a header without events", "copy it again, if it had some"
                self.issues.append(Issue("EMPTY", str(path_e), text, hint, "info"))
        if self.override.trials is not None:
            settings_t = self.override.trials
            path = self.path(settings_t.path)
            self.trials, self.moments = read_trials(path, settings_t, self.samples)

    def path(self, text: str) -> Path:
        """Return a path of the settings, and note the file as a source."""
        path = inside(Path(text), self.source.parent, self.source)
        if path not in self.files:
            self.files.append(path)
        return path

    def samples(self, stream: str | None) -> np.ndarray:
        """Return the sample times of a stream, or of the recording, on the device clock."""
        if stream is None:
            if self.times is None:
                raise ConfigError(
                    f"{self.source}: the recording has no samples to count; name a behaviour "
                    "stream in `of`"
                )
            if isinstance(self.times, np.ndarray):
                return self.times
            return self.times.at(np.arange(self.times.count))
        if stream not in self.streams:
            known = ", ".join(self.streams) or "none"
            raise ConfigError(f"{self.source}: `of: {stream}` is no behaviour stream ({known})")
        return np.asarray(self.streams[stream][f"time_{stream}"].values)

    @property
    def step_s(self) -> float:
        """Seconds between two samples; inf where nothing is sampled."""
        if isinstance(self.times, np.ndarray):
            return float(np.median(np.diff(self.times))) if len(self.times) > 1 else np.inf
        return np.inf if self.times is None else 1 / self.times.rate

    def pulses(self, given: PulseTimes, events: xr.Dataset | None) -> np.ndarray:
        """Return pulse times: a column of a table, or events, seconds on their own clock."""
        if given.label is not None:
            if given.recording is not None:
                events = self._events_of(given.recording)
            return event_times(events, given.label, f"{self.source}: clock")
        path = self.path(str(given.path))
        frame = read_frame(path)
        names = [str(name) for name in frame.columns]
        column = column_of(given.column, PULSE_COLUMNS, names, path, "pulse times")
        if column is None:
            text = f"no column of pulse times; it has {', '.join(names[:30])}"
            raise IngestError("MISSING_SIDECAR", path, text, "name it in `column`")
        if frame[column].dtype.kind not in "iuf":
            text = f"column {column} holds no numbers"
            raise IngestError("NOT_THIS_FORMAT", path, text, "correct the table")
        divisor = units_per_second(given.time_unit, column, path)
        return frame[column].dropna().to_numpy(dtype=np.float64) / divisor

    def _events_of(self, recording: str) -> xr.Dataset | None:
        from neuropipe.store.zarr import open_store

        path = self.others.get(recording)
        if path is None or not path.exists():
            text = f"the store of {recording} is not there"
            raise IngestError("MISSING_SIDECAR", self.source, text, "ingest that recording first")
        events = open_store(path).children.get("events")
        return None if events is None else events.to_dataset(inherit=False).load()

    def device_clock(
        self, events: xr.Dataset | None, *, step_s: float, stated_start: str
    ) -> SessionClock | None:
        """Return the clock that the settings give the recording, None without any.

        Parameters
        ----------
        events : xarray.Dataset or None
            Events of the reader, on the device clock.
        step_s : float
            Seconds between samples; inf where nothing is sampled.
        stated_start : str
            When the device clock read 0, as the source or the table states it.
        """
        config = self.override.clock
        if config is None:
            return None
        table = self.override.events
        if self.events is not None and table is not None and not (table.clock or table.of):
            events = join_events([events, self.events], f"{self.source}: events")
        return find_clock(
            config,
            where=str(self.source),
            pulses=lambda given: self.pulses(given, events),
            step_s=step_s,
            stated_start=stated_start,
        )

    def clock_of(
        self,
        config: ClockConfig | None,
        device: SessionClock,
        events: xr.Dataset | None,
        where: str,
    ) -> SessionClock:
        """Return the clock of a table: that of the recording, or its own."""
        if config is None:
            return device
        return find_clock(
            config,
            where=where,
            pulses=lambda given: self.pulses(given, events),
            step_s=np.inf,
        )


def move_table(
    table: xr.Dataset | None, clock: SessionClock, columns: Sequence[str]
) -> xr.Dataset | None:
    """Return a table with columns of moments, and its durations, on the session clock."""
    if table is None:
        return None
    moved: dict[str, Any] = {}
    for name in columns:
        if name in table:
            values = clock.to_session(table[name].values)
            moved[name] = (table[name].dims, values, table[name].attrs)
    if "duration" in table and clock.scale != 1.0:
        old = table["duration"]
        moved["duration"] = (old.dims, clock.stretch(old.values), old.attrs)
    return table.assign(moved)


def move_streams(behavior: xr.Dataset, clock: SessionClock) -> xr.Dataset:
    """Return behaviour with every ``time_<stream>`` on the session clock."""
    names = [str(n) for n in behavior.coords if str(n).startswith("time_")]
    moved = {n: (n, clock.to_session(behavior[n].values), {"units": "s"}) for n in names}
    return behavior.assign_coords(moved)


def join_events(tables: Sequence[xr.Dataset | None], where: object) -> xr.Dataset | None:
    """Return the events of several tables in the order of onset.

    Raises
    ------
    IngestError
        ``DUPLICATE_EVENTS``: two tables hold events with one label.
    """
    import xarray as xr

    given = [table for table in tables if table is not None]
    if len(given) < 2:
        return given[0] if given else None
    labels = [{str(text) for text in table["label"].values} for table in given]
    for k, here in enumerate(labels):
        twice = sorted(here.intersection(*[set().union(*labels[:k])]))
        if twice:
            text = f"label {twice[0]!r} stands in the source and in the table of events"
            raise IngestError("DUPLICATE_EVENTS", where, text, "leave one of them out")
    names = list(dict.fromkeys(str(name) for table in given for name in table.data_vars))
    joined = {name: np.concatenate([_filled(t, name, given) for t in given]) for name in names}
    order = np.argsort(joined["onset"], kind="stable")
    attrs = {name: t[name].attrs for t in reversed(given) for name in t.data_vars}
    return xr.Dataset({n: ("event", v[order], attrs[n]) for n, v in joined.items()})


def _filled(table: xr.Dataset, name: str, tables: Sequence[xr.Dataset]) -> np.ndarray:
    """Return a column, or what stands for missing in it; text wins where kinds differ."""
    size = table.sizes["event"]
    kinds = {t[name].dtype.kind for t in tables if name in t}
    if "O" in kinds or kinds & set("US"):
        values = [str(v) for v in table[name].values] if name in table else [""] * size
        return object_array(values)
    if name in table:
        return np.asarray(table[name].values)
    if name == "code":
        return np.full(size, -1, dtype=np.int64)
    return np.full(size, np.nan)


@dataclass(frozen=True)
class OnSession:
    """Groups of a recording on the session clock."""

    events: xr.Dataset | None
    trials: xr.Dataset | None
    behavior: xr.Dataset | None
    issues: tuple[Issue, ...]
    steps: tuple[dict[str, Any], ...]


def on_session_clock(
    side: Sidecars,
    device: SessionClock,
    groups: Mapping[str, xr.Dataset | None],
    span: np.ndarray,
) -> OnSession:
    """Return events, trials and behaviour of reader and tables, all on the session clock.

    Parameters
    ----------
    side : Sidecars
        The tables.
    device : SessionClock
        Clock of the recording.
    groups : mapping
        ``events``, ``trials``, ``behavior`` of the reader, on the device clock.
    span : numpy.ndarray
        Sample times of the recording, or its first and last moment; session clock.

    Raises
    ------
    IngestError
        ``CLOCK_MISMATCH``, ``DUPLICATE_EVENTS``, ``DUPLICATE_VARIABLE``.
    """
    override, source = side.override, side.source
    issues: list[Issue] = list(side.issues)
    steps: list[dict[str, Any]] = []

    found: dict[str, SessionClock] = {}

    def clock_of(config: ClockConfig | None, events: xr.Dataset | None, what: str) -> SessionClock:
        if what not in found:
            clock = found[what] = side.clock_of(config, device, events, f"{source}: {what}")
            issues.extend(clock.issues if config is not None else ())
            steps.extend([{**clock.step(), "of": what}] if config is not None else [])
        return found[what]

    def stream_clock(name: str, events: xr.Dataset | None) -> SessionClock:
        return clock_of(override.behavior[name].clock, events, f"behavior.{name}")

    events = move_table(groups.get("events"), device, ("onset",))
    if side.events is not None and override.events is not None:
        of, own = override.events.of, override.events.clock
        clock = stream_clock(of, events) if of else clock_of(own, events, "events")
        table = move_table(side.events, clock, ("onset",))
        events = join_events([events, table], f"{source}: events")
    trials = move_table(groups.get("trials"), device, ("start", "stop"))
    if side.trials is not None and override.trials is not None:
        if trials is not None:
            text = "the source holds trials, and the settings name a table of trials"
            raise IngestError("DUPLICATE_VARIABLE", f"{source}: trials", text, "leave one out")
        of, own = override.trials.of, override.trials.clock
        clock = stream_clock(of, events) if of else clock_of(own, events, "trials")
        trials = move_table(side.trials, clock, side.moments)
    behavior = groups.get("behavior")
    behavior = None if behavior is None else move_streams(behavior, device)
    for name, table in side.streams.items():
        moved = move_streams(table, stream_clock(name, events))
        least = override.behavior[name].min_overlap
        times = np.asarray(moved[f"time_{name}"].values)
        check_overlap(times, span, f"{source}: behavior.{name}", least)
        behavior = _merged(behavior, moved, f"{source}: behavior.{name}")
    return OnSession(events, trials, behavior, tuple(issues), tuple(steps))


def _merged(behavior: xr.Dataset | None, stream: xr.Dataset, where: str) -> xr.Dataset:
    if behavior is None:
        return stream
    twice = sorted(str(n) for n in stream.variables if n in behavior.variables)
    if twice:
        text = f"two sources give a variable {twice[0]!r}"
        hint = "leave one out with `columns`, or name the stream otherwise"
        raise IngestError("DUPLICATE_VARIABLE", where, text, hint)
    return behavior.merge(stream)
