"""Backup and restore of the same corpora by Sovereign, its stock stack and the peers found, turn by turn.

Phases, each timed from typing the command to its end: the first backup, one of unchanged data, one after 1 % of the
data changed, and a restore of that. The database changes in 100 random rows instead. Bytes sent are what the
repository of a peer grew by.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from sovereign_devnet.bench import corpora
from sovereign_devnet.bench.backup_report import OURS, STOCK, build_report
from sovereign_devnet.bench.corpora import Corpus
from sovereign_devnet.bench.floors import backup_floor
from sovereign_devnet.bench.ours import open_sovereign
from sovereign_devnet.bench.results import Part, Settings
from sovereign_devnet.bench.syncthing import open_syncthing
from sovereign_devnet.bench.tahoe import open_tahoe
from sovereign_devnet.bench.tools import Tool, open_borg, open_restic, peers
from sovereign_devnet.bench.transport import run_pair
from sovereign_devnet.bench.watch import Sample
from sovereign_devnet.checks import compare_trees

MIB = 1024 * 1024
_EDIT_BYTES = 64 * 1024
# What not every tool keeps, in the words of `compare_trees`.
_NOT_CONTENT = (": changed at ", "mode")
# These take their time with other corpora: minutes for a tree of small files.
CORPORA_OF = {
    STOCK: ("incompressible",),
    "tahoe": ("database",),
    "syncthing": ("incompressible", "database", "mixed"),
}
# Takes part in the first round only.
ONCE = "tahoe"

Opener = Callable[[Path], AbstractContextManager[Tool]]


@dataclass
class Measured:
    """Samples by tool, corpus and phase, one per round; and why tools of others have left."""

    samples: dict[tuple[str, str, str], list[Sample]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    def add(self, tool: str, corpus: str, phase: str, sample: Sample) -> None:
        """Note a sample."""
        self.samples.setdefault((tool, corpus, phase), []).append(sample)

    @contextmanager
    def guard(self, way: str) -> Iterator[None]:
        """Let a tool of others that fails cost its own figures alone; a failure of ours is one of the benchmark."""
        try:
            yield
        except Exception as error:
            if way in (OURS, STOCK):
                raise
            self.failures[way] = f"{type(error).__name__}: {error}"
            self.samples = {key: taken for key, taken in self.samples.items() if key[0] != way}


@dataclass(frozen=True)
class Job:
    """A corpus and how it changes between backups.

    Args:
        corpus: on disk.
        edit: changes it; gets the number of the change.
        change: name of the phase after that.
    """

    corpus: Corpus
    edit: Callable[[int], object]
    change: str


def make_jobs(settings: Settings) -> list[Job]:
    """Make the corpora."""
    below = settings.folder / "corpora"
    below.mkdir()
    noise = corpora.make_incompressible(below / "incompressible", size_bytes=settings.pick(128, 1024) * MIB)
    text = corpora.make_source_tree(below / "source-tree", files=settings.pick(5_000, 50_000))
    table = corpora.make_database(below / "database", rows=settings.pick(40_000, 400_000))
    mixed = corpora.make_mixed(below / "mixed", scale=0.1 if settings.quick else 1.0)
    return [
        Job(noise, partial(edit_noise, noise), "1 % changed"),
        Job(text, lambda seed: corpora.edit_source_tree(text, seed), "1 % changed"),
        Job(table, lambda seed: corpora.edit_database(table, seed), "100 rows changed"),
        Job(mixed, partial(edit_noise, mixed), "1 % changed"),
    ]


def edit_noise(corpus: Corpus, seed: int, share: float = 0.01) -> int:
    """Overwrite a share of the large files' bytes, 64 KiB at a time; return how many bytes."""
    source = random.Random(seed)  # noqa: S311 - test data, not a secret
    paths = sorted(corpus.root.rglob("noise-*.bin"))
    size_bytes = sum(path.stat().st_size for path in paths)
    count = max(1, int(size_bytes * share) // _EDIT_BYTES)
    for _ in range(count):
        path = source.choice(paths)
        with path.open("r+b") as file:
            file.seek(source.randrange(max(1, path.stat().st_size - _EDIT_BYTES)))
            file.write(source.randbytes(_EDIT_BYTES))
    return count * _EDIT_BYTES


def openers() -> dict[str, Opener]:
    """Return what takes part."""
    found = peers()
    ways: dict[str, Opener] = {OURS: open_sovereign}
    if found["restic"]:
        ways["restic"] = open_restic
    if found["borg"]:
        ways["borg"] = open_borg
    if found["syncthing"]:
        ways["syncthing"] = open_syncthing
    if found["tahoe"]:
        ways["tahoe"] = open_tahoe
    ways[STOCK] = partial(open_sovereign, stack="stock", name=STOCK)
    return ways


def measure(settings: Settings) -> Part:
    """Run all phases of all corpora for everyone, in turns."""
    jobs = make_jobs(settings)
    wire = run_pair("floor", {"bytes": 256 * MIB})["bulk"]
    wire_cpu = wire["send_cpu_s_per_gb"] + wire["receive_cpu_s_per_gb"]
    floors = {job.corpus.name: backup_floor(job.corpus.root, settings.folder, wire_cpu) for job in jobs}
    measured = Measured()
    names: dict[str, str] = {}
    for number in range(settings.rounds):
        with _workshop(settings.folder / "tools") as folder, ExitStack() as stack:
            tools: dict[str, Tool] = {}
            for way, opener in openers().items():
                if number and way == ONCE:
                    continue
                below = folder / way
                below.mkdir()
                with measured.guard(way):
                    tools[way] = stack.enter_context(opener(below))
            names |= {way: tool.name for way, tool in tools.items()}
            for job in jobs:
                settings.say(f"backup, round {number + 1} of {settings.rounds}: {job.corpus.name}")
                _run_job(tools, job, folder, measured, number)
    skipped = missing_peers() + [
        f"{names[way]} with corpora other than {', '.join(kept)}{', and more than once' if way == ONCE else ''}:"
        " it would take many minutes"
        for way, kept in CORPORA_OF.items()
        if way in names
    ]
    skipped += [f"{way} failed: {reason}" for way, reason in measured.failures.items()]
    return build_report(measured.samples, jobs_by_name(jobs), floors, names, skipped)


def jobs_by_name(jobs: list[Job]) -> dict[str, tuple[int, int, str]]:
    """Return size, number of files and name of the change of each corpus."""
    return {job.corpus.name: (job.corpus.size_bytes, job.corpus.files, job.change) for job in jobs}


def missing_peers() -> list[str]:
    """Say which peers did not take part."""
    found = peers()
    return [f"{name}: not on PATH" for name in ("restic", "borg", "syncthing", "tahoe") if not found[name]]


def _run_job(tools: dict[str, Tool], job: Job, folder: Path, measured: Measured, number: int) -> None:
    """Run each phase with one tool after the other, so that the machine's other work meets all alike."""
    corpus = job.corpus
    ways = [way for way in tools if corpus.name in CORPORA_OF.get(way, (corpus.name,))]
    # Another one begins each round.
    turn = number % len(ways)
    ways = ways[turn:] + ways[:turn]
    for phase in ("first", "unchanged", job.change, "restore"):
        if phase == job.change:
            job.edit(number)
        for way in ways:
            if way in measured.failures:
                continue
            settle()
            with measured.guard(way):
                sample = _take(tools[way], phase, corpus, folder / "restored")
                if sample is not None:
                    measured.add(way, corpus.name, phase, sample)


def _take(tool: Tool, phase: str, corpus: Corpus, target: Path) -> Sample | None:
    """Run one phase; a restore is compared with the corpus and removed."""
    if phase != "restore":
        return tool.backup(corpus.name, corpus.root)
    try:
        sample = tool.restore(corpus.name, corpus.root, target)
        if sample is not None:
            _check_restored(corpus.root, target)
    finally:
        shutil.rmtree(target, ignore_errors=True)
    return sample


def settle() -> None:
    """Write back what earlier steps left in the page cache, so that nobody pays for somebody else's bytes."""
    os.sync()


def _check_restored(root: Path, target: Path) -> None:
    """Restic restores below the original path; only content counts here."""
    nested = target / root.relative_to("/")
    found = nested if nested.is_dir() else target
    # A captured database has the same rows, but not every byte of its header.
    databases = [str(path.relative_to(root)) for path in root.rglob("*.db")]
    wrong = compare_trees(root, found, content_differs=databases)
    wrong = [line for line in wrong if not any(word in line for word in _NOT_CONTENT)]
    if wrong:
        raise RuntimeError(f"the restore of {root.name} differs: {wrong[:5]}")


@contextmanager
def _workshop(folder: Path) -> Iterator[Path]:
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder)
