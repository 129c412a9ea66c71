"""The espeak-ng library through ctypes: phonemes of text, and speech with the sample at which every phoneme begins.

espeak-ng keeps its state in C globals, hence: one handle per process, opened at the first call; one lock around
every use (without it threads get each other's phonemes: 84 of 9,600 were wrong, silently); and the lock is held
across a fork, so that no worker inherits a library in the middle of a call. Nothing here is ever pickled.
"""

import ctypes
import itertools
import os
import threading
from functools import lru_cache
from importlib.metadata import version
from types import ModuleType
from typing import NamedTuple

INSTALL = 'pip install "hmmtts[espeak]"'

SYNCHRONOUS = 2  # espeak_AUDIO_OUTPUT: samples go to the callback, in the caller's thread
OPTIONS = 0x0001 | 0x0002 | 0x8000  # phoneme events, their names in IPA, no exit() on errors
UTF8 = 1
END_PAUSE = 0x1000  # the pause that ends a sentence
IPA = 0x02
SEPARATOR = "_"
LIST_END, PHONEME = 0, 7  # espeak_EVENT_TYPE
RATE = 1  # espeak_PARAMETER
LONGEST_PATH = 159
NAME_BYTES = 8  # a longer phoneme name is cut in an event, not in the phonemes of a text


class _Name(ctypes.Union):
    _fields_ = (("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * NAME_BYTES))


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _Name),
    )


_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.POINTER(_Event))


class _Voice(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        (
            "languages",
            ctypes.c_void_p,
        ),  # for each: one byte of priority, low is better; the tag; NUL. Ends with 0
        ("identifier", ctypes.c_char_p),
        ("gender", ctypes.c_ubyte),
        ("age", ctypes.c_ubyte),
        ("variant", ctypes.c_ubyte),
        ("reserved", ctypes.c_ubyte),
        ("score", ctypes.c_int),
        ("spare", ctypes.c_void_p),
    )


class Clause(NamedTuple):
    """What espeak-ng reads in one go."""

    words: tuple[tuple[str, ...], ...]  # phonemes; an empty one is a gap, two in a row inside a word a pause
    text: str  # up to about one character past the punctuation that ends the clause


class Phoneme(NamedTuple):
    name: bytes  # IPA in UTF-8, at most NAME_BYTES; empty for a gap
    onset: int  # samples


class Speech(NamedTuple):
    samples: bytes  # 16-bit mono, native byte order
    sample_rate: int
    phonemes: tuple[Phoneme, ...]


