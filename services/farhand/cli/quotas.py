"""Quotas of a worker group: what each tenant may have there at once, as typed and as shown."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from farhand.cli.failure import WrongUse
from farhand.cli.fields import NOTHING
from farhand.kernel.names import near_matches, shown
from farhand.kernel.quotas import EVERYONE, HIGHEST

if TYPE_CHECKING:
    from farhand.api.registry.v1.worker_group_pb2 import TenantQuota
    from farhand.api.scheduler.v1.job_service_pb2 import GroupFigures, TenantFigures

_FLAG = "--quota"
_EXAMPLE = "tenant=acme,running=4,queued=100"
_FREE = "as much as it likes"
_FIELDS = {"running": "max_running", "queued": "max_queued"}

Quotas = Annotated[
    list[str] | None,
    typer.Option(
        _FLAG,
        metavar="LINE",
        help=f"What a tenant may have here at once, as {_EXAMPLE}; without tenant (or with '*') it is for each tenant "
        "that has no line of its own. May be given several times.",
    ),
]


def read(lines: Iterable[str]) -> "list[TenantQuota]":
    """The lines that were typed. WrongUse says what is wrong with one."""
    return [_line(text) for text in lines]


def _line(text: str) -> "TenantQuota":
    from farhand.api.registry.v1.worker_group_pb2 import TenantQuota

    given: dict[str, str] = {}
    for part in text.split(","):
        name, equals, value = (each.strip() for each in part.partition("="))
        if name not in ("tenant", *_FIELDS):
            near = near_matches(name, ("tenant", *_FIELDS))
            hint = f"Did you mean {near[0]}?" if near else f"It looks like {_EXAMPLE}."
            raise WrongUse(f"{_FLAG} {shown(text)}: {shown(name)} is not one of tenant, running, queued. {hint}")
        if not equals or not value:
            raise WrongUse(f"{_FLAG} {shown(text)}: {name} has no value. It looks like {_EXAMPLE}.")
        if name in given:
            raise WrongUse(f"{_FLAG} {shown(text)}: {name} is there twice.")
        given[name] = value
    quota = TenantQuota(tenant=given.pop("tenant", EVERYONE))
    for name, value in given.items():
        if not (value.isascii() and value.isdecimal()) or int(value) > HIGHEST:
            raise WrongUse(f"{_FLAG} {shown(text)}: {name} must be a number from 0 to {HIGHEST:,}, not {shown(value)}.")
        setattr(quota, _FIELDS[name], int(value))
    return quota


def lines(quotas: "Iterable[TenantQuota]") -> list[str]:
    """What is declared, line by line: "acme 4 running, 100 queued"."""
    return [f"{quota.tenant} {_bounds(quota)}" for quota in quotas]


def summary(quotas: "Iterable[TenantQuota]", figures: "GroupFigures | None") -> str:
    """In one cell, what tenants have of what they may: "* at most 2 running; acme 4/4 running, 12/100 queued"."""
    return "; ".join(f"{quota.tenant} {_use(quota, _by_tenant(figures))}" for quota in quotas) or NOTHING


def rows(quotas: "Sequence[TenantQuota]", figures: "GroupFigures | None") -> list[tuple[str, str]]:
    """For a table of (name, value): a row for each line, and below "*" one for each tenant that it binds and that has
    jobs here."""
    used = _by_tenant(figures)
    named = {quota.tenant for quota in quotas}
    texts = []
    for quota in quotas:
        texts.append(f"{quota.tenant}: {_use(quota, used)}{' each' if quota.tenant == EVERYONE else ''}")
        if quota.tenant == EVERYONE:
            texts += [f"  {tenant}: {_use(each, used)}" for tenant, each in used.items() if tenant not in named]
    return [("" if index else "quotas", text) for index, text in enumerate(texts or [NOTHING])]


def _by_tenant(figures: "GroupFigures | None") -> "Mapping[str, TenantFigures]":
    """Empty where there are no figures."""
    return {} if figures is None else {each.tenant: each for each in figures.tenants}


def _use(quota: "TenantQuota | TenantFigures", used: "Mapping[str, TenantFigures]") -> str:
    mine, limits = used.get(quota.tenant), _limits(quota)
    if mine is None or not limits:  # "*", or nobody told the figures
        return f"at most {_bounds(quota)}" if limits else _FREE
    return ", ".join(f"{getattr(mine, f'{name}_jobs')}/{limit} {name}" for name, limit in limits)


def _bounds(quota: "TenantQuota | TenantFigures") -> str:
    return ", ".join(f"{limit} {name}" for name, limit in _limits(quota)) or _FREE


def _limits(quota: Any) -> list[tuple[str, int]]:
    return [(name, getattr(quota, field)) for name, field in _FIELDS.items() if quota.HasField(field)]
