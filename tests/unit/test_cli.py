"""The command line as a user meets it: real processes, what they print, how they end, what they leave behind."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from cli_stage import MODEL, ROOT, migrate, ollama
from core_stack import PROVEN, open_journal

from orchestrator import __version__
from orchestrator.plan.edits import evidence_digest
from orchestrator.spec import load_spec
from orchestrator.state import Event
from orchestrator.workspace import Workspace

COMMANDS = ["plan", "up", "cutover", "rollback", "status", "down", "logs"]
# Answers what `migrate` asks of Docker before it does anything: versions; there are no containers.
FAKE_DOCKER = """#!/bin/sh
case "$*" in
  *"compose version"*) echo 2.33.1 ;;
  *"version --format {{json .Server}}"*) echo '{"Version": "28.0.1", "ApiVersion": "1.48"}' ;;
  *"version --format"*) echo 28.0.1 ;;
  *config*|*" ps"*|ps*) ;;
  *) echo "asked for more: $*" >&2; exit 1 ;;
esac
"""


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def short(done, code):
    """A message with its next step, and nothing that frightens."""
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    assert "error: " in done.stderr
    assert done.stderr.splitlines()[-1].startswith("next:  ")
    assert len(done.stderr.splitlines()) < 12
    return done.stderr


@pytest.fixture(scope="module")
def planned(tmp_path_factory):
    """A stack that was planned on a machine without Docker."""
    folder = tmp_path_factory.mktemp("planned")
    with ollama() as url:
        done = migrate(folder, "plan", "--ollama", url, "--model", MODEL, "--cpu")
    assert done.returncode == 0, done.stderr
    return folder, done


@pytest.fixture
def stack(planned, tmp_path):
    """A copy of it, and a Docker that only tells its version."""
    subprocess.run(["cp", "-r", f"{planned[0]}/stacks", str(tmp_path)], check=True)
    fake = tmp_path / "bin" / "docker"
    fake.parent.mkdir()
    fake.write_text(FAKE_DOCKER)
    fake.chmod(0o755)
    change(tmp_path, gateway={"control_port": free_port()}, ollama={"container": "ollama"})
    return tmp_path


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def change(folder, **sections):
    path = folder / "stacks" / "main" / "migrate.yaml"
    spec = yaml.safe_load(path.read_text())
    for section, keys in sections.items():
        spec[section] |= keys
    path.write_text(yaml.safe_dump(spec, sort_keys=False))


def with_docker(folder, *words, **environment):
    return migrate(folder, *words, PATH=str(folder / "bin"), **environment)


def journal_of(folder):
    of = load_spec(folder / "stacks" / "main" / "migrate.yaml")
    return open_journal(folder / "stacks" / "main" / ".state", of)


# -- help --------------------------------------------------------------------------------------------------


def test_alone_it_says_what_it_is(tmp_path):
    done = migrate(tmp_path)
    assert done.returncode == 2
    said = done.stdout + done.stderr
    for word in ("Examples", "migrate plan", "migrate up", "migrate cutover", "migrate rollback", "Exit codes"):
        assert word in said


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)], ids=["migrate", *COMMANDS])
def test_help_everywhere(tmp_path, command):
    done = migrate(tmp_path, *command, "-h" if len(command) % 2 else "--help")
    assert (done.returncode, done.stderr) == (0, "")
    if command:
        for same in ("--stack", "--file", "--json", "--quiet", "--verbose", "--no-color", "--progress"):
            assert same in done.stdout
    assert files(tmp_path) == []


def test_help_lists_every_exit_code(tmp_path):
    said = " ".join(migrate(tmp_path, "--help").stdout.split())
    for code in ("0 done", "1 failed", "2 usage", "3 a gate", "4 wrong phase", "5 failed, and", "6 changes",
                 "7 inconclusive", "8 rolled back", "130 Ctrl-C", "143 SIGTERM"):  # fmt: skip
        assert code in said


def test_help_loads_nothing_heavy(tmp_path):
    code = (
        "import sys\nfrom orchestrator.cli import app\n"
        "try:\n    app(['--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'httpx', 'pydantic', 'python_on_whales', 'yaml', 'jinja2', 'sqlite3', 'pynvml'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_version(tmp_path):
    done = migrate(tmp_path, "--version")
    assert (done.returncode, done.stdout) == (0, f"migrate {__version__}\n")


def test_an_unknown_command_gets_a_suggestion(tmp_path):
    done = migrate(tmp_path, "cutovr")
    assert done.returncode == 2
    assert "cutover" in done.stderr


# -- bad input ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["up", "cutover", "rollback", "status", "down", "logs"])
def test_without_a_stack(tmp_path, command):
    assert "there is no stack" in short(migrate(tmp_path, command), 2)
    assert files(tmp_path) == []


@pytest.mark.parametrize("name, how", [("Bad_Name", "flag"), ("../elsewhere", "flag"), ("/tmp/x", "environment")])
def test_a_name_that_is_none_is_refused_before_anything_is_looked_at(tmp_path, name, how):
    words, environment = (["--stack", name], {}) if how == "flag" else ([], {"MIGRATE_STACK": name})
    said = short(migrate(tmp_path, "plan", "--ollama", "http://127.0.0.1:1", *words, **environment), 2)
    assert "cannot be the name of a stack" in said
    assert files(tmp_path) == []


@pytest.mark.parametrize("command", ["plan", "up", "cutover", "rollback", "status", "down"])
def test_a_spec_with_three_errors_tells_all_three_and_nothing_is_written(tmp_path, command):
    folder = tmp_path / "stacks" / "main"
    folder.mkdir(parents=True)
    wrong = {"name": "main", "surprise": 1, "gateway": {"port": "many"}, "routes": {MODEL: {"engine": "nobody"}}}
    (folder / "migrate.yaml").write_text(yaml.safe_dump(wrong))
    said = short(migrate(tmp_path, command, "--stack", "main"), 2)
    assert "3 problems" in said
    assert "surprise: unknown key" in said
    assert "gateway/port: should be a valid integer" in said
    assert f"routes/{MODEL}/engine: there is no engine 'nobody'" in said
    assert files(tmp_path) == ["stacks/main/migrate.yaml"]


@pytest.mark.parametrize("content, complaint", [
    (b"name: [", "not valid YAML"), (b"", "should be a mapping"), (b"\xff\xfe\x00", "cannot read"),
])
def test_a_spec_that_cannot_be_read(tmp_path, content, complaint):
    folder = tmp_path / "stacks" / "main"
    folder.mkdir(parents=True)
    (folder / "migrate.yaml").write_bytes(content)
    assert complaint in short(migrate(tmp_path, "plan", "--stack", "main"), 2)
    assert files(tmp_path) == ["stacks/main/migrate.yaml"]


def test_ollama_is_not_running(tmp_path):
    said = short(migrate(tmp_path, "plan", "--ollama", "http://127.0.0.1:1"), 1)
    assert "Ollama does not answer at http://127.0.0.1:1" in said
    assert files(tmp_path) == []


@pytest.mark.parametrize("url", ["localhost:11434", "ftp://x", "http://"])
def test_what_is_no_url(tmp_path, url):
    done = migrate(tmp_path, "plan", "--ollama", url, "--cpu")
    assert done.returncode in (1, 2)
    assert "Traceback" not in done.stderr
    assert "unexpected" not in done.stderr
    assert files(tmp_path) == []


def test_something_else_answers_where_ollama_should(tmp_path):
    with ollama() as url:
        done = migrate(tmp_path, "plan", "--ollama", f"{url}/nothing/here")
    short(done, 1)
    assert "unexpected" not in done.stderr
    assert files(tmp_path) == []


def test_a_model_that_ollama_does_not_have(tmp_path):
    with ollama() as url:
        said = short(migrate(tmp_path, "plan", "--ollama", url, "--model", "nobody:1b"), 2)
    assert "has no model nobody:1b" in said
    assert f"installed: {MODEL}" in said
    assert files(tmp_path) == []


@pytest.mark.parametrize("text", ["engines: 5", "- a", "name: [", "routes: {a: 1}", None, "surprise: 1"])
def test_defaults_of_a_site_that_are_wrong(tmp_path, text):
    if text is not None:
        (tmp_path / "defaults.yaml").write_text(text)
    with ollama() as url:
        environment = {"MIGRATE_DEFAULTS": str(tmp_path / "defaults.yaml")}
        short(migrate(tmp_path, "plan", "--ollama", url, "--cpu", **environment), 2)
    assert [name for name in files(tmp_path) if name != "defaults.yaml"] == []


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "stacks").write_text("a file")
    with ollama() as url:
        said = short(migrate(tmp_path, "plan", "--ollama", url, "--cpu"), 1)
    assert "MIGRATE_STACKS" in said
    assert files(tmp_path) == ["stacks"]


def test_file_and_stack_that_differ(stack):
    assert "different stacks" in short(migrate(stack, "status", "-f", "stacks/main", "--stack", "other"), 2)
    assert "is called migrate.yaml" in short(migrate(stack, "status", "-f", "stacks/main/compose.yaml"), 2)
    for path in ("stacks/main", "stacks/main/migrate.yaml"):
        assert migrate(stack, "status", "-f", path, "--stack", "main").returncode == 0


# -- plan --------------------------------------------------------------------------------------------------


def test_plan_without_docker_writes_the_stack_and_says_what_it_could_not_check(planned):
    folder, done = planned
    assert "Docker is not installed" in done.stderr
    assert "not checked" in done.stderr
    assert "#1 " in done.stdout
    assert "next: run Ollama as a container" in done.stdout
    written = files(folder)
    for name in ("migrate.yaml", "compose.yaml", "gateway/nginx.conf", "secrets/control.token"):
        assert f"stacks/main/{name}" in written
    token = folder / "stacks" / "main" / "secrets" / "control.token"
    assert token.stat().st_mode & 0o077 == 0
    assert token.read_text().strip() not in done.stdout + done.stderr


def test_plan_again_changes_nothing_and_keeps_the_users_file(planned, tmp_path):
    subprocess.run(["cp", "-r", f"{planned[0]}/stacks", str(tmp_path)], check=True)
    spec = tmp_path / "stacks" / "main" / "migrate.yaml"
    spec.write_text(spec.read_text() + "\n# mine\n")
    before = {name: (tmp_path / name).read_bytes() for name in files(tmp_path) if "/.state/" not in name}
    with ollama() as url:
        done = migrate(tmp_path, "plan", "--ollama", url, "--cpu", "--exit-code")
    assert done.returncode == 6
    assert {name: (tmp_path / name).read_bytes() for name in files(tmp_path) if "/.state/" not in name} == before


def test_plan_as_json_is_one_object(tmp_path):
    with ollama() as url:
        done = migrate(tmp_path, "plan", "--ollama", url, "--cpu", "--json", "--stack", "other")
    answer = json.loads(done.stdout)
    assert answer["schema"] == 1
    assert answer["stack"] == "other"
    assert answer["plan"]["steps"][0]["kind"] == "write-files"
    assert [json.loads(line)["schema"] for line in done.stderr.splitlines()]


@pytest.mark.parametrize("words", [["--json"], ["--json", "-q"], ["--json", "--progress", "plain"]])
def test_json_errors_are_one_json_object(tmp_path, words):
    done = migrate(tmp_path, "status", *words)
    assert (done.returncode, done.stdout) == (2, "")
    error = json.loads(done.stderr)
    assert (error["schema"], error["exit_code"], error["hint"]) == (1, 2, "run: migrate plan")


# -- status, and the commands that change something ---------------------------------------------------------


def test_status_of_a_planned_stack(stack):
    done = migrate(stack, "status")
    assert done.returncode == 0
    assert "stack main: planned" in done.stdout
    assert "next: migrate up" in done.stdout
    answer = json.loads(migrate(stack, "status", "--json").stdout)
    assert answer["routes"][0]["state"] == "planned"
    assert answer["gateway"]["reachable"] is False
    assert answer["running"] is None


def test_status_before_anything_ran(tmp_path):
    folder = tmp_path / "stacks" / "main"
    folder.mkdir(parents=True)
    (folder / "migrate.yaml").write_text(yaml.safe_dump({"name": "main"}))
    assert "nothing has run yet" in short(migrate(tmp_path, "status", "--stack", "main"), 4)
    assert files(tmp_path) == ["stacks/main/migrate.yaml"]


def test_status_tells_who_runs_something_and_the_others_are_refused(stack):
    with journal_of(stack).exclusive("cutover"):
        shown = json.loads(migrate(stack, "status", "--json").stdout)["running"]
        assert f"pid {os.getpid()}" in shown
        assert "migrate cutover" in shown
        said = short(with_docker(stack, "up", "--yes"), 4)
        assert f"pid {os.getpid()}" in said


@pytest.mark.parametrize("command", ["up", "down"])
def test_without_docker_nothing_is_begun(stack, command):
    runs = len(journal_of(stack).runs())
    assert "Docker is not installed" in short(migrate(stack, command, "--yes"), 2)
    assert len(journal_of(stack).runs()) == runs


def test_without_compose_nothing_is_begun(stack):
    fake = stack / "bin" / "docker"
    old = "echo \"docker: 'compose' is not a docker command.\" >&2; exit 1"
    fake.write_text(FAKE_DOCKER.replace("echo 2.33.1", old))
    said = with_docker(stack, "up", "--yes")
    assert said.returncode != 0
    assert "Compose v2 is missing" in short(said, said.returncode)


def test_an_ollama_outside_docker_is_not_taken_over(stack):
    change(stack, ollama={"container": None})
    assert "not a container of this Docker Engine" in short(with_docker(stack, "up", "--yes"), 2)
    assert journal_of(stack).entries("intent") == []


def test_up_without_a_terminal_needs_a_yes_before_its_first_step(stack):
    said = short(with_docker(stack, "up"), 2)
    assert "--yes" in said
    assert "take-baseline" in said
    journal = journal_of(stack)
    assert journal.entries("intent") == []
    assert journal.runs()[-1]["code"] == 2
    assert journal.holder() is None


def test_a_dry_run_is_the_plan_and_nothing_else(stack):
    before = files(stack)
    done = with_docker(stack, "up", "--dry-run")
    assert done.returncode == 0
    assert "take-over" in done.stdout
    assert "[touches live traffic]" in done.stdout
    as_json = json.loads(with_docker(stack, "up", "-n", "--json").stdout)
    assert [step["kind"] for step in as_json["steps"] if step["touches_live"]] == ["take-baseline", "take-over"]
    assert journal_of(stack).entries("intent") == []
    assert [name for name in files(stack) if not name.endswith(("-wal", "-shm"))] == before


def test_cutover_of_what_is_not_proven(stack):
    said = short(with_docker(stack, "cutover", "--yes"), 4)
    assert "only once it is proven" in said
    assert "run: migrate up" in said


def test_cutover_of_an_unknown_model(stack):
    assert "is not a route that migrates" in short(with_docker(stack, "cutover", "nobody:1b", "--yes"), 2)


def test_cutover_without_a_terminal_needs_a_yes(stack):
    journal = journal_of(stack)
    for event in PROVEN:
        journal.move("route", MODEL, event)
    journal.move("stack", "main", Event.TOOK_OVER)
    said = short(with_docker(stack, "cutover", "--yes"), 4)
    assert "the evidence of parity" in said
    of = load_spec(stack / "stacks" / "main" / "migrate.yaml")
    for check in ("parity", "load"):
        digest = evidence_digest(of, check, MODEL)
        journal.append("verdict", f"{check} {MODEL}", "pass", {"spec": digest})
    done = with_docker(stack, "cutover")
    assert "--yes" in short(done, 2)
    assert "--yes" in short(with_docker(stack, "rollback", "--restore"), 2)
    assert journal.entries("intent") == []


def test_volumes_are_removed_only_by_name(stack):
    for words in ([], ["--confirm", "other"]):
        said = short(with_docker(stack, "down", "--volumes", "--yes", *words), 2)
        assert "--confirm main" in said
    assert journal_of(stack).entries("intent") == []


@pytest.mark.parametrize("to", ["0", "100.1", "nan", "ten", "33.33"])
def test_weights_that_are_none(stack, to):
    done = with_docker(stack, "cutover", "--to", to, "--yes")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_what_was_never_taken_over_has_nothing_to_roll_back(stack):
    done = with_docker(stack, "rollback", "--yes")
    assert done.returncode == 0
    assert "nothing to roll back" in done.stdout


# -- terminals ---------------------------------------------------------------------------------------------


def test_no_color_in_a_pipe_and_with_no_color(tmp_path):
    for words, environment in (([], {}), ([], {"NO_COLOR": "1", "FORCE_COLOR": "1"}), (["--no-color"], {"FORCE_COLOR": "1"})):
        done = migrate(tmp_path, "status", *words, **environment)
        assert not any(f"\x1b[{code}" in done.stderr for code in ("31", "1;31", "33", "36"))


def test_verbose_adds_the_traceback(tmp_path):
    assert "Traceback" in migrate(tmp_path, "status", "-v").stderr


def test_words_that_no_ascii_terminal_knows_end_no_command(stack):
    done = migrate(stack, "status", LANG="C", LC_ALL="C")
    assert done.returncode == 0
    assert "Traceback" not in done.stderr


def test_a_reader_that_leaves_ends_it_quietly(stack):
    process = subprocess.Popen(
        [sys.executable, "-m", "orchestrator", "status"], cwd=stack, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, env={"PATH": "", "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    process.stdout.close()
    err = process.stderr.read()
    process.stderr.close()
    process.wait()
    assert "Traceback" not in err
    assert "Exception ignored" not in err


def test_ctrl_c_while_looking_ends_with_130(tmp_path):
    """Ollama that accepts and never answers: plan hangs in a read, and Ctrl-C must not print a traceback."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        process = subprocess.Popen(
            [sys.executable, "-m", "orchestrator", "plan", "--ollama", f"http://127.0.0.1:{server.getsockname()[1]}"],
            cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={"PATH": "", "PYTHONPATH": str(ROOT)},
                # A job in the background is started with SIGINT ignored, and its children would be too.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
        )  # fmt: skip
        connection, _ = server.accept()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate()
        connection.close()
    assert process.returncode == 130
    assert "Traceback" not in err
    assert files(tmp_path) == []


