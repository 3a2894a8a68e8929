"""How long a run will still take, from the jobs that have ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["Pace", "duration"]

LEAST_ENDED, LEAST_S = 3, 10.0


def duration(seconds: float) -> str:
    """Return a time in words: ``40 s``, ``3 min``, ``2 h 10 min``.

    Examples
    --------
    >>> duration(41.6), duration(190), duration(7800)
    ('42 s', '3 min', '2 h 10 min')
    """
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


@dataclass
class Pace:
    """Times of the jobs of one run, in seconds since its start.

    Attributes
    ----------
    rules : mapping of str to str
        Job -> rule, of all jobs of the run.
    begun, ended : dict of str to float
        When a job was first seen, and when it was over.
    """

    rules: Mapping[str, str]
    begun: dict[str, float] = field(default_factory=dict)
    ended: dict[str, float] = field(default_factory=dict)

    def note(self, states: Mapping[str, str], now: float) -> None:
        """Note what has begun and what is over."""
        for name, state in states.items():
            if name in self.rules:
                self.begun.setdefault(name, now)
                if state in ("done", "failed"):
                    self.ended.setdefault(name, now)

    def left(self, now: float) -> float | None:
        """Return seconds that are left; None while nothing can be said.

        A job is expected to take as long as the mean of its rule, or of all jobs where none of its
        rule has ended; as many run at once as did so far.
        """
        if len(self.ended) < LEAST_ENDED or now < LEAST_S:
            return None
        spent = {name: end - self.begun[name] for name, end in self.ended.items()}
        overall = sum(spent.values()) / len(spent)
        by_rule: dict[str, list[float]] = {}
        for name, seconds in spent.items():
            by_rule.setdefault(self.rules[name], []).append(seconds)
        work = 0.0
        for name, rule in self.rules.items():
            if name in self.ended:
                continue
            known = by_rule.get(rule, [overall])
            going = now - self.begun[name] if name in self.begun else 0.0
            work += max(sum(known) / len(known) - going, 0.0)
        going = sum(now - start for name, start in self.begun.items() if name not in self.ended)
        at_once = max((sum(spent.values()) + going) / now, 0.1)
        return work / at_once

    def text(self, running: list[str], now: float) -> str:
        """Return one line: how many jobs have ended, what runs, how long it took and will take."""
        left = self.left(now)
        told = "" if left is None else f", about {duration(left)} left"
        busy = f"; running: {', '.join(running)}" if running else ""
        return f"{len(self.ended)} of {len(self.rules)}, {duration(now)}{told}{busy}"
