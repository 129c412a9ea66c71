"""`hmmtts VERB`: one module per verb, named as the verb, which imports what is heavy only when it runs."""

import sys
from functools import cache
from importlib import import_module
from pkgutil import iter_modules

import typer

app = typer.Typer(
    name="hmmtts",
    help="Text-to-speech training, forced alignment and evaluation on exact hidden Markov models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@cache
def register() -> typer.Typer:
    """Every module of this package holds either `app` (a verb with sub-verbs) or a function `run`."""
    for module_info in iter_modules(__path__):
        names = vars(import_module(f"{__name__}.{module_info.name}"))
        if "app" in names:
            app.add_typer(names["app"], name=module_info.name)
        else:
            # CONTEXT: what click needs to know of a verb that reads its arguments itself.
            app.command(module_info.name, context_settings=names.get("CONTEXT"))(names["run"])
    return app


def main() -> None:
    try:
        register()()
    except (ValueError, OSError) as error:
        # What a user can mend is a ValueError or an OSError with a full sentence; a traceback would hide it.
        print(f"hmmtts: {error}", file=sys.stderr)
        from hmmtts.training.faults import exit_code  # it brings torch along

        sys.exit(max(2, exit_code(error)))
