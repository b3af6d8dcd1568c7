
import pytest
from core_stack import raw
from yaml import safe_dump

from orchestrator.errors import MigrateError, UsageError
from orchestrator.facts import DockerFacts, Facts, Gpu, Loaded, Model, OllamaContainer, OllamaFacts
from orchestrator.spec import parse_spec
from orchestrator.workspace import Workspace, stack_name, stacks_dir

FACTS = Facts(
    ollama=OllamaFacts(
        "http://127.0.0.1:11434", "0.32.6",
        models=(
            Model("llama3.1:8b", size=5, capabilities=("completion", "tools"), parameters={"stop": ["a", "b"]},
                  messages=({"role": "user", "content": "hi"},), architecture={"llama.block_count": 32}),
        ),
        loaded=(Loaded("llama3.1:8b", 10, 5, 4096),),
        container=OllamaContainer(
            "ollama", "id", "ollama/ollama", "127.0.0.1", 11434, env={"A": "b"}, volumes=("v:/root/.ollama",),
            networks={"app": ("ollama", "llm")}, gpus=("0",), restart="always",
        ),
    ),
    gpus=(Gpu("0", "GPU-0", "L4", 24, 20, 8.9, 1),),
    docker=DockerFacts("28.0", "2.33"),
)  # fmt: skip


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MIGRATE_STACK", raising=False)
    monkeypatch.delenv("MIGRATE_STACKS", raising=False)


def begin(*names):
    for name in names:
        (stacks_dir() / name / ".state").mkdir(parents=True)
        (stacks_dir() / name / ".state" / "journal.db").touch()


def test_the_folder_of_all_stacks(monkeypatch, tmp_path):
    assert str(stacks_dir()) == "stacks"
    monkeypatch.setenv("MIGRATE_STACKS", str(tmp_path / "elsewhere"))
    assert stacks_dir() == tmp_path / "elsewhere"


def test_the_flag_wins_over_the_environment_and_that_over_the_only_one(monkeypatch):
    begin("only")
    assert stack_name(None) == "only"
    monkeypatch.setenv("MIGRATE_STACK", "from-env")
    assert stack_name(None) == "from-env"
    assert stack_name("flag") == "flag"


@pytest.mark.parametrize("name", ["Bad", "a_b", "../x", "/x", "a" * 40, "-a", "a b", "a\n"])
def test_a_name_that_is_none_is_refused(name, monkeypatch):
    for new in (True, False):
        with pytest.raises(UsageError, match="cannot be the name of a stack"):
            stack_name(name, new=new)
    monkeypatch.setenv("MIGRATE_STACK", name)
    with pytest.raises(UsageError, match="cannot be the name of a stack"):
        stack_name(None)


def test_no_stack_and_several_stacks():
    with pytest.raises(UsageError, match="there is no stack") as caught:
        stack_name(None)
    assert caught.value.hint == "run: migrate plan"
    assert stack_name(None, new=True) == "main"
    begin("a", "b")
    for new in (True, False):
        with pytest.raises(UsageError, match="which stack\\? there are a, b"):
            stack_name(None, new=new)


def test_examples_on_which_nothing_ran_are_not_meant():
    (stacks_dir() / "example").mkdir(parents=True)
    begin("mine")
    assert stack_name(None) == "mine"


def test_the_name_in_the_file_is_the_folders(tmp_path):
    folder = tmp_path / "other"
    folder.mkdir()
    (folder / "migrate.yaml").write_text(safe_dump(raw()))
    with pytest.raises(UsageError, match="name is 'demo', but its folder is 'other'"):
        Workspace(folder).spec()
    folder.rename(tmp_path / "demo")
    assert Workspace(tmp_path / "demo").spec().name == "demo"


def test_no_token_before_the_first_plan(tmp_path):
    with pytest.raises(UsageError, match="no control token") as caught:
        Workspace(tmp_path).token()
    assert caught.value.hint == "run: migrate plan"
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "control.token").write_text("abc\n")
    assert Workspace(tmp_path).token() == "abc"


def test_facts_come_back_as_they_were(tmp_path):
    space = Workspace(tmp_path)
    assert space.facts() is None
    space.save_facts(FACTS)
    assert space.facts() == FACTS
    assert [path.name for path in space.state_dir.iterdir()] == ["facts.json"]


@pytest.mark.parametrize("text", ["", "{", "[]", "5", '{"ollama": 5}', '{"ollama": {"surprise": 1}}', "{}"])
def test_facts_that_cannot_be_read_are_told(tmp_path, text):
    space = Workspace(tmp_path)
    space.state_dir.mkdir()
    (space.state_dir / "facts.json").write_text(text)
    with pytest.raises(MigrateError, match="cannot be read") as caught:
        space.facts()
    assert caught.value.hint == "move it away, then run: migrate plan"


def test_the_deployed_spec_comes_back_as_it_was(tmp_path):
    space = Workspace(tmp_path)
    assert space.deployed() is None
    spec = parse_spec(safe_dump(raw(cutover={"bake": "5m"}, load={"users": [1, 2]})))
    space.keep_deployed(spec)
    assert space.deployed() == spec
    assert [path.name for path in space.state_dir.iterdir()] == ["deployed.yaml"]
    (space.state_dir / "deployed.yaml").write_text("name: [")
    assert space.deployed() is None
