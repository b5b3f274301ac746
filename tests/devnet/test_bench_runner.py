"""Tables, bars, plots and the choice of parts."""

import json
import os
import sys
import xml.etree.ElementTree as ElementTree

import pytest

from sovereign_devnet.bench import money, plots, publish, runner, watch
from sovereign_devnet.bench.markdown import render_summary, render_tables
from sovereign_devnet.bench.results import Bar, Part, Settings, Table, percentile, rounded
from sovereign_devnet.errors import DevnetError


def example_part() -> Part:
    table = Table("Speed", ("way", "MB/s", "CPU s/GB"), [["ours", 123.456, 0.98765], ["a | b", None, 7]], "a note")
    bars = [Bar("faster", 2.5, ">=", 2.0), Bar("smaller", 500.0, "<=", 400.0, "MB")]
    return Part([table], bars, {"raw": 1}, ["borg: not on PATH"])


def example_document() -> dict:
    return {
        "machine": {"cpu": "a cpu", "cores": 2, "sha_extensions": True, "python": "3.11", "system": "Linux"},
        "quick": True,
        "rounds": 1,
        "parts": {"example": example_part().as_json() | {"load": [1.0, 2.0], "seconds": 3.0}},
    }


def test_a_bar_is_met_or_missed():
    bars = example_part().as_json()["bars"]
    assert [bar["met"] for bar in bars] == [True, False]
    assert bars[1] == {
        "name": "smaller",
        "value": 500,
        "bar": "<= 400",
        "unit": "MB",
        "met": False,
        "possible": None,
    }


def test_tables_are_markdown():
    part = example_document()["parts"]["example"]
    text = render_tables("example", part)
    assert "| way | MB/s | CPU s/GB |" in text
    assert "| ours | 123 | 0.988 |" in text
    assert "| a \\| b |  | 7 |" in text
    assert "a note" in text
    assert "**missed**" in text
    assert "borg: not on PATH" in text
    assert "Load average 1.0 before, 2.0 after" in text


def test_a_limit_of_the_machine_stands_beside_its_bar():
    bars = [Bar("faster", 1.5, ">=", 2.0, possible=1.75), Bar("smaller", 500.0, "<=", 400.0, "MB")]
    part = Part([], bars).as_json() | {"load": [0.0, 0.0], "seconds": 1.0}
    text = render_tables("example", part)
    assert "| bar | measured | to reach |  | limit of this machine |" in text
    assert "| faster | 1.5 | >= 2 | **missed** | 1.75 |" in text
    assert "| smaller | 500 MB | <= 400 | **missed** |  |" in text
    assert "faster is 1.5, bar >= 2; limit of this machine 1.75" in render_summary({"parts": {"example": part}})


def test_a_part_that_fails_costs_no_other_figures(monkeypatch, capsys, tmp_path):
    def measure(_settings: Settings) -> Part:
        if failing:
            raise RuntimeError("no such server")
        return example_part()

    monkeypatch.setattr(runner, "_measure", lambda name: measure)
    failing = False
    runner.run_benchmarks(["nats"], quick=True, folder=tmp_path, write=tmp_path / "docs")
    failing = True
    document = runner.run_benchmarks(["floors,nats"], quick=True, folder=tmp_path, write=tmp_path / "docs")
    assert [part["failed"] for part in document["parts"].values()] == ["RuntimeError: no such server"] * 2
    assert "failed, floors: RuntimeError: no such server" in capsys.readouterr().out
    kept = json.loads((tmp_path / "docs" / "results.json").read_text())["parts"]
    assert kept["nats"]["tables"]
    assert "**Failed**" in (tmp_path / "docs" / "README.md").read_text()


def test_the_summary_names_what_is_missed():
    text = render_summary(example_document())
    assert text.startswith("1 of 2 bars are met.")
    assert "missed, example: smaller is 500 MB, bar <= 400" in text


@pytest.mark.parametrize(("value", "expected"), [(123.6, 124), (12.34, 12.3), (0.12345, 0.123), (5, 5), ("x", "x")])
def test_small_numbers_keep_digits(value, expected):
    assert rounded(value) == expected


