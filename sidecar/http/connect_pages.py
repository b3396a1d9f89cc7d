"""The pages that a person sees who connects a bank: few words, no script, nothing loaded.

It words each outcome and renders it; what an outcome means was decided before. Nothing that a
browser sent is ever shown.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import Final

from sidecar.domain.events import ConnectOutcome
from sidecar.service.connects import Ending, LinkShown

HTML_TYPE: Final = "text/html; charset=utf-8"
RETRY_AFTER_S: Final = 2

_STYLE: Final = (
    "body{font:17px/1.5 system-ui,sans-serif;max-width:34rem;margin:12vh auto;padding:0 1.2rem;"
    "color:#1b1f24;background:#fff}h1{font-size:1.5rem}.note{color:#57606a;font-size:.9rem}"
    "button,a.on{display:inline-block;font:inherit;padding:.6rem 1.6rem;border:0;"
    "border-radius:.4rem;background:#0b57d0;color:#fff;text-decoration:none;cursor:pointer}"
)
_STYLE_HASH: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """What one outcome looks like.

    Attributes:
        goes_on: Whether the browser goes on by itself, so that there is nothing to press.
    """

    status: int
    title: str
    text: str
    goes_on: bool = False


WORDS: Final[Mapping[ConnectOutcome, Words]] = {
    ConnectOutcome.SHOWN: Words(
        status=200,
        title="Connect your bank",
        text="You go on to Akoya and sign in at your bank there; you choose what you share.",
    ),
    ConnectOutcome.BEGUN: Words(
        status=200, title="On to your bank", text="One moment, please.", goes_on=True
    ),
    ConnectOutcome.CONNECTED: Words(
        status=200,
        title="Your bank is connected",
        text="You are taken back to the app.",
        goes_on=True,
    ),
    ConnectOutcome.PENDING: Words(
        status=200,
        title="Your bank is still answering",
        text="It takes longer than usual. The app will show when the connection stands.",
        goes_on=True,
    ),
    ConnectOutcome.DENIED: Words(
        status=200,
        title="Nothing was connected",
        text="The connection was cancelled, by you or by your bank. Nothing was shared.",
    ),
    ConnectOutcome.EXPIRED: Words(
        status=200,
        title="That took too long",
        text="What your bank gave for this connection has expired or was used before. "
        "Please begin again in the app.",
    ),
    ConnectOutcome.UNAVAILABLE: Words(
        status=200,
        title="Your bank does not answer",
        text="Your bank, or the way to it, is not available just now. "
        "Please begin again in the app in some minutes.",
    ),
    ConnectOutcome.FAILED: Words(
        status=200,
        title="This did not work",
        text="Something is not set up right between the app and your bank. It is not your fault, "
        "and the people who run the app have been told.",
    ),
    ConnectOutcome.LINK_UNKNOWN: Words(
        status=410,
        title="This link is used up",
        text="A link works once and for five minutes. Please ask for a new one in the app.",
    ),
    ConnectOutcome.FORM_REFUSED: Words(
        status=403,
        title="Please open the link again",
        text="This browser did not send back the cookie that it was given. "
        "Allow cookies for this page, and open the link again.",
    ),
    ConnectOutcome.STATE_UNKNOWN: Words(
        status=400,
        title="There is nothing to finish here",
        text="This connection was finished before, took too long, or never began. "
        "Please look in the app whether your bank is connected, or begin again there.",
    ),
    ConnectOutcome.OTHER_BROWSER: Words(
        status=403,
        title="This began in another browser",
        text="Nothing was connected. A connection must end in the browser in which it began. "
        "If you did not begin one yourself, somebody may have sent you theirs: close this page.",
    ),
    ConnectOutcome.RETURN_REFUSED: Words(
        status=403,
        title="This link leads nowhere",
        text="The app asked to be returned to at an address that is not allowed. "
        "Nothing was connected.",
    ),
    ConnectOutcome.POSTPONED: Words(
        status=503,
        title="One moment, please",
        text="This is not possible just now. Nothing is lost: reload this page in a few seconds.",
    ),
    ConnectOutcome.MISDIRECTED: Words(
        status=404, title="There is no such page", text="Please begin in the app."
    ),
    ConnectOutcome.TURNED_AWAY: Words(
        status=503,
        title="One moment, please",
        text="Too much is going on just now. Nothing is lost: reload this page in a few seconds.",
    ),
    ConnectOutcome.FAULT: Words(
        status=500,
        title="Something went wrong",
        text="It is not your fault, and the people who run this have been told. "
        "Please begin again in the app.",
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One page, ready to be sent."""

    status: int
    body: bytes
    headers: Mapping[str, str]


def link_page(shown: LinkShown) -> Page:
    """Say what a link is for, and let the person decide."""
    words = WORDS[ConnectOutcome.SHOWN]
    account = shown.order.account
    whose = f" to <strong>{escape(account)}</strong>" if account else ""
    body = (
        f"<h1>{words.title}</h1><p>This connects <strong>{escape(shown.order.key.provider)}"
        f"</strong>{whose}. {words.text}</p>"
        f'<form method="post"><input type="hidden" name="proof" value="{shown.proof.reveal()}">'
        "<button>Go on</button></form>"
        '<p class="note">Go on only if you asked for this in the app yourself. If somebody sent '
        "you this link, your bank would be connected to their account: close this page.</p>"
    )
    return _page(words, body, form_action="'self'")


def departure_page(url: str) -> Page:
    """Send the browser on to Akoya.

    Not by a redirect: browsers hold every redirect that follows a form to its ``form-action``, and
    nobody knows over which hosts Akoya leads to a bank.
    """
    return _onward(WORDS[ConnectOutcome.BEGUN], url=url, link="Go on to your bank")


def ending_page(ending: Ending, *, request_id: str, status: int | None = None) -> Page:
    """Say how a visit ended; with a way back where there is one."""
    words = WORDS[ending.outcome]
    if words.goes_on:
        return _onward(words, url=ending.return_url, link="Back to the app")
    back = _link(ending.return_url, "Back to the app") if ending.return_url else ""
    note = f'<p class="note">If you ask for help, name this: {escape(request_id)}</p>'
    body = f"<h1>{words.title}</h1><p>{words.text}</p>{back}{note}"
    return _page(words, body, status=status)


def _onward(words: Words, *, url: str, link: str) -> Page:
    body = f"<h1>{words.title}</h1><p>{words.text}</p>{_link(url, link)}"
    refresh = f'<meta http-equiv="refresh" content="0; url={escape(url)}">'
    return _page(words, body, head=refresh)


def _link(url: str, text: str) -> str:
    return f'<p><a class="on" rel="noreferrer" href="{escape(url)}">{text}</a></p>'


def _page(
    words: Words,
    body: str,
    *,
    head: str = "",
    form_action: str = "'none'",
    status: int | None = None,
) -> Page:
    document = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{words.title}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta name="robots" content="noindex">{head}<style>{_STYLE}</style></head>'
        f"<body><main>{body}</main></body></html>"
    )
    status = words.status if status is None else status
    headers = {
        "Content-Type": HTML_TYPE,
        "Cache-Control": "no-store",
        "Content-Security-Policy": (
            f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; form-action {form_action}; "
            "base-uri 'none'; frame-ancestors 'none'"
        ),
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
    }
    if status == WORDS[ConnectOutcome.POSTPONED].status:
        headers["Retry-After"] = str(RETRY_AFTER_S)
    return Page(status=status, body=document.encode(), headers=headers)
