"""The reference pairs: wav files with figures that independent tools gave, and each file analysed at most once."""

import json
import os
from functools import cache
from typing import Any

from hmmtts.audio.io import read
from hmmtts.audio.world import World, analyse
from tests.data import TEST_DATA

FOLDER = TEST_DATA / "metric_pairs"
PAIRS: dict[str, dict[str, Any]] = {}
CONFIG: dict[str, Any] = {}
if (FOLDER / "pairs.json").is_file():
    CONFIG = json.loads((FOLDER / "pairs.json").read_text())
    PAIRS = {pair["id"]: pair for pair in CONFIG["pairs"]}

# A few kinds by default: Harvest needs half a minute for all 25 (HMMTTS_ALL_PAIRS=1).
EACH_KIND = ["A0", "C0_snr10", "D0", "F0", "G0"]
CHOSEN = list(PAIRS) if os.environ.get("HMMTTS_ALL_PAIRS") else [name for name in EACH_KIND if name in PAIRS]
WITH_FEATURES = ["A0", "B0", "C0_snr10", "G0"]


@cache
def world(name: str) -> World:
    return analyse(*read(FOLDER / "wavs" / name))


def both(pair: str) -> tuple[World, World]:
    return world(PAIRS[pair]["ref"]), world(PAIRS[pair]["test"])
