"""The commands `audit …`: what the logs hold, whether they verify, and what may be deleted of them."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from pipelines.bundle_store import without_password
from pipelines.command_options import (
    Actor,
    Decisions,
    DecisionsIfAny,
    OutFolder,
    PeriodEnd,
    PeriodStart,
    PseudonymKey,
    RatesOption,
    Reason,
    counted,
    table_of,
)
from pipelines.instants import instant
from riskdistill.errors import AuditError, ConfigError, DataError, NotFoundError, RiskDistillError, UnavailableError
from riskdistill.storage.administrative_acts import ActLog
from riskdistill.storage.decisions import DecisionLog
from riskdistill.storage.releases import ReleaseLog

audit_app = typer.Typer(no_args_is_help=True, help="Verify, export, explain and prune the decision log.")
console = Console()
ReleasesIfAny = Annotated[str | None, typer.Option("--releases", help="URL of the release log.")]
ActsIfAny = Annotated[str | None, typer.Option("--acts", help="URL of the log of administrative acts.")]
DecisionId = Annotated[str, typer.Argument(help="Id of a decision, as the service's answer has it.")]
PublicKeys = Annotated[
    list[str] | None, typer.Option("--public-key", help="Trust anchors of this key only; may be repeated.")
]


@audit_app.command()
def verify(
    decisions: DecisionsIfAny = None,
    releases: ReleasesIfAny = None,
    acts: ActsIfAny = None,
    anchors: Annotated[
        Path | None, typer.Option("--anchors", help="Anchors kept elsewhere: finds what was cut off since.")
    ] = None,
    export: Annotated[
        Path | None,
        typer.Option("--export", help="Folder that audit export wrote; with --decisions, both must agree."),
    ] = None,
    public_keys: PublicKeys = None,
) -> None:
    """Check the hash chains and anchors of all logs named; tells the first broken link of each."""
    from pipelines.verify_logs import Named, checks

    if not (decisions or releases or acts or export):
        raise DataError(
            "no log named", where="audit verify", mend="give --decisions, --releases, --acts, --export or more"
        )
    if anchors is not None and not (decisions or releases or acts):
        raise DataError(
            "--anchors needs --decisions, --releases or --acts",
            where="audit verify",
            mend="name the logs they are of",
        )
    faults: dict[str, RiskDistillError] = {}
    for title, check in checks(Named(decisions, releases, acts, export, anchors, public_keys or [])):
        try:
            console.print(f"{title} {check()}", soft_wrap=True, highlight=False)
        except RiskDistillError as error:
            # a wrong address is told by itself, and once: the logs that share it have no fault
            faults[str(error) if isinstance(error, ConfigError) else f"{title}: {error}"] = error
    if faults:
        away, told = all(isinstance(one, UnavailableError) for one in faults.values()), "; ".join(faults)
        raise UnavailableError(told) if away else AuditError(told)


@audit_app.command()
def acts(log: Annotated[str, typer.Option("--log", help="URL of the log of administrative acts.")]) -> None:
    """List who did what to the service, keys first of all, and verify the chain."""
    from pipelines.verify_logs import told

    opened = ActLog(log, create=False)
    table = table_of("no.", "when (UTC)", "who", "what", "to", "details")
    for act in opened.read():
        details = ", ".join(f"{name}={value}" for name, value in sorted(act.details.items()))
        when = act.at.strftime("%Y-%m-%d %H:%M:%S")
        table.add_row(str(act.sequence), when, *map(escape, (act.actor, act.act, act.subject, details)))
    console.print(table)
    console.print(f"act log {told(opened.verify())}", soft_wrap=True, highlight=False)


@audit_app.command()
def record(
    decisions: Decisions,
    releases: Annotated[str, typer.Option("--releases", help="URL of the release log.")],
    out: OutFolder,
    start: PeriodStart = None,
    end: PeriodEnd = None,
) -> None:
    """Write audit.html and audit.json: all chains, transitions with evidence, acts, what was decided and why."""
    from monitoring.audit import audit
    from monitoring.audit_page import write_audit_record
    from riskdistill.storage.desk_journals import desk_journals

    logs = ReleaseLog(releases, create=False), DecisionLog(decisions, create=False)
    told = audit(*logs, desk_journals(decisions), start=instant(start, "--from"), end=instant(end, "--to"))
    console.print(f"record {write_audit_record(out, told)}", soft_wrap=True, highlight=False)


@audit_app.command()
def show(decision_id: DecisionId, decisions: Decisions) -> None:
    """One decision as it is stored."""
    decision = DecisionLog(decisions, create=False).get(decision_id)
    if decision is None:
        raise NotFoundError(
            f"no decision {decision_id}", where=without_password(decisions), mend="copy the id from the answer"
        )
    console.print_json(json.dumps(decision.model_dump(mode="json")))


@audit_app.command()
def explain(
    decision_id: DecisionId,
    decisions: Decisions,
    releases: ReleasesIfAny = None,
    bundle_store: Annotated[
        Path | None, typer.Option(help="Folder of the kept bundles, or of the one bundle that was served.")
    ] = None,
    history: Annotated[
        Path | None, typer.Option(help="Canonical transactions that the service started on.")
    ] = None,
    pseudonym_key: PseudonymKey = None,
    rates: RatesOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Everything, for machines.")] = False,
) -> None:
    """Who scored this, with which bundle and release, on which features, and why; scored again if possible."""
    from pipelines.explain_decision import Sources, explained, printed

    found = explained(
        decision_id,
        DecisionLog(decisions, create=False),
        ReleaseLog(releases, create=False) if releases else None,
        Sources(bundle_store, history, pseudonym_key, rates),
    )
    if as_json:
        print(found.model_dump_json(indent=2))
    else:
        printed(found, console)


@audit_app.command()
def export(
    decisions: Decisions,
    out: Annotated[Path, typer.Option("--out", help="New folder for the export.")],
    after: Annotated[int, typer.Option(min=0, help="Last entry of the export that this one goes on from.")] = 0,
    releases: ReleasesIfAny = None,
    acts: ActsIfAny = None,
) -> None:
    """Write the decision log, its anchors, cases, suppressions and more as files that anybody can check."""
    from riskdistill.storage.desk_journals import desk_journals
    from riskdistill.storage.export import export as export_log

    journals = [journal for journal in desk_journals(decisions) if journal.is_there()]
    if releases is not None:
        journals.append(ReleaseLog(releases, create=False).journal)
    if acts is not None:
        journals.append(ActLog(acts, create=False).journal)
    manifest = export_log(DecisionLog(decisions, create=False), out, journals=journals, after=after)
    console.print(
        f"entries {manifest.first:,} to {manifest.last:,}, head {manifest.head}", soft_wrap=True, highlight=False
    )
    for name, end in manifest.journals.items():
        console.print(f"{name}: {end.entries:,}, head {end.head}", soft_wrap=True, highlight=False)
    console.print(f"export {out}", soft_wrap=True, highlight=False)


@audit_app.command()
def prune(
    decisions: Decisions,
    before: Annotated[str, typer.Option(help="Delete what is older, e.g. 2021-01-01 (UTC).")],
    actor: Actor,
    reason: Reason,
    history: Annotated[
        Path | None, typer.Option(help="History that the service starts on: it must hold what is deleted.")
    ] = None,
    forget: Annotated[bool, typer.Option(help="Accounts forget what the deleted transactions told.")] = False,
    payloads_only: Annotated[bool, typer.Option(help="Delete only the encrypted payloads.")] = False,
) -> None:
    """Delete old decisions, cases and suppressions for good; hashes and a signed-for entry stay.

    Scores of challengers and idempotency keys go too, and leave only the entry.
    """
    from riskdistill.storage.desk_journals import desk_journals
    from riskdistill.storage.desk_retention import prune_desk
    from riskdistill.storage.retention import AccountState, prune_payloads, prune_unchained
    from riskdistill.storage.retention import prune as prune_log
    from riskdistill.storage.shadows import shadows_if_any

    moment, log = _moment(before), DecisionLog(decisions, create=False)
    if payloads_only:
        count = prune_payloads(log, moment, actor=actor, reason=reason)
        console.print(f"{counted(count, 'payload', 'payloads')} deleted", highlight=False)
        return
    if forget == (history is not None):
        raise ConfigError(
            "account state is rebuilt from what would be deleted",
            where="audit prune",
            mend="give --history with a file that holds those transactions, or --forget",
        )
    journals = [journal for journal in desk_journals(decisions) if journal.is_there()]
    for verify_log in (log.verify, *(journal.verify for journal in journals)):
        verify_log()  # what is broken now could not be found later
    if history is not None:
        _check_history(log, history, moment)
    state: AccountState = "forget" if forget else "history"
    count = prune_log(log, moment, state, actor=actor, reason=reason)
    console.print(f"{counted(count, 'decision', 'decisions')} deleted", highlight=False)
    for name, entries in prune_desk(log, journals, moment, actor=actor, reason=reason).items():
        console.print(f"{name}: {counted(entries, 'entry', 'entries')} deleted", highlight=False)
    scores, keys = prune_unchained(log, shadows_if_any(decisions), moment, actor=actor, reason=reason)
    told = counted(scores, "shadow score", "shadow scores"), counted(keys, "idempotency key", "idempotency keys")
    console.print(f"{', '.join(told)} deleted", highlight=False)
    if count and forget:
        console.print("restart the service, so that its accounts forget too", highlight=False)


def _check_history(log: DecisionLog, history: Path, before: datetime) -> None:
    from api.path.account_state import missing_of

    missing = missing_of(log, history, before)
    if missing:
        raise ConfigError(
            f"{missing:,} of the transactions to delete are not in the history",
            where=str(history),
            mend="add them (riskdistill ingest), or delete with --forget",
        )


@audit_app.command()
def payload(decision_id: DecisionId, decisions: Decisions, actor: Actor, reason: Reason) -> None:
    """The request behind a decision, decrypted with RISKDISTILL_PAYLOAD_KEY; that it was read is logged."""
    from riskdistill.storage.payloads import PayloadKeys, read_payload

    secret = os.environ.get("RISKDISTILL_PAYLOAD_KEY")
    if not secret:
        raise ConfigError("no payload key is set", where="audit payload", mend="set RISKDISTILL_PAYLOAD_KEY")
    log = DecisionLog(decisions, create=False)
    console.print_json(read_payload(log, PayloadKeys(secret), decision_id, actor=actor, reason=reason))


@audit_app.command()
def migrate(decisions: DecisionsIfAny = None, releases: ReleasesIfAny = None, acts: ActsIfAny = None) -> None:
    """Bring logs of an older version to this one; serve does so by itself. Loses nothing."""
    from riskdistill.storage.cases import CaseLog
    from riskdistill.storage.shadows import ShadowLog
    from riskdistill.storage.suppressions import SuppressionList

    desk = (CaseLog, SuppressionList, ShadowLog)
    for name, url, kinds in (
        ("decision", decisions, (DecisionLog, *desk)),
        ("release", releases, (ReleaseLog,)),
        ("act", acts, (ActLog,)),
    ):
        if url is not None:
            for kind in kinds:
                kind(url).close()
            console.print(f"{name} log is of this version", highlight=False)


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise ConfigError(str(error), where="--before", mend="write it as 2021-01-01") from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
