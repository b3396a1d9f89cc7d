"""Everything worth telling an operator, as frozen values.

Services observe these; `sidecar.telemetry` renders each as a log line, a metric or both. An event
carries facts, never a token, a key, a query string or a header value; ``grant`` is a keyed hash.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar, Final

from sidecar.domain.bulkhead import SlotLimit
from sidecar.domain.connection_table import DropCause, ListenerName
from sidecar.domain.failure import FailureReason, Operation
from sidecar.domain.record import GrantId, GrantState
from sidecar.domain.resources import NeededAt, Resource
from sidecar.domain.store_trouble import StoreTrouble
from sidecar.domain.throttle import BrakeCause
from sidecar.domain.tokens import ProblemReason, TokenFailure, TokenSource
from sidecar.domain.upstream_failures import UpstreamCause


class RequestOutcome(StrEnum):
    """How a proxied request ended, and on whose account."""

    PASSED = "passed"
    """The upstream's answer went to the client, whatever its status."""
    HEALED = "healed"
    """As passed, after a refresh that a 401 asked for."""
    REFUSED = "refused"
    """The sidecar answered itself; the reason says why."""
    CLIENT_GONE = "client_gone"
    UPSTREAM_BROKE = "upstream_broke"
    """The upstream's body ended early; the client's connection was aborted."""
    FAILED = "failed"
    """A fault of the sidecar."""


class UpstreamClass(StrEnum):
    """What kind of answer a data API gave."""

    OK = "ok"
    PARTIAL = "partial"
    TOKEN_602 = "token_602"  # noqa: S105 - a class of answers
    CUSTOMER_601 = "customer_601"
    ACCOUNT_701 = "account_701"
    RATE_LIMITED = "rate_limited"
    SUBSCRIPTION_403 = "subscription_403"
    CLIENT_4XX = "client_4xx"
    SERVER_5XX = "server_5xx"
    TIMEOUT = "timeout"


class ClaimOutcome(StrEnum):
    """How a wish for a newer pair ended at this sidecar."""

    WON = "won"
    WAITED = "waited"
    LOST = "lost"
    TAKEN_OVER = "taken_over"
    IN_DOUBT = "in_doubt"


class ClaimKind(StrEnum):
    """Why a refresh token was presented."""

    FIRST = "first"
    RETRY = "retry"
    PROBE = "probe"
    ORPHAN = "orphan"


class LossCause(StrEnum):
    """Why a live pair is gone for good, or a consent ended."""

    CONSENT_OR_EXPIRY = "consent_or_expiry"
    """No loss: the consent ended at Akoya or at the bank."""
    OWNER_DIED = "owner_died"
    RESPONSE_LOST = "response_lost"
    STORE_ROLLBACK = "store_rollback"
    FOREIGN_CLIENT = "foreign_client"


class CommitAnswer(StrEnum):
    """What the store said to a pair."""

    COMMITTED = "committed"
    DUPLICATE = "duplicate"
    STALE = "stale"
    FORKED = "forked"
    SUPERSEDED = "superseded"
    REVOKE = "revoke"


class DueOutcome(StrEnum):
    """What came of looking at a grant that was due although nobody asked for it."""

    REFRESHED = "refreshed"
    FOUND_NEWER = "found_newer"
    POSTPONED = "postponed"
    CROWDED = "crowded"
    """Enough wishes for this bank are on their way."""
    EARLY = "early"
    IDLE = "idle"
    GONE = "gone"
    UNREADABLE = "unreadable"


class Mend(StrEnum):
    """What a sweep put right."""

    SCHEDULED = "scheduled"
    """A grant was missing in the schedule, or stood there too late."""
    SETTLED = "settled"
    """A doubt had outlived its healing time."""
    RESEALED = "resealed"
    """A record was sealed with a former key."""
    SPOOL_RESEALED = "spool_resealed"


