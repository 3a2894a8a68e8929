"""Models of the preprocessing of EEG, MEG and intracranial recordings."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from neuropipe.config.strict import Fraction, Positive, StrictModel

__all__ = [
    "BadChannelConfig",
    "BandPowerConfig",
    "EegPreprocess",
    "HighGammaConfig",
    "IcaConfig",
    "IeegPreprocess",
    "MegPreprocess",
]

Band = tuple[Positive, Positive]
BandName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]


def _check_band(name: str, low: float | None, high: float | None) -> None:
    if low is not None and high is not None and low >= high:
        raise ValueError(f"{name}: [{low:g}, {high:g}] must end above its start")


class BadChannelConfig(StrictModel):
    """Which channels are not used; the source's own word counts in any case."""

    z: Positive = Field(
        5, description="A channel is bad when the robust z of its log variance exceeds this."
    )
    interpolate: bool = Field(
        False, description="Replace bad EEG channels by spherical splines; needs positions."
    )


class IcaConfig(StrictModel):
    """Independent components; those that follow the EOG or ECG channels are taken out."""

    method: Literal["fastica", "picard"] = Field(
        "fastica", description="Algorithm; `picard` needs the package python-picard."
    )
    components: Annotated[int, Field(ge=2)] | None = Field(
        None, description="Number of components; null: the rank of the good channels."
    )
    high_pass_hz: Positive = Field(1, description="High pass of the copy that is fitted, Hz.")
    max_iterations: Annotated[int, Field(ge=1)] = Field(
        1000, description="Iterations after which the fit counts as not converged."
    )
    correlation: Fraction = Field(
        0.7,
        description="A component is out when the size of its correlation with an EOG or ECG "
        "channel exceeds this.",
    )


class HighGammaConfig(StrictModel):
    """Mean amplitude of log-spaced bands, each z-scored over time."""

    band_hz: Band = Field((70, 150), description="Lower and upper edge of all bands, Hz.")
    n_bands: Annotated[int, Field(ge=1)] = Field(8, description="Number of log-spaced bands.")
    resample_hz: Positive = Field(100, description="Rate of the result, Hz.")

    @model_validator(mode="after")
    def _rising(self) -> HighGammaConfig:
        _check_band("band_hz", *self.band_hz)
        return self


class BandPowerConfig(StrictModel):
    """Log power of named bands; rows become ``<channel>.<band>``."""

    bands_hz: dict[BandName, Band] = Field(
        min_length=1, description="Name of a band -> its lower and upper edge, Hz."
    )
    resample_hz: Positive = Field(100, description="Rate of the result, Hz.")

    @model_validator(mode="after")
    def _rising(self) -> BandPowerConfig:
        for name, band in self.bands_hz.items():
            _check_band(f"bands_hz.{name}", *band)
        return self


class _ChannelPreprocess(StrictModel):
    """What the three modalities share."""

    line_hz: Positive | Literal["auto"] | None = Field(
        "auto", description="Mains frequency, Hz; `auto`: as the source states; null: no notch."
    )
    bandpass_hz: tuple[Positive | None, Positive | None] | None = Field(
        None, description="Band that is kept, [low, high] in Hz; null at an end leaves it open."
    )
    bad_channels: BadChannelConfig | None = Field(
        default_factory=BadChannelConfig,
        description="Search for bad channels; null: the source's word only.",
    )
    band_power: BandPowerConfig | None = Field(None, description="Log power of named bands.")
    resample_hz: Positive | None = Field(
        None, description="Lower rate of the result, behind an anti-alias filter, Hz."
    )

    @model_validator(mode="after")
    def _bands_pass(self) -> _ChannelPreprocess:
        if self.bandpass_hz is None:
            return self
        low, high = self.bandpass_hz
        _check_band("bandpass_hz", low, high)
        bands = dict(self.band_power.bands_hz) if self.band_power is not None else {}
        gamma: HighGammaConfig | None = getattr(self, "high_gamma", None)
        if gamma is not None:
            bands["high_gamma"] = gamma.band_hz
        for name, band in bands.items():
            if (low is not None and band[0] < low) or (high is not None and band[1] > high):
                raise ValueError(
                    f"bandpass_hz takes out part of the band {name} ({band[0]:g} to {band[1]:g} "
                    "Hz); widen it, or write `bandpass_hz: null`"
                )
        return self


def _refuse_interpolation(bad_channels: BadChannelConfig | None, why: str) -> None:
    if bad_channels is not None and bad_channels.interpolate:
        raise ValueError(f"bad_channels.interpolate: {why}; write `interpolate: false`")


class EegPreprocess(_ChannelPreprocess):
    """Steps between the EEG store and an analysis, in this order; null = off."""

    bandpass_hz: tuple[Positive | None, Positive | None] | None = Field(
        (0.1, 40),
        description="Band that is kept, [low, high] in Hz; null at an end leaves it open, as in "
        "[null, 40] for rest.",
    )
    ica: IcaConfig | None = Field(None, description="Independent components.")
    reference: Literal["average"] | None = Field(
        "average", description="New reference: mean of the good channels; null: as recorded."
    )


class MegPreprocess(_ChannelPreprocess):
    """Steps between the MEG store and an analysis, in this order; null = off."""

    bandpass_hz: tuple[Positive | None, Positive | None] | None = Field(
        (0.1, 40),
        description="Band that is kept, [low, high] in Hz; null at an end leaves it open, as in "
        "[null, 40] for rest.",
    )
    ica: IcaConfig | None = Field(None, description="Independent components.")

    @model_validator(mode="after")
    def _no_interpolation(self) -> MegPreprocess:
        _refuse_interpolation(self.bad_channels, "the store holds no coil orientations")
        return self


class IeegPreprocess(_ChannelPreprocess):
    """Steps between the intracranial store and an analysis, in this order; null = off."""

    reference: Literal["bipolar", "white_matter", "white_matter_mean", "car", "none"] = Field(
        "bipolar",
        description="`bipolar`: neighbours of a shank; `white_matter`: nearest contact in white "
        "matter, or the mean of all; `car`: mean of each shank; `none`: as recorded.",
    )
    high_gamma: HighGammaConfig | None = Field(None, description="High-gamma amplitude.")

    @model_validator(mode="after")
    def _consistent(self) -> IeegPreprocess:
        _refuse_interpolation(self.bad_channels, "neighbouring contacts see other tissue")
        if self.high_gamma is not None and self.band_power is not None:
            raise ValueError(
                "`high_gamma` and `band_power` cannot both be on; a band of 70 to 150 Hz under "
                "`band_power.bands_hz` is the other way to high gamma"
            )
        return self
