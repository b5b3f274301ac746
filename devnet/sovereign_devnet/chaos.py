"""Kills client or provider in the middle of backups, and checks after every kill that nothing was lost.

A round: the files change, a backup starts, and at a random moment one of the two processes gets SIGKILL. After its
restart the next backup has to finish the job. Chunks that the provider had acknowledged are counted before the kill
and have to be there after it; at the end everything is read back, scrubbed, restored and compared.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sovereign_devnet.checks import compare_trees
from sovereign_devnet.cluster import Cluster
from sovereign_devnet.errors import DevnetError
from sovereign_devnet.member import Member
from sovereign_devnet.processes import wait_until
from sovereign_devnet.program import finish_command, start_command
from sovereign_devnet.report import Check, Report, Step
from sovereign_devnet.sample_files import write_noise
from sovereign_node.errors import NodeError
from sovereign_node.units import format_size

ROUND_BYTES = 24 * 1024 * 1024
MAX_DELAY_S = 0.05
KEPT_FILES = 3
_BACKUP = ("backup", "files")
_REACH_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class ChaosOptions:
    """How it is done.

    Args:
        folder: for everything on disk; must not hold a test network yet.
        rounds: kills.
        seed: of files and moments.
    """

    folder: Path
    rounds: int
    seed: int = 1


def run_chaos(options: ChaosOptions, on_event: Callable[[Step | Check], None] = lambda _event: None) -> Report:
    """Run all rounds and the checks at the end; no process is left behind.

    Args:
        options: how.
        on_event: told every step and check as soon as it is over.
    """
    report = Report(on_event)
    with Cluster(options.folder) as cluster:
        try:
            _Chaos(cluster, report, options).run()
        except (DevnetError, NodeError) as error:
            report.check("every command does its work", str(error).splitlines())
    return report


class _Chaos:
    def __init__(self, cluster: Cluster, report: Report, options: ChaosOptions) -> None:
        self._cluster = cluster
        self._report = report
        self._options = options
        self._random = random.Random(options.seed)  # noqa: S311 - moments and test data, not secrets
        self._files = cluster.folder / "files"
        self._interrupted = 0

    def run(self) -> None:
        with self._report.step("Start a provider and a laptop"):
            self._provider = self._cluster.create("provider", ["provider"], capacity="20GB")
            bootstrap = self._cluster.up(self._provider)[0]["addresses"]
            self._laptop = self._cluster.create("laptop", ["mobile"], bootstrap=bootstrap)
            self._cluster.up(self._laptop)
            offer = self._laptop.run("offers")[0]
            self._laptop.run("contract", "open", offer["peer_id"], "--capacity", "10GB")
            self._files.mkdir()
            self._change_files(0)
            self._laptop.run("protect", str(self._files), "--name", "files")
        for number in range(1, self._options.rounds + 1):
            self._round(number)
        self._report.figures["backups_killed_before_their_end"] = f"{self._interrupted} of {self._options.rounds}"
        self._check_everything()

    def _round(self, number: int) -> None:
        victim = self._random.choice((self._provider, self._laptop))
        self._change_files(number)
        with self._report.step(f"Round {number}: kill -9 of the {victim.name} in a backup") as step:
            stored, exit_code = self._kill_in_backup(victim)
            self._interrupted += exit_code != 0
            victim.up()
            self._wait_connected()
            kept = self._stored_chunks()
            if kept < stored:
                raise DevnetError(f"the provider had acknowledged {stored} chunks and has {kept} after the kill")
            done = self._laptop.run(*_BACKUP)
            step.detail = (
                f"{stored} chunks were there at the kill, {kept} after it; the next backup sent"
                f" {done['chunks_sent']} more, {format_size(done['bytes_sent'])}"
            )
        wrong = [str(item) for item in done["errors"]] + ["queued"] * bool(done["queued"])
        wrong += [str(item) for item in self._laptop.run("verify", "files")["errors"]]
        self._report.check(f"round {number}: the next backup finished the job", wrong)

    def _kill_in_backup(self, victim: Member) -> tuple[int, int]:
        """Return the chunks that were there at the kill, and the exit code of the backup that was hit."""
        before = self._stored_chunks()
        # Between the first chunks and the head there are some ten chunks; the delay lets it hit between any two.
        wanted = before + self._random.randrange(0, 7)
        delay_s = self._random.uniform(0, MAX_DELAY_S)
        backup = start_command(self._laptop.data_dir.root, *_BACKUP)
        try:
            deadline = time.monotonic() + _REACH_TIMEOUT_S
            while self._stored_chunks() < wanted and backup.poll() is None and time.monotonic() < deadline:
                time.sleep(0.005)
            time.sleep(delay_s)
            stored = self._stored_chunks()
        finally:
            victim.kill()
        return stored, finish_command(backup, _BACKUP).exit_code

    def _stored_chunks(self) -> int:
        status = self._provider.call("status")
        return int(status["stored"]["chunks"])

    def _wait_connected(self) -> None:
        """Wait until the laptop reaches the provider again, so that a round tests a backup and not the queue."""
        peer_id = self._provider.call("status")["peer_id"]

        def reached() -> bool:
            with suppress(NodeError):
                self._laptop.call("ping", peer=peer_id, count=1)
                return True
            return False

        wait_until(reached, _REACH_TIMEOUT_S, "connecting again")

    def _change_files(self, number: int) -> None:
        """Add new noise, drop old noise, and edit a text file."""
        write_noise(self._files / f"noise {number}", self._random, ROUND_BYTES)
        (self._files / f"noise {number - KEPT_FILES}").unlink(missing_ok=True)
        with (self._files / "diary.txt").open("a", encoding="utf-8") as diary:
            diary.write(f"round {number}: {self._random.random()}\n" * 200)

    def _check_everything(self) -> None:
        with self._report.step("sovereign verify --read-data") as step:
            verified = self._laptop.run("verify", "files", "--read-data")
            step.detail = f"{verified['chunks_checked']} chunks of {verified['snapshots_checked']} snapshots"
        self._report.check("everything reads back", _lines(verified["errors"]))
        with self._report.step("sovereign provider scrub") as step:
            scrubbed = self._provider.run("provider", "scrub")
            step.detail = f"{scrubbed['chunks_checked']} chunks"
        self._report.check("the provider finds no damage", _lines(scrubbed["damaged"]))
        restored = self._cluster.folder / "restored"
        with self._report.step("sovereign restore"):
            self._laptop.run("restore", "files", "--to", str(restored))
        self._report.check("the restored files are equal", compare_trees(self._files, restored))


def _lines(items: list[Any]) -> list[str]:
    return [str(item) for item in items]
