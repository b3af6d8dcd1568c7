import pytest
import yaml
from core_stack import MODEL, raw
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import ExitCode, UsageError
from orchestrator.spec import load_spec, parse_spec


def refused(data):
    with pytest.raises(UsageError) as caught:
        parse_spec(data if isinstance(data, str) else yaml.safe_dump(data))
    assert caught.value.exit_code == ExitCode.USAGE
    assert caught.value.hint
    return caught.value


def test_the_smallest_file_is_accepted_and_filled_with_defaults():
    found = parse_spec("name: main")
    assert (found.version, found.accelerator, found.gateway.port) == (1, "nvidia", 11434)
    assert found.migrating() == {}


def test_only_routes_with_an_engine_migrate_in_the_order_of_the_file():
    routes = {"b:1": {"engine": "llama"}, "stay:1": {}, "a:1": {"engine": "llama"}}
    found = parse_spec(yaml.safe_dump(raw(routes=routes), sort_keys=False))
    assert list(found.migrating()) == ["b:1", "a:1"]


def test_every_error_at_once_each_with_its_path():
    data = raw(
        accelerator="nvidia", surprise=1,
        gateway={"port": 70000},
        cutover={"steps": [50, 10]},
        routes={MODEL: {"engine": "nobody"}},
    )
    del data["engines"]["llama"]["repo"]
    error = refused(data)
    assert error.message == "migrate.yaml: 7 problems"
    assert error.evidence.splitlines() == [
        "gateway/port: should be less than or equal to 65535 (is 70000)",
        "engines/llama/repo: is missing",
        "cutover/steps: should rise and end at 100, such as [10, 50, 100]",
        "surprise: unknown key",
        f"routes/{MODEL}/engine: there is no engine 'nobody'",
        "engines/llama: no route uses it",
        "engines/llama/gpus: name at least one GPU, or set accelerator: cpu",
    ]


def test_cross_errors_alone_are_all_told():
    routes = {"foo": {"engine": "llama", "names": ["Bar"]}, "bar:latest": {"engine": "gone"}}
    lines = refused(raw(routes=routes)).evidence.splitlines()
    assert sorted(lines) == [
        "routes/bar:latest/engine: there is no engine 'gone'",
        "routes/foo: the name 'Bar' belongs to 'bar:latest' already",
    ]


def test_one_problem_is_counted_as_one():
    assert refused(raw(nonsense=True)).message == "migrate.yaml: 1 problem"


def test_two_spellings_of_one_model_are_a_conflict():
    error = refused(raw(routes={"Foo": {"engine": "llama"}, "foo:latest": {"engine": "llama"}}))
    assert error.evidence == "routes/foo:latest: the name 'foo:latest' belongs to 'Foo' already"


@pytest.mark.parametrize("gpus, accelerator, complaint", [
    ([], "nvidia", "name at least one GPU"),
    (["0"], "cpu", "accelerator is cpu"),
])
def test_gpus_fit_the_accelerator(gpus, accelerator, complaint):
    data = raw(accelerator=accelerator)
    data["engines"]["llama"]["gpus"] = gpus
    assert complaint in refused(data).evidence


@pytest.mark.parametrize("data", [
    raw(routes={MODEL: {"engine": ["llama"]}}),
    raw(routes={MODEL: {"engine": {"llama": 1}}}),
    raw(routes={MODEL: {"engine": "llama", "names": 5}}),
    raw(routes={MODEL: 5}),
    raw(routes=[MODEL]),
    raw(engines={"llama": "meta"}),
    raw(engines=5),
    raw(routes={5: {"engine": "llama"}}),
    raw(accelerator=["cpu"]),
    {**raw(), 7: "x"},
    raw(name=None),
])  # fmt: skip
def test_wrong_types_are_told_with_their_path(data):
    error = refused(data)
    assert error.evidence
    assert all(": " in line for line in error.evidence.splitlines())


def test_an_engine_that_is_wrong_is_not_also_missing():
    assert "there is no engine" not in refused(raw(engines={"llama": "meta"})).evidence


