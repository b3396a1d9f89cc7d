"""The account of a sidecar on the wire: as JSON for programs, as a page for people.

The page has no script, loads nothing, changes nothing, asks for itself again and can be read on a
phone. Both show what `sidecar.service.status` says and add nothing. Every text is escaped.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from typing import Final

from sidecar.service.status import Check, Mood, Status, Trouble

REFRESH_S: Final = 10
HTML_TYPE: Final = "text/html; charset=utf-8"

STYLE: Final = (
    ":root{color-scheme:light dark;--ink:#1b1f24;--soft:#57606a;--paper:#fff;--line:#d0d7de;"
    "--good:#116329;--waiting:#7d4e00;--bad:#a40e26}"
    "@media(prefers-color-scheme:dark){:root{--ink:#e6edf3;--soft:#9da7b1;--paper:#0d1117;"
    "--line:#30363d;--good:#56d364;--waiting:#e3b341;--bad:#ff7b72}}"
    "body{font:16px/1.5 system-ui,sans-serif;max-width:44rem;margin:0 auto;padding:1rem;"
    "color:var(--ink);background:var(--paper);overflow-wrap:anywhere}"
    "h1{font-size:1.4rem;margin:.5rem 0}h2{font-size:1.1rem;margin:1.5rem 0 .5rem}"
    "p{margin:.25rem 0}.soft{color:var(--soft);font-size:.9rem}"
    "ul{list-style:none;margin:0;padding:0}li{border-top:1px solid var(--line);padding:.5rem 0}"
    "dl{display:grid;grid-template-columns:1fr auto;margin:0}"
    "dt,dd{border-top:1px solid var(--line);margin:0;padding:.35rem 0}dd{text-align:right}"
    ".good{color:var(--good)}.waiting{color:var(--waiting)}.bad{color:var(--bad)}"
)
_STYLE_HASH: Final = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
PAGE_HEADERS: Final = {
    "Content-Security-Policy": (
        f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_PAGE: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="refresh" content="{refresh_s}">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<h1>Akoya sidecar</h1>
<p class="{mood}">{summary}</p>
<p class="soft">Version {version}, {at}; asks again every {refresh_s} s.</p>
<h2>State</h2>
<ul>
{checks}
</ul>
<h2>Grants</h2>
{grants}
<h2>Recent token errors</h2>
{troubles}
</body>
</html>
"""
_SIGNS: Final = {Mood.GOOD: "\u2713", Mood.WAITING: "\u2026", Mood.BAD: "\u2717"}


@dataclass(frozen=True, slots=True, kw_only=True)
class PageAnswer:
    """A page for people; its headers let nothing else run or load beside it."""

    text: str
    status: int = 200

    def body(self) -> bytes:
        """Return the page."""
        return self.text.encode()


def to_status_document(status: Status) -> dict[str, object]:
    """Return the account for programs; every member is always there."""
    return {
        "version": status.version,
        "phase": status.phase.value,
        "at": _instant(status.at_s),
        "checks": [
            {
                "name": check.name.value,
                "mood": check.mood.value,
                "said": check.said,
                "hint": check.hint or None,
            }
            for check in status.checks
        ],
        "grants": None if status.grants is None else dict(status.grants),
        "grants_counted_at": _instant(status.counted_at_s),
        "token_errors": [
            {
                "at": _instant(trouble.at_s),
                "operation": trouble.operation.value,
                "reason": trouble.reason.value,
                "provider": trouble.provider,
                "grant": trouble.grant,
                "retry_in_s": trouble.retry_in_s,
                "hint": trouble.hint,
            }
            for trouble in status.troubles
        ],
    }


def to_page(status: Status) -> PageAnswer:
    """Return the account for people."""
    bad = [check for check in status.checks if check.mood is Mood.BAD]
    summary = f"{len(bad)} of {len(status.checks)} need a person" if bad else "Nothing needs you"
    text = _PAGE.format(
        refresh_s=REFRESH_S,
        title=escape(f"{_SIGNS[Mood.BAD if bad else Mood.GOOD]} Akoya sidecar"),
        style=STYLE,
        mood=Mood.BAD.value if bad else Mood.GOOD.value,
        summary=escape(summary),
        version=escape(status.version),
        at=escape(_instant(status.at_s) or ""),
        checks=_lines(_check(check) for check in status.checks),
        grants=_grants(status),
        troubles=_troubles(status.troubles),
    )
    return PageAnswer(text=text)


def _check(check: Check) -> str:
    sign = f'<span class="{check.mood.value}">{_SIGNS[check.mood]} {escape(check.name)}</span>'
    hint = f'<p class="soft">{escape(check.hint)}</p>' if check.hint else ""
    return f"<li>{sign}: {escape(check.said)}{hint}</li>"


def _grants(status: Status) -> str:
    if status.grants is None:
        return '<p class="soft">Another sidecar of the fleet counts them.</p>'
    rows = _lines(
        f"<dt>{escape(state)}</dt><dd>{count}</dd>" for state, count in status.grants.items()
    )
    when = escape(_instant(status.counted_at_s) or "")
    return f'<dl>\n{rows}\n</dl>\n<p class="soft">Of the whole fleet, counted {when}.</p>'


def _troubles(troubles: Sequence[Trouble]) -> str:
    if not troubles:
        return '<p class="soft">None since the start.</p>'
    return f"<ul>\n{_lines(_trouble(trouble) for trouble in troubles)}\n</ul>"


def _trouble(trouble: Trouble) -> str:
    again = "" if trouble.retry_in_s is None else f"; asked again in {trouble.retry_in_s:.0f} s"
    what = f"{trouble.operation}: {trouble.reason}, {trouble.provider}"
    when = f"{_instant(trouble.at_s)}, grant {trouble.grant}{again}"
    return (
        f'<li><span class="bad">{escape(what)}</span><p class="soft">{escape(when)}</p>'
        f"<p>{escape(trouble.hint)}</p></li>"
    )


def _lines(parts: Iterable[str]) -> str:
    return "\n".join(parts)


def _instant(at_s: float) -> str | None:
    if not at_s:
        return None
    at = datetime.fromtimestamp(at_s, tz=UTC)
    return at.isoformat(timespec="seconds").replace("+00:00", "Z")
