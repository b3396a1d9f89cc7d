"""`Settings`: every variable of the sidecar with its type, bounds, default and meaning.

The one list of variables: the reference page and the example file are made from it. A field ``x``
is the variable ``SIDECAR_X``. What two variables must mean together is in `rules`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Final, Literal, final

from sidecar.domain.addresses import TcpAddress
from sidecar.domain.secret import Secret
from sidecar.settings.forms import Between, meaning
from sidecar.settings.keys import HashKey, NamedKeys, SealingKeys
from sidecar.settings.values import (
    Address,
    BrakeLimit,
    Directory,
    EgressUrl,
    HttpsOrigin,
    HttpUrl,
    KeyPrefix,
    LeadSeconds,
    Methods,
    PlainSecret,
    ReadableFile,
    RedirectUri,
    RedisUrl,
    ReturnTargets,
    Scopes,
    SocketMode,
    UrlPath,
    UserHeader,
    Visible,
)

PREFIX: Final = "SIDECAR_"
MIB: Final = 1024 * 1024

IDP_URLS: Final = {
    "sandbox": "https://sandbox-idp.ddp.akoya.com",
    "production": "https://idp.ddp.akoya.com",
}
PRODUCTS_URLS: Final = {
    "sandbox": "https://sandbox-products.ddp.akoya.com",
    "production": "https://products.ddp.akoya.com",
}


SECTIONS: Final = {
    "akoya_client_id": "Akoya",
    "redis_url": "Store",
    "proxy_listen": "Listeners",
    "connect_listen": "Consent in the browser",
    "refresh_ahead": "Refreshing",
    "user_header": "Proxy",
    "ca_file": "Network and process",
}
"""The field with which each section of the reference begins."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What an operator decided; frozen. Spans are seconds; its `repr` shows no secret."""

    akoya_client_id: Visible = field(
        metadata=meaning("The app's client id at Akoya."),
    )
    akoya_client_secret: PlainSecret = field(
        repr=False,
        metadata=meaning(
            "The app's client secret at Akoya; from a file it is read again when the file changes."
        ),
    )
    akoya_environment: Literal["sandbox", "production"] = field(
        default="sandbox",
        metadata=meaning("Chooses the hosts of the token service and of the data APIs."),
    )
    idp_url: HttpUrl | None = field(
        default=None,
        metadata=meaning(
            "The token service; by default "
            f"`{IDP_URLS['sandbox']}` or `{IDP_URLS['production']}`, by environment."
        ),
    )
    products_url: HttpUrl | None = field(
        default=None,
        metadata=meaning(
            "The data APIs; by default "
            f"`{PRODUCTS_URLS['sandbox']}` or `{PRODUCTS_URLS['production']}`, by environment."
        ),
    )
    revoke_path: UrlPath = field(
        default="/revoke",
        metadata=meaning(
            "Path of the token service's revocation; some documentation says `/token/revoke`."
        ),
    )
    redirect_uri: RedirectUri | None = field(
        default=None,
        metadata=meaning("Redirect URI of code exchanges that name none."),
    )
    scopes: Scopes = field(
        default="openid profile offline_access",
        metadata=meaning("Scopes of the authorize URLs that the grants API makes."),
    )
    refresh_auth: Literal["body", "basic"] = field(
        default="body",
        metadata=meaning(
            "Where token requests carry the client's credentials; Akoya documents the body."
        ),
    )
    idp_connect_timeout_s: Annotated[float, Between(0.1, 7)] = field(
        default=5.0,
        metadata=meaning(
            "How long a connection to the token service may take; bounded by the lease of a claim."
        ),
    )
    idp_timeout_s: Annotated[float, Between(1, 300)] = field(
        default=15.0,
        metadata=meaning(
            "How long a caller of the grants API waits for Akoya; the exchange itself goes on."
        ),
    )
    redis_url: RedisUrl = field(
        default=Secret("redis://127.0.0.1:6379/0"),
        repr=False,
        metadata=meaning(
            "The Redis or Valkey that the fleet shares: `redis://user:password@host:port/number`, "
            "`redis+sentinel://user:password@host:port,host:port/service/number` with the users of "
            "Sentinels as `?sentinel_username=…&sentinel_password=…`, or "
            "`redis+cluster://user:password@host:port,host:port`."
        ),
    )
    redis_prefix: KeyPrefix = field(
        default="sidecar",
        metadata=meaning("First part of every key."),
    )
    encryption_keys: SealingKeys = field(
        repr=False,
        metadata=meaning("Keys that seal tokens; the first seals, all of them open."),
    )
    hash_key: HashKey = field(
        repr=False,
        metadata=meaning(
            "Key of the grant ids, log tags and fingerprints; never rotated, the same in the "
            "whole fleet."
        ),
    )
    spool_dir: Directory = field(
        default="/var/lib/akoya-sidecar/spool",
        metadata=meaning(
            "Where pairs lie that are not yet safe in the store; must survive a restart."
        ),
    )
    proxy_listen: Address = field(
        default=TcpAddress(host="127.0.0.1", port=8080),
        metadata=meaning("Address of the proxy; port 0 picks a free one and logs it."),
    )
    control_listen: Address = field(
        default=TcpAddress(host="127.0.0.1", port=8081),
        metadata=meaning("Address of the grants API."),
    )
    metrics_listen: Address = field(
        default=TcpAddress(host="0.0.0.0", port=9464),  # noqa: S104 - Prometheus and the kubelet ask
        metadata=meaning("Address of the metrics and the probes; they say nothing secret."),
    )
    socket_mode: SocketMode = field(
        default=0o600,
        metadata=meaning("Mode of Unix sockets."),
    )
    client_keys: NamedKeys = field(
        default=(),
        repr=False,
        metadata=meaning(
            "Keys of clients; when set, a proxied request needs `Sidecar-Key`. The name is "
            "the log field `client`."
        ),
    )
    control_keys: NamedKeys = field(
        repr=False,
        metadata=meaning("Keys of the grants API: `Authorization: Bearer <key>`."),
    )
    control_tls_cert: ReadableFile | None = field(
        default=None,
        metadata=meaning("Certificate chain (PEM) of the control listener."),
    )
    control_tls_key: ReadableFile | None = field(
        default=None,
        metadata=meaning("Private key (PEM) of that certificate."),
    )
    allow_unauthenticated: bool = field(
        default=False,
        metadata=meaning(
            "Lets the proxy listen beyond loopback without client keys: whoever reaches it "
            "acts for every user."
        ),
    )
    allow_plaintext_control: bool = field(
        default=False,
        metadata=meaning(
            "Lets the control listener listen beyond loopback without TLS: its keys can be "
            "read on the way."
        ),
    )
    connect_listen: Address | None = field(
        default=None,
        metadata=meaning(
            "Address of the pages on which end users connect a bank; without it there are none."
        ),
    )
    connect_url: HttpsOrigin | None = field(
        default=None,
        metadata=meaning(
            "Where browsers reach that listener: a host of its own. `<it>/callback` is the "
            "redirect URI to register at Akoya."
        ),
    )
    connect_return_to: ReturnTargets = field(
        default=(),
        metadata=meaning(
            "Where end users may be sent back to: each URL allows itself and the paths below it."
        ),
    )
    connect_tls_cert: ReadableFile | None = field(
        default=None,
        metadata=meaning("Certificate chain (PEM) of that listener."),
    )
    connect_tls_key: ReadableFile | None = field(
        default=None,
        metadata=meaning("Private key (PEM) of that certificate."),
    )
    allow_plaintext_connect: bool = field(
        default=False,
        metadata=meaning(
            "Lets that listener listen beyond loopback without TLS, as behind an ingress that ends "
            "TLS: cookies and codes can be read on the way from there."
        ),
    )
    refresh_ahead: Literal["active", "all", "off"] = field(
        default="active",
        metadata=meaning(
            "Which grants are refreshed before they expire, although nobody asks: those in use, "
            "all, or none; with `off` a grant is refreshed when it is used and has expired."
        ),
    )
    active_window_s: Annotated[float, Between(60, 31536000)] = field(
        default=86400.0,
        metadata=meaning(
            "How recently a grant must have been used, anywhere in the fleet, to count as in use; "
            "it matters to `active`."
        ),
    )
    keepalive_s: Annotated[float, Between(0, 31536000)] = field(
        default=0.0,
        metadata=meaning(
            "No refresh token gets older than this, in use or not, lest it die of disuse at the "
            "bank; 0 is off, else at least 60, and refused beside `SIDECAR_REFRESH_AHEAD=off`."
        ),
    )
    refresh_lead_s: LeadSeconds = field(
        default=None,
        metadata=meaning(
            "How long before its expiry an id_token is refreshed; auto is a fifth of its "
            "life, 60 s to 30 min, jittered, never more than half."
        ),
    )
    id_token_max_age_s: Annotated[float, Between(60, 604800)] = field(
        default=86400.0,
        metadata=meaning("Upper bound on the trusted life of an id_token."),
    )
    refresh_wait_s: Annotated[float, Between(0.1, 120)] = field(
        default=10.0,
        metadata=meaning(
            "How long a request waits for tokens, in its look-up and its heal together, before it "
            "is answered 503; the refresh goes on. What is known to last longer, such as a doubt "
            "or a backoff, is answered at once."
        ),
    )
    probe_policy: Literal["after_hold", "owner_only", "manual"] = field(
        default="after_hold",
        metadata=meaning(
            "Who may present a refresh token again whose answer died with its owner: anybody once "
            "the hold is over, the owner's own restart, or nobody but where `POST "
            "/grants/{provider}/{user}/refresh` orders it, which it may under each of them."
        ),
    )
    brake_limit: BrakeLimit = field(
        default=None,
        metadata=meaning(
            "Grants that may turn `reauth_required` in ten minutes before the brake stops all "
            "claims of the fleet; auto is one of a thousand, at least 5."
        ),
    )
    user_header: UserHeader = field(
        default="Sidecar-User",
        metadata=meaning("Header that names the end user of a proxied request."),
    )
    methods: Methods = field(
        default=("GET", "POST"),
        metadata=meaning("Methods that the proxy accepts."),
    )
    replay_body_max_bytes: Annotated[int, Between(0, 64 * MIB)] = field(
        default=65536,
        metadata=meaning(
            "Request bodies up to this size are kept, so that a healed request can be repeated."
        ),
    )
    max_request_bytes: Annotated[int, Between(0)] = field(
        default=0,
        metadata=meaning("Largest request body, else 413; 0 is no limit."),
    )
    max_in_flight: Annotated[int, Between(1, 1000000)] = field(
        default=1000,
        metadata=meaning(
            "Proxied requests at a time; beyond it 503 with `Retry-After`. Half of them may wait "
            "for a token, a quarter for one grant's, and one bank leaves a tenth to the others."
        ),
    )
    upstream_connect_timeout_s: Annotated[float, Between(0.1, 60)] = field(
        default=5.0,
        metadata=meaning("How long a connection to the data APIs may take."),
    )
    upstream_timeout_s: Annotated[float, Between(0.1, 3600)] = field(
        default=30.0,
        metadata=meaning(
            "Longest wait for the whole head of an answer, and for the next read of its body."
        ),
    )
    upstream_retries: Annotated[int, Between(0, 3)] = field(
        default=0,
        metadata=meaning(
            "Repeats of a GET without a usable answer, or after 408, 429 or 5xx, within a budget."
        ),
    )
    ca_file: ReadableFile | None = field(
        default=None,
        metadata=meaning(
            "CA certificates (PEM) that the token service, the data APIs and Redis must have, "
            "instead of the system's."
        ),
    )
    egress_proxy: EgressUrl | None = field(
        default=None,
        repr=False,
        metadata=meaning("HTTP proxy for the token service and the data APIs."),
    )
    drain_timeout_s: Annotated[float, Between(0, 3600)] = field(
        default=100.0,
        metadata=meaning(
            "Longest wait after SIGTERM; normally done as soon as the claims in flight are."
        ),
    )
    log_level: Literal["debug", "info", "warning", "error"] = field(
        default="info",
        metadata=meaning("Least level that is logged."),
    )
    log_format: Literal["json", "console"] = field(
        default="json",
        metadata=meaning("One JSON object a line, or lines for people."),
    )
    traces: Literal["off", "otlp"] = field(
        default="off",
        metadata=meaning(
            "Whether requests and claims are shown as OpenTelemetry spans; where `otlp` sends them "
            "is told by OpenTelemetry's own variables, as `OTEL_EXPORTER_OTLP_ENDPOINT`."
        ),
    )

    @property
    def effective_idp_url(self) -> str:
        """Base URL of the token service, without a slash at its end."""
        return self.idp_url or IDP_URLS[self.akoya_environment]

    @property
    def effective_products_url(self) -> str:
        """Base URL of the data APIs, without a slash at its end."""
        return self.products_url or PRODUCTS_URLS[self.akoya_environment]
