"""Texts that are safe in a terminal, tables, and the progress of long operations."""

from __future__ import annotations

import io
import sys
import unicodedata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sovereign_node.cli.drawing import Screen, width_of
from sovereign_node.cli.output import escape, facts, short_id, styled, table, write_result
from sovereign_node.cli.progress import LiveDisplay, PlainDisplay, ProgressState, RateMeter, open_display


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain name.txt", "plain name.txt"),
        ("Bücher 日本 🎉", "Bücher 日本 🎉"),
        ("\x1b[2J", "\\x1b[2J"),
        ("a\nb\tc\x7f", "a\\x0ab\\x09c\\x7f"),
        ("\x9b31m", "\\x9b31m"),
        ("invoice\u202egpj.exe", "invoice\\u202egpj.exe"),
        ("\u2066x", "\\u2066x"),
        ("bad\udcff", "bad\\xff"),
        ("a\u00a0b", "a\u00a0b"),
        ("\U000e0041", "\\U000e0041"),
    ],
)
def test_control_characters_are_spelled(text: str, shown: str) -> None:
    assert escape(text) == shown


@given(st.text(st.characters()))
def test_nothing_that_steers_a_terminal_is_left(text: str) -> None:
    assert all(unicodedata.category(char) not in ("Cc", "Cf", "Cs", "Zl", "Zp", "Co") for char in escape(text))


def test_short_ids_are_prefixes() -> None:
    assert short_id("ab" * 32) == "ab" * 6
    assert short_id("12D3KooWFvcNfdegfXjfMt9WMgMUo9FPrb98kviTpzkhRrnZhsRq") == "12D3KooWFvcNfdeg"


def drawn(part: Any, capsys: pytest.CaptureFixture[str]) -> list[str]:
    write_result([part])
    return capsys.readouterr().out.splitlines()


def test_tables_show_text_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [["[red]x[/red]", ("\x1b!", "bold red")], [":smile:", "1,234"]]
    assert drawn(table(["NAME", ">SIZE"], rows), capsys) == [
        "NAME           SIZE",
        "[red]x[/red]  \\x1b!",
        ":smile:       1,234",
    ]


def test_facts_are_aligned(capsys: pytest.CaptureFixture[str]) -> None:
    lines = [("id", "1"), ("longer", ("2", "red")), ("more", ["3", "4"])]
    assert drawn(facts(lines), capsys) == ["id      1", "longer  2", "more    3", "        4"]


def test_pipes_get_whole_lines(capsys: pytest.CaptureFixture[str]) -> None:
    assert drawn(styled("x" * 200, ""), capsys) == ["x" * 200]


def test_columns_of_wide_characters_stand_below_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    lines = drawn(table(["NAME", "N"], [["日本", "1"], ["e\u0301", "2"], ["abcd", "3"]]), capsys)
    assert [width_of(line[:-1]) for line in lines] == [6, 6, 6, 6]


@pytest.mark.parametrize("width", [20, 30, 50])
def test_cells_that_do_not_fit_go_on_below(width: int) -> None:
    identity, words = "ab" * 6, "some words that take more room than there is"
    grid = table(["!ID", "TEXT"], [[identity, words], [identity, "x" * 40]])
    lines = list(grid.draw(Screen(width, colour=False)))
    assert all(len(line) <= width for line in lines)
    assert sum(line.startswith(identity) for line in lines) == 2
    rest = " ".join(line[len(identity) :].strip() for line in lines[1:])
    assert rest.replace(" ", "") == (words + "x" * 40).replace(" ", "")


def test_a_table_that_would_break_words_becomes_a_list() -> None:
    heads = ["!ID", "NAME", ">PRICE", "WHERE"]
    rows = [["ab" * 6, "studio", "12 VIBE", "/a/" + "long/" * 8], ["cd" * 6, "disk", "0 VIBE", "-"]]
    wide = list(table(heads, rows).draw(Screen(80, colour=False)))
    assert len(wide) == 3
    # Words stay whole as long as there is room for each; only what is very long is broken.
    narrow = list(table(heads, rows).draw(Screen(58, colour=False)))
    assert narrow[0].split() == ["ID", "NAME", "PRICE", "WHERE"]
    assert "studio" in narrow[1]
    assert max(map(len, narrow)) <= 58
    assert list(table(heads, rows).draw(Screen(30, colour=False))) == [
        "ID     abababababab",
        "NAME   studio",
        "PRICE  12 VIBE",
        "WHERE  /a/long/long/long/long/",
        "       long/long/long/long/",
        "",
        "ID     cdcdcdcdcdcd",
        "NAME   disk",
        "PRICE  0 VIBE",
        "WHERE  -",
    ]


