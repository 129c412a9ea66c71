"""The features of a corpus, computed into the cache ahead of training: all of them, or one share of several."""

import logging
from collections.abc import Sequence
from typing import NamedTuple

from hmmtts.build import objects
from hmmtts.data.manifest import Utterance
from hmmtts.data.survey import survey
from hmmtts.training.compose import config_of
from hmmtts.training.data import read_splits
from hmmtts.training.faults import ConfigError
from hmmtts.training.prepare import prepare

log = logging.getLogger(__name__)


class Share(NamedTuple):
    number: int  # from 1
    of: int

    @classmethod
    def parse(cls, text: str) -> "Share":
        number, slash, of = text.partition("/")
        if not (slash and number.isdigit() and of.isdigit() and 1 <= int(number) <= int(of)):
            raise ValueError(f"--shard must be K/N with K from 1 to N, as 3/16, got {text!r}")
        return cls(int(number), int(of))

    def __call__(self, utterances: Sequence[Utterance]) -> Sequence[Utterance]:
        """A stretch, so that shares of a corpus in shards want different shards."""
        first, last = (len(utterances) * edge // self.of for edge in (self.number - 1, self.number))
        return utterances[first:last]


def extract(overrides: list[str], share: Share) -> int:
    """Compute what the cache lacks of a share, with the config that `train.py OVERRIDES` would have. How many it has."""
    config = config_of(overrides)
    loading, features, frontend = objects.loading(config), objects.features(config), objects.frontend(config)
    if loading.cache_dir is None:
        raise ConfigError("data.cache_dir is null: features would be computed and kept nowhere")
    splits = read_splits(prepare(config["recipe"], config["prepare"], config["data_dir"]))
    utterances = share([utterance for split in splits.values() for utterance in split])
    if utterances:
        survey(utterances, loading.cache(features), loading.transcriber(frontend), loading.workers)
    log.info("share %d of %d: %d utterances are in %s", *share, len(utterances), loading.cache_dir)
    return len(utterances)
