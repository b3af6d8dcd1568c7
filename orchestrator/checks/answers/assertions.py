"""What an answer must hold: the assertions of a suite, in promptfoo's words and a few of ours. Pure.

`not-` before a type turns it round. An assertion that cannot be read is an error of the suite, told before anything
is asked; an answer that does not fit never raises.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Sequence
from typing import Any

from orchestrator.checks.answers.jsonschema import fits, schema_error
from orchestrator.checks.answers.record import Reply

Assertion = dict[str, Any]
_NO = ("i can't", "i cannot", "i'm sorry", "i am sorry", "as an ai", "i'm unable", "i won't")
_NUMBER = re.compile(r"[-+]?(?:\d{1,3}(?:[, \u00a0\u202f]\d{3})+(?!\d)|\d+)(?:\.\d+)?")
SCRIPTS = (
    "ARABIC", "CJK", "CYRILLIC", "DEVANAGARI", "GREEK", "HANGUL", "HEBREW", "HIRAGANA", "KATAKANA", "LATIN", "THAI",
)  # fmt: skip
IGNORED = {
    "cost": "an engine of one's own has no price per call",
    "latency": "the load test measures it, with its spread",
    "perplexity": "Ollama gives no log-probabilities to compare",
    "perplexity-score": "Ollama gives no log-probabilities to compare",
}
_JUDGE = "another model would be the judge, and its verdict cannot be recomputed"
_CODE = "code of a suite is not run here"
REFUSED = {
    **dict.fromkeys(
        ("llm-rubric", "model-graded-closedqa", "model-graded-factuality", "factuality", "g-eval", "answer-relevance",
         "context-recall", "context-relevance", "context-faithfulness", "conversation-relevance", "select-best", "pi",
         "moderation", "classifier", "similar", "search-rubric", "max-score", "trajectory:goal-success"), _JUDGE,
    ),
    **dict.fromkeys(("javascript", "python", "ruby", "webhook"), _CODE),
    **dict.fromkeys(("rouge-n", "bleu", "gleu", "meteor", "levenshtein"),
                    "likeness of texts is shown for every prompt, and judged only by parity.similarity"),
}  # fmt: skip


def holds(assertion: Assertion, reply: Reply, at: int = 0) -> bool:
    """Whether an answer satisfies an assertion; `at` is its place in the case, under which its code was run."""
    kind = str(assertion["type"])
    name = kind.removeprefix("not-")
    if reply.status != 200 or reply.ending != "complete":
        return False
    if name == "code":
        found = bool(reply.ran.get(str(at), {}).get("ok"))
    else:
        found = CHECKS[name](assertion.get("value"), reply)
    return found != kind.startswith("not-")


def problem(assertion: Any) -> str:
    """Return why an assertion cannot be used, empty when it can."""
    if not isinstance(assertion, dict) or not isinstance(assertion.get("type"), str):
        return "should be {type: ..., value: ...}"
    name = assertion["type"].removeprefix("not-")
    if "transform" in assertion:
        return f"{assertion['type']}: transform is not taken: {_CODE}"
    if name in REFUSED:
        return f"{assertion['type']} is not taken: {REFUSED[name]}"
    if name in IGNORED:
        return ""
    if name not in CHECKS and name != "code":
        return f"no such assertion: {assertion['type']}; there are {', '.join(sorted([*CHECKS, 'code']))}"
    return _value_problem(name, assertion.get("value"))


def _value_problem(name: str, value: Any) -> str:
    if name in _NEEDS and not isinstance(value, _NEEDS[name]):
        return f"{name}: value should be {_words(_NEEDS[name])}"
    if isinstance(value, list) and name in _LISTS and not (value and all(isinstance(one, _SCALAR) for one in value)):
        return f"{name}: value should list texts"
    if name == "regex":
        try:
            re.compile(value)
        except re.error as error:
            return f"regex: {error}"
    if name in ("is-json", "contains-json") and value is not None:
        return schema_error(value)
    if name == "script" and str(value).upper() not in SCRIPTS:
        return f"script: value should be one of {', '.join(one.lower() for one in SCRIPTS)}"
    if name == "tool-call" and not (
        isinstance(value.get("name"), str) and isinstance(value.get("arguments") or {}, dict)
    ):
        return "tool-call: value should be {name: ..., arguments: {...}}"
    if name == "word-count" and isinstance(value, dict) and not all(type(one) is int for one in value.values()):
        return "word-count: value should be a number, or {min: ..., max: ...}"
    if name == "code" and not isinstance(value.get("test"), str):
        return "code: value needs a test"
    return ""


def _words(kinds: tuple[type, ...]) -> str:
    names = {str: "a text", list: "a list", dict: "an object", int: "a number", float: "a number"}
    return " or ".join(dict.fromkeys(names[kind] for kind in kinds))


def without_fences(text: str) -> str:
    """Return what stands in the first fenced block, or all of the text."""
    found = re.search(r"```[\w+-]*[ \t]*\n(.*?)(?:```|\Z)", text, re.DOTALL)
    return found[1] if found else text


def _folded(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()


def _list(value: Any) -> list[str]:
    """Return the texts of a list, or those between commas, as promptfoo takes them."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",")]
    return [str(one) for one in value]


