"""What a YAML may ask for, such as ${rate_of:DATA_DIR}: what a config cannot know, or would have to say twice."""

import os
import time
from pathlib import Path

from omegaconf import OmegaConf

from hmmtts.data.rate import usual_rate

# What conf/features is written for: its mel ends at 8 kHz, so that a higher rate would be dropped.
USUAL = 22050
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


def run_name() -> str:
    """The name of a run that was given none: the job's, so that all its processes and lives agree; else the time.

    Hydra keeps the first answer and hands it to the jobs that it launches: the name is that of the submission.
    """
    if job := os.environ.get("SLURM_JOB_ID"):
        return job
    if "TORCHELASTIC_RUN_ID" in os.environ:
        raise ValueError("torchrun starts several processes, which must agree on a name: add run.name=NAME")
    return time.strftime("%Y-%m-%d_%H-%M-%S")


def gpus_of(accelerator: str, devices: int) -> int | None:
    """GPUs to ask a cluster for on each node: none for a training on CPUs."""
    return None if accelerator == "cpu" else devices


def cores_of(threads: int, workers: int) -> int:
    """Cores of one process: its own threads (0: one) and one for each worker that loads."""
    return max(1, threads) + workers


def register_resolvers() -> None:
    for resolver in (rate_of, lasting, gpus_of, cores_of):
        OmegaConf.register_new_resolver(resolver.__name__, resolver, replace=True)
    OmegaConf.register_new_resolver("run_name", run_name, replace=True, use_cache=True)
