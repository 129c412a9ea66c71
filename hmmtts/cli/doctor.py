"""`hmmtts doctor`: what is installed and what works here, to read or to paste into a bug report."""

from typing import Annotated

import typer


def run(
    warm: Annotated[bool, typer.Option("--warm", help="Compile the HMM kernels into the cache now.")] = False,
) -> None:
    """Say what is installed, which backends work and why others do not, and the limits of this machine.

    Example: hmmtts doctor --warm
    """
    import platform
    from importlib import import_module

    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from hmmtts import __version__, machine

    if warm:
        for module in machine.KERNELS:
            import_module(module).make_ready()
    table = Table(
        title=f"hmmtts {__version__}, Python {platform.python_version()}, {platform.platform()}",
        show_header=False,
    )
    for section in (machine.packages, machine.extras, machine.backends, machine.devices, machine.limits):
        for name, value in section():
            table.add_row(name, escape(value))
        table.add_section()
    Console().print(table)
