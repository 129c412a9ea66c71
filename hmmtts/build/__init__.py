"""From config to objects, and to disk and back: the one place that knows how the parts of a voice are put together."""

from hmmtts.build.bundle import Bundle, load, save
from hmmtts.build.facts import Facts

__all__ = ["Bundle", "Facts", "load", "save"]