def test_percentiles_are_values_that_were_measured():
    assert percentile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert percentile(list(map(float, range(100))), 0.99) == 99.0


def test_parts_are_chosen_by_name_and_run_in_their_order():
    assert runner.choose_parts([]) == list(runner.PARTS)
    assert runner.choose_parts(["nats,floors", "dht"]) == ["floors", "dht", "nats"]
    with pytest.raises(DevnetError, match="no part 'speed'"):
        runner.choose_parts(["speed"])


def test_every_part_has_a_function():
    for name in runner.PARTS:
        assert callable(runner._measure(name))


def test_a_run_prints_tables_and_returns_figures(monkeypatch, capsys, tmp_path):
    seen: list[Settings] = []

    def measure(settings: Settings) -> Part:
        seen.append(settings)
        assert settings.folder.is_dir()
        return example_part()

    monkeypatch.setattr(runner, "_measure", lambda name: measure)
    written = tmp_path / "docs"
    document = runner.run_benchmarks(["floors"], quick=True, folder=tmp_path, write=written)
    assert seen[0].rounds == 1
    assert not seen[0].folder.exists()
    assert "1 of 2 bars are met." in capsys.readouterr().out
    assert json.loads((written / "results.json").read_text())["parts"].keys() == {"floors"}
    runner.save_json(document, tmp_path / "all.json")
    assert json.loads((tmp_path / "all.json").read_text()) == document


def test_parts_that_were_not_measured_keep_their_last_figures(tmp_path):
    document = example_document()
    publish.publish(document, tmp_path)
    publish.publish({**document, "parts": {"other": document["parts"]["example"]}}, tmp_path)
    page = (tmp_path / "README.md").read_text()
    assert "## example" in page
    assert "## other" in page


def test_plots_are_well_formed():
    rates = {"noise": {"ours <fast>": 100.0, "other": 50.0}, "text": {"ours <fast>": 10.0}}
    root = ElementTree.fromstring(plots.bar_plot("First backup", rates))
    # A background, three bars, and a square for each of the two series.
    assert len(root.findall("{http://www.w3.org/2000/svg}rect")) == 6
    lines = plots.line_plot("Cost", "chunks", {"put": [(1000, 5.0), (100_000, 6.0)], "get": [(1000, 1.0)]})
    root = ElementTree.fromstring(lines)
    assert len(root.findall("{http://www.w3.org/2000/svg}polyline")) == 2
    assert len(root.findall("{http://www.w3.org/2000/svg}circle")) == 3


def test_a_program_is_measured_and_not_this_one():
    ballast = b"x" * 200_000_000
    code = "import sys; sys.stdout.write('done'); x = b'x' * 50_000_000; sum(range(3 * 10**6))"
    seconds, cpu_s, peak_mb, output = watch.run_measured([sys.executable, "-c", code], dict(os.environ))
    assert output == b"done"
    assert seconds > 0
    assert cpu_s > 0
    assert 50 < peak_mb < len(ballast) / 1e6


def test_a_program_that_fails_is_an_error():
    code = "import sys; sys.exit('it broke')"
    with pytest.raises(RuntimeError, match="it broke"):
        watch.run_measured([sys.executable, "-c", code], dict(os.environ))


def test_this_process_is_watched():
    stopwatch = watch.Stopwatch({"me": os.getpid()}, "child").start()
    sum(range(3_000_000))
    sample = stopwatch.stop(sent_bytes=7, child_peak_mb=1.0)
    assert sample.seconds > 0
    assert sample.peak_rss_mb["me"] > 5
    assert sample.all_cpu_s == sum(sample.cpu_s.values())
    assert sample.as_json()["sent_bytes"] == 7
    assert watch.rss_mb(os.getpid()) > 5


def test_the_round_of_money_is_measured(tmp_path):
    settings = Settings(tmp_path, True, False, 1, lambda _text: None)
    found = money.daily_round(settings.folder / "round", 40)
    assert 0 < found["report_s"] < found["round_s"]
    assert found["voucher_cpu_ms"] > found["voucher_floor_ms"] > 0
    assert money.verify_ledger(settings.folder / "ledger", 100)["verify_s"] > 0
    assert money.metering(settings.folder / "metering", 1)["bytes"] == 16 * 1024**2
