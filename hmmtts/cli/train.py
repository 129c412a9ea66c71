"""`hmmtts train`: the same as train.py of a checkout, from any directory."""

import typer

# Every argument, --help included, is Hydra's.
CONTEXT = {
    "allow_extra_args": True,
    "ignore_unknown_options": True,
    "allow_interspersed_args": False,
    "help_option_names": [],
}


def run(context: typer.Context) -> None:
    """Train a voice: hmmtts train recipe=demo [any.value=...]; `hmmtts train --help` lists what can be chosen."""
    import sys

    from hmmtts.training import __main__ as program

    # Hydra reads sys.argv, and Lightning starts further processes with it: a file that Python can run, and arguments.
    sys.argv = [str(program.__file__), *context.args]
    program.main()
