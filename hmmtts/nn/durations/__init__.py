"""Durations: how long each state lasts when only the text is known. One variant per file; conf/duration chooses."""

from hmmtts.nn.durations.base import Duration, Spoken

__all__ = ["Duration", "Spoken"]
