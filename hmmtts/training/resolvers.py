"""What a recipe may ask for in its YAML: ${rate_of:DATA_DIR} and ${lasting:SAMPLES,RATE}."""

from pathlib import Path

from omegaconf import OmegaConf

from hmmtts.data.rate import usual_rate

USUAL = (
    22050  # what conf/features is written for: its mel ends at 8 kHz, so that a higher rate would be dropped
)
LEAST = 16000  # the rate that such a mel needs at least


def rate_of(data_dir: str | None) -> int:
    """The rate to train a corpus at: its own, between LEAST and USUAL. What it has else is resampled.

    USUAL where there is nothing to look at: what is wrong there is said when the corpus is prepared.
    """
    found = usual_rate(Path(data_dir)) if data_dir else None
    return min(max(found or USUAL, LEAST), USUAL)


def lasting(samples: int, rate: int) -> int:
    """At `rate`, as many samples as last as long as `samples` at USUAL."""
    return round(samples * rate / USUAL)


def register_resolvers() -> None:
    OmegaConf.register_new_resolver("rate_of", rate_of, replace=True)
    OmegaConf.register_new_resolver("lasting", lasting, replace=True)
