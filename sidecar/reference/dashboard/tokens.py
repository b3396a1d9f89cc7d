"""The row on tokens: whether refreshes go well and on time, and what stops them."""

from __future__ import annotations

from typing import Final

from sidecar.reference.dashboard.form import Kind, Mood, Panel, Query, Row, Unit
from sidecar.reference.dashboard.queries import BANKS, increase, level, quantile, rate, series
from sidecar.telemetry.catalogue import (
    BRAKE_OPEN,
    BRAKE_TRIAL,
    CLAIM_ATTEMPTS,
    CLAIMS,
    CLAIMS_SLOWED,
    CLAIMS_VETOED,
    COMMITS,
    DECRYPT_FAILURES,
    DUE_GRANTS,
    DUE_LATENESS,
    GRANTS,
    HEALS,
    LAST_REFRESH,
    LATE_ANSWERS,
    MENDS,
    QUARANTINES,
    RETRIES_WITHHELD,
    SALVAGES,
    STORE_ROLLBACKS,
    TOKEN_ERRORS,
    TOKEN_LOOKUPS,
    TOKEN_LOSSES,
    TOKEN_REQUESTS,
)

_REFRESHES: Final = 'operation="refresh"'

_NUMBERS: Final = (
    Panel(
        title="Tokens lost",
        kind=Kind.NUMBER,
        unit=Unit.COUNT,
        shows="Live refresh tokens that went for good in the time shown.",
        normal="0.",
        to_do="Each is an end user who must link the bank again; find out what died or forgot.",
        queries=(Query(expr=increase(TOKEN_LOSSES), legend="lost"),),
        steps=((0.5, Mood.ACT),),
        runbooks=("token-lost",),
    ),
    Panel(
        title="Brake",
        kind=Kind.NUMBER,
        unit=Unit.STATE,
        shows="Whether the mass-death brake holds all claims and settlements.",
        normal="Off.",
        to_do="Too many users would lose their consent at once: repair the cause, then release "
        "some grants with `akoya-sidecar brake release`.",
        queries=(Query(expr=level(BRAKE_OPEN, "max"), legend="on"),),
        steps=((1, Mood.ACT),),
        runbooks=("brake-open",),
    ),
    Panel(
        title="Envelopes that did not open",
        kind=Kind.NUMBER,
        unit=Unit.COUNT,
        shows="Sealed tokens that no key of a sidecar opens, in the time shown.",
        normal="0, in a key rotation too.",
        to_do="Give every sidecar every key that ever sealed something that is still stored.",
        queries=(Query(expr=increase(DECRYPT_FAILURES), legend="unreadable"),),
        steps=((0.5, Mood.ACT),),
        runbooks=("envelopes-unreadable",),
    ),
    Panel(
        title="Redis forgot",
        kind=Kind.NUMBER,
        unit=Unit.COUNT,
        shows="Restarts and failovers of Redis that may have lost writes, in the time shown.",
        normal="0, but for planned ones; each sidecar counts what it saw.",
        to_do="Nothing if no token was lost; see that `appendonly` is on.",
        queries=(Query(expr=increase(STORE_ROLLBACKS), legend="rollbacks"),),
        steps=((0.5, Mood.LOOK),),
        runbooks=("store-forgot",),
    ),
    Panel(
        title="Since the last refresh",
        kind=Kind.NUMBER,
        unit=Unit.SECONDS,
        shows="How long ago the fleet last refreshed a token; as old as the epoch: not yet.",
        normal="Seconds to minutes, by the number of grants in use.",
        to_do="It grows while grants are in use: refreshes stand still; see the errors below.",
        queries=(Query(expr=f"time() - {level(LAST_REFRESH, 'max')}", legend="ago"),),
    ),
    Panel(
        title="Refreshes a second",
        kind=Kind.NUMBER,
        unit=Unit.PER_SECOND,
        shows="Refreshes that ended, each second.",
        normal="Active grants divided by four fifths of a token's life.",
        to_do="Much more: Akoya ends tokens early, or something invalidates them.",
        queries=(Query(expr=rate(TOKEN_REQUESTS, where=_REFRESHES), legend="refreshes"),),
    ),
)

