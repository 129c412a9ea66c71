"""Numbers, abbreviations and symbols written out as words, by one table per language.

The tables are plain data, normalisation/LANGUAGE.toml, and beside each lies LANGUAGE.tests.tsv: what is written, a
tab, what is read. A new language is a table and its tests. A numeral is read by the largest part that fits into it:
`words` are added ("twenty" + "one"), `scales` multiplied ("two" x "hundred").
"""

import re
import tomllib
import unicodedata
from functools import cache
from pathlib import Path
from typing import Any

TABLES = Path(__file__).parent / "normalisation"
TYPOGRAPHY = str.maketrans(
    {"‘": "'", "’": "'", "“": '"', "”": '"', "„": '"', "\u00a0": " ", "\u200b": "", "\ufeff": ""}
)
DIGITS = r"\d{1,3}(?:,\d{3})+|\d+"
CALL = re.compile(r"(?<![\d-])\d{2,4}-\d{3,4}(?:-\d{4})?(?![\d-])")
CLOCK = re.compile(r"(?<![\d:])(\d{1,2}):([0-5]\d)(?![\d:])")
RANGE = re.compile(r"(?<=\d)\s?[-–]\s?(?=\d)")
GLUED = re.compile(r"[A-Za-z.,]")
SPACES = re.compile(r"\s+")


def languages() -> list[str]:
    """The languages that have a table."""
    return sorted(path.stem for path in TABLES.glob("*.toml"))


def normalise(text: str, language: str) -> str:
    """The text as it is read aloud."""
    return normaliser(language)(text)


def normaliser(language: str) -> "Normaliser":
    name = re.split("[-_]", language.lower())[0]
    if name not in languages():
        raise ValueError(
            f"language must have a normalisation table ({', '.join(languages())}), got {language!r}: "
            f"write {name}.toml beside those, or set text.normalise_numbers=false and give texts without numbers"
        )
    return _load(name)


@cache
def _load(name: str) -> "Normaliser":
    return Normaliser(tomllib.loads((TABLES / f"{name}.toml").read_text(encoding="utf-8")))


