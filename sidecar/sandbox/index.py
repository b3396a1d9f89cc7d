"""What the index page tells: every path of the sandbox and what it does.

It must not know how any of them works.
"""

from __future__ import annotations

from typing import Final

ROWS: Final = (
    ("GET /auth", "Consent: sign in (user name = password), terms, accounts; ends at redirect_uri"),
    ("POST /token", "Obtain (Basic) and refresh (credentials in the form)"),
    ("POST /revoke, /token/revoke", "Revoke the grant of a refresh token"),
    ("GET /.well-known/openid-configuration", "Discovery"),
    ("GET /keys, /.well-known/jwks.json", "The keys that verify id_tokens"),
    (
        "GET /{product}/{v2|v3}/{provider}/...",
        (
            "Data. Users mikomo_500, _501, _601, _602, _701 to _704 get that error, mikomo_206 a"
            " partial answer; providers unknown-... have no subscription"
        ),
    ),
    ("GET /sandbox/health", "Is it up?"),
    (
        'POST /sandbox/consents {"user", "provider"?, "redirect_uri"?}',
        "Consent without the pages; gives the code",
    ),
    (
        "GET /sandbox/ledger?user=",
        'Every presentation of a refresh token in order, as {"entries": [...]}; tokens by digest',
    ),
    ("GET /sandbox/ledger/summary", "Counts, and the tokens presented or claimed twice"),
    ("DELETE /sandbox/ledger", "Forget the presentations"),
    ("GET /sandbox/faults", "The armed faults with their hits, and what arrived at /elsewhere"),
    (
        (
            'POST /sandbox/faults {"operation", "kind", "times"?, "chance"?, "user"?, "provider"?, '
            '"delay_s"?, "status"?, "retry_after_s"?, "after_bytes"?, "framing"?, "beside"?, '
            '"end"?, ...}'
        ),
        (
            "Arm one fault, or a list. Operations: obtain, refresh, revoke, data, any_token. Kinds:"
            " drop_before, drop_after, cut_after, frame, slow_before, slow_after, status_before,"
            " status_after, html, redirect (location), error (error, error_description),"
            " body (body, content_type), omit (fields), reject_bearer. times 0 means until deleted."
            " Any kind's answer goes out by framing (length, chunked, close), with beside (interim,"
            " surplus), and end (fin, rst)"
        ),
    ),
    ("DELETE /sandbox/faults?id=", "Disarm one fault, or all"),
    (
        'POST /sandbox/expire-id-tokens {"user"?, "provider"?}',
        "Answer every id_token issued so far with 401/602",
    ),
    (
        'POST /sandbox/revoke-consent {"user", "provider"?}',
        "The end user revokes at the bank: refresh is refused, data is 401/602",
    ),
    ("GET /sandbox/grants", "Each grant: user, provider, generation, ended or not, token digest"),
    (
        "GET, PATCH /sandbox/settings",
        (
            "id_token_life_s, id_token_honoured_s (602 before the end), refresh_token_life_s,"
            " code_life_s, profile (dex, hydra), grace_s, race_error, rate_limit, strict_auth,"
            " providers_down (a list of banks that are away)"
        ),
    ),
)
