"""The command `rtgod`: find the commands, and turn errors that a person can act on into one line and exit code 2.

The commands of calibration and stimulus are found through their entry points, so that nothing here imports them.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterable
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer
from rich.highlighter import NullHighlighter
from rich.logging import RichHandler

from rtgod import __version__
from rtgod.commands.demo import demo
from rtgod.commands.journal import journal
from rtgod.commands.keys import keys
from rtgod.commands.rehearse import rehearse
from rtgod.commands.replay import replay
from rtgod.commands.serve import serve
from rtgod.commands.status import status
from rtgod.commands.watch import receive, watch
from rtgod.console import PlainConsole, forgiving, styled, why_incomplete
from rtgod.errors import MissingDependencyError, RtgodError
from rtgod.logs import RUNS, PlainFormatter

GROUP = "rtgod.commands"
#: Packages that rtgod installs under names that other distributions may use, too.
_BESIDE = ("calibration", "stimulus")
_OFFLINE = ("simulate", "scan", "features", "categories", "calibrate", "evaluate", "report")
_LIVE = ("display", "stimulus", "unblind")
#: Extras that install modules which the base of rtgod does without.
_EXTRAS = {"numba": "server"}
_Command = typer.Typer | Callable[..., object]


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"rtgod {__version__}")
        raise typer.Exit


def _root(
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Log each message and volume. Also after the command.")
    ] = False,
    version: Annotated[  # noqa: ARG001 # handled by its callback
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Decode what a person sees or imagines, volume by volume, while the scanner runs.

    Calibrate on recorded runs, serve volumes, show the ranking:

        rtgod calibrate BIDS --subject 01 --images IMAGES --out bundle

        rtgod serve bundle

        rtgod display

        rtgod replay RUN --to tcp://127.0.0.1:5555

    `rtgod demo` does all of it with a simulated subject.
    """
    level = logging.INFO if verbose else logging.WARNING

    def is_shown(record: logging.LogRecord) -> bool:
        return record.levelno >= level or record.name == RUNS

    # No highlighter: it searches log texts for patterns, and a text sent to exploit that can take it seconds.
    handler = RichHandler(
        console=PlainConsole(stderr=True), show_path=False, highlighter=NullHighlighter(), keywords=[]
    )
    handler.setFormatter(PlainFormatter("%(message)s"))
    # A filter and not the handler's level: a log file may record INFO while the terminal does not show it.
    handler.addFilter(is_shown)
    logging.basicConfig(level=level, handlers=[handler])
    logging.getLogger(RUNS).setLevel(logging.INFO)


def make_app(only: str | None = None) -> typer.Typer:
    """Build the command line with every installed command, including commands of other packages.

    Parameters
    ----------
    only : str, optional
        Name of the command that will run. If it is one of the online system, only this command is built: importing
        the others takes a while, and a server that is started again must be quick.

    Raises
    ------
    MissingDependencyError
        If Python finds another package named `calibration` or `stimulus` instead of rtgod's own.
    """
    app = typer.Typer(
        name="rtgod",
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode="markdown",
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_root)
    online: list[tuple[str, _Command]] = [
        ("serve", serve),
        ("watch", watch),
        ("receive", receive),
        ("replay", replay),
        ("journal", journal),
        ("keys", keys),
        ("status", status),
    ]
    if only in dict(online):
        _add(app, "Live", [entry for entry in online if entry[0] == only])
        return app
    _add(app, "Start here", [("demo", demo), ("rehearse", rehearse)])
    _check_names()
    installed = {point.name: point.load() for point in entry_points(group=GROUP)}
    _add(app, "Offline", [(name, installed.pop(name)) for name in _OFFLINE if name in installed])
    _add(app, "Live", [*online, *((name, installed.pop(name)) for name in _LIVE if name in installed)])
    _add(app, "Of other packages", sorted(installed.items()))
    return app


def _check_names() -> None:
    """Check that `calibration` and `stimulus` are rtgod's own: other distributions may use these names."""
    root = Path(__file__).resolve().parents[2]
    for name in _BESIDE:
        spec = find_spec(name)
        places = (
            [] if spec is None else [Path(place) for place in spec.submodule_search_locations or [spec.origin or ""]]
        )
        if root / name not in [place.resolve() for place in places]:
            where = f"is at {places[0]}, which is not rtgod's" if places else "is not there"
            raise MissingDependencyError(
                f"the package {name!r} {where}; rtgod's own is {root / name}. Uninstall the other one, or take its "
                "folder from PYTHONPATH and do not start rtgod in it"
            )


def _add(app: typer.Typer, panel: str, commands: Iterable[tuple[str, _Command]]) -> None:
    for name, command in commands:
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name, rich_help_panel=panel)
        else:
            app.command(name, rich_help_panel=panel)(command)


def _verbose_first(arguments: list[str]) -> list[str]:
    """Move `--verbose` before the command, so that it may be written anywhere."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    flags = [argument for argument in arguments[:end] if argument in ("-v", "--verbose")]
    return flags[:1] + [argument for argument in arguments[:end] if argument not in flags] + arguments[end:]


def main() -> None:
    """Run `rtgod`."""
    sys.stdout, sys.stderr = forgiving(sys.stdout), forgiving(sys.stderr)
    # OpenMP reads this when the first kernel starts. Threads that spin while they wait would compete for the cores with
    # the display, the source, or a calibration's other processes, and delay all of them several times over.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    code = _run(_verbose_first(sys.argv[1:]))
    if why := why_incomplete(sys.stdout):
        _say_error(f"not all that was printed could be written: {why}")
    sys.exit(code or int(bool(why)))


def _run(arguments: list[str]) -> int | str | None:
    """Run a command; return the exit code of the process."""
    try:
        # The first argument without a dash is the command, as no option before it takes a value.
        only = next((argument for argument in arguments if not argument.startswith("-")), None)
        make_app(only)(args=arguments, prog_name="rtgod")
    except SystemExit as ended:
        return ended.code
    except RtgodError as error:
        _say_error(str(error))
        return 2
    except ModuleNotFoundError as error:
        if error.name not in _EXTRAS:
            raise
        _say_error(f"this needs {error.name}, which is not installed: pip install 'rtgod[{_EXTRAS[error.name]}]'")
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def _say_error(text: str) -> None:
    PlainConsole(stderr=True).print(styled(("rtgod: ", "bold red"), text), soft_wrap=True)
