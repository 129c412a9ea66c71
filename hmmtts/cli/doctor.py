"""`hmmtts doctor`: what is installed and what works here, to read or to paste into a bug report."""

from typing import Annotated

import typer


def run(
    warm: Annotated[
        bool,
        typer.Option(
            "--warm", help="Compile what is compiled once, now: the HMM kernels and librosa's pitch tracker."
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The same for programs.")] = False,
) -> None:
    """Say what is installed, which backends work and why others do not, and the limits of this machine.

    Example: hmmtts doctor
    """
    import json
    import platform
    from importlib import import_module

    from hmmtts import __version__, machine

    if warm:
        import numpy as np

        from hmmtts.audio.f0 import Pyin

        for module in machine.KERNELS:
            import_module(module).make_ready()
        Pyin().track(np.zeros(11025, np.float32))  # librosa keeps its machine code beside its source
    title = {"hmmtts": __version__, "python": platform.python_version(), "platform": platform.platform()}
    report = {section.__name__: dict(section()) for section in machine.SECTIONS}
    if as_json:
        print(json.dumps(title | report, indent=2))
        return
    print(", ".join(f"{name} {value}" for name, value in title.items()))
    for section, facts in report.items():
        print(f"\n{section}")
        for name, value in facts.items():
            print(f"  {name:<25} {value}")
