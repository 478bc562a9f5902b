"""Exit codes, streams and --json, of the command line as a whole."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import click
import pytest

from appliance.cli.asked import NobodyToAsk, confirm
from appliance.cli.config import Reload
from appliance.cli.main import COMMANDS, PROCESSES, brookbox, main, unneeded
from appliance.cli.prepare import in_child
from appliance.disk.layout import Layout
from appliance.index import database, migrate
from appliance.settings import Settings

CHECKOUT = Path(__file__).resolve().parents[3]


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main(words)
    said = capsys.readouterr()
    return code, said.out, said.err


def home(tmp_path: Path) -> list[str]:
    return ["--home", str(tmp_path)]


def test_done_is_0_failed_is_1_misused_is_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(capsys, *home(tmp_path), "config", "check")[0] == 0
    code, out, err = run(capsys, *home(tmp_path), "jobs", "list")
    assert (code, out) == (1, "")
    assert err.startswith(f"there is no index in {tmp_path / 'data'}\ntry: start the node once")
    assert not (tmp_path / "data").exists(), "a question made a data folder"
    (tmp_path / "data" / "studies").mkdir(parents=True)
    (tmp_path / "data" / "studies" / "1.dcm").write_bytes(b"x")
    code, out, err = run(capsys, *home(tmp_path), "status")
    assert (code, out) == (1, "")
    assert "the index is gone" in err and "brookbox restore BACKUP" in err
    assert "index rebuild" in err and "start the node once" not in err
    assert run(capsys, "nonsense")[0] == 2
    assert run(capsys, "jobs", "show", "not-a-number")[0] == 2
    assert run(capsys, *home(tmp_path), "send", "store", "PACS@host:104")[0] == 2


def test_only_a_person_at_a_terminal_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdin", Terminal("y\nn\n"))
    confirm("Stop it?", yes=False)
    with pytest.raises(click.Abort):
        confirm("Stop it?", yes=False)
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    with pytest.raises(NobodyToAsk, match="--yes"):
        confirm("Stop it?", yes=False)
    confirm("Stop it?", yes=True)


def test_json_may_stand_anywhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (
        ["--json", *home(tmp_path), "config", "show"],
        [*home(tmp_path), "config", "show", "--json"],
    ):
        code, out, _ = run(capsys, *words)
        assert code == 0 and json.loads(out)["receiver"]["port"] == 11113


def test_with_json_whatever_is_answered_is_one_document(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "streams" / "one").mkdir(parents=True)
    (tmp_path / "streams" / "one" / "info.json").write_text("{}")
    for code, *words in (
        (0, "--version"),
        (0, "config", "sample"),
        (0, "config", "sample", "--supervisord"),
        (0, "config", "check"),
        (0, "streams", "list"),
        (1, "streams", "check"),
        (0, "routing", "check"),
        (0, "conformance"),
        (0, "housekeeper-confirm"),
        (0, "quarantine", "list"),
        (1, "index", "migrate-status"),
    ):
        done, out, err = run(capsys, "--json", *home(tmp_path), *words)
        assert (done, err) == (code, ""), words
        assert isinstance(json.loads(out), dict | list), words


def test_with_json_an_error_is_the_one_document(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for code, words, remedy in (
        (1, ["jobs", "list"], "start the node once"),
        (1, ["config", "reload"], "brookbox up"),
        (1, ["--config", str(tmp_path / "none.yaml"), "config", "check"], "name another file"),
        (1, ["streams", "check", "nowhere"], "brookbox streams list"),
        (2, ["nonsense"], "brookbox --help"),
        (2, [], "brookbox --help"),
        (2, ["jobs"], "brookbox jobs --help"),
        (2, ["jobs", "show", "not-a-number"], "brookbox jobs show --help"),
    ):
        done, out, err = run(capsys, *home(tmp_path), *words, "--json")
        answer = json.loads(out)
        assert (done, err, set(answer)) == (code, "", {"error", "remedy"}), words
        assert answer["error"] and remedy in answer["remedy"], words


def test_where_nobody_can_be_asked_that_is_all_that_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Layout(Settings(home=tmp_path).data_root).make()
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    asked = "Make the index again from the files? Nobody can be asked here: say --yes."
    code, out, err = run(capsys, *home(tmp_path), "index", "rebuild")
    assert (code, out) == (2, "") and err.endswith(f"\n{asked}\n") and "Usage" not in err
    code, out, _ = run(capsys, *home(tmp_path), "index", "rebuild", "--json")
    assert (code, json.loads(out)) == (2, {"error": asked, "remedy": "--yes"})


@pytest.mark.parametrize("name", [*COMMANDS, *PROCESSES])
def test_every_command_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, name, "--help")
    assert code == 0 and f"brookbox {name}" in out


@pytest.mark.parametrize("name", COMMANDS)
def test_a_group_names_its_commands_where_the_list_of_commands_does(name: str) -> None:
    context = click.Context(brookbox)
    command = brookbox.get_command(context, name)
    _, _, line = COMMANDS[name]
    if isinstance(command, click.Group):
        assert {verb for verb in command.commands if verb in line} == set(command.commands), line


def test_help_imports_no_command() -> None:
    code = (
        "import sys; from appliance.cli.main import main; main(['--help']);"
        "assert not {'sqlalchemy', 'pydicom', 'flask', 'docker'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=CHECKOUT, capture_output=True)


@pytest.mark.parametrize("name", PROCESSES)
def test_a_process_works_without_what_it_does_not_need(name: str) -> None:
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({sorted(unneeded(name))!r}));"
        f"import {PROCESSES[name][0]};"
        f"assert 'flask' not in sys.modules or {name!r} == 'web'"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=CHECKOUT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_a_process_looks_for_garbage_again_once_it_is_imported(tmp_path: Path) -> None:
    code = (
        "import gc, sys, types; gc.disable(); from appliance.cli.main import main;"
        "service = types.SimpleNamespace(run=lambda settings: int(not gc.isenabled()));"
        "sys.modules['appliance.router.service'] = service;"
        f"sys.exit(main(['--home', {str(tmp_path)!r}, 'router']))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=CHECKOUT)


def test_a_command_looks_for_garbage_again_once_it_is_imported() -> None:
    code = (
        "import gc; gc.disable(); from appliance.cli.main import main;"
        "main(['jobs', '--help']); assert gc.isenabled()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=CHECKOUT, capture_output=True)


@pytest.mark.parametrize("name", PROCESSES)
def test_no_process_imports_alembic_or_the_other_database(name: str) -> None:
    code = (
        f"import sys; import {PROCESSES[name][0]};"
        "heavy = {'alembic', 'mako', 'sqlalchemy.dialects.postgresql'};"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=CHECKOUT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_an_error_says_what_to_try_on_standard_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "brookbox.yaml").write_text("receiver: {prt: 1}\n")
    code, out, err = run(capsys, *home(tmp_path), "config", "check")
    assert (code, out) == (1, "")
    assert "brookbox.yaml:1: receiver.prt is not a setting. Did you mean port?" in err
    assert "\ntry: " in err


def test_a_settings_file_that_is_not_there_is_not_to_be_mended(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = tmp_path / "brokbox.yaml"
    code, out, err = run(capsys, "--config", str(missing), "config", "check")
    assert (code, out) == (1, "")
    assert err.startswith(f"{missing}: there is no such file.\ntry: name another file (--config")


@pytest.mark.parametrize(
    ("words", "meant"),
    [(["stauts"], "status"), (["recever"], "receiver"), (["jobs", "lst"], "list")],
)
def test_a_command_that_is_not_there_may_have_been_meant_otherwise(
    words: list[str], meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = run(capsys, *words)
    assert code == 2 and f"Did you mean '{meant}'?" in err
    code, _, err = run(capsys, "xyz")
    assert code == 2 and "Did you mean" not in err


def test_an_empty_list_says_whether_anything_could_match(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    db = database.connect(Settings(home=tmp_path))
    migrate.migrate(db)
    db.close()
    for words, said in (
        (["jobs", "list"], "There are no jobs yet."),
        (["jobs", "list", "--state", "failed"], "No job matches."),
        (["deliveries", "list"], "There are no deliveries yet."),
        (["deliveries", "list", "--destination", "pacs"], "No delivery matches."),
        (["events"], "There are no events yet."),
        (["events", "--job", "3"], "No event matches."),
    ):
        assert run(capsys, *home(tmp_path), *words) == (0, f"{said}\n", "")


def test_a_stream_is_checked_by_name_or_path_and_beside_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("one", "other"):
        folder = tmp_path / "streams" / name
        folder.mkdir(parents=True)
        (folder / "info.json").write_text('{"AETitle": "ONE", "command": ["x"], "trusted": true}')
    for which in ("one", str(tmp_path / "streams" / "one")):
        code, out, _ = run(capsys, *home(tmp_path), "streams", "check", which)
        assert (code, out) == (1, "wrong one/info.json:1: AETitle ONE is also that of other.\n")
    code, _, err = run(capsys, *home(tmp_path), "streams", "check", "nowhere")
    assert code == 1 and err.startswith("there is no stream nowhere\ntry: ")


def test_what_goes_wrong_in_the_preparing_child_is_printed(
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert not in_child(lambda: print(1 // 0), lambda error: None)
    assert "ZeroDivisionError" in capfd.readouterr().err


@pytest.mark.parametrize("url", ["postgresql+psycopg2://user@host/db", "postgrsql://user@host/db"])
def test_a_database_that_is_not_known_here_is_named(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BROOKBOX_INDEX_URL", url)
    monkeypatch.setitem(sys.modules, "psycopg2", None)
    code, out, err = run(capsys, *home(tmp_path), "status")
    assert (code, out) == (1, "") and "postgresql+psycopg://user@host/database" in err


def test_a_reader_that_has_enough_is_no_failure(tmp_path: Path) -> None:
    line = f"{sys.executable} -m appliance.cli --home {tmp_path} config show | head -n 1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", line], cwd=CHECKOUT, capture_output=True)
    assert done.returncode == 0 and done.stderr == b""


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "--version")
    assert code == 0 and out.strip()[0].isdigit()


def test_a_stream_with_the_ae_title_of_the_node_is_wrong_wherever_it_stands(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in (tmp_path / "streams" / "own", tmp_path / "elsewhere"):
        folder.mkdir(parents=True)
        info = '{"AETitle": "BROOKBOX", "command": ["x"], "trusted": true}'
        (folder / "info.json").write_text(info)
        code, out, _ = run(capsys, *home(tmp_path), "streams", "check", str(folder))
        assert code == 1 and "the AE title of the node itself (node.ae_title)" in out


def test_a_reload_says_when_it_is_in_force() -> None:
    said = list(Reload(("receiver",), ("jobs.max_attempts",), ("receiver.port",)).lines())
    assert said[0] == "In force within a second: jobs.max_attempts."
