"""What every command shares: the options ``--data-dir``, ``--json`` and ``--quiet``, and how results are given."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from sovereign_node.api.client import ApiClient
from sovereign_node.cli.coercion import PlainCommand
from sovereign_node.cli.output import Part, escape, write_json, write_message, write_result
from sovereign_node.datadir import ENVIRONMENT_VARIABLE, DataDir, default_data_dir
from sovereign_node.errors import ExitCode

View = Callable[[Any], Iterable[Part]]
"""Turns a result into lines, texts and tables."""

DataDirOption = Annotated[
    Path | None,
    typer.Option(
        "--data-dir", metavar="DIR", help="Where this device keeps its data.", envvar=ENVIRONMENT_VARIABLE
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, notes or summaries.")]


@dataclass(frozen=True)
class GlobalOptions:
    """Options that may stand before the command, too."""

    data_dir: Path | None = None
    json: bool = False
    quiet: bool = False


@dataclass(frozen=True)
class Session:
    """One run of one command.

    Args:
        data_dir: the device's data directory.
        json: results are JSON documents.
        quiet: no progress, notes or summaries.
    """

    data_dir: DataDir
    json: bool
    quiet: bool

    def call(self, operation: str, **parameters: Any) -> Any:
        """Run an operation of the node and return its result; see :meth:`ApiClient.call`."""
        return ApiClient(self.data_dir).call(operation, parameters)

    def stream(self, operation: str, verb: str, **parameters: Any) -> Any:
        """Run a streaming operation, show its progress, and return its result.

        Args:
            operation: name in the table of operations.
            verb: what is going on, for example ``backing up``.
            parameters: its parameters.
        """
        from sovereign_node.cli.progress import open_display

        with open_display(verb, quiet=self.quiet) as display:
            events = ApiClient(self.data_dir).stream(operation, parameters)
            try:
                for event in events:
                    if "result" in event:
                        return event["result"]
                    if "message" in event:
                        display.message(escape(str(event["message"])))
                    display.update(event.get("progress", {}))
            finally:
                events.close()
        raise AssertionError("a stream ends with a result or an error")

    def note(self, text: str) -> None:
        """Tell the user something by the way, on standard error."""
        if not self.quiet:
            write_message(escape(text))

    def show(self, document: Any, view: View, exit_code: ExitCode = ExitCode.OK) -> None:
        """Give the result of a question, as JSON or through ``view``, and end with ``exit_code``."""
        self._give(document, view, exit_code, silent=False)

    def report(self, document: Any, view: View, exit_code: ExitCode = ExitCode.OK) -> None:
        """Give the result of an act; ``--quiet`` leaves its text out."""
        self._give(document, view, exit_code, silent=self.quiet)

    def _give(self, document: Any, view: View, exit_code: ExitCode, *, silent: bool) -> None:
        if self.json:
            write_json(document)
        elif not silent:
            write_result(view(document))
        if exit_code != ExitCode.OK:
            raise typer.Exit(exit_code)


def command(
    app: typer.Typer, name: str, cls: type[PlainCommand] = PlainCommand
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register ``function(session, ...)`` as command ``name`` of ``app``, with the shared options added."""

    def register(function: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(function)
        def run(
            context: typer.Context, data_dir: Path | None, json_output: bool, quiet: bool, **values: Any
        ) -> None:
            early: GlobalOptions = context.obj or GlobalOptions()
            root = data_dir or early.data_dir or default_data_dir()
            session = Session(DataDir(root.absolute()), json_output or early.json, quiet or early.quiet)
            function(session, **values)

        parameters = _own_parameters(function) + _SHARED_PARAMETERS
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {item.name: item.annotation for item in parameters}
        app.command(name, cls=cls)(run)
        return function

    return register


def _own_parameters(function: Callable[..., None]) -> list[inspect.Parameter]:
    signature = inspect.signature(function, eval_str=True)
    # Keyword-only, so that required and optional parameters may stand in any order.
    return [item.replace(kind=inspect.Parameter.KEYWORD_ONLY) for item in list(signature.parameters.values())[1:]]


def _shared(name: str, annotation: Any, default: Any = inspect.Parameter.empty) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


_SHARED_PARAMETERS = [
    _shared("context", typer.Context),
    _shared("data_dir", DataDirOption, None),
    _shared("json_output", JsonOption, False),
    _shared("quiet", QuietOption, False),
]