class _Library:
    """The one open handle of this process. Its methods expect the lock to be held."""

    def __init__(self) -> None:
        loader = _loader()
        data = _short(os.fsencode(loader.get_data_path()))
        self.c = ctypes.CDLL(loader.get_library_path())
        self.c.espeak_TextToPhonemes.restype = ctypes.c_char_p
        self.sample_rate = self.c.espeak_Initialize(SYNCHRONOUS, 0, data, OPTIONS)
        if self.sample_rate <= 0:
            raise RuntimeError(
                f"espeak-ng could not read its data in {os.fsdecode(data)} (a path of {len(data)} bytes; it accepts "
                f"{LONGEST_PATH}). Install it afresh, in an environment with a short path: {INSTALL}"
            )
        self.voices = self._voices()
        self.voice = ""
        self.samples: list[bytes] = []
        self.phonemes: list[Phoneme] = []
        self.callback = _Callback(self._receive)  # kept: C holds a pointer to it
        self.c.espeak_SetSynthCallback(self.callback)

    def _receive(self, wave: int | None, count: int, events: "ctypes._Pointer[_Event]") -> int:
        if wave and count > 0:
            self.samples.append(ctypes.string_at(wave, 2 * count))
        index = 0
        while events[index].type != LIST_END:
            if events[index].type == PHONEME:
                self.phonemes.append(Phoneme(bytes(events[index].id.string), events[index].sample))
            index += 1
        return 0

    def _voices(self) -> dict[str, str]:
        """Language tag -> identifier of the voice that espeak-ng ranks first for it."""
        self.c.espeak_ListVoices.restype = ctypes.POINTER(ctypes.POINTER(_Voice))
        listed = self.c.espeak_ListVoices(None)
        ranked: dict[str, tuple[int, str]] = {}
        for voice in itertools.takewhile(bool, (listed[index] for index in itertools.count())):
            identifier, address = voice.contents.identifier.decode(), voice.contents.languages
            while (entry := ctypes.string_at(address)) != b"":
                tag, priority = entry[1:].decode().lower(), entry[0]
                ranked[tag] = min(ranked.get(tag, (priority, identifier)), (priority, identifier))
                address += len(entry) + 1
        return {tag: identifier for tag, (_, identifier) in sorted(ranked.items())}

    def speak_as(self, language: str) -> None:
        tag = language.lower().replace("_", "-")
        while tag not in self.voices and "-" in tag:
            tag = tag.rpartition("-")[0]  # ko-kr -> ko
        if tag not in self.voices:
            raise ValueError(
                f"language must be one that espeak-ng speaks, got {language!r}. It speaks: {', '.join(self.voices)}"
            )
        if self.voices[tag] != self.voice:
            self.c.espeak_SetVoiceByName(self.voices[tag].encode())
            self.voice = self.voices[tag]

    def clauses(self, text: str) -> list[Clause]:
        encoded = text.replace("\0", " ").encode()
        buffer = ctypes.create_string_buffer(
            encoded
        )  # must outlive the calls: espeak-ng reads on where it stopped
        start = ctypes.addressof(buffer)
        rest, done, found = ctypes.c_void_p(start), 0, []
        while rest.value is not None:
            spoken = self.c.espeak_TextToPhonemes(ctypes.byref(rest), UTF8, IPA | ord(SEPARATOR) << 8)
            end = len(encoded) if rest.value is None else rest.value - start
            words = tuple(tuple(word.split(SEPARATOR)) for word in spoken.decode().split())
            found.append(Clause(words, encoded[done:end].decode(errors="ignore")))
            done = end
        return found

    def speech(self, text: str, words_per_minute: int) -> Speech:
        self.samples, self.phonemes = [], []
        self.c.espeak_SetParameter(RATE, words_per_minute, 0)
        encoded = text.replace("\0", " ").encode() + b"\0"
        if self.c.espeak_Synth(encoded, len(encoded), 0, 1, 0, UTF8 | END_PAUSE, None, None) != 0:
            raise RuntimeError(f"espeak-ng refused to speak {text!r}")
        return Speech(b"".join(self.samples), self.sample_rate, tuple(self.phonemes))


def _loader() -> ModuleType:
    try:
        import espeakng_loader
    except ImportError as error:
        raise ImportError(f"espeak-ng is not installed. Install it with: {INSTALL}") from error
    return espeakng_loader


def _short(path: bytes) -> bytes:
    """A name that fits into espeak-ng's fixed array; deep environments do exceed it."""
    descriptors = b"/proc/self/fd"
    if len(path) <= LONGEST_PATH or not os.path.isdir(descriptors):  # noqa: PTH112 (bytes)
        return path
    return descriptors + b"/%d" % os.open(path, os.O_RDONLY)  # open for as long as the process lives


_lock = threading.Lock()


@lru_cache(maxsize=1)
def _library() -> _Library:
    """Called with the lock held, so that it is opened once."""
    library = _Library()
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)
    return library


@lru_cache(maxsize=20_000)
def clauses(text: str, language: str) -> tuple[Clause, ...]:
    """The phonemes of a text. Cached: a corpus is read once per epoch, and so are its words."""
    with _lock:
        library = _library()
        library.speak_as(language)
        return tuple(library.clauses(text))


def speech(text: str, language: str, words_per_minute: int = 175) -> Speech:
    """The text spoken aloud. A second call gives slightly other samples (by up to 20): espeak-ng has a memory.

    The same calls in the same order in a fresh process give identical bytes.
    """
    if not 80 <= words_per_minute <= 360:
        raise ValueError(
            f"words_per_minute must be 80 to 360, where the onsets are exact to a millisecond, got {words_per_minute}"
        )
    with _lock:
        library = _library()
        library.speak_as(language)
        return library.speech(text, words_per_minute)


def languages() -> list[str]:
    """The tags of all languages that espeak-ng speaks."""
    with _lock:
        return list(_library().voices)


def release() -> str:
    """The release of the package that brings espeak-ng."""
    _loader()
    return version("espeakng-loader")