class BreakerName(StrEnum):
    """The breakers that stop token requests of the whole fleet."""

    CREDENTIALS = "credentials"


class ConnectOutcome(StrEnum):
    """How one visit to the connect listener ended."""

    SHOWN = "shown"
    """The page that a link leads to; nothing was used up."""
    BEGUN = "begun"
    """The link was used, and the person sent on to Akoya."""
    CONNECTED = "connected"
    PENDING = "pending"
    """Akoya takes longer than a person waits; the exchange goes on."""
    DENIED = "denied"
    """The person, or the bank for them, said no."""
    EXPIRED = "expired"
    """The code was too old, or used before."""
    UNAVAILABLE = "unavailable"
    """Akoya or the bank failed; later it may work."""
    FAILED = "failed"
    """A person who runs the app or the sidecar must act."""
    LINK_UNKNOWN = "link_unknown"
    """The link was used before, is too old, or was never made."""
    FORM_REFUSED = "form_refused"
    """The form does not belong to the page that this browser was shown."""
    STATE_UNKNOWN = "state_unknown"
    """A ``state`` that was used before, is too old, or was never given to this browser."""
    OTHER_BROWSER = "other_browser"
    """A ``state`` in a browser that did not begin with it."""
    RETURN_REFUSED = "return_refused"
    """The way back is not on the allow-list any more."""
    POSTPONED = "postponed"
    """The store, the disk or a breaker stands in the way; nothing was used up."""
    MISDIRECTED = "misdirected"
    """No page of this listener, or no request that can be read."""
    TURNED_AWAY = "turned_away"
    """The sidecar is stopping, or too many visits are under way."""
    CLIENT_GONE = "client_gone"
    """The browser left before its answer."""
    FAULT = "fault"
    """A fault of the sidecar."""

    @property
    def is_told(self) -> bool:
        """Whether the app hears of it, with the person that is sent back."""
        return self in _TOLD


_TOLD: Final = frozenset(
    {
        ConnectOutcome.CONNECTED,
        ConnectOutcome.PENDING,
        ConnectOutcome.DENIED,
        ConnectOutcome.EXPIRED,
        ConnectOutcome.UNAVAILABLE,
        ConnectOutcome.FAILED,
    }
)


class Outcome(StrEnum):
    """How one call of the outside world ended."""

    OK = "ok"
    FAILED = "failed"


class StoreOperation(StrEnum):
    """What was asked of the store."""

    READ = "read"
    SCAN = "scan"
    PROBE = "probe"
    MEET = "meet"
    EVENTS = "events"
    AGREE = "agree"
    CANARY = "canary"
    THROTTLE = "throttle"
    RESERVE = "reserve"
    ACQUIRE = "acquire"
    MARK = "mark"
    KEEP = "keep"
    RELEASE = "release"
    COMMIT = "commit"
    DENY = "deny"
    SETTLE = "settle"
    ORPHAN = "orphan"
    REVOKE_BEGIN = "revoke_begin"
    REVOKE_FINISH = "revoke_finish"
    REWRAP = "rewrap"
    INVALIDATE = "invalidate"
    COOL_DOWN = "cool_down"
    COOL_DOWN_END = "cool_down_end"
    PURGE = "purge"
    TAKE_DUE = "take_due"
    SCHEDULE = "schedule"
    USES = "uses"
    DEPOSITS = "deposits"


