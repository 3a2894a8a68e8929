"""Units of channels: their words, their SI form, and which amplitudes are usual."""

from __future__ import annotations

import math
from collections.abc import Sequence

__all__ = ["DATA_TYPES", "USUAL_SD", "probable_unit", "si_unit"]

DATA_TYPES = ("eeg", "seeg", "ecog", "dbs", "mag", "grad")
PREFIXES = {"": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9, "p": 1e-12, "f": 1e-15}
BASELINE_M = 0.0168
# SI unit -> least and largest standard deviation of a recording of it. A planar gradiometer
# gives the difference of the field over its baseline, so its bounds are those of the field
# divided by that length.
USUAL_SD = {
    "V": (1e-7, 1e-2),
    "T": (1e-15, 1e-10),
    "T/m": (1e-15 / BASELINE_M, 1e-10 / BASELINE_M),
}
TYPICAL_SD = {"V": 2e-5, "T": 1e-12, "T/m": 1e-12 / BASELINE_M}
MICRO = {"\u00b5": "u", "\u03bc": "u", "\x83\xca": "u"}
NAMES = {
    "volt": "V",
    "volts": "V",
    "microvolt": "uV",
    "microvolts": "uV",
    "millivolt": "mV",
    "tesla": "T",
}
OFFERED = {
    "V": ("V", "mV", "uV", "nV"),
    "T": ("T", "nT", "pT", "fT"),
    "T/m": ("T/m", "pT/cm", "fT/cm", "fT/m"),
}


def si_unit(text: str) -> tuple[str, float] | None:
    """Return the SI unit of a word, and by how much to multiply; None for what is no unit here.

    Examples
    --------
    >>> si_unit("uV")
    ('V', 1e-06)
    >>> si_unit("fT/cm")
    ('T/m', 1e-13)
    >>> si_unit("degC") is None
    True
    """
    word = text.strip()
    for micro, plain in MICRO.items():
        word = word.replace(micro, plain)
    word = NAMES.get(word.lower(), word)
    for unit, factor in (("T/cm", 100.0), ("T/m", 1.0), ("V", 1.0), ("T", 1.0)):
        prefix = word.removesuffix(unit)
        if word.endswith(unit) and prefix in PREFIXES:
            scale = PREFIXES[prefix] * factor
            # 1e-15 * 100 is not the float64 nearest to 1e-13.
            return ("T/m" if unit == "T/cm" else unit), float(f"{scale:.12g}")
    return None


def probable_unit(sd: float, unit: str, declared: str) -> str:
    """Return the word of the unit that the stored numbers probably have, or "".

    Parameters
    ----------
    sd : float
        Standard deviation under the declared unit, SI.
    unit : str
        SI unit.
    declared : str
        Unit of the stored numbers as the file states it.
    """
    known = si_unit(declared)
    stored = sd / (known[1] if known else 1.0)
    low, high = USUAL_SD[unit]
    fitting: list[tuple[float, str]] = []
    for word in OFFERED[unit]:
        found = si_unit(word)
        value = stored * (found[1] if found else math.nan)
        if word != declared and low <= value <= high:
            fitting.append((abs(math.log10(value / TYPICAL_SD[unit])), word))
    return min(fitting)[1] if fitting else ""


def is_data(ch_type: str, unit: str, types: Sequence[str] = DATA_TYPES) -> bool:
    """Tell whether a channel measures the brain in a unit that has usual amplitudes."""
    return ch_type in types and unit in USUAL_SD
