"""Passphrases and kits: where they may come from, and what is said when they do not come."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import pytest

from sovereign_crypto.recovery import KitHints, RecoveryKit, render_kit_file
from sovereign_node.cli.kit import KitFile, ask_again, in_lines, parse_kit, qr_text, read_kit_text, show_kit
from sovereign_node.cli.passphrase import read_passphrase
from sovereign_node.errors import ExitCode, NodeError


class Terminal(io.StringIO):
    """Standard input as a person types it."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.touch(0o600)
    return path


def refused(*arguments: Any, new: bool = False) -> NodeError:
    with pytest.raises(NodeError) as raised:
        read_passphrase(*arguments, new=new, purpose="Passphrase")
    return raised.value


@pytest.mark.parametrize(
    ("content", "passphrase"),
    [
        (b"correct horse\n", "correct horse"),
        (b"correct horse", "correct horse"),
        (b" \tspaces stay \n", " \tspaces stay "),
        (b"one\r\ntwo\n", "one"),
        ("gr\u00fcn\n".encode(), "gr\u00fcn"),
    ],
)
def test_the_first_line_of_a_file(secret: Path, content: bytes, passphrase: str) -> None:
    secret.write_bytes(content)
    assert read_passphrase(secret, None, new=True, purpose="x") == passphrase


@pytest.mark.parametrize("content", [b"", b"\n", b"\nsecond", b"\xff\xfe\n", b"x" * 5000])
def test_files_without_a_usable_passphrase(secret: Path, content: bytes) -> None:
    secret.write_bytes(content)
    error = refused(secret, None)
    assert error.exit_code == ExitCode.USAGE
    assert "xxx" not in error.message


def test_a_missing_file(tmp_path: Path) -> None:
    assert "cannot be read: No such file" in refused(tmp_path / "nowhere", None).message


def test_a_file_that_others_can_read_is_used_with_a_note(secret: Path, capsys: Any) -> None:
    secret.write_text("word\n")
    secret.chmod(0o644)
    assert read_passphrase(secret, None, new=False, purpose="x") == "word"
    assert "chmod 600" in capsys.readouterr().err


def test_a_command_runs_without_a_shell() -> None:
    assert read_passphrase(None, "echo 'two  words' $HOME ; ls", new=False, purpose="x") == "two  words $HOME ; ls"


@pytest.mark.parametrize(
    ("command", "message", "code"),
    [
        ("", "is empty", ExitCode.USAGE),
        ("echo 'open", "is not a command", ExitCode.USAGE),
        ("/no/such/program", "cannot be run", ExitCode.USAGE),
        ("false", "ended with exit code 1", ExitCode.CANNOT_UNLOCK),
        ("true", "that true printed is empty", ExitCode.USAGE),
    ],
)
def test_commands_that_give_nothing(command: str, message: str, code: ExitCode) -> None:
    error = refused(None, command)
    assert message in error.message
    assert error.exit_code == code


def test_only_one_source(secret: Path) -> None:
    assert "only one of" in refused(secret, "echo x").message


def test_without_a_terminal_a_source_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("typed\n"))
    error = refused(None, None)
    assert error.code == "passphrase_needed"
    assert "--passphrase-file" in error.hint


def answers(monkeypatch: pytest.MonkeyPatch, *typed: str) -> list[str]:
    remaining = list(typed)
    prompts: list[str] = []

    def getpass(prompt: str) -> str:
        prompts.append(prompt)
        return remaining.pop(0)

    monkeypatch.setattr("getpass.getpass", getpass)
    monkeypatch.setattr(sys, "stdin", Terminal())
    return prompts


def test_a_new_passphrase_is_asked_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    prompts = answers(monkeypatch, "word", "word")
    assert read_passphrase(None, None, new=True, purpose="New passphrase") == "word"
    assert prompts == ["New passphrase: ", "The same once more: "]
    answers(monkeypatch, "word", "ward")
    assert refused(None, None, new=True).message == "the two passphrases differ"


def test_a_known_passphrase_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    prompts = answers(monkeypatch, "word")
    assert read_passphrase(None, None, new=False, purpose="Passphrase") == "word"
    assert len(prompts) == 1
    answers(monkeypatch, "")
    assert refused(None, None).message == "the passphrase is empty"


