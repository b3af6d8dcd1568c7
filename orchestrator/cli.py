"""What you type: flags in, exit code out. The work is in `commands`."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from orchestrator import __version__
from orchestrator.flags import Common, Progress

# \b keeps a paragraph's lines as they are.
HELP = """Move LLM serving from Ollama to vLLM: planned, proven, reversible.

\b
Examples:
    migrate plan --ollama http://localhost:11434 --model llama3.1:8b
    migrate up && migrate cutover --to 10
    migrate rollback --restore

\b
The usual order:
    migrate plan        look, decide, and write the stack's files; changes nothing else
    migrate up          deploy, health check, smoke parity, load test
    migrate cutover     shift live traffic 10 -> 50 -> 100 %, judged at every step
    migrate rollback    put all traffic back to Ollama at once
"""
EPILOG = """\b
Exit codes:
    0  done                                    5  failed, and the way back failed too
    1  failed, world unchanged or rolled back  6  changes (plan --exit-code)
    2  usage or bad spec                       7  inconclusive: not enough data
    3  a gate said no                          8  rolled back automatically
    4  wrong phase, or already running         130 Ctrl-C, 143 SIGTERM
"""
SETTINGS = {"help_option_names": ["-h", "--help"]}

app = typer.Typer(
    help=HELP, epilog=EPILOG, context_settings=SETTINGS, rich_markup_mode=None, pretty_exceptions_enable=False,
    no_args_is_help=True,
)


StackFlag = Annotated[str | None, typer.Option("--stack", help="which stack; default: the only one")]
FileFlag = Annotated[str | None, typer.Option("--file", "-f", help="its migrate.yaml, wherever it lies")]
JsonFlag = Annotated[bool, typer.Option("--json", help="answer with one JSON object on stdout")]
QuietFlag = Annotated[bool, typer.Option("--quiet", "-q", help="only warnings and errors")]
VerboseFlag = Annotated[bool, typer.Option("--verbose", "-v", help="tracebacks")]
ColorFlag = Annotated[bool, typer.Option("--no-color", help="no colour (also NO_COLOR)")]
ProgressFlag = Annotated[Progress, typer.Option("--progress", help="how progress is shown on stderr")]
YesFlag = Annotated[bool, typer.Option("--yes", "-y", help="answer yes to what touches live traffic")]
DryFlag = Annotated[bool, typer.Option("--dry-run", "-n", help="print the plan and stop")]
Models = Annotated[list[str] | None, typer.Argument(help="Ollama names; default: all that migrate")]


def _run(common: Common, name: str, **arguments: Any) -> None:
    # Imported late: `migrate --help` must not pay for Docker, HTTP and validation libraries.
    from orchestrator import commands

    sys.exit(commands.run(name, common, arguments))


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="print the version", is_eager=True)] = False,
) -> None:
    if version:
        typer.echo(f"migrate {__version__}")
        raise typer.Exit


@app.command(help="Look at what runs, decide, and write the stack's files. Changes nothing else.")
def plan(
    ollama: Annotated[str | None, typer.Option(help="URL of today's Ollama; default: port 11434, else a container")]
    = None,
    model: Annotated[list[str] | None, typer.Option(help="migrate only this model (repeatable)")] = None,
    log: Annotated[list[str] | None, typer.Option(metavar="PATH", help="Ollama's log: a file, a folder, - for stdin")]
    = None,
    watch: Annotated[str | None, typer.Option(metavar="10m", help="without a log: sample the running Ollama")] = None,
    users: Annotated[int | None, typer.Option(min=0, help="without both: how many ask at the same moment")] = None,
    scan: Annotated[list[str] | None, typer.Option("--scan", metavar="PATH", help="source of the callers (repeatable)")]
    = None,
    facts: Annotated[str | None, typer.Option("--facts", metavar="FILE", help="plan for the machine in this file")]
    = None,
    volume: Annotated[str | None, typer.Option(metavar="DIR", help="models of an Ollama that does not run")] = None,
    gpu: Annotated[list[str] | None, typer.Option(metavar="24GiB,cc8.9", help="plan for this GPU (repeatable)")]
    = None,
    cpu: Annotated[bool, typer.Option("--cpu", help="rehearse with vLLM's CPU build")] = False,
    offline: Annotated[bool, typer.Option("--offline", help="ask nobody on the Hub: only the local cache tells")]
    = False,
    force: Annotated[bool, typer.Option("--force", help="plan although the verdict is to stay; recorded")] = False,
    out: Annotated[str | None, typer.Option("--out", metavar="FILE", help="keep it for: migrate up --plan FILE")]
    = None,
    checklist: Annotated[bool, typer.Option("--checklist", help="add the pre-migration checklist")] = False,
    notice: Annotated[bool, typer.Option("--notice", help="add the note to the team")] = False,
    exit_code: Annotated[bool, typer.Option("--exit-code", help="exit 6 when there is something to do")] = False,
    stack: StackFlag = None, file: FileFlag = None, json: JsonFlag = False, quiet: QuietFlag = False,
    verbose: VerboseFlag = False, no_color: ColorFlag = False, progress: ProgressFlag = Progress.AUTO,
) -> None:
    common = Common(stack, file, json, quiet, verbose, no_color, progress)
    where = {"ollama": ollama, "facts": facts, "volume": volume, "gpus": tuple(gpu or ()), "logs": tuple(log or ()),
             "watch": watch, "users": users, "offline": offline, "scan": tuple(scan or ())}  # fmt: skip
    wish = {"models": tuple(model or ()), "cpu": cpu, "force": force, "exit_code": exit_code, "out": out,
            "checklist": checklist, "notice": notice}  # fmt: skip
    _run(common, "plan", sources=where, wish=wish)


@app.command(help="Deploy, health check, smoke parity, load test. Run again, it goes on where it stopped.")
def up(
    plan: Annotated[str | None, typer.Option("--plan", metavar="FILE", help="exactly this plan, or not at all")] = None,
    skip_doctor: Annotated[bool, typer.Option("--skip-doctor", "--force", help="go on where doctor refuses; recorded")]
    = False,
    skip: Annotated[list[str] | None, typer.Option("--skip", metavar="GROUP", help="leave out a group of parity; "
                                                   "needs --reason (repeatable)")] = None,
    reason: Annotated[str | None, typer.Option("--reason", metavar="TEXT", help="why --skip; recorded")] = None,
    yes: YesFlag = False, dry_run: DryFlag = False,
    stack: StackFlag = None, file: FileFlag = None, json: JsonFlag = False, quiet: QuietFlag = False,
    verbose: VerboseFlag = False, no_color: ColorFlag = False, progress: ProgressFlag = Progress.AUTO,
) -> None:
    common = Common(stack, file, json, quiet, verbose, no_color, progress)
    _run(common, "up", yes=yes, dry_run=dry_run, plan_file=plan, skip_doctor=skip_doctor, skip=tuple(skip or ()),
         reason=reason)


@app.command(help="Shift live traffic to vLLM step by step; goes back by itself when a threshold is broken.")
def cutover(
    models: Models = None,
    to: Annotated[float, typer.Option(min=0.1, max=100, help="stop at this percentage")] = 100.0,
    yes: YesFlag = False, dry_run: DryFlag = False,
    stack: StackFlag = None, file: FileFlag = None, json: JsonFlag = False, quiet: QuietFlag = False,
    verbose: VerboseFlag = False, no_color: ColorFlag = False, progress: ProgressFlag = Progress.AUTO,
) -> None:
    common = Common(stack, file, json, quiet, verbose, no_color, progress)
    _run(common, "cutover", models=tuple(models or ()), to=to, yes=yes, dry_run=dry_run)


@app.command(help="Send all new traffic to Ollama at once; running answers on vLLM end normally.")
def rollback(
    models: Models = None,
    stop: Annotated[bool, typer.Option("--stop", help="stop vLLM afterwards")] = False,
    restore: Annotated[bool, typer.Option("--restore", help="give the original container its port back")] = False,
    yes: YesFlag = False, dry_run: DryFlag = False,
    stack: StackFlag = None, file: FileFlag = None, json: JsonFlag = False, quiet: QuietFlag = False,
    verbose: VerboseFlag = False, no_color: ColorFlag = False, progress: ProgressFlag = Progress.AUTO,
) -> None:
    common = Common(stack, file, json, quiet, verbose, no_color, progress)
    _run(common, "rollback", models=tuple(models or ()), stop=stop, restore=restore, yes=yes, dry_run=dry_run)


@app.command(help="Phase, weights, health, what to run next. Works while another command runs.")
def status(
    exit_code: Annotated[bool, typer.Option("--exit-code", help="exit 3 when something is unhealthy")] = False,
    stack: StackFlag = None, file: FileFlag = None, json: JsonFlag = False, quiet: QuietFlag = False,
    verbose: VerboseFlag = False, no_color: ColorFlag = False, progress: ProgressFlag = Progress.AUTO,
) -> None:
    _run(Common(stack, file, json, quiet, verbose, no_color, progress), "status", exit_code=exit_code)


@app.command(help="Give the port back and remove the stack. Weights and caches stay unless asked.")
def down(
    volumes: Annotated[bool, typer.Option("--volumes", help="also remove weights and caches")] = False,
    confirm: Annotated[str | None, typer.Option("--confirm", metavar="NAME", help="the stack's name, for --volumes")]
    = None,
    yes: YesFlag = False, dry_run: DryFlag = False,
    stack: StackFlag = None, file: FileFlag = None, json: JsonFlag = False, quiet: QuietFlag = False,
    verbose: VerboseFlag = False, no_color: ColorFlag = False, progress: ProgressFlag = Progress.AUTO,
) -> None:
    common = Common(stack, file, json, quiet, verbose, no_color, progress)
    _run(common, "down", volumes=volumes, confirm=confirm, yes=yes, dry_run=dry_run)


@app.command(help="Is this machine ready? With --compose: what is wrong with a hand-written Compose file.")
def doctor(
    compose: Annotated[list[str] | None, typer.Option("--compose", metavar="PATH", help="a Compose file (repeatable)")]
    = None,
    gpu: Annotated[str | None, typer.Option("--gpu", metavar="24GiB,cc8.9", help="the GPU that file is meant for")]
    = None,
    stack: StackFlag = None, file: FileFlag = None, json: JsonFlag = False, quiet: QuietFlag = False,
    verbose: VerboseFlag = False, no_color: ColorFlag = False, progress: ProgressFlag = Progress.AUTO,
) -> None:
    common = Common(stack, file, json, quiet, verbose, no_color, progress)
    _run(common, "doctor", compose=tuple(compose or ()), gpu=gpu)


@app.command(help="Logs of the stack's containers.")
def logs(
    services: Annotated[list[str] | None, typer.Argument(help="such as gateway, ollama, vllm-NAME")] = None,
    follow: Annotated[bool, typer.Option("--follow", help="go on with what comes")] = False,
    tail: Annotated[int, typer.Option(min=0, help="lines of each")] = 100,
    stack: StackFlag = None, file: FileFlag = None, json: JsonFlag = False, quiet: QuietFlag = False,
    verbose: VerboseFlag = False, no_color: ColorFlag = False, progress: ProgressFlag = Progress.AUTO,
) -> None:
    common = Common(stack, file, json, quiet, verbose, no_color, progress)
    _run(common, "logs", services=tuple(services or ()), follow=follow, tail=tail)


@app.command(help="Find what talks to Ollama in source, compose files, .env and notebooks. Changes nothing.")
def scan(
    paths: Annotated[list[str] | None, typer.Argument(metavar="PATH…", help="files or folders; default: here")] = None,
    diff: Annotated[bool, typer.Option("--diff", help="print a patch: /v1 base URLs and Hugging Face names")] = False,
    base_url: Annotated[str | None, typer.Option(metavar="URL", help="for --diff; default: port 11434 here")] = None,
    stack: StackFlag = None, file: FileFlag = None, json: JsonFlag = False, quiet: QuietFlag = False,
    verbose: VerboseFlag = False, no_color: ColorFlag = False, progress: ProgressFlag = Progress.AUTO,
) -> None:
    common = Common(stack, file, json, quiet, verbose, no_color, progress)
    _run(common, "scan", paths=tuple(paths or ()), diff=diff, base_url=base_url)


@app.command(help="For other tools: litellm (models, for development and production), or load (a load test).")
def export(
    kind: Annotated[str, typer.Argument(metavar="litellm|load")],
    form: Annotated[str | None, typer.Option("--format", metavar="csv|jsonl|html|k6|locust|guidellm", help="of load")]
    = None,
    model: Annotated[str | None, typer.Option("--model", help="of load: whose test; default: the only one")] = None,
    out: Annotated[str | None, typer.Option(metavar="DIR", help="where; default: here")] = None,
    base_url: Annotated[str | None, typer.Option(metavar="URL", help="where the gateway answers; default: its own")]
    = None,
    stack: StackFlag = None, file: FileFlag = None, json: JsonFlag = False, quiet: QuietFlag = False,
    verbose: VerboseFlag = False, no_color: ColorFlag = False, progress: ProgressFlag = Progress.AUTO,
) -> None:
    common = Common(stack, file, json, quiet, verbose, no_color, progress)
    _run(common, "export", kind=kind, out=out, base_url=base_url, form=form, model=model)


@app.command(help="Print what plan looks at as JSON, to plan elsewhere: migrate facts > FILE")
def facts(
    ollama: Annotated[str | None, typer.Option(help="URL of today's Ollama; default: port 11434, else a container")]
    = None,
    scan: Annotated[list[str] | None, typer.Option("--scan", metavar="PATH", help="source of the callers (repeatable)")]
    = None,
    offline: Annotated[bool, typer.Option("--offline", help="ask nobody on the Hub: only the local cache tells")]
    = False,
    stack: StackFlag = None, file: FileFlag = None, json: JsonFlag = False, quiet: QuietFlag = False,
    verbose: VerboseFlag = False, no_color: ColorFlag = False, progress: ProgressFlag = Progress.AUTO,
) -> None:
    common = Common(stack, file, json, quiet, verbose, no_color, progress)
    _run(common, "facts", ollama=ollama, scan=tuple(scan or ()), offline=offline)


@app.command(help="Print a JSON Schema: of plan, facts, doctor, scan, error, migrate.yaml or plan-file.")
def schema(
    name: Annotated[str, typer.Argument(metavar="NAME")],
    stack: StackFlag = None, file: FileFlag = None, json: JsonFlag = False, quiet: QuietFlag = False,
    verbose: VerboseFlag = False, no_color: ColorFlag = False, progress: ProgressFlag = Progress.AUTO,
) -> None:
    _run(Common(stack, file, json, quiet, verbose, no_color, progress), "schema", form=name)


@app.command(help="Keys that callers send, where migrate.yaml asks for them: add, list, remove, grace, enforce.")
def keys(
    action: Annotated[str, typer.Argument(metavar="add|list|remove|grace|enforce")],
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="whose key")] = None,
    stack: StackFlag = None, file: FileFlag = None, json: JsonFlag = False, quiet: QuietFlag = False,
    verbose: VerboseFlag = False, no_color: ColorFlag = False, progress: ProgressFlag = Progress.AUTO,
) -> None:
    common = Common(stack, file, json, quiet, verbose, no_color, progress)
    _run(common, "keys", action=action, owner=name)


@app.command(help="Ask vLLM a share of what Ollama answers as well: on, off, and what was compared.")
def shadow(
    model: Annotated[str | None, typer.Argument(metavar="MODEL", help="Ollama's name; default: all that can")] = None,
    percent: Annotated[float | None, typer.Option("--percent", min=0.01, max=100, help="share of Ollama's requests")]
    = None,
    keep: Annotated[int | None, typer.Option("--keep", min=1, max=10_000, help="the newest comparisons kept")] = None,
    off: Annotated[bool, typer.Option("--off", help="ask no more; what was compared stays")] = False,
    show: Annotated[bool, typer.Option("--show", help="with prompts and answers of the newest")] = False,
    limit: Annotated[int, typer.Option("--limit", min=1, max=10_000, help="how many --show shows")] = 5,
    dry_run: DryFlag = False,
    stack: StackFlag = None, file: FileFlag = None, json: JsonFlag = False, quiet: QuietFlag = False,
    verbose: VerboseFlag = False, no_color: ColorFlag = False, progress: ProgressFlag = Progress.AUTO,
) -> None:
    common = Common(stack, file, json, quiet, verbose, no_color, progress)
    _run(common, "shadow", model=model, percent=percent, keep=keep, off=off, show=show, limit=limit, dry_run=dry_run)


@app.command(help="One page of what was decided, measured and done, with its data; prints it in short.")
def report(
    out: Annotated[str | None, typer.Option("--out", metavar="DIR", help="where; default: the stack's report/")] = None,
    stack: StackFlag = None, file: FileFlag = None, json: JsonFlag = False, quiet: QuietFlag = False,
    verbose: VerboseFlag = False, no_color: ColorFlag = False, progress: ProgressFlag = Progress.AUTO,
) -> None:
    _run(Common(stack, file, json, quiet, verbose, no_color, progress), "report", out=out)


@app.command(help="Judge a report again from its raw samples; exit 3 and each difference named if it does not follow.")
def verify(
    path: Annotated[str, typer.Argument(metavar="REPORT", help="a report.json, or its folder")],
    raw: Annotated[str | None, typer.Option("--raw", metavar="DIR", help="where the raw files lie; default: beside it")]
    = None,
    json: JsonFlag = False, quiet: QuietFlag = False, verbose: VerboseFlag = False, no_color: ColorFlag = False,
    progress: ProgressFlag = Progress.AUTO,
) -> None:
    _run(Common(None, None, json, quiet, verbose, no_color, progress), "verify", path=path, raw=raw)


@app.command(help="A load test by hand. Asks before it loads a live Ollama, and stops when live users wait longer.")
def load(
    model: Annotated[str | None, typer.Argument(metavar="MODEL", help="Ollama's name; default: the one that migrates")]
    = None,
    side: Annotated[str | None, typer.Option(metavar="ollama|vllm|both", help="default: both, if vLLM runs")] = None,
    users: Annotated[str | None, typer.Option(metavar="1,5,10", help="levels of a closed loop")] = None,
    rate: Annotated[str | None, typer.Option(metavar="2|1-10", help="open loop: requests a second, or a ramp")] = None,
    poisson: Annotated[bool, typer.Option("--poisson", help="with --rate: at random instants")] = False,
    replay: Annotated[str | None, typer.Option(metavar="FILE", help="captured traffic, one {at, body} a line")] = None,
    speed: Annotated[float, typer.Option(help="how fast --replay plays")] = 1.0,
    preset: Annotated[str | None, typer.Option(metavar="article", help="the articles' own test")] = None,
    duration: Annotated[str | None, typer.Option(metavar="60s", help="how long a level begins requests")] = None,
    requests: Annotated[int | None, typer.Option(min=1, help="of each level of --users")] = None,
    budget: Annotated[str | None, typer.Option(metavar="10m", help="the whole test begins nothing after that")] = None,
    most: Annotated[int | None, typer.Option(min=1, help="requests of the whole test; default 10000")] = None,
    live_factor: Annotated[float | None, typer.Option(min=0, help="live users may wait so much longer; 0: unwatched")]
    = None,
    out: Annotated[str | None, typer.Option("--out", metavar="FILE", help="default: in the stack's report/")] = None,
    yes: YesFlag = False, dry_run: DryFlag = False,
    stack: StackFlag = None, file: FileFlag = None, json: JsonFlag = False, quiet: QuietFlag = False,
    verbose: VerboseFlag = False, no_color: ColorFlag = False, progress: ProgressFlag = Progress.AUTO,
) -> None:
    common = Common(stack, file, json, quiet, verbose, no_color, progress)
    asked = {"model": model, "side": side, "users": users, "rate": rate, "poisson": poisson, "replay": replay,
             "speed": speed, "preset": preset, "duration": duration, "requests": requests, "budget": budget,
             "most": most, "live_factor": live_factor, "out": out}  # fmt: skip
    _run(common, "load", yes=yes, dry_run=dry_run, asked=asked)


@app.command(help="How far the load test's figures can be trusted on this machine. Needs no stack.")
def selfcheck(
    passes: Annotated[int, typer.Option(min=1, max=20, help="of each trial; medians are shown")] = 3,
    json: JsonFlag = False, quiet: QuietFlag = False,
    verbose: VerboseFlag = False, no_color: ColorFlag = False, progress: ProgressFlag = Progress.AUTO,
) -> None:
    _run(Common(None, None, json, quiet, verbose, no_color, progress), "selfcheck", passes=passes)


def main() -> None:
    """Entry point of the command `migrate`."""
    app()
