"""`hmmtts bench family`: the models beside the plain HMM, each beside what else computes the same.

Every module here has `works(quick) -> list[Work]`; found by being there. A work measures when it is called, and yields
one record per contender, the first of them `ours`. `race` (hmmtts.bench.race) does so for calls that take turns.
"""

from importlib import import_module
from pkgutil import iter_modules

from hmmtts.bench.work import Work


def works(quick: bool) -> list[Work]:
    """`quick`: tiny sizes under names of their own; does everything run?"""
    modules = [import_module(f"{__name__}.{module.name}") for module in iter_modules(__path__)]
    return [work for module in modules for work in module.works(quick)]