class Normaliser:
    """Reads text by a table; normalisation/en.toml explains the fields."""

    def __init__(self, table: dict[str, Any]):
        self.table = table
        self.numerals = {name: Numeral(**fields) for name, fields in table["numerals"].items()}
        self.cardinal = self.numerals["cardinal"]
        self.digits: list[str] = table["digits"]
        self.literal = _any_of(table.get("literal", {}))
        self.symbol = re.compile("|".join(map(re.escape, table["symbols"])))
        money = "".join(map(re.escape, table["currencies"]))
        followers = "|".join(
            map(re.escape, sorted([*table["units"], *table.get("counters", [])], key=len, reverse=True))
        )
        self.number = re.compile(
            rf"(?P<money>[{money}]\s?)?(?P<minus>(?<![\w-])[-−])?(?<!\d)(?P<whole>{DIGITS})(?:\.(?P<fraction>\d+))?"
            rf"(?:(?P<ordinal>{table.get('ordinal_suffix', '(?!)')})\b|(?P<gap>\s?)(?P<follower>{followers})(?![A-Za-z]))?"
        )

    def __call__(self, text: str) -> str:
        text = unicodedata.normalize("NFC", text).translate(TYPOGRAPHY)
        text = self.literal.sub(self._literal, text)
        text = CALL.sub(lambda match: self._one_by_one(match[0]), text)
        text = CLOCK.sub(self._clock, text)
        text = RANGE.sub(f" {self.table['range']} ", text)
        text = self.number.sub(self._apart, text)
        text = self.symbol.sub(lambda match: f" {self.table['symbols'][match[0]]} ", text)
        if letters := self.table.get("letters"):
            text = re.sub(
                r"(?<![A-Za-z])[A-Z]{1,5}(?![A-Za-z])",
                lambda match: "".join(letters[c] for c in match[0]),
                text,
            )
        return re.sub(r" ([,.;:!?])", r"\1", SPACES.sub(" ", text)).strip()

    def _literal(self, match: re.Match[str]) -> str:
        """The point of an abbreviation at the end of the text also ends the sentence."""
        last = match[0].endswith(".") and not match.string[match.end() :].strip()
        return str(self.table["literal"][match[0]]) + "." * last

    def _one_by_one(self, digits: str) -> str:
        groups = (
            ("" if self.cardinal.joiner == "" else " ").join(self.digits[int(d)] for d in group)
            for group in digits.split("-")
        )
        return ", ".join(groups)

    def _clock(self, match: re.Match[str]) -> str:
        clock, hour, minute = self.table["clock"], int(match[1]), int(match[2])
        form = clock["sharp"] if minute == 0 else clock["early"] if minute < 10 else clock["other"]
        return str(form).format(hour=self.numerals[clock["numeral"]](hour), minute=self.cardinal(minute))

    def _apart(self, match: re.Match[str]) -> str:
        """A number stands by itself among letters and points: A4, 3D, 1.2.3."""
        before, after = match.string[: match.start()][-1:], match.string[match.end() :][:1]
        start = " " if GLUED.fullmatch(before) else ""
        return start + self._number(match) + (" " if GLUED.fullmatch(after) and after not in ".," else "")

    def _number(self, match: re.Match[str]) -> str:
        whole, fraction, follower = (
            match["whole"].replace(",", ""),
            match["fraction"],
            match["follower"] or "",
        )
        minus = self.table["minus"] + " " if match["minus"] else ""
        if len(whole) >= len(str(self.cardinal.limit)):
            return minus + self._one_by_one(whole) + match[0][match.end("whole") - match.start() :]
        if match["money"]:
            return (
                minus + self._money(match["money"].strip(), whole, fraction) + (match["gap"] or "") + follower
            )
        if match["ordinal"] and not fraction:
            return minus + self._ordinal(int(whole))
        said = self._plain(match["whole"], fraction, follower)
        if follower in self.table["units"]:
            one, many = self.table["units"][follower]
            return f"{minus}{said} {one if whole == '1' and not fraction else many}"
        return minus + said + (match["gap"] or "") + follower + (match["ordinal"] or "")

    def _plain(self, written: str, fraction: str | None, follower: str) -> str:
        whole = written.replace(",", "")
        if fraction:
            return f"{self.cardinal(int(whole))} {self.table['point']} {self._one_by_one(fraction)}"
        first, last = self.table.get("years", [1, 0])
        if "," not in written and len(whole) == 4 and first <= int(whole) <= last and not follower:
            return self._year(int(whole))
        if whole.startswith("0") and len(whole) > 1:
            return self._one_by_one(whole)
        counted = self.numerals["native"] if follower in self.table.get("counters", []) else self.cardinal
        return counted(int(whole)) if int(whole) < counted.limit else self.cardinal(int(whole))

    def _year(self, year: int) -> str:
        century, rest = divmod(year, 100)
        if year % 1000 < 10:
            return self.cardinal(year)
        if rest == 0:
            return f"{self.cardinal(century)} {self.table['century']}"
        return f"{self.cardinal(century)} {self.table['oh'] + ' ' if rest < 10 else ''}{self.cardinal(rest)}"

    def _money(self, sign: str, whole: str, fraction: str | None) -> str:
        one, many, *cents = self.table["currencies"][sign]
        if fraction and len(fraction) == 2 and cents:
            amount = f"{self.cardinal(int(whole))} {one if int(whole) == 1 else many}"
            return f"{amount} {self.cardinal(int(fraction))} {cents[0] if int(fraction) == 1 else cents[1]}"
        return (
            f"{self._plain(f'{int(whole):,}', fraction, '')} {one if whole == '1' and not fraction else many}"
        )

    def _ordinal(self, number: int) -> str:
        """Only the last word changes: twenty-first."""
        *before, last = self.cardinal(number).split(" ")
        for ending, ordinal in self.table["ordinals"].items():
            if last.endswith(ending):
                return " ".join([*before, last.removesuffix(ending) + ordinal])
        return " ".join([*before, last])


class Numeral:
    """Whole numbers below `limit` in words."""

    def __init__(
        self,
        words: dict[str, str],
        scales: list[dict[str, Any]],
        joiner: str,
        limit: int,
        exact: dict[str, str] | None = None,
    ):
        self.words = sorted(((int(value), word) for value, word in words.items()), reverse=True)
        self.scales = sorted(scales, key=lambda scale: -scale["value"])
        self.joiner = joiner
        self.limit = limit
        self.exact = {int(value): word for value, word in (exact or {}).items()}

    def __call__(self, number: int) -> str:
        if number >= self.limit:
            raise ValueError(f"number must be below {self.limit}, got {number}")
        return self.exact.get(number) or self._parts(number)

    def _parts(self, number: int) -> str:
        for scale in self.scales:
            count, rest = divmod(number, scale["value"])
            if count:
                said = "" if count == 1 and scale.get("silent_one") else self._parts(count) + self.joiner
                return self._and(said + scale["word"], rest, scale.get("gap", self.joiner))
        value, word = next(pair for pair in self.words if pair[0] <= number)
        return self._and(word, number - value, self.joiner)

    def _and(self, said: str, rest: int, joiner: str) -> str:
        return said + joiner + self._parts(rest) if rest else said


def _any_of(literals: dict[str, str]) -> re.Pattern[str]:
    """Any of the words, the longest first, not inside another word or number."""
    if not literals:
        return re.compile("(?!)")
    longest_first = sorted(literals, key=len, reverse=True)
    return re.compile(r"(?<!\w)(?:" + "|".join(map(re.escape, longest_first)) + r")(?![A-Za-z0-9])")
