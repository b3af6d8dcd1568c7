"""What the server refuses, in its words: the shape of a request first, then its values."""

from __future__ import annotations

import json
from typing import Any

from orchestrator.standin import grammar, text
from orchestrator.standin.vllm.flags import Options
from orchestrator.standin.vllm.startlog import describe

Json = dict[str, Any]
CHARS_PER_TOKEN = 14  # no token of the pretended vocabulary is longer
MAX_LOGPROBS = 20


class Refusal(Exception):
    """An error answer."""

    def __init__(
        self, message: str, *, kind: str = "BadRequestError", param: str | None = None, status: int = 400
    ) -> None:
        super().__init__(message)
        self.message = message
        self.kind = kind
        self.param = param
        self.status = status

    @property
    def body(self) -> Json:
        error = {"message": self.message, "type": self.kind, "param": self.param, "code": self.status}
        return {"error": error}


def bad(message: str, param: str, value: Any = None) -> Refusal:
    """Return a refusal of one parameter."""
    shown = "" if value is None else f", value={value}"
    return Refusal(f"{message} (parameter={param}{shown})", param=param)


# Field, the words for a wrong type, and the JSON types that are right.
_INT = ("int_type", "Input should be a valid integer", (int,))
_FLOAT = ("float_type", "Input should be a valid number", (int, float))
_STR = ("string_type", "Input should be a valid string", (str,))
_BOOL = ("bool_type", "Input should be a valid boolean", (bool,))
_LIST = ("list_type", "Input should be a valid list", (list,))
_DICT = (
    "model_attributes_type",
    "Input should be a valid dictionary or object to extract fields from",
    (dict,),
)
_TEXTS = ("string_type", "Input should be a valid string", (str, list))
Rule = tuple[str, str, tuple[type, ...]]
COMMON: dict[str, Rule] = {
    "model": _STR, "max_tokens": _INT, "seed": _INT, "n": _INT, "stream": _BOOL, "temperature": _FLOAT,
    "top_p": _FLOAT, "top_k": _INT, "min_p": _FLOAT, "presence_penalty": _FLOAT, "frequency_penalty": _FLOAT,
    "repetition_penalty": _FLOAT, "ignore_eos": _BOOL, "min_tokens": _INT, "truncate_prompt_tokens": _INT,
    "response_format": _DICT, "structured_outputs": _DICT, "stream_options": _DICT, "chat_template_kwargs": _DICT,
    "top_logprobs": _INT,
}  # fmt: skip
_CHAT: dict[str, Rule] = {"messages": _LIST, **COMMON, "max_completion_tokens": _INT, "tools": _LIST, "logprobs": _BOOL}
_RESPONSES: dict[str, Rule] = {**COMMON, "input": _TEXTS, "max_output_tokens": _INT, "text": _DICT}
_MESSAGES: dict[str, Rule] = {**COMMON, "messages": _LIST, "stop_sequences": _LIST, "system": _TEXTS}
SHAPES: dict[str, tuple[dict[str, Rule], tuple[str, ...]]] = {
    "chat": (_CHAT, ("messages",)),
    "completion": ({**COMMON, "prompt": _TEXTS, "logprobs": _INT}, ()),
    "embedding": ({"model": _STR, "dimensions": _INT, "input": _TEXTS}, ("input",)),
    "messages": (_MESSAGES, ("model", "messages", "max_tokens")),
    "count": (_MESSAGES, ("model", "messages")),
    "responses": (_RESPONSES, ("input",)),
    "tokenize": ({"model": _STR, "messages": _LIST}, ()),
    "detokenize": ({"model": _STR, "tokens": _LIST}, ("tokens",)),
    "scoring": ({}, ("query", "items", "label_token_ids")),
}


def problem(kind: str, place: str, words: str, value: Any, context: Json | None = None) -> Json:
    found: Json = {"type": kind, "loc": place, "msg": words, "input": describe(value)}
    return {**found, "ctx": context} if context else found


def invalid(problems: list[Json]) -> Refusal:
    """Return the refusal of a request whose shape is wrong."""
    number = len(problems)
    lines = "".join(f"\n  {p}" for p in problems)
    head = f"{number} validation error{'s' if number > 1 else ''}:"
    return Refusal(head + lines, kind="Bad Request", param=problems[0]["loc"])