def test_the_examples_in_the_help_are_commands_that_exist():
    from orchestrator.cli import HELP

    words = {line.split()[1] for line in HELP.splitlines() if line.strip().startswith("migrate ")}
    assert words <= set(COMMANDS)
    assert Path(ROOT / "orchestrator" / "cli.py").exists()


def seen_elsewhere(folder: Path, name: str) -> Path:
    """Write the facts of a plan case as `migrate facts` would."""
    from decide_cases import ROOT as CASES
    from decide_cases import read
    from plan_cases import facts

    from orchestrator.observe import factsfile

    path = folder / "facts.json"
    path.write_text(factsfile.dumps(facts(read(CASES / "plan" / f"{name}.yaml"))), encoding="utf-8")
    return path


def test_plan_for_another_machine_needs_nothing_of_this_one(tmp_path):
    path = seen_elsewhere(tmp_path, "busy-team-one-24gb")
    done = migrate(tmp_path, "plan", "--facts", str(path), "--checklist", "--notice", "--out", "kept.json")
    assert done.returncode == 0, done.stderr
    for heading in ("Verdict", "What will run where", "How much VRAM each gets", "What changes for my clients",
                    "How long it takes", "How do I go back", "Checklist", "Note to the team"):  # fmt: skip
        assert heading in done.stdout
    assert (tmp_path / "stacks" / "main" / "compose.yaml").exists()
    kept = json.loads((tmp_path / "kept.json").read_text())
    assert kept["models"] == {"llama3.1:8b": "sha256:llama3.1:8b"}
    assert kept["verdict"] == "migrate"


