"""The marks by which a line of source or configuration shows that it talks to Ollama, as data."""

from __future__ import annotations

import re

# ruff: noqa: ISC004 - long patterns go on over lines
# Hosts that carry the word but are no server of yours.
PUBLIC = r"(?!(?:[\w-]+\.)*ollama\.(?:com|ai|org)\b|[\w.-]*ollama[\w.-]*\.(?:readthedocs\.io|github\.io)\b)"
URL = re.compile(
    rf"(?:https?|tcp)://(?:[^\s/@'\"]*@)?(?:{PUBLIC}[\w.-]*\bollama[\w.-]*(?:\:\d+)?|[^\s/'\"]{{0,200}}?:11434(?!\w))"
    r"|(?:(?<![\w.-])(?=[\w.-]*[a-z]|\d+\.\d+\.\d+\.\d+:)[\w.-]{1,200}|[\]}]):11434(?![\w:])"
    r"|['\"]:11434['\"]", re.IGNORECASE,
)  # fmt: skip
ADDRESS = re.compile(r"(?:https?|tcp)://(?:[^\s/@'\"\\]*@)?(?:\[[0-9a-fA-F:]+\]|[^\s/:'\"\\]+)(?::\d+)?", re.IGNORECASE)
PORT = re.compile(
    r"(?<![\d.])(?:\d{1,5}:)?11434:\d{2,5}(?!\d)|11434\}:11434(?!\d)|(?<![\d.])\d{2,5}:11434(?!\d)"
    r"|(?:port(?:s|\w{0,20})|\bpublished|\btarget)['\"]?\s*(?::\s*\w{1,10}\s*=|:=|[:=(])\s*['\"]?11434(?![\w.])|\bEXPOSE\s+(?:\d+\s+)*11434(?!\d)"
    r"|(?:-p|--port|--publish)[= ]11434(?!\d)|^\s*-\s*['\"]?11434['\"]?\s*$"
    r"|port\w{0,20}['\"]?\s*,\s*['\"]?11434(?![\w.])|ollama\w*port\b[^\n]{0,40}?\b11434(?![\w.])|\bformat\([^)\n]{0,80}\b11434\b"
    r"|\b(?:connect|dial|nc)\b[^\n]{0,80}?[,\s]11434(?!\d)|\(\s*['\"][\w.-]+['\"]\s*,\s*11434\s*\)", re.IGNORECASE,
)  # fmt: skip
ENV = re.compile(
    r"\b(?:[A-Z0-9]+_)*OLLAMA_(?:[A-Z0-9]+_)*(?:HOST|URL|URLS|BASE|ENDPOINT|ADDRESS|SERVER|PORT|API|ORIGIN)\b"
    r"|\bspring\.ai\.ollama\.[\w.-]+|\b(?:LOCAL|LLM)_OLLAMA\w*|\bollama[._-]?(?:host|base[._-]?url|url|endpoint)\b"
    r"|\bollama(?:Host|BaseUrl|Url|Endpoint|Address)\b",
)  # fmt: skip
# Ollama's own service in the cloud: nothing here serves it.
CLOUD = re.compile(r"https?://(?:[\w-]+\.)*ollama\.(?:com|ai)\b", re.IGNORECASE)
SDK = tuple(re.compile(text) for text in (
    r"^\s*(?:from|import)\s+ollama\b(?!\s*/)",
    r"\b(?:langchain_ollama|langchain_community\.\w+\.ollama|llama_index\.(?:llms|embeddings)\.ollama)\b",
    r"\b(?:haystack_integrations\.[\w.]*ollama|pydantic_ai\.[\w.]*ollama|chromadb\.[\w.]*Ollama\w*)\b",
    r"\b(?:ChatOllama|OllamaLLM|OllamaEmbeddings?|OllamaFunctions|OllamaEmbeddingFunction|OllamaChatModel"
    r"|OllamaChatGenerator|OllamaGenerator|OllamaApi|OllamaApiClient|OllamaMultiModal|OllamaModel|OllamaEmbeddingModel|OllamaStreamingChatModel|OllamaLanguageModel|OllamaClient|OllamaChatClient|OllamaAPI)\s*[(<.]",
    r"^\s*(?:[\w.]+\s*=\s*)?(?:ollama\.)?(?:Async)?Ollama\s*\(|\bnew\s+Ollama\w*\s*[({]|=\s*Ollama\(",
    r"""(?:from|import|require\(|import\()\s*['"](?:ollama(?:/browser)?|ollama-ai-provider[\w-]*|@langchain/ollama)['"]""",
    r"""(?:from|require\()\s*['"][@\w/-]*\bollama\b[\w/-]*['"]""",
    r"\bgithub\.com/ollama/ollama/(?:api|envconfig)\b|\bgithub\.com/tmc/langchaingo/llms/ollama\b",
    r"^\s*use\s+ollama_rs\b|\bollama_rs::|^\s*ollama-rs\s*=",
    r"\bspring-ai(?:-starter-model)?-ollama\b|\bspring-ai-ollama[\w-]*\b|\borg\.springframework\.ai\.ollama\b"
    r"|\blangchain4j-ollama\b|\bdev\.langchain4j\.model\.ollama\b|\bio\.github\.ollama4j\b|\bollama4j\b",
    r"\bOllamaSharp\b|\bMicrosoft\.Extensions\.AI\.Ollama\b|\bAddOllama\w*\(",
    r"""['"](?:ollama|ollama_chat)/(?!ollama\b)[\w.:/-]+['"]"""
    r"""|(?:\b(?:model\w*|name)\s*[:=]|--?[\w-]*\bm(?:odel)?[ =])\s*(?:ollama|ollama_chat)/(?!ollama\b)[\w.:-]+""",
    r"""\b(?:custom_llm_provider|provider|model_provider|api_type|backend)['"]?\s*[:=]\s*['"]ollama(?:_chat)?['"]""",
    r"""(?i:^\s*(?:-\s+)?(?:export\s+|ENV\s+)?['"]?(?:\w*_)?(?:provider|binding|backend|engine|model_type|llm_type|api_type)['"]?\s*[:=]\s*"""
    r"""['"]?ollama(?:_chat)?['"]?\s*,?\s*(?:#.*)?$)""",
    r"""['"]ollama:(?!latest\b)[a-z][\w.-]*(?::[\w.-]+)?['"]|\bproviders::ollama\b""",
    r"\bollama\.(?:chat|generate|embed|embeddings|list|pull|create|copy|delete|show|ps)\s*\(",
    r"\bOllama::|\bOllama\.new\b|\bollama-ruby\b|\bollama-php\b|\brequire\s+['\"]ollama[\w-]*['\"]|\buse\s+Ollama\w*\\",
))  # fmt: skip
# A dependency in a manifest of the language.
DEPENDENCY = re.compile(
    r"""(?:^|[\[{,])\s*['"]?(?:ollama|langchain-ollama|llama-index-(?:llms|embeddings)-ollama|ollama-ai-provider[\w-]*"""
    r"""|@langchain/ollama|ollama-haystack|ollama-rs)(?:\[[\w,]+\])?['"]?\s*(?:[=<>~!^:;,]|$)"""
    r"""|Include="OllamaSharp"|^\s*(?:require\s+)?github\.com/ollama/ollama\s+v\d""",
)  # fmt: skip
MANIFESTS = re.compile(
    r"(?:^|/)(?:requirements[\w.-]*\.(?:txt|in)|pyproject\.toml|package\.json|Cargo\.toml|Pipfile|setup\.(?:py|cfg)|go\.mod"
    r"|environment\.ya?ml|[\w.-]+\.csproj|Gemfile|composer\.json)$",
)  # fmt: skip
COMMAND = re.compile(
    r"\bollama\s+(run|pull|push|create|cp|rm|show|list|ls|ps|stop|serve)\b"
    r"""|['"]ollama['"]\s*,\s*['"](run|pull|push|create|cp|rm|show|list|ls|ps|stop|serve)['"]""",
)  # fmt: skip
NATIVE = re.compile(
    r"/api/(chat|generate|embeddings|embed|tags|show|pull|push|create|copy|delete|ps|version|blobs)(?![\w-])"
)
V1 = re.compile(r"/v1/(?:chat/completions|completions|embeddings|models|responses|messages)\b|/v1(?=['\"/\s]|$)")
SETTING = re.compile(
    r"""(?<![\w.])['"]?((?:[A-Z0-9]+_)*NUM_CTX|num_ctx|num_gpu|num_thread|num_batch|main_gpu|use_mmap|num_keep|repeat_last_n|typical_p"""
    r"""|mirostat\w*|keep_alive|keepAlive|numCtx|num-ctx|keep-alive|raw|context|template)\\?['"]?\s*[:=](?!=)""",
)  # fmt: skip
# A client's call, and Go's request types: theirs where the file makes a client of Ollama.
CLIENT = re.compile(
    r"\bollama\.(?:Async)?Client\(|\bfrom\s+ollama\s+import\b[^\n]*\bClient|\bnew\s+Ollama\w*\(|ollama/ollama/api\b",
)  # fmt: skip
CALL = re.compile(
    r"\b\w*[cC]lient\.(chat|[gG]enerate|[eE]mbed|embeddings|[pP]ull|[pP]ush|[cC]reate|[cC]opy|[dD]elete|[sS]how|[lL]ist|ps)\("
    r"|\bapi\.(Chat|Generate|Embed|Embedding|Pull|Push|Create|Copy|Delete|Show)Request\b",
)  # fmt: skip
GENERATES = re.compile(r"/api/generate(?![\w-])|\b(?:ollama|client)\.generate\(")
_BARE = re.compile(r"""['"](?:raw|context|template)\\?['"]\s*:""")
OWN_ROUTE = re.compile(
    r"""@\w+(?:\.\w+)*\.(?:get|post|put|delete|patch|route|api_route)\(|@(?:Get|Post|Request|Put|Delete)Mapping"""
    r"""|\b(?:app|router|route|server|api|r|mux|http)\.(?:get|post|put|delete|all|use|route|GET|POST|HandleFunc|Handle)"""
    r"""\(\s*['"`]/|\bfetch\(\s*['"`]/api/|\bapi\s*:\s*['"`]/api/|axios\.\w+\(\s*['"`]/api/|\blocation\s+[=~^*\s]*/api/""",
)  # fmt: skip
IMAGE = re.compile(r"(?<![\w/])ollama/ollama\b(?!/)", re.IGNORECASE)
OTHER_HOST = re.compile(r"https?://[\w\[]", re.IGNORECASE)       # a literal one, not a variable
COMMENT = re.compile(r"^\s*(?:#(?!!)|[rf]?\"{3}|'{3}|//|\*(?!\*?/?\w*:)|/\*|<!--|--\s|;|rem\s|%\s)", re.IGNORECASE)
TRAILING = re.compile(r"(?:^|\s)(?:#|//)\s")
PROSE = re.compile(
    r"\.(?:md|mdx|rst|adoc|txt|log|html?|org|tex)$|(?:^|/)(?:README|CHANGELOG|LICEN[CS]E)[\w.]*$",
    re.IGNORECASE,
)  # fmt: skip


SPRING = re.compile(r"\bspring\.ai\.ollama\.[\w.-]*?\b(num-ctx|keep-alive|embedding|pull-model-strategy)\b")


def setting(line: str, *, generates: bool = True) -> str:
    """Return the request field of Ollama on this line that vLLM treats otherwise, or ''.

    `generates`: the file calls /api/generate. Only there `context`, `raw` and `template` are Ollama's; in a file
    that uses a chain's prompt they are its variables.
    """
    for found in SETTING.finditer(line):
        name = found[1]
        bare = _BARE.search(found[0]) or "/api/generate" in line
        if name not in ("raw", "context", "template") or (generates and bare):
            return name
    return ""