# --- requests of clients --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestCompleted:
    """One proxied request has ended; the canonical log line.

    Attributes:
        limit: Which limit of the slots it met, where it was refused as overloaded.
        cause: Why the upstream gave no answer, or not the whole of it.
    """

    event: ClassVar[str] = "request.completed"

    request_id: str
    trace_id: str
    grant: GrantId | None
    client: str
    provider: str
    product: str
    method: str
    status: int
    outcome: RequestOutcome
    reason: ProblemReason | None
    limit: SlotLimit | None = None
    cause: UpstreamCause | None
    duration_s: float
    upstream_duration_s: float
    bytes_in: int
    bytes_out: int
    interaction_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestStarted:
    """A proxied request is in flight (metric only)."""

    event: ClassVar[str] = "request.started"


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamAnswered:
    """The upstream answered one request, or ran out of time (metric only)."""

    event: ClassVar[str] = "upstream.answered"

    provider: str
    upstream_class: UpstreamClass


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenLookedUp:
    """A request asked for a bearer (metric only)."""

    event: ClassVar[str] = "token.looked_up"

    source: TokenSource


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlCompleted:
    """One call of the grants API has ended."""

    event: ClassVar[str] = "control.completed"

    request_id: str
    trace_id: str
    client: str
    route: str
    status: int
    reason: str
    grant: GrantId | None
    duration_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectCompleted:
    """One visit of a person to the connect listener has ended.

    Attributes:
        step: ``link``, ``begin`` or ``callback``; ``""`` where it was no page of ours.
        reason: What Akoya said, or what stood in the way; from closed sets.
    """

    event: ClassVar[str] = "connect.completed"

    request_id: str
    step: str
    status: int
    outcome: ConnectOutcome
    reason: str
    provider: str
    grant: GrantId | None
    duration_s: float


# --- tokens, claims, grants -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRequestEnded:
    """A request to the token service has ended, well or not (metric only)."""

    event: ClassVar[str] = "token.request_ended"

    operation: Operation
    outcome: Outcome
    duration_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRequestFailed:
    """A token request failed; the catalogue says why and what happens next."""

    event: ClassVar[str] = "token.request_failed"

    grant: GrantId
    provider: str
    failure: TokenFailure
    retry_in_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenObtained:
    """A new consent's first pair was exchanged or imported and stored."""

    event: ClassVar[str] = "token.obtained"

    grant: GrantId
    provider: str
    is_import: bool
    is_other_subject: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRefreshed:
    """A new pair is durable here and on its way to the store.

    Attributes:
        answer_to_spool_s: From the last byte of the answer to the end of the durable write.
    """

    event: ClassVar[str] = "token.refreshed"

    grant: GrantId
    provider: str
    generation: int
    duration_s: float
    answer_to_spool_s: float
    is_salvaged: bool
    was_slow: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenSent:
    """A refresh token leaves this sidecar (metric only)."""

    event: ClassVar[str] = "token.sent"

    kind: ClaimKind


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimEndedAs:
    """A wish for a newer pair has ended at this sidecar (metric, and a debug line)."""

    event: ClassVar[str] = "claim.ended"

    grant: GrantId
    outcome: ClaimOutcome


@dataclass(frozen=True, slots=True, kw_only=True)
class BackoffOverridden:
    """A person had a grant refreshed although its backoff was not over."""

    event: ClassVar[str] = "backoff.overridden"

    grant: GrantId


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimSlowed:
    """A claim waits unusually long for its answer; it goes on, its waiters do not."""

    event: ClassVar[str] = "claim.slowed"

    grant: GrantId
    provider: str
    waited_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryWithheld:
    """An ambiguous try is not repeated now: the repeats of this sidecar are used up for a while."""

    event: ClassVar[str] = "claim.retry_withheld"

    grant: GrantId
    provider: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimVetoed:
    """A claim was stopped before its first byte: the lease or the send window was over."""

    event: ClassVar[str] = "claim.vetoed"

    grant: GrantId