def decode(body: bytes, content_type: str, shape: str) -> Json:
    """Return the request's object, or refuse its media type, its JSON or its shape."""
    if content_type.split(";", maxsplit=1)[0].strip().lower() != "application/json":
        text_ = "1 validation error:\n  Unsupported Media Type: Only 'application/json' is allowed"
        raise Refusal(text_, kind="Bad Request")
    if not body:
        raise invalid([{"type": "missing", "loc": "body", "msg": "Field required", "input": None}])
    try:
        value = json.loads(body)
    except json.JSONDecodeError as error:
        place = f"body.{error.pos}"
        raise invalid([problem("json_invalid", place, "JSON decode error", {}, {"error": error.msg})]) from error
    if not isinstance(value, dict):
        words = "Input should be a valid dictionary or object to extract fields from"
        raise invalid([problem("model_attributes_type", "body", words, value)])
    problems = list(_problems(value, shape))
    if problems:
        raise invalid(problems)
    return value


def _problems(value: Json, shape: str) -> Any:
    rules, required = SHAPES[shape]
    for name in required:
        if name not in value:
            yield problem("missing", f"body.{name}", "Field required", value)
    for name, (kind, words, types) in rules.items():
        given = value.get(name)
        if given is None and (name not in required or name not in value):
            continue
        right = isinstance(given, types) and (bool in types or not isinstance(given, bool))
        if not right:
            yield _misfit(name, kind, words, types, given)
    yield from _stop_problems(value.get("stop"))
    for name in ("messages", "tools"):
        items = value[name] if name in rules and isinstance(value.get(name), list) else []
        for i, item in enumerate(items):
            if not isinstance(item, dict):
                yield problem("dict_type", f"body.{name}.{i}", "Input should be a valid dictionary", item)


def _misfit(name: str, kind: str, words: str, types: tuple[type, ...], given: Any) -> Json:
    if isinstance(given, str) and types in {(int,), (int, float)}:
        unit = "integer" if types == (int,) else "number"
        end = f"unable to parse string as {'an' if unit == 'integer' else 'a'} {unit}"
        parse = {"integer": "int_parsing", "number": "float_parsing"}[unit]
        return problem(parse, f"body.{name}", f"{words}, {end}", given)
    if isinstance(given, float) and types == (int,):
        words = "Input should be a valid integer, got a number with a fractional part"
        return problem("int_from_float", f"body.{name}", words, given)
    return problem(kind, f"body.{name}", words, given)


def _stop_problems(stop: Any) -> Any:
    if stop is None or isinstance(stop, str):
        return
    if not isinstance(stop, list):
        yield problem("string_type", "body.stop", "Input should be a valid string", stop)
        yield problem("list_type", "body.stop", "Input should be a valid list", stop)
    elif any(not isinstance(s, str) for s in stop):
        yield problem("string_type", "body.stop", "Input should be a valid string", stop)
        for i, item in enumerate(stop):
            if not isinstance(item, str):
                yield problem("string_type", f"body.stop.{i}", "Input should be a valid string", item)
    elif len(stop) > 4:
        words = f"List should have at most 4 items after validation, not {len(stop)}"
        context = {"field_type": "List", "max_length": 4, "actual_length": len(stop)}
        yield problem("string_type", "body.stop", "Input should be a valid string", stop)
        yield problem("too_long", "body.stop", words, stop, context)


def model(options: Options, value: Json, *, aliases: bool = True) -> None:
    """Refuse a model that is not served; none or an empty one is the served one."""
    asked = value.get("model")
    if not asked or options.any_name or asked in (*options.names, *options.modules):
        return
    known = f" Valid aliases: {', '.join(options.names)}." if aliases else ""
    text_ = f"The model `{asked}` does not exist.{known}"
    raise Refusal(text_, kind="NotFoundError", param="model", status=404)


def sampling(value: Json) -> None:
    """Refuse sampling parameters out of range."""
    if value.get("stream_options") and not value.get("stream"):
        raise bad("Stream options can only be defined when `stream=True`.", "stream_options")
    temperature = float(value.get("temperature") or 0)
    if temperature < 0:
        raise bad(f"temperature must be non-negative, got {temperature}.", "temperature", temperature)
    if temperature > 2:
        raise bad(f"temperature must be in [0, 2], got {temperature}.", "temperature", temperature)
    top_p = float(1 if value.get("top_p") is None else value["top_p"])
    if not 0 < top_p <= 1:
        raise bad(f"top_p must be in (0, 1], got {top_p}.", "top_p", top_p)
    top_k = value.get("top_k") or 0
    if top_k < -1:
        raise Refusal(f"top_k must be 0 (disable), or at least 1, got {top_k}.")
    min_p = float(value.get("min_p") or 0)
    if not 0 <= min_p <= 1:
        raise Refusal(f"min_p must be in [0, 1], got {min_p}.")
    for name in ("presence_penalty", "frequency_penalty"):
        penalty = float(value.get(name) or 0)
        if not -2 <= penalty <= 2:
            raise Refusal(f"{name} must be in [-2, 2], got {penalty}.")
    repetition = value.get("repetition_penalty")
    if repetition is not None and repetition <= 0:
        raise Refusal(f"repetition_penalty must be greater than zero, got {float(repetition)}.")
    if (value.get("n") or 1) < 1:
        raise Refusal(f"n must be at least 1, got {value['n']}.")
    if (value.get("n") or 1) > 1 and value.get("temperature") == 0:
        raise Refusal(f"n must be 1 when using greedy sampling, got {value['n']}.")