def test_a_terminal_too_narrow_for_ids_gets_them_whole() -> None:
    assert list(table(["!ID"], [["ab" * 6]]).draw(Screen(5, colour=False))) == ["ID", "ab" * 6]


def test_styles_are_for_terminals_that_want_them(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal()
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert Screen.of(screen).colour
    assert list(styled("no", "bold red").draw(Screen.of(screen))) == ["\x1b[1;31mno\x1b[0m"]
    assert list(facts([("a", ("b", "green"))]).draw(Screen.of(screen))) == ["\x1b[2ma\x1b[0m  \x1b[32mb\x1b[0m"]
    monkeypatch.setenv("NO_COLOR", "1")
    assert list(styled("no", "bold red").draw(Screen.of(screen))) == ["no"]
    assert not Screen.of(io.StringIO()).colour


class Clock:
    """Seconds that pass when the test says so."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_the_rate_is_that_of_the_last_seconds() -> None:
    clock = Clock()
    meter = RateMeter(clock)
    assert meter.bytes_per_s() == 0
    assert meter.remaining_s(10) is None
    meter.add(0)
    meter.add(0)
    assert meter.bytes_per_s() == 0
    for step in range(1, 31):
        clock.now += 1
        meter.add(step * 100 if step <= 15 else 1500 + (step - 15) * 1000)
    assert meter.bytes_per_s() == 1000
    assert meter.remaining_s(5000) == 5
    meter.add(3)
    assert meter.bytes_per_s() == 0


def test_texts_of_progress() -> None:
    clock = Clock()
    state = ProgressState("backing up", clock)
    assert (state.phase, state.fraction, state.path, state.savings()) == ("backing up", None, "", "")
    assert state.amounts() == ""
    state.update({"bytes_done": 0, "bytes_total": 4_000_000, "files_done": 1, "files_total": 1200})
    clock.now += 2
    state.update(
        {
            "phase": "sending",
            "bytes_done": 1_000_000,
            "current_path": "a" * 80 + "\x1b",
            "bytes_sent": 10,
            "dedup_saved_bytes": 2000,
            "compression_saved_bytes": 3000,
        }
    )
    assert state.phase == "sending"
    assert state.fraction == 0.25
    assert state.amounts() == "1.00 MB of 4.00 MB, 1 of 1,200 files, 500 KB/s, 6 s left"
    assert state.savings() == "10 B sent, 2.00 KB saved by deduplication, 3.00 KB saved by compression"
    assert state.path.startswith("…aaa")
    assert len(state.path) == 60
    state.update({"bytes_done": 5_000_000})
    assert state.fraction == 1.0
    assert "left" not in state.amounts()


def test_plain_progress_is_a_line_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    display = PlainDisplay("backing up", clock)
    for second in range(12):
        clock.now += 1
        display.update({"phase": "sending" if second else "scanning", "bytes_done": second})
    display.message("provider is full")
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(",")[0] for line in lines] == [
        "sending: 1 B",
        "sending: 6 B",
        "sending: 11 B",
        "provider is full",
    ]


class Terminal(io.StringIO):
    """Standard error of a person."""

    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "100")
    with open_display("restoring", quiet=False) as display:
        assert isinstance(display, LiveDisplay)
        display.message("provider [red] is slow")
        display.update({"bytes_done": 1, "bytes_total": 4, "bytes_sent": 7, "current_path": "docs/[x].txt"})
        display.live.refresh()
    shown = screen.getvalue()
    for text in ("provider [red] is slow", "restoring", "25%", "1 B of 4 B", "7 B sent", "docs/[x].txt"):
        assert text in shown


def test_quiet_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with open_display("restoring", quiet=True) as display:
        display.update({"bytes_done": 1})
        display.message("x")
    assert capsys.readouterr() == ("", "")