@dataclass(frozen=True, slots=True, kw_only=True)
class PairCommitted:
    """The store answered to a pair.

    Attributes:
        was: The state it replaced, where that is known.
    """

    event: ClassVar[str] = "pair.committed"

    grant: GrantId
    answer: CommitAnswer
    was: GrantState | None
    is_replay: bool
    is_gap: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantDoubted:
    """A refresh token was refused and somebody may hold its successor: the fleet is asked."""

    event: ClassVar[str] = "grant.doubted"

    grant: GrantId
    reason: FailureReason
    heal_in_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantReauthRequired:
    """The end user must consent again."""

    event: ClassVar[str] = "grant.reauth_required"

    grant: GrantId
    cause: LossCause


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenLost:
    """A live pair is gone for good. Page on any."""

    event: ClassVar[str] = "token.lost"

    grant: GrantId
    cause: LossCause


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantRevoked:
    """A grant was revoked here and at Akoya."""

    event: ClassVar[str] = "grant.revoked"

    grant: GrantId


@dataclass(frozen=True, slots=True, kw_only=True)
class RevocationPostponed:
    """A grant is served no more, but Akoya could not be told yet; the order is kept."""

    event: ClassVar[str] = "revocation.postponed"

    grant: GrantId
    retry_in_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantInvalidated:
    """A client said that the consent is gone."""

    event: ClassVar[str] = "grant.invalidated"

    grant: GrantId


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantPurged:
    """A tombstone was erased on demand."""

    event: ClassVar[str] = "grant.purged"

    grant: GrantId


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantCooled:
    """A fresh token was rejected too: 401s of this product start no refresh for a while."""

    event: ClassVar[str] = "grant.cooled"

    grant: GrantId
    product: str
    cool_for_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordQuarantined:
    """The store lost its memory of running claims; this grant is not claimed for a while.

    Attributes:
        until_ms: The end of the quarantine on the store's clock, the same for whoever asks.
    """

    event: ClassVar[str] = "record.quarantined"

    grant: GrantId
    wait_s: float
    until_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordUnreadable:
    """An envelope could not be opened (a missing key, or damage); the grant is left as it is."""

    event: ClassVar[str] = "record.unreadable"

    grant: GrantId
    key_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantLookedAt:
    """The schedule said that a grant was due, and somebody looked at it.

    Attributes:
        late_s: How long after its instant.
    """

    event: ClassVar[str] = "grant.looked_at"

    grant: GrantId
    outcome: DueOutcome
    late_s: float


