"""Emissions: how likely each state makes each acoustic frame. One variant per file; conf/emission chooses."""

from hmmtts.nn.emissions.base import Emission

__all__ = ["Emission"]