_CURVES: Final = (
    Panel(
        title="Token requests by how they ended",
        unit=Unit.PER_SECOND,
        shows="Exchanges of codes, refreshes and revocations, well or failed.",
        normal="`ok`.",
        to_do="Failed ones are told by reason in the next panel.",
        queries=(
            Query(
                expr=rate(TOKEN_REQUESTS, "operation, outcome"), legend="{{operation}} {{outcome}}"
            ),
        ),
    ),
    Panel(
        title="Token requests that failed, by reason",
        unit=Unit.PER_SECOND,
        shows="Which of the documented answers of Akoya came, and for which bank.",
        normal="Near 0; `refresh_token_claimed` where a user ended the consent.",
        to_do="The runbook has a line for each reason.",
        queries=(
            Query(
                expr=rate(TOKEN_ERRORS, "provider, reason", BANKS), legend="{{provider}} {{reason}}"
            ),
        ),
        runbooks=("refreshes-failing",),
    ),
    Panel(
        title="Grants by state",
        unit=Unit.COUNT,
        shows="All grants of the fleet, counted every ten minutes by one sidecar.",
        normal="Nearly all `active`.",
        to_do="`in_doubt` grows: bring every sidecar back with its disk, its spool may know more.",
        queries=(
            Query(expr=level(GRANTS, "max", "state"), legend="{{state}}"),
            Query(expr=level(BRAKE_TRIAL, "max"), legend="on trial after a release of the brake"),
        ),
        runbooks=("grants-in-doubt",),
    ),
    Panel(
        title="Claims by how they ended",
        unit=Unit.PER_SECOND,
        shows="Wishes for a newer pair: got it, waited for a peer's, or not.",
        normal="`won` and `waited`.",
        to_do="`lost` and `in_doubt`: see the reasons above. `taken_over`: a sidecar died.",
        queries=(Query(expr=rate(CLAIMS, "outcome"), legend="{{outcome}}"),),
    ),
    Panel(
        title="Refresh tokens sent",
        unit=Unit.PER_SECOND,
        shows="Presentations of a refresh token: first ones, and those after a lost answer.",
        normal="`first` alone.",
        to_do="`retry`: answers get lost on their way. `probe` and `orphan`: sidecars die.",
        queries=(
            Query(expr=rate(CLAIM_ATTEMPTS, "kind"), legend="{{kind}}"),
            Query(expr=rate(RETRIES_WITHHELD), legend="retries withheld"),
            Query(expr=rate(CLAIMS_VETOED), legend="stopped before sending"),
        ),
    ),
    Panel(
        title="Close calls",
        unit=Unit.COUNT,
        shows="What went wrong and was caught, in the time shown: late and broken answers, grants "
        "that a late pair brought back, grants kept from claims after Redis forgot.",
        normal="0 on most days.",
        to_do="No user has noticed; a series of them has a cause in the network or in Redis.",
        queries=(
            Query(expr=increase(CLAIMS_SLOWED), legend="slow claims"),
            Query(expr=increase(LATE_ANSWERS), legend="late answers"),
            Query(expr=increase(SALVAGES), legend="saved from broken answers"),
            Query(expr=increase(HEALS, "from"), legend="healed from {{from}}"),
            Query(expr=increase(QUARANTINES), legend="quarantined"),
        ),
    ),
    Panel(
        title="Where tokens come from",
        unit=Unit.PER_SECOND,
        shows="Where the id_token of a call was found.",
        normal="Nearly all `memory`.",
        to_do="`refresh`: calls wait for Akoya; is refreshing ahead off? `none`: calls fail.",
        queries=(Query(expr=rate(TOKEN_LOOKUPS, "source"), legend="{{source}}"),),
    ),
    Panel(
        title="Refreshing ahead",
        unit=Unit.PER_SECOND,
        shows="Grants that were due although nobody asked, by what came of it.",
        normal="`refreshed`, and `found_newer` where a peer was first.",
        to_do="`postponed` and `crowded`: a bank or Redis is slow. `unreadable`: a key is missing.",
        queries=(Query(expr=rate(DUE_GRANTS, "outcome"), legend="{{outcome}}"),),
    ),
    Panel(
        title="How late the schedule is",
        unit=Unit.SECONDS,
        shows="How long after its instant a due grant was looked at, in 95 of 100 cases.",
        normal="A few seconds.",
        to_do="Minutes: too few sidecars for so many grants, or they were all down.",
        queries=(Query(expr=quantile(0.95, DUE_LATENESS), legend="p95"),),
        steps=((60, Mood.LOOK), (300, Mood.ACT)),
    ),
    Panel(
        title="What Redis said to new pairs",
        unit=Unit.PER_SECOND,
        shows="Answers to commits of new pairs.",
        normal="`committed`.",
        to_do="`forked` or `stale` again and again: two programs use the same tokens.",
        queries=(Query(expr=rate(COMMITS, "answer"), legend="{{answer}}"),),
    ),
    Panel(
        title="What sweeps put right",
        unit=Unit.COUNT,
        shows="What the sweep over all records, and over the spool, mended in the time shown.",
        normal="0; `resealed` during a key rotation.",
        to_do="`scheduled` after Redis forgot is expected; else report it.",
        queries=(Query(expr=increase(MENDS, "mend"), legend="{{mend}}"),),
    ),
    Panel(
        title="Starts",
        unit=Unit.COUNT,
        shows="How often each sidecar started in the time shown.",
        normal="0, and 1 in a roll-out.",
        to_do="Again and again: its last lines and its exit code say why.",
        queries=(
            Query(
                expr=f"changes({series('process_start_time_seconds')}[$__range])",
                legend="{{instance}}",
            ),
        ),
        runbooks=("down",),
    ),
)

TOKENS: Final = Row(question="Are tokens healthy?", panels=(*_NUMBERS, *_CURVES))
