"""Settings of the toy analysis and what neuropipe needs to know of it."""

from __future__ import annotations

from pydantic import Field

from neuropipe.analyses.registry import Analysis, Resources
from neuropipe.config.models import StrictModel

__all__ = ["ANALYSIS", "Settings"]


class Settings(StrictModel):
    """Keys of the block ``analyses.toy``."""

    factor: float = Field(1.0, description="The means are multiplied by it.")
    fail: bool = Field(False, description="Raise instead of computing, to see what happens.")
    need_mb: int = Field(0, description="Fail under Slurm if the job has less memory, MB.")
    need_minutes: int = Field(0, description="Never end under Slurm if the job has less time.")


ANALYSIS = Analysis(
    name="toy",
    title="Mean activity",
    scopes=("recording",),
    assemble="neuropipe.assemble.cohort:cohort",
    accepts={"calcium": "activity"},
    settings=Settings,
    fit="toy_analysis.model:fit",
    figures="toy_analysis.figures:figures",
    figure_slugs=("means",),
    methods="toy_analysis.model:text",
    summary="toy_analysis.model:summary",
    headline="toy_analysis.model:headline",
    metrics="toy_analysis.model:metrics",
    resources=lambda settings, sizes: Resources(
        mem_mb=500, minutes=1 if settings.need_minutes else 5
    ),
)
