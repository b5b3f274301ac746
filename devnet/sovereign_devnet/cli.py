"""``sovereign-devnet``: networks of real nodes on this machine, the story of a lost laptop, faults, benchmarks."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from sovereign_devnet.errors import DevnetError
from sovereign_node.errors import NodeError

if TYPE_CHECKING:
    from sovereign_devnet.registry import Registry

app = typer.Typer(
    name="sovereign-devnet",
    help="Run networks of real Sovereign nodes on this machine.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

DEFAULT_FOLDER = Path("sovereign-devnet")
FolderOption = Annotated[Path, typer.Option("--dir", metavar="DIR", help="Folder of the test network.")]
NewFolderOption = Annotated[
    Path | None, typer.Option("--dir", metavar="DIR", help="New folder for everything; a temporary one without it.")
]
KeepOption = Annotated[bool, typer.Option("--keep", help="Keep the folder; it is also kept when something fails.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
SeedOption = Annotated[int, typer.Option("--seed", help="Of everything random that is not a key.")]
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Of a node; see: sovereign-devnet status.")]


@app.command()
def up(
    providers: Annotated[int, typer.Option(min=1, max=10, help="Providers, each with its own identity.")] = 1,
    servers: Annotated[int, typer.Option(min=0, max=10, help="Servers of the one owner.")] = 1,
    mobiles: Annotated[int, typer.Option(min=1, max=10, help="Mobile devices of the owner.")] = 1,
    topology: Annotated[
        str, typer.Option(metavar="NAME", help="nat: homes behind routers, in network namespaces; needs root.")
    ] = "",
    nats: Annotated[
        bool, typer.Option("--nats", help="With a NATS server, which carries what no other path does.")
    ] = False,
    only_nats: Annotated[
        bool,
        typer.Option("--only-nats", help="With a NATS server, and nodes that reach each other through it alone."),
    ] = False,
    folder: FolderOption = DEFAULT_FOLDER,
) -> None:
    """Run a network until Ctrl-C; other terminals act on it with the commands below."""
    if topology:
        from sovereign_devnet.topology.show import run_topology

        run_topology(topology, typer.echo)
        return
    from sovereign_devnet.foreground import Plan, run_foreground

    run_foreground(folder, Plan(providers, servers, mobiles, with_nats=nats, only_nats=only_nats))


@app.command()
def demo(
    folder: NewFolderOption = None,
    keep: KeepOption = False,
    quick: Annotated[bool, typer.Option("--quick", help="With fewer bytes.")] = False,
    seed: SeedOption = 1,
    as_json: JsonOption = False,
) -> None:
    """Tell the story: back up a laptop, destroy it, bring everything back on an empty machine, and check all."""
    from sovereign_devnet.demo import run_demo

    _finish(run_demo(folder, keep=keep, quick=quick, seed=seed, as_json=as_json))


@app.command()
def chaos(
    rounds: Annotated[int, typer.Option(min=1, help="Kills.")] = 20,
    seed: SeedOption = 1,
    folder: NewFolderOption = None,
    keep: KeepOption = False,
    as_json: JsonOption = False,
) -> None:
    """Kill client or provider in the middle of backups, again and again, and check that nothing is lost."""
    from sovereign_devnet.demo import run_chaos_command

    _finish(run_chaos_command(folder, keep=keep, rounds=rounds, seed=seed, as_json=as_json))


@app.command()
def market(
    months: Annotated[int, typer.Option(min=0, max=12, help="Of 30 simulated days.")] = 3,
    days: Annotated[int, typer.Option(min=0, max=360, help="Simulated days besides the months.")] = 0,
    speed: Annotated[
        int, typer.Option(min=0, help="Simulated seconds per real one at most; 0 for no limit.")
    ] = 86_400,
    seed: SeedOption = 1,
    folder: NewFolderOption = None,
    keep: KeepOption = False,
    as_json: JsonOption = False,
) -> None:
    """Let months of the storage market pass with cheats on both sides, and show how each is caught."""
    from sovereign_devnet.demo import run_market

    if not months and not days:
        raise DevnetError("no time passes; use --months 3")
    _finish(run_market(folder, keep=keep, days=30 * months + days, speed=speed, seed=seed, as_json=as_json))


@app.command()
def status(folder: FolderOption = DEFAULT_FOLDER, as_json: JsonOption = False) -> None:
    """List the nodes of a network."""
    from sovereign_devnet.table import member_rows, show_members

    rows = member_rows(_registry(folder).members())
    if as_json:
        _print_json(rows)
    else:
        show_members(rows)


@app.command()
def kill(name: NameArgument, folder: FolderOption = DEFAULT_FOLDER) -> None:
    """End a node with SIGKILL, as a power cut would."""
    _registry(folder).member(name).kill()


@app.command()
def start(name: NameArgument, folder: FolderOption = DEFAULT_FOLDER) -> None:
    """Start a node that was killed."""
    _registry(folder).member(name).up()


@app.command()
def pause(name: NameArgument, folder: FolderOption = DEFAULT_FOLDER) -> None:
    """Freeze a node: it keeps its connections and answers nothing."""
    _registry(folder).member(name).pause()


@app.command()
def resume(name: NameArgument, folder: FolderOption = DEFAULT_FOLDER) -> None:
    """Let a paused node go on."""
    _registry(folder).member(name).resume()


@app.command("corrupt-chunk")
def corrupt(
    name: NameArgument,
    chunk: Annotated[
        str, typer.Option("--chunk", metavar="ID", help="Beginning of its id; the largest without.")
    ] = "",
    folder: FolderOption = DEFAULT_FOLDER,
    as_json: JsonOption = False,
) -> None:
    """Flip bytes of a chunk on the disk of a node that stores for others."""
    from sovereign_devnet.stored_chunks import corrupt_chunk

    damaged = corrupt_chunk(_registry(folder).member(name).data_dir.chunks, chunk)
    if as_json:
        _print_json(
            {"chunk": damaged.chunk_id.hex(), "contract": damaged.contract_id.hex(), "file": str(damaged.path)}
        )
    else:
        typer.echo(f"chunk {damaged.chunk_id.hex()} in {damaged.path} is damaged now")


@app.command("exec")
def execute(
    name: NameArgument,
    words: Annotated[
        list[str], typer.Argument(metavar="-- COMMAND...", help="A sovereign command with its options.")
    ],
    folder: FolderOption = DEFAULT_FOLDER,
) -> None:
    """Run a sovereign command on a node, for example: exec mobile-1 --dir DIR -- backup docs."""
    import subprocess

    from sovereign_devnet.program import command_line, environment

    member = _registry(folder).member(name)
    done = subprocess.run(command_line(member.data_dir.root, *words, as_json=False), env=environment(), check=False)
    raise typer.Exit(done.returncode)


@app.command()
def down(folder: FolderOption = DEFAULT_FOLDER) -> None:
    """Stop a network, also one whose terminal is gone."""
    killed = _registry(folder).stop()
    if killed:
        raise DevnetError(f"these did not stop by themselves and were killed: {', '.join(killed)}")


@app.command()
def bench(
    only: Annotated[
        list[str] | None, typer.Option("--only", metavar="PART,...", help="Only these parts; may be repeated.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer bytes, one round.")] = False,
    full: Annotated[bool, typer.Option("--full", help="Also what takes an hour.")] = False,
    rounds: Annotated[int | None, typer.Option(min=1, help="Turns of each way.")] = None,
    output: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write all figures there.")] = None,
    write: Annotated[
        Path | None, typer.Option("--write", metavar="DIR", help="Write README.md and plots there.")
    ] = None,
    folder: Annotated[Path | None, typer.Option("--dir", metavar="DIR", help="Work below this folder.")] = None,
) -> None:
    """Measure speed as ratios to floors and peers of the same run, and say which bars are met."""
    from sovereign_devnet.bench.runner import run_benchmarks, save_json

    document = run_benchmarks(only or [], quick=quick, full=full, rounds=rounds, folder=folder, write=write)
    if output is not None:
        save_json(document, output)
    failed = [name for name, part in document["parts"].items() if part["failed"]]
    if failed:
        raise DevnetError(f"these parts failed: {', '.join(failed)}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    # A service manager or a test runner stops us so; every block must end, for nodes run below it.
    signal.signal(signal.SIGTERM, _terminate)
    try:
        result = typer.main.get_command(app).main(
            args=list(sys.argv[1:] if arguments is None else arguments),
            prog_name="sovereign-devnet",
            standalone_mode=False,
        )
    except (DevnetError, NodeError) as error:
        typer.echo(f"sovereign-devnet: {error}", err=True)
        return 1
    except (KeyboardInterrupt, typer.Abort):
        typer.echo("interrupted", err=True)
        return 130
    except Exception as error:
        usage = getattr(error, "format_message", None)
        if usage is None:
            raise
        typer.echo(f"sovereign-devnet: {usage()}", err=True)
        return int(getattr(error, "exit_code", 1))
    return result if isinstance(result, int) else 0


def _registry(folder: Path) -> Registry:
    from sovereign_devnet.registry import Registry

    return Registry.open(folder)


def _finish(ok: bool) -> None:
    if not ok:
        raise typer.Exit(1)


def _print_json(document: Any) -> None:
    typer.echo(json.dumps(document, indent=2))


def _terminate(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
