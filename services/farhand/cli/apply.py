"""`farhand apply`: brings a registry to what a folder says."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from farhand.cli import flow_file, quotas
from farhand.cli.apply_plan import FLOW, Change, Verb
from farhand.cli.command import command, single
from farhand.cli.confirm import confirm
from farhand.cli.failure import CommandFailed
from farhand.cli.fields import NOTHING, fallback_name, listed, span
from farhand.cli.file_upload import digest_of
from farhand.cli.render import document
from farhand.cli.session import Session
from farhand.kernel.names import DEFAULT_TENANT, group_label

app = single()

_LONGEST = 40  # characters of a value in the table


@command(
    app,
    "apply",
    examples=[
        "farhand apply -f farhand/",
        "farhand apply -f farhand/ --dry-run",
        "farhand apply -f farhand/ --tenant research --prune --yes",
        "farhand apply -f farhand/ --dry-run --output json",
    ],
)
def apply(
    session: Session,
    folder: Annotated[Path, typer.Option("--folder", "-f", metavar="FOLDER", help="The folder.")],
    prune: Annotated[bool, typer.Option("--prune", help="Delete what the folder does not have; see above.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan, and do nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")] = False,
) -> None:
    """Bring the registry to what a folder says: a plan first, then a question, then the work.

    The folder has any of:

    \b
      tenants/*.yaml        tenants: {id: research, default_worker_group: gpu}
      worker-groups/*.yaml  worker groups: {key: gpu, allowed_tenants: [research], lease: 2m,
                             quotas: [{tenant: research, max_running: 4, max_queued: 100}]}
      namespaces/*.yaml     namespaces: {name: company.team, default_fallback: fail}
      flows/**/*.yaml       flows, as farhand flow create takes them
      files/NAMESPACE/**    files of a namespace, each under its path there

    Tenants, worker groups and namespaces have the fields of `get --output yaml`, in
    snake_case or camelCase, one or several documents in a file. A field that is left out
    has its default, but paused stays as it is. Flows, files, and namespaces that name no
    tenant are those of --tenant.

    All that is wrong with any file is told before anything is changed. Without a
    terminal there is no question. What has changed since the plan was made is left alone,
    and ends the work; whatever is done stays, and the same command goes on from there.

    --prune deletes what the tenant has and the folder does not: flows, files, namespaces
    (also of other tenants that namespaces/ names); worker groups and tenants too, where the
    folder has any. Never the default group, main, or the tenant that is acted in.
    """
    from farhand.cli import apply_check, apply_folder, apply_plan, apply_work
    from farhand.cli.apply_findings import Findings

    findings, tenant = Findings(), session.settings.tenant or DEFAULT_TENANT
    read = apply_folder.read(folder, tenant, prune, findings)
    try:
        plan = apply_plan.make(session, tenant, read, prune, findings)
        apply_check.check(session, tenant, plan, read.unnamed, findings)
    except CommandFailed:
        flow_file.say(findings.lines)
        raise
    findings.say()
    _show(session, plan)
    counts = Counter(change.verb for change in plan)
    todo = [f"{counts[verb]} to {verb}" for verb in (Verb.CREATE, Verb.CHANGE, Verb.DELETE) if counts[verb]]
    if not todo:
        session.printer.done(f"All is unchanged: {counts[Verb.UNCHANGED]} in the folder.")
        return
    summary = f"{', '.join(todo)}, {counts[Verb.UNCHANGED]} unchanged"
    session.printer.done(f"{summary}.")
    if dry_run:
        return
    if not yes:
        confirm("Apply this?", otherwise="Nothing was applied.")
    apply_work.carry_out(session, tenant, plan)
    session.printer.done("All is applied.")


def _show(session: Session, plan: Sequence[Change]) -> None:
    """As a table what is to be done; as a document all of the plan."""
    changes = [change for change in plan if change.verb is not Verb.UNCHANGED]
    tenants = len({change.tenant for change in plan if change.tenant}) > 1
    rows = [
        (
            change.verb.value,
            change.kind,
            *((change.tenant or NOTHING,) if tenants else ()),
            change.name,
            "; ".join(_in_words(change)) or NOTHING,
        )
        for change in changes
    ]
    headers = ("PLAN", "KIND", *(("TENANT",) if tenants else ()), "NAME", "WHAT CHANGES")
    if rows or session.settings.output != "table":
        session.printer.many([_document(change) for change in plan], headers, rows, "")


def _document(change: Change) -> dict[str, Any]:
    return {
        "action": change.verb.value,
        "kind": change.kind.replace(" ", "_"),
        "tenant": change.tenant,
        "name": change.name,
        "file": str(change.file or ""),
        "changes": [
            {"field": field, "old": old, "new": new} for field, old, new in (_values(change, f) for f in change.fields)
        ],
    }


def _values(change: Change, field: str) -> tuple[str, Any, Any]:
    """A field before and after, for programs."""
    if field == "source":
        return field, change.there.source, change.wanted.source
    if field == "content":
        return field, change.there.digest, digest_of(change.wanted.file)
    before = None if change.there is None else document(change.there).get(field)
    return field, before, document(change.wanted.message).get(field)


def _in_words(change: Change) -> list[str]:
    """What changes, for people; of what is new, what it says."""
    if change.kind == FLOW and change.fields:
        return [f"revision {change.there.revision} -> {change.there.revision + 1}: {_lines(change)}"]
    if change.fields == ("content",):
        return ["content"]
    return [_field(change, field) for field in change.fields]


def _lines(change: Change) -> str:
    import difflib

    old, new = change.there.source.splitlines(), change.wanted.source.splitlines()
    diff = list(difflib.unified_diff(old, new, lineterm="", n=0))[2:]
    added, taken = (sum(line.startswith(sign) for line in diff) for sign in "+-")
    return f"+{added} -{taken} lines"


def _field(change: Change, field: str) -> str:
    new = _word(change.wanted.message, field)
    if change.there is None:
        return f"{field}: {new}"
    return f"{field}: {_word(change.there, field)} -> {new}"


def _word(message: Any, field: str) -> str:
    value = getattr(message, field)
    match field:
        case "default_worker_group":
            return group_label(value) if message.HasField(field) else NOTHING
        case "default_fallback":
            return fallback_name(value)
        case "allowed_tenants":
            text = listed(value, "all")
        case "lease":
            return span(value) if message.HasField(field) else NOTHING
        case "paused":
            return "yes" if value else "no"
        case "plugin_defaults":
            text = listed(default.type for default in value)
        case "quotas":
            text = "; ".join(quotas.lines(value)) or NOTHING
        case _:
            text = str(value) or NOTHING
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
