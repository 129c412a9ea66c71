"""hmmtts: text-to-speech whose alignment between text and sound is an exact hidden Markov model."""

__version__ = "0.1.0"