# --- spool, store, process ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class SpoolWritten:
    """An entry reached the spool (metric only)."""

    event: ClassVar[str] = "spool.written"

    duration_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SpoolMeasured:
    """How much only this disk knows, and whether it takes more (metric only)."""

    event: ClassVar[str] = "spool.measured"

    is_writable: bool
    entries: int
    parked: int
    oldest_parked_at_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SpoolFailed:
    """The spool cannot be written: no claim leaves until it can."""

    event: ClassVar[str] = "spool.failed"

    errno_name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SpoolReplayed:
    """Pairs of the spool were offered to the store again (start, or a new incarnation of it)."""

    event: ClassVar[str] = "spool.replayed"

    pairs: int
    orphans: int
    adopted_directories: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreOperationEnded:
    """One call of the store has ended (metric only)."""

    event: ClassVar[str] = "store.operation_ended"

    operation: StoreOperation
    outcome: Outcome
    duration_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreTroubled:
    """A call of the store failed, or could open no connection and used another (metric only)."""

    event: ClassVar[str] = "store.troubled"

    cause: StoreTrouble


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreStrained:
    """The store answers probes, but not every call: the others fail, or wait, for this cause."""

    event: ClassVar[str] = "store.strained"

    cause: StoreTrouble
    hint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreEased:
    """The store answers every call again."""

    event: ClassVar[str] = "store.eased"

    strained_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreLost:
    """The store does not answer: cached tokens are served until they expire, nothing is claimed."""

    event: ClassVar[str] = "store.lost"

    cause: StoreTrouble
    hint: str
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreRestored:
    """The store answers again."""

    event: ClassVar[str] = "store.restored"

    away_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreReincarnated:
    """The store restarted or failed over and may have lost writes: the spool is replayed."""

    event: ClassVar[str] = "store.reincarnated"


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerOpened:
    """Token requests stop, but for one canary at a time."""

    event: ClassVar[str] = "breaker.opened"

    name: BreakerName
    reason: FailureReason


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerClosed:
    """Token requests flow again."""

    event: ClassVar[str] = "breaker.closed"

    name: BreakerName


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderBreakerOpened:
    """Too many token requests of one bank failed: its refreshes stop, but for a canary."""

    event: ClassVar[str] = "provider_breaker.opened"

    provider: str
    reason: FailureReason


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderBreakerClosed:
    """The bank's refreshes flow again."""

    event: ClassVar[str] = "provider_breaker.closed"

    provider: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BrakePulled:
    """Many users seem to lose their consent at once: claims and settlements of the fleet stop.

    Attributes:
        grants: How many grants there were at the last count.
    """

    event: ClassVar[str] = "brake.pulled"

    cause: BrakeCause
    grants: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BrakeReleased:
    """A person let some or all grants go: claims flow again, and as many doubts are settled.

    Attributes:
        limit: How many grants are let go; 0: all, or that is over already.
    """

    event: ClassVar[str] = "brake.released"

    limit: int
    is_all: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class BrakeTrialEnded:
    """The grants that a release let go were decided, most of them well: the usual rules apply.

    Attributes:
        limit: How many grants were let go.
    """

    event: ClassVar[str] = "brake.trial_ended"

    limit: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientSecretRead:
    """The file of the app's secret changed; `is_usable`: the new one is used from now on."""

    event: ClassVar[str] = "client_secret.read"

    is_usable: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantsCounted:
    """The fleet's grants by state, as the API names them (metric only).

    Attributes:
        is_ours: Whether this sidecar is the one that counts; else there is nothing to show.
    """

    event: ClassVar[str] = "grants.counted"

    is_ours: bool
    active: int = 0
    refreshing: int = 0
    in_doubt: int = 0
    reauth_required: int = 0
    revoking: int = 0
    revoked: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSwept:
    """Every record of the fleet was looked at once, and mended where that was needed.

    Attributes:
        scheduled: Grants that were missing in the schedule or stood there too late.
        settled: Doubts that had outlived their healing time.
        resealed: Records that were sealed with a former key.
        unreadable: Records sealed with a key that this sidecar does not have, or damaged.
    """

    event: ClassVar[str] = "store.swept"

    records: int
    scheduled: int
    settled: int
    resealed: int
    unreadable: int
    took_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SpoolResealed:
    """Entries of the own spool that were sealed with a former key are sealed with the first one."""

    event: ClassVar[str] = "spool.resealed"

    entries: int
    unreadable: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopLagged:
    """How late the event loop ran a timer (metric only)."""

    event: ClassVar[str] = "loop.lagged"

    lag_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceExhausted:
    """A connection could not be accepted or made: the process or its machine is out of a resource.

    Attributes:
        where: What it was needed for.
    """

    event: ClassVar[str] = "resource.exhausted"

    resource: Resource
    where: NeededAt