@pytest.mark.parametrize("text, expected", [
    ("4GiB", 4 * 2**30), ("500 MiB", 500 * 2**20), ("1.5GB", 1_500_000_000), ("2kib", 2048), ("12", 12), ("7B", 7),
    (4096, 4096), ("0", 0),
])
def test_sizes(text, expected):
    data = raw()
    data["engines"]["llama"]["kv_cache"] = text
    assert parse_spec(yaml.safe_dump(data)).engines["llama"].kv_cache == expected


@pytest.mark.parametrize("text", ["4 gigabytes", "GiB", "1.2.3GiB", ".", "-1GiB", "1TiB", "", -1, [1], "1e3", "٣GiB"])
def test_what_is_no_size_is_refused_with_an_example(text):
    data = raw()
    data["engines"]["llama"]["kv_cache"] = text
    line = refused(data).evidence
    assert line.startswith("engines/llama/kv_cache: ")
    if isinstance(text, str) and text != "-1GiB":
        assert "4GiB" in line


@pytest.mark.parametrize("text, expected", [
    ("90s", 90.0), ("5m", 300.0), ("1.5h", 5400.0), ("250ms", 0.25), (30, 30.0), ("0s", 0.0),
])
def test_durations(text, expected):
    assert parse_spec(yaml.safe_dump(raw(cutover={"bake": text}))).cutover.bake == expected


@pytest.mark.parametrize("text", ["90", "5 minutes", "1.2.3s", "-5s", "", -1, "1d", "s", ".s", float("inf"), float("nan")])
def test_what_is_no_duration_is_refused(text):
    assert refused(raw(cutover={"bake": text})).evidence.startswith("cutover/bake: ")


@pytest.mark.parametrize("steps", [[], [10, 50], [50, 10, 100], [10, 10, 100], [0, 100], [10, 101], [-5, 100]])
def test_steps_rise_to_100(steps):
    assert refused(raw(cutover={"steps": steps})).evidence.startswith("cutover/steps")


@pytest.mark.parametrize("name", ["Demo", "a_b", "-a", "a" * 40, "", "a b", "../x", "a\n"])
def test_names_become_services_so_they_are_plain(name):
    assert refused(raw(name=name)).evidence.startswith("name: ")


@pytest.mark.parametrize("text, where", [
    ("name: [", "line 1"),
    ("name: demo\n  port: 5", "line 2, column 7"),
    ("a: b\n\tc: d", "line 2"),
    ("name: \x07", ""),
    ("name: &a [*b]", "line 1"),
    ("name: !!python/object:os.system x", "line 1"),
    ("when: 2024-13-45", ""),
    ("a" * 10 + ": " + "[" * 3000, ""),
    ("name: demo\nname: other", "line 2"),
])
def test_what_is_no_yaml_is_told_with_its_line(text, where):
    error = refused(text)
    assert error.message.startswith("migrate.yaml is not valid YAML")
    assert where in error.message


@pytest.mark.parametrize("text", ["", "# nothing", "- a", "just words", "5", "null"])
def test_what_is_no_mapping_is_refused(text):
    assert "should be a mapping" in refused(text).message


def test_missing_unreadable_and_binary_files(tmp_path):
    with pytest.raises(UsageError, match="there is no stack file") as caught:
        load_spec(tmp_path / "migrate.yaml")
    assert caught.value.hint == "run: migrate plan"
    with pytest.raises(UsageError, match="cannot read"):
        load_spec(tmp_path)
    binary = tmp_path / "b.yaml"
    binary.write_bytes(b"\x80\xff\x00name")
    with pytest.raises(UsageError, match="cannot read"):
        load_spec(binary)


_json = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 70000) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6) | st.integers(), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from(["name", "engines", "routes", "ollama", "gateway", "cutover", "x"]), _json))
def test_nothing_but_a_usage_error_comes_of_a_wrong_file(data):
    try:
        parse_spec(yaml.safe_dump(data))
    except UsageError as error:
        assert error.message  # noqa: PT017 - valid files are fine too


@given(
    st.sampled_from(["engines", "routes"]),
    st.dictionaries(st.sampled_from(["engine", "names", "kind", "gpus", "repo", "kv_cache"]), _json),
)
def test_nothing_but_a_usage_error_comes_of_a_wrong_section(section, inner):
    try:
        parse_spec(yaml.safe_dump(raw(**{section: {"llama": inner}})))
    except UsageError as error:
        assert error.evidence  # noqa: PT017
