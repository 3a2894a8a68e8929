"""What measures and comparators can do, for checks that import no numerical library.

A test compares these names with the tables of the kernels.
"""

from __future__ import annotations

__all__ = [
    "CROSSVALIDATED",
    "LEAST_CONDITIONS",
    "LEAST_FLEXIBLE",
    "MAPPED",
    "SQUARED",
    "WHITENED_COMPARATORS",
]

LEAST_CONDITIONS = 4
LEAST_FLEXIBLE = 12  # conditions of models that are fitted to some and scored on others
CROSSVALIDATED = ("crossnobis", "poisson_cv")
SQUARED = ("euclidean", "mahalanobis", "crossnobis")
MAPPED = ("correlation", "euclidean", "mahalanobis", "crossnobis")
WHITENED_COMPARATORS = ("cosine_w", "pearson_w")