def test_a_verdict_to_stay_writes_nothing_unless_forced(tmp_path):
    path = seen_elsewhere(tmp_path, "one-person-stays")
    done = migrate(tmp_path, "plan", "--facts", str(path))
    assert (done.returncode, "STAY" in done.stdout) == (0, True)
    assert not (tmp_path / "stacks").exists()
    assert "OLLAMA_NUM_PARALLEL" in done.stdout
    forced = migrate(tmp_path, "plan", "--facts", str(path), "--force")
    assert forced.returncode == 0
    assert "--force" in forced.stdout
    assert (tmp_path / "stacks" / "main" / "migrate.yaml").exists()


def test_another_gpu_is_planned_for(tmp_path):
    path = seen_elsewhere(tmp_path, "busy-team-one-24gb")
    done = migrate(tmp_path, "plan", "--facts", str(path), "--gpu", "2x80GiB,cc9.0", "--json")
    answer = json.loads(done.stdout)
    assert [gpu["total"] // 2**30 for gpu in answer["gpus"]] == [80, 80]
    assert answer["verdict"] == "migrate"
    assert answer["engines"]["llama3-1-8b"]["repo"] == "meta-llama/Llama-3.1-8B-Instruct"


@pytest.mark.parametrize(
    "words",
    [("--users", "3", "--watch", "5m"), ("--watch", "soon"), ("--gpu", "large"), ("--facts", "nowhere.json"),
     ("--log", "nowhere.log")],
)  # fmt: skip
def test_flags_of_plan_that_make_no_sense(tmp_path, words):
    path = seen_elsewhere(tmp_path, "busy-team-one-24gb")
    given = words if "--facts" in words else (*words, "--facts", str(path))
    done = migrate(tmp_path, "plan", *given)
    assert done.returncode == 2
    assert "next:" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "stacks").exists()


