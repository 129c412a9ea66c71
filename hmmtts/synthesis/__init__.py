"""A trained voice at work: text to speech with the time of every phone, speech with its text to times."""

from hmmtts.synthesis.result import Alignment, Interval, Speech
from hmmtts.synthesis.voice import Voice, load

__all__ = ["Alignment", "Interval", "Speech", "Voice", "load"]