def logprobs(value: Json) -> None:
    top = value.get("top_logprobs") or 0
    if top and not value.get("logprobs"):
        raise bad("when using `top_logprobs`, `logprobs` must be set to true.", "top_logprobs")
    asked = value["logprobs"] if isinstance(value.get("logprobs"), int) else 0
    number = top or (0 if isinstance(value.get("logprobs"), bool) else asked)
    if number > MAX_LOGPROBS:
        words = f"Requested sample logprobs of {number}, which is greater than max allowed: {MAX_LOGPROBS}"
        raise bad(words, "logprobs", number)


def limit(value: Json, prompt: str, count: int, longest: int, default: int | None) -> tuple[int, int]:
    """Return the prompt's tokens and the most tokens to generate, or refuse what does not fit the context."""
    cut = value.get("truncate_prompt_tokens")
    asked = value.get("max_completion_tokens")
    asked = value.get("max_tokens") if asked is None else asked
    if asked is not None and asked < 1:
        raise bad(f"max_tokens must be at least 1, got {asked}.", "max_tokens", asked)
    if asked is not None and asked > longest:
        words = (
            f"max_tokens={asked} cannot be greater than max_model_len={longest}. Please request fewer output tokens."
        )
        raise bad(words, "max_tokens", asked)
    if cut is not None:
        count = min(count, cut if cut >= 0 else longest - 1)
    else:
        length(prompt, count, longest)
    left = longest - count
    if left < 1:
        raise bad(f"max_tokens must be at least 1, got {left}.", "max_tokens", left)
    wanted = default if asked is None else asked
    most = left if wanted is None else min(wanted, left)
    least = value.get("min_tokens") or 0
    if least > most:
        raise Refusal(f"min_tokens must be less than or equal to max_tokens={most}, got {least}.")
    return count, most


def length(prompt: str, count: int, longest: int) -> None:
    """Refuse a prompt that is longer than the context."""
    begin = f"This model's maximum context length is {longest} tokens. However, your prompt contains"
    end = "Please reduce the length of the input prompt."
    bound = CHARS_PER_TOKEN * longest
    if len(prompt) > bound:
        words = (
            f"{begin} {len(prompt)} characters (more than {bound} characters, which is the upper bound for {longest} "
        )
        raise bad(f"{words}input tokens). {end}", "input_text", len(prompt))
    if count > longest:
        least = longest + 1
        words = f"{begin} at least {least} input tokens, which exceeds this limit even without any output tokens. {end}"
        raise bad(words, "input_tokens", least)


def constraint(value: Json, seed_text: str) -> str | None:
    """Return the text that a response format or a structured output dictates, or None."""
    rng = text.source(seed_text, seed=value.get("seed"), greedy=True)
    wanted = value.get("response_format") or {}
    if wanted.get("type") == "json_object":
        return grammar.sample(None, rng)
    if wanted.get("type") == "json_schema":
        described = wanted.get("json_schema")
        if not described:
            words = "When response_format type is 'json_schema', the 'json_schema' field must be provided."
            raise bad(words, "response_format")
        return _of_schema(described.get("schema") or described.get("json_schema"), rng)
    outputs = value.get("structured_outputs") or {}
    if outputs.get("json"):
        schema = outputs["json"]
        return _of_schema(json.loads(schema) if isinstance(schema, str) else schema, rng)
    if outputs.get("choice"):
        return str(rng.choice(outputs["choice"]))
    return grammar.match(outputs["regex"], rng) if outputs.get("regex") else None


def _of_schema(schema: Any, rng: Any) -> str:
    try:
        grammar.check(schema)
    except grammar.UnknownType as error:
        raise Refusal(f"Grammar error: Invalid type: {error}") from error
    return grammar.sample(schema, rng)