def test_the_users_own_wrong_flags_are_refused_before_anything_is_written(tmp_path):
    path = seen_elsewhere(tmp_path, "busy-team-one-24gb")
    assert migrate(tmp_path, "plan", "--facts", str(path)).returncode == 0
    spec = tmp_path / "stacks" / "main" / "migrate.yaml"
    spec.write_text(spec.read_text().replace("    max_num_seqs:", "    vllm: {args: ['--swap-space', '4']}\n    max_num_seqs:"))
    done = migrate(tmp_path, "plan", "--facts", str(path))
    assert done.returncode == 2
    assert "engines/llama3-1-8b/vllm" in done.stderr
    assert "--swap-space" in done.stderr


@pytest.mark.parametrize("name", ["busy-team-one-24gb", "one-person-stays"])
def test_every_key_of_the_json_is_documented(tmp_path, name):
    page = (Path(__file__).parents[2] / "docs" / "plan.md").read_text(encoding="utf-8")
    known = {key for row in re.findall(r"^\| (`.*?) \|", page, re.MULTILINE) for key in re.findall(r"`(\w+)`", row)}
    done = migrate(tmp_path, "plan", "--facts", str(seen_elsewhere(tmp_path, name)), "--json")
    answer = json.loads(done.stdout)
    assert answer["schema"] == 1
    assert set(answer) <= known


def test_an_edit_of_what_is_deployed_is_told(tmp_path):
    path = seen_elsewhere(tmp_path, "busy-team-one-24gb")
    migrate(tmp_path, "plan", "--facts", str(path))
    stack = tmp_path / "stacks" / "main"
    Workspace(stack).keep_deployed(load_spec(stack / "migrate.yaml"))
    journal = journal_of(tmp_path)
    journal.move("stack", "main", Event.TOOK_OVER)
    assert "your edit" not in migrate(tmp_path, "plan", "--facts", str(path)).stdout
    spec = stack / "migrate.yaml"
    spec.write_text(spec.read_text().replace("max_num_seqs: 24", "max_num_seqs: 12"))
    said = migrate(tmp_path, "plan", "--facts", str(path)).stdout
    assert "What your edit of the deployed stack does" in said
    assert re.search(r"llama3-1-8b.*max_num_seqs.*24.*12", said)
    assert re.search(r"#\d+ +recreate-engine +llama3-1-8b +vllm-llama3-1-8b is made anew: max_num_seqs 24 -> 12", said)
