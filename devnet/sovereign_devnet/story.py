"""The main promise as a story on real processes: a laptop is destroyed and comes back on an empty machine.

Three devices know one address: a provider, which belongs to somebody else, and a studio and a laptop of one owner.
Every act is a ``sovereign`` command in a process of its own, as a user would type it.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sovereign_devnet.checks import check_hash_names, compare_trees, find_words, tree_size
from sovereign_devnet.cluster import Cluster
from sovereign_devnet.errors import DevnetError
from sovereign_devnet.live_database import DatabaseState, LiveWriter, inspect_database
from sovereign_devnet.member import Member
from sovereign_devnet.processes import wait_until
from sovereign_devnet.report import Check, Report, Step
from sovereign_devnet.sample_files import Markers, make_home
from sovereign_devnet.stored_chunks import stored_chunks
from sovereign_node.errors import NodeError
from sovereign_node.units import format_price, format_rate, format_size

STOP_LIMIT_S = 2.0
FIND_TIMEOUT_S = 60.0
DATABASE = "bank.db"


@dataclass(frozen=True)
class StoryOptions:
    """How the story is told.

    Args:
        folder: for everything on disk; must not hold a test network yet.
        noise_bytes: incompressible bytes among the files.
        seed: of the files.
    """

    folder: Path
    noise_bytes: int = 96 * 1024 * 1024
    seed: int = 1


def tell_story(options: StoryOptions, on_event: Callable[[Step | Check], None] = lambda _event: None) -> Report:
    """Run the story from beginning to end; no process is left behind.

    Args:
        options: how.
        on_event: told every step and check as soon as it is over.
    """
    markers = Markers.plant()
    report = Report(on_event)
    with Cluster(options.folder, f"{markers.passphrase} and more words") as cluster:
        story = _Story(cluster, markers, report, options)
        try:
            story.run()
        except (DevnetError, NodeError) as error:
            report.check("every command does its work", str(error).splitlines())
    return report


class _Story:
    def __init__(self, cluster: Cluster, markers: Markers, report: Report, options: StoryOptions) -> None:
        self._cluster = cluster
        self._markers = markers
        self._report = report
        self._options = options
        self._home = cluster.folder / "home of the laptop"
        self._restored = cluster.folder / "restored"
        self._moved_bytes = 0
        self._price: dict[str, int] = {}
        self._started = time.monotonic()

    def run(self) -> None:
        with self._report.step("Make files: source code, noise, odd names, a secret") as step:
            make_home(self._home, self._markers, seed=self._options.seed, noise_bytes=self._options.noise_bytes)
            files, size_bytes = tree_size(self._home)
            step.detail = f"{files} files, {format_size(size_bytes)}"
        provider, laptop = self._first_devices()
        studio = self._join_studio(provider, laptop)
        self._protect(laptop)
        at_backup = self._back_up(laptop)
        self._look_at_provider(provider)
        self._export(provider)
        self._check_studio(studio)
        self._destroy(laptop)
        returned = self._come_back(provider, laptop)
        self._restore(returned, at_backup)
        self._cost(provider)
        self._stop()

    def _first_devices(self) -> tuple[Member, Member]:
        cluster = self._cluster
        with self._report.step("sovereign init and up: a provider") as step:
            provider = cluster.create("provider", ["provider"], capacity="20GB")
            status = cluster.up(provider)[0]
            self._bootstrap = status["addresses"][0]
            step.detail = self._bootstrap
        with self._report.step("sovereign init and up: a laptop that knows this one address"):
            laptop = cluster.create("laptop", ["mobile"], bootstrap=[self._bootstrap])
            cluster.up(laptop)
        with self._report.step("sovereign offers: found through the DHT") as step:
            offers = laptop.run("offers")
            step.detail = ", ".join(
                f"{item['name']} at {format_price(item['price_micro_vibe_per_gb_month'])} per GB and month"
                for item in offers
            )
        self._report.check(
            "the laptop finds the provider's offer", provider.name not in {item["name"] for item in offers}
        )
        self._open_contract(laptop, offers[0]["peer_id"], "5GB", "the provider")
        return provider, laptop

    def _open_contract(self, member: Member, provider: str, capacity: str, called: str) -> None:
        with self._report.step(f"sovereign contract open, {capacity} at {called}") as step:
            contract = member.run("contract", "open", provider, "--capacity", capacity)
            price = contract["price_micro_vibe_per_gb_month"]
            step.detail = f"{contract['id'][:12]}, {format_price(price)} per GB and month"
            self._price[called] = price

    def _join_studio(self, provider: Member, laptop: Member) -> Member:
        cluster = self._cluster
        with self._report.step("sovereign join and up: the owner's studio, by the recovery kit") as step:
            studio = cluster.join("studio", ["server"], laptop.kit_file, bootstrap=[self._bootstrap])
            status = cluster.up(studio)[0]
            step.detail = f"identity {status['identity'][:12]}"
        same = status["identity"] == laptop.call("status")["identity"]
        self._report.check("the studio belongs to the laptop's identity", not same)
        with self._report.step("sovereign offers: until the laptop has found it"):
            wait_until(
                lambda: any(item["peer_id"] == status["peer_id"] for item in laptop.run("offers")),
                FIND_TIMEOUT_S,
                "finding the studio",
            )
        self._open_contract(laptop, status["peer_id"], "5GB", "the own studio")
        self._report.check("the own studio costs nothing", self._price["the own studio"] != 0)
        return studio

    def _protect(self, laptop: Member) -> None:
        with self._report.step("sovereign protect, two copies"):
            laptop.run("protect", str(self._home), "--name", self._markers.project, "--copies", "2")

    def _back_up(self, laptop: Member) -> DatabaseState:
        database = self._home / DATABASE
        with LiveWriter(database, self._options.seed):
            first = self._backup(laptop, "sovereign backup while a process writes to the database")
            seconds = time.monotonic() - self._started
            with self._report.step("sovereign verify --read-data") as step:
                verified = laptop.run("verify", self._markers.project, "--read-data")
                step.detail = f"{verified['chunks_checked']} chunks read back"
        self._report.check("everything reads back from provider and studio", [str(x) for x in verified["errors"]])
        self._report.check("both targets took the backup", set(first["targets"]) != {"provider", "studio"})
        self._report.figures["from_nothing_to_the_first_verified_backup"] = f"{seconds:.1f} s"
        self._report.figures["first_backup"] = self._rate(first)
        self._backup(laptop, "sovereign backup again: the database has changed")
        third = self._backup(laptop, "sovereign backup once more: nothing has changed")
        self._report.check(
            "unchanged data sends no chunk", [f"{third['chunks_sent']} chunks"] if third["chunks_sent"] else []
        )
        self._report.figures["unchanged_backup"] = f"{third['seconds']} s, {format_size(third['bytes_sent'])} sent"
        return inspect_database(database)

    def _backup(self, laptop: Member, title: str) -> dict[str, Any]:
        with self._report.step(title) as step:
            done: dict[str, Any] = laptop.run("backup", self._markers.project)
            step.detail = (
                f"{done['files']} files, {format_size(done['bytes_read'])} read,"
                f" {format_size(done['bytes_sent'])} sent in {done['chunks_sent']} chunks"
            )
        self._report.check("the backup is complete", [str(item) for item in done["errors"]])
        self._moved_bytes += done["bytes_sent"]
        return done

    def _look_at_provider(self, provider: Member) -> None:
        words = {name: word.encode() for name, word in vars(self._markers).items()}
        with self._report.step("Search what the provider has for names, content and passphrase") as step:
            places = [provider.data_dir.root, provider.log_file]
            hits = find_words(words, places)
            step.detail = f"{format_size(tree_size(provider.data_dir.root)[1])} searched for {len(words)} words"
        self._report.check("the provider's disk and log show none of them", hits)
        at_home = find_words({"content": words["content"]}, [self._home])
        self._report.check("the same search finds the words on the laptop", len(at_home) != 2)

    def _export(self, provider: Member) -> None:
        folder = self._cluster.folder / "exported"
        with self._report.step("sovereign provider export, sha256sum over every chunk") as step:
            exported = provider.run("provider", "export", "--to", str(folder))
            count, wrong = check_hash_names(folder)
            wrong += _sha256sum(folder)
            step.detail = f"{count} chunks, {format_size(exported['bytes'])}"
        self._report.check("every stored chunk has the hash that names it", wrong)
        self._report.check("all chunks were exported", not count or count != exported["chunks"])

    def _check_studio(self, studio: Member) -> None:
        chunks = list(stored_chunks(studio.data_dir.chunks))
        self._report.check("the studio holds the second copy", not chunks)

    def _destroy(self, laptop: Member) -> None:
        with self._report.step("Destroy the laptop: kill -9, its data directory deleted"):
            laptop.destroy()

    def _come_back(self, provider: Member, laptop: Member) -> Member:
        with self._report.step("sovereign join and up: a new laptop with nothing but the kit and the address"):
            returned = self._cluster.join("new laptop", ["mobile"], laptop.kit_file, bootstrap=[self._bootstrap])
            self._cluster.up(returned)
        projects = {item["name"] for item in returned.call("status")["projects"]}
        self._report.check("the project is known again", self._markers.project not in projects)
        with self._report.step("sovereign snapshots") as step:
            snapshots = returned.run("snapshots", self._markers.project)
            step.detail = f"{len(snapshots)} snapshots"
        self._report.check("all three snapshots are there", len(snapshots) != 3)
        return returned

    def _restore(self, returned: Member, expected: DatabaseState) -> None:
        project = self._markers.project
        for title, snapshot, folder in self._restores(returned):
            with self._report.step(title) as step:
                done = returned.run("restore", project, "--to", str(folder), *snapshot)
                step.detail = f"{done['files']} files, {self._rate(done)}"
            self._report.check("the restore is complete", [str(item) for item in done["errors"]])
            self._moved_bytes += done["bytes_fetched"]
        self._report.check(
            "every byte, name, mode, time and link is back",
            compare_trees(self._home, self._restored, content_differs=[DATABASE]),
        )
        final = inspect_database(self._restored / DATABASE)
        self._report.check(
            "the database passes PRAGMA integrity_check", [final.integrity] * (final.integrity != "ok")
        )
        self._report.check("the database has exactly the rows of its last backup", final != expected)
        early = inspect_database(self._cluster.folder / "restored early" / DATABASE)
        self._report.check("the copy made while it was written to is consistent", not early.is_consistent)
        self._report.check("that copy is from the middle of the writing", not 0 < early.transfers < final.transfers)

    def _restores(self, returned: Member) -> list[tuple[str, list[str], Path]]:
        oldest = min(returned.run("snapshots", self._markers.project), key=lambda item: int(item["time"]))
        early = self._cluster.folder / "restored early"
        return [
            ("sovereign restore: the newest snapshot, everything", [], self._restored),
            (
                "sovereign restore: the database as it was in the first",
                ["--snapshot", oldest["id"], "--path", DATABASE],
                early,
            ),
        ]

    def _cost(self, provider: Member) -> None:
        status = provider.run("provider", "status")
        figures = self._report.figures
        figures["stored_at_the_provider"] = format_size(status["stored_bytes"])
        figures["storage_costs"] = f"{format_price(status['vibe_per_month_micro'])} per month"
        per_gb = status["offer"]["price_micro_vibe_per_gb_transfer"]
        moved = format_price(round(self._moved_bytes * per_gb / 10**9))
        figures["moving_it"] = f"{moved} for {format_size(self._moved_bytes)} there and back"
        figures["the_copy_in_the_own_studio_costs"] = format_price(self._price["the own studio"])
        self._report.check("the provider earns something", status["vibe_per_month_micro"] <= 0)

    def _stop(self) -> None:
        with self._report.step("Ctrl-C to all nodes"):
            started = time.monotonic()
            killed = self._cluster.close()
            seconds = time.monotonic() - started
        late = [f"{seconds:.1f} s"] if seconds > STOP_LIMIT_S else []
        self._report.check(f"all nodes stopped by themselves within {STOP_LIMIT_S:g} s", killed + late)
        self._report.figures["whole_story"] = f"{time.monotonic() - self._started:.1f} s"

    @staticmethod
    def _rate(done: dict[str, Any]) -> str:
        size_bytes = done.get("bytes_read", done.get("bytes", 0))
        seconds = max(done["seconds"], 0.001)
        return f"{format_size(size_bytes)} in {seconds:.1f} s, {format_rate(size_bytes / seconds)}"


def _sha256sum(folder: Path) -> list[str]:
    """Let the tool of that name say the same, where there is one."""
    program = shutil.which("sha256sum")
    if program is None:
        return []
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    lines = "".join(f"{path.stem}  {path}\n" for path in paths)
    done = subprocess.run([program, "--check", "--quiet"], input=lines, capture_output=True, text=True, check=False)
    return done.stdout.splitlines() if done.returncode else []
