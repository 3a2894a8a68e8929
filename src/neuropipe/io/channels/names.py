"""Names of channels: unique ones, and what a file called them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from neuropipe.errors import Issue

__all__ = ["unique_names"]


def unique_names(names: Sequence[str], path: object) -> tuple[list[str], list[Issue]]:
    """Return names of which none occurs twice: repeated ones get ``-0``, ``-1`` ..., as in mne.

    Parameters
    ----------
    names : sequence of str
        As the file has them.
    path : object
        File, for the issue.

    Returns
    -------
    tuple of list of str and list of Issue
        The issue ``DUPLICATE_CHANNEL`` names those that were changed.

    Examples
    --------
    >>> unique_names(["Cz", "Fz", "Cz"], "a.edf")[0]
    ['Cz-0', 'Fz', 'Cz-1']
    """
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if not twice:
        return list(names), []
    taken = {name for name in names if name not in twice}
    seen: Counter[str] = Counter()
    unique = []
    for name in names:
        new = name
        while name in twice:
            new = f"{name}-{seen[name]}"
            seen[name] += 1
            if new not in taken:
                break
        taken.add(new)
        unique.append(new)
    text = f"names occur more than once: {', '.join(twice[:8])}; numbered -0, -1 and so on"
    hint = "the names of the file are kept in channel_source"
    return unique, [Issue("DUPLICATE_CHANNEL", str(path), text, hint)]
