"""Contacts of intracranial electrodes: shank and number in a name, tissue in a label."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

__all__ = ["CONTACT_TYPES", "UNKNOWN_CONTACT", "contact_of", "white_matter"]

CONTACT_TYPES = ("seeg", "ecog", "dbs")
UNKNOWN_CONTACT = -1
# What recorders put around the name of a contact.
AROUND = re.compile(r"^(?:SEEG|EEG|POL|ECOG)\s+|[-\s]*(?:REF|AVG|Ref|ref)\d*$")
CONTACT = re.compile(r"(?P<group>[^-]*?[^-\d\s_])[\s_]*(?P<contact>\d{1,4})")
WHITE = re.compile(r"white[\s_-]*matter|\bwm\b|(?:^|[_-])wm(?=[_-]|$)", re.IGNORECASE)
NO_LABEL = ("", "unknown", "none", "no label", "no_label", "n/a")


def contact_of(name: str) -> tuple[str, int]:
    """Return shank (or grid) and number of a contact, ``("", -1)`` for any other name.

    Examples
    --------
    >>> contact_of("LA1"), contact_of("A'3"), contact_of("POL TB12-Ref")
    (('LA', 1), ("A'", 3), ('TB', 12))
    >>> contact_of("A1-A2"), contact_of("ECG")
    (('', -1), ('', -1))
    """
    found = CONTACT.fullmatch(AROUND.sub("", name.strip()))
    return (found["group"], int(found["contact"])) if found else ("", UNKNOWN_CONTACT)


def white_matter(labels: Sequence[str]) -> np.ndarray:
    """Tell from anatomical labels which contacts lie in white matter.

    Parameters
    ----------
    labels : sequence of str
        Words of an atlas, "" where there is none.

    Returns
    -------
    numpy.ndarray
        int8: 1 white matter, 0 another tissue, -1 no label.
    """
    known = [label.strip().lower() not in NO_LABEL for label in labels]
    white = [bool(WHITE.search(label)) for label in labels]
    return np.where(known, np.array(white, dtype=np.int8), -1).astype(np.int8)
