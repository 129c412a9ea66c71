"""What is wrong with a text, before any frontend reads it: characters that no one speaks, or that only look right."""

import unicodedata
from collections import Counter
from collections.abc import Iterator

from hmmtts.data.finding import Problem, error, warning

ALPHABETS = ("LATIN", "GREEK", "CYRILLIC")  # the ones whose letters look alike
PICTOGRAPHS = 0x2600  # below it lie symbols that people do read out, such as ° and №


def name(character: str) -> str:
    """`U+1F600 '😀'`, or the number alone where a terminal could not show the character."""
    shown = f" {character!r}" if character.isprintable() else ""
    return f"U+{ord(character):04X}{shown}"


def listing(characters: Counter[str]) -> str:
    return ", ".join(f"{name(character)} x{count}" for character, count in sorted(characters.items()))


def unspoken(text: str) -> Counter[str]:
    """The pictures, private and unassigned characters of a text, none of which has a pronunciation."""

    def silent(character: str) -> bool:
        category = unicodedata.category(character)
        picture = category == "So" and ord(character) >= PICTOGRAPHS
        return picture or category in ("Co", "Cn", "Cs") or character == "\ufffd"

    return Counter(filter(silent, text))


def mixed_words(text: str) -> Iterator[str]:
    """Words that mix alphabets whose letters look alike: `сat` with a Cyrillic с."""
    for word in text.split():
        if word.isascii():
            continue
        alphabets = {unicodedata.name(character, "").split(" ")[0] for character in word}
        if len(alphabets.intersection(ALPHABETS)) > 1:
            yield word


def is_mojibake(text: str) -> bool:
    """Whether the text is UTF-8 that something once read as Latin-1: `cafÃ©` for `café`."""
    if text.isascii():
        return False
    try:
        text.encode("cp1252").decode("utf-8")
    except UnicodeError:
        return False
    return True


def problems(text: str) -> Iterator[Problem]:
    if not text.strip():
        yield error("empty-text", "the text is empty")
        return
    # The line ends of Unicode count: a program that splits at them reads one row as two.
    control = Counter(c for c in text if unicodedata.category(c) in ("Cc", "Zl", "Zp") and c != "\t")
    if control:
        yield error(
            "control-character", f"the text holds control characters: {listing(control)}; delete them"
        )
    if unknown := unspoken(text):
        yield error("unknown-symbol", f"unknown symbols: {listing(unknown)}; delete them or write words")
    if is_mojibake(text):
        yield warning(
            "mojibake", f"{text!r} looks like UTF-8 that was read as Latin-1; export the text again"
        )
    if words := list(mixed_words(text)):
        yield warning(
            "mixed-script", f"letters of two alphabets in one word: {', '.join(words[:5])}; retype it"
        )
    if invisible := Counter(c for c in text if unicodedata.category(c) == "Cf"):
        yield warning("invisible-character", f"the text holds invisible characters: {listing(invisible)}")
    if not unicodedata.is_normalized("NFC", text):
        yield warning(
            "unicode-form",
            "the text is not in Unicode's composed form (NFC): one letter may become two symbols",
        )
    if text != text.strip() or "\t" in text:
        yield warning("white-space", "the text holds a tab, or begins or ends with white space")