def _contains_json(value: Any, reply: Reply) -> bool:
    decoder = json.JSONDecoder()
    for found in re.finditer(r"[{\[]", reply.text):
        try:
            document, _ = decoder.raw_decode(reply.text, found.start())
        except (ValueError, RecursionError):
            continue
        if value is None or fits(document, value):
            return True
    return False


def _is_json(value: Any, reply: Reply) -> bool:
    try:
        document = json.loads(reply.text.strip())
    except (ValueError, RecursionError):
        return False
    return value is None or fits(document, value)


def _equals(value: Any, reply: Reply) -> bool:
    if isinstance(value, dict | list):
        try:
            return bool(json.loads(reply.text) == value)
        except (ValueError, RecursionError):
            return False
    return reply.text.strip() == str(value).strip()


def _number(value: Any, reply: Reply) -> bool:
    """The last number of the answer; blanks and commas between thousands do not matter."""
    found = [re.sub(r"[^\d.+-]", "", one) for one in _NUMBER.findall(reply.text)]
    return bool(found) and float(found[-1]) == float(value)


def _script(value: Any, reply: Reply) -> bool:
    """Most of the letters belong to a script."""
    letters = [unicodedata.name(one, "") for one in reply.text if one.isalpha()]
    wanted = str(value).upper()
    return bool(letters) and sum(name.startswith(wanted) for name in letters) * 2 > len(letters)


def _tool_call(value: Any, reply: Reply) -> bool:
    """A call of this function with at least these arguments."""
    wanted = value.get("arguments") or {}
    return any(
        call.get("name") == value["name"]
        and isinstance(given := _arguments(call), dict)
        and all(key in given and _same(given[key], want) for key, want in wanted.items())
        for call in reply.tool_calls
    )


def _valid_calls(_: Any, reply: Reply) -> bool:
    return bool(reply.tool_calls) and all(
        isinstance(call.get("name"), str) and isinstance(_arguments(call), dict) for call in reply.tool_calls
    )


def _arguments(call: dict[str, Any]) -> Any:
    given = call.get("arguments")
    try:
        return json.loads(given) if isinstance(given, str) else given
    except (ValueError, RecursionError):
        return None


def _same(given: Any, want: Any) -> bool:
    if isinstance(want, str):
        return _folded(want) in _folded(str(given))
    return bool(given == want)


def _finish(value: Any, reply: Reply) -> bool:
    return reply.finish_reason in ([value] if isinstance(value, str) else value)


def _refusal(_: Any, reply: Reply) -> bool:
    said = _folded(reply.text[:200]).replace("\u2019", "'")
    return not said.strip() or any(words in said for words in _NO)


CHECKS: dict[str, Callable[[Any, Reply], bool]] = {
    "equals": _equals,
    "contains": lambda value, reply: str(value) in reply.text,
    "icontains": lambda value, reply: _folded(str(value)) in _folded(reply.text),
    "contains-all": lambda value, reply: all(one in reply.text for one in _list(value)),
    "contains-any": lambda value, reply: any(one in reply.text for one in _list(value)),
    "icontains-all": lambda value, reply: all(_folded(one) in _folded(reply.text) for one in _list(value)),
    "icontains-any": lambda value, reply: any(_folded(one) in _folded(reply.text) for one in _list(value)),
    "starts-with": lambda value, reply: reply.text.lstrip().startswith(str(value)),
    "ends-with": lambda value, reply: reply.text.rstrip().endswith(str(value)),
    "regex": lambda value, reply: re.search(value, reply.text) is not None,
    "is-json": _is_json,
    "contains-json": _contains_json,
    "is-valid-openai-tools-call": _valid_calls,
    "is-valid-openai-function-call": _valid_calls,
    "is-refusal": _refusal,
    "finish-reason": _finish,
    "number": _number,
    "script": _script,
    "tool-call": _tool_call,
    "word-count": lambda value, reply: _counted(value, len(reply.text.split())),
}
_SCALAR = (str, int, float)
_LISTS = ("contains-all", "contains-any", "icontains-all", "icontains-any", "finish-reason")
_NEEDS: dict[str, tuple[type, ...]] = {
    "equals": (str, int, float, dict, list),
    **dict.fromkeys(("contains", "icontains", "starts-with", "ends-with"), _SCALAR),
    **dict.fromkeys(_LISTS, (str, list)),
    "regex": (str,), "number": (int, float), "script": (str,), "tool-call": (dict,), "code": (dict,),
    "word-count": (int, dict),
}  # fmt: skip


def _counted(value: Any, count: int) -> bool:
    if isinstance(value, dict):
        return bool(value.get("min", 0) <= count <= value.get("max", count))
    return bool(count == value)


def checkable(assertions: Sequence[Assertion]) -> list[tuple[int, Assertion]]:
    """Return the assertions that are judged, each with its place."""
    return [(at, one) for at, one in enumerate(assertions) if one["type"].removeprefix("not-") not in IGNORED]