@dataclass(frozen=True, slots=True, kw_only=True)
class DescriptorsShared:
    """How many connections each listener may have, from the descriptors of the process.

    Attributes:
        limit: Descriptors that the process may have open.
        was: The same before the start raised it.
        in_flight: Proxied calls at a time.
    """

    event: ClassVar[str] = "descriptors.shared"

    limit: int
    was: int
    proxy: int
    control: int
    metrics: int
    connect: int
    in_flight: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionsCounted:
    """How many connections a listener has, and may have (metric only)."""

    event: ClassVar[str] = "connections.counted"

    listener: ListenerName
    connections: int
    limit: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionDropped:
    """The sidecar closed a client's connection, or did not take it."""

    event: ClassVar[str] = "connection.dropped"

    listener: ListenerName
    cause: DropCause


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerFilled:
    """A listener has as many connections as it may, none can go, and a new one was refused."""

    event: ClassVar[str] = "listener.filled"

    listener: ListenerName
    limit: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LifecycleListening:
    """A listener is open."""

    event: ClassVar[str] = "lifecycle.listening"

    listener: str
    address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LifecycleReady:
    """The sidecar serves."""

    event: ClassVar[str] = "lifecycle.ready"

    version: str
    started_in_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LifecycleDraining:
    """Asked to stop: no new requests, no new claims; running ones end."""

    event: ClassVar[str] = "lifecycle.draining"

    claims: int
    parked: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LifecycleStopped:
    """The process ends; ``parked`` pairs lie in the spool only."""

    event: ClassVar[str] = "lifecycle.stopped"

    parked: int
    drained: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigurationWarned:
    """Something is configured in a way that is allowed and dangerous, or wrong in the store."""

    event: ClassVar[str] = "configuration.warned"

    subject: str
    advice: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigurationReloaded:
    """SIGHUP: what comes from files was read again, and counts from now on.

    Attributes:
        changed: Variables whose content differs from before, separated by commas; no values.
        restart_needed: Those that differ and count only after a restart.
    """

    event: ClassVar[str] = "configuration.reloaded"

    changed: str
    restart_needed: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigurationReloadRefused:
    """SIGHUP: something that was read again cannot be used, so everything stays as it was.

    Attributes:
        variables: What is wrong, separated by commas.
        advice: Each of them again, with what is wrong with it; no values.
    """

    event: ClassVar[str] = "configuration.reload_refused"

    variables: str
    advice: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalIgnored:
    """A signal came that means nothing to a sidecar; without this it would have ended it.

    Attributes:
        signal: Its name.
        times: How often it came since this was last told; told at most once a minute.
    """

    event: ClassVar[str] = "signal.ignored"

    signal: str
    times: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkFailed:
    """A fault of the sidecar itself, caught at the outermost edge of a piece of work.

    Attributes:
        where: Which piece of work, from a closed set in the code.
        error: The exception's class name and the innermost frame of ours; never its message.
    """

    event: ClassVar[str] = "work.failed"

    where: str
    error: str


Event = (
    RequestCompleted
    | RequestStarted
    | UpstreamAnswered
    | TokenLookedUp
    | ControlCompleted
    | ConnectCompleted
    | TokenRequestEnded
    | TokenRequestFailed
    | TokenObtained
    | TokenRefreshed
    | TokenSent
    | ClaimEndedAs
    | BackoffOverridden
    | ClaimSlowed
    | RetryWithheld
    | ClaimVetoed
    | PairCommitted
    | GrantDoubted
    | GrantReauthRequired
    | TokenLost
    | GrantRevoked
    | RevocationPostponed
    | GrantInvalidated
    | GrantPurged
    | GrantCooled
    | RecordQuarantined
    | RecordUnreadable
    | GrantLookedAt
    | SpoolWritten
    | SpoolMeasured
    | SpoolFailed
    | SpoolReplayed
    | StoreOperationEnded
    | StoreTroubled
    | StoreStrained
    | StoreEased
    | StoreLost
    | StoreRestored
    | StoreReincarnated
    | BreakerOpened
    | BreakerClosed
    | ProviderBreakerOpened
    | ProviderBreakerClosed
    | BrakePulled
    | BrakeReleased
    | BrakeTrialEnded
    | ClientSecretRead
    | GrantsCounted
    | StoreSwept
    | SpoolResealed
    | LoopLagged
    | ResourceExhausted
    | DescriptorsShared
    | ConnectionsCounted
    | ConnectionDropped
    | ListenerFilled
    | LifecycleListening
    | LifecycleReady
    | LifecycleDraining
    | LifecycleStopped
    | ConfigurationWarned
    | ConfigurationReloaded
    | ConfigurationReloadRefused
    | SignalIgnored
    | WorkFailed
)