def test_the_environment_is_ignored_aloud(secret: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setenv("SOVEREIGN_PASSPHRASE", "hunter2")
    secret.write_text("word\n")
    assert read_passphrase(secret, None, new=False, purpose="x") == "word"
    message = capsys.readouterr().err
    assert "SOVEREIGN_PASSPHRASE is ignored" in message
    assert "hunter2" not in message


KIT = RecoveryKit(bytes(range(32)))


def test_a_kit_file_is_private_and_never_replaces_another(tmp_path: Path) -> None:
    path = tmp_path / "kit.txt"
    file = KitFile(path)
    file.write("the kit\n")
    assert path.read_text() == "the kit\n"
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(NodeError, match="exists already"):
        KitFile(path)
    with pytest.raises(NodeError, match="cannot be written"):
        KitFile(tmp_path / "missing" / "kit.txt")


def test_a_kit_file_is_discarded_without_identity(tmp_path: Path) -> None:
    file = KitFile(tmp_path / "kit.txt")
    file.discard()
    assert not file.path.exists()


def test_a_kit_is_shown_in_lines_with_a_qr_code_on_standard_error(capsys: Any) -> None:
    show_kit(KIT.to_groups(), "SOVEREIGN:X", with_qr=True)
    shown = capsys.readouterr()
    assert shown.out == ""
    groups = KIT.to_groups().split()
    assert "  ".join(groups[:5]) in shown.err
    assert qr_text("SOVEREIGN:X") in shown.err
    show_kit(KIT.to_groups(), "SOVEREIGN:X", with_qr=False)
    assert "\u2580" not in capsys.readouterr().err


def test_a_kit_read_from_a_file_or_from_its_groups(tmp_path: Path) -> None:
    path = tmp_path / "kit.txt"
    path.touch(0o600)
    path.write_text(render_kit_file(KIT, KitHints("ann", bytes(32), ("/ip4/10.0.0.1/tcp/1",))))
    kit, hints = parse_kit(read_kit_text(path))
    assert kit.secret == KIT.secret
    assert hints.bootstrap == ("/ip4/10.0.0.1/tcp/1",)
    assert parse_kit(in_lines(KIT.to_groups()).lower())[0].secret == KIT.secret


@pytest.mark.parametrize("content", ["", " \n"])
def test_an_empty_kit_file(tmp_path: Path, content: str) -> None:
    path = tmp_path / "kit.txt"
    path.touch(0o600)
    path.write_text(content)
    with pytest.raises(NodeError, match="no recovery kit in it"):
        read_kit_text(path)


def test_a_kit_needs_a_file_or_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    with pytest.raises(NodeError, match="a recovery kit is needed"):
        read_kit_text(None)


def test_a_typed_kit_may_span_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal(in_lines(KIT.to_groups()) + "\n\nrest"))
    assert parse_kit(read_kit_text(None))[0].secret == KIT.secret


def test_a_mistyped_kit_does_not_unlock() -> None:
    with pytest.raises(NodeError) as raised:
        parse_kit("ABCDE " * 15)
    assert raised.value.exit_code == ExitCode.CANNOT_UNLOCK
    assert KIT.to_groups()[:5] not in raised.value.message


def test_the_kit_is_asked_until_it_is_right_or_skipped(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    other = RecoveryKit(bytes(32)).to_groups()
    typed = f"nonsense\n\n{other}\n\n{KIT.to_groups()}\n\n"
    monkeypatch.setattr(sys, "stdin", Terminal(typed))
    assert ask_again(KIT)
    assert "This is another kit." in capsys.readouterr().err
    monkeypatch.setattr(sys, "stdin", Terminal("\n"))
    assert not ask_again(KIT)


@pytest.mark.parametrize(("confirmed", "code"), [(True, 0), (False, 6)])
def test_kit_confirm_asks_the_node(node: Any, cli: Any, tmp_path: Path, confirmed: bool, code: int) -> None:
    path = tmp_path / "kit.txt"
    path.touch(0o600)
    path.write_text(render_kit_file(KIT))
    node.answers["kit_confirm"] = {"confirmed": confirmed}
    outcome = cli("kit", "confirm", "--kit-file", str(path), "--json")
    assert node.calls == [("kit_confirm", {"kit": KIT.to_groups()})]
    assert outcome.code == code
    assert KIT.to_groups()[:11] not in outcome.out + outcome.err
