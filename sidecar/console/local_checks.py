"""What `doctor` sees without asking anybody: risky choices, certificate files, the spool's disk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from sidecar.adapters.spool_disk import NEEDED_BYTES, SpoolPlace, look_at
from sidecar.app.files import TlsFiles, read_tls_files
from sidecar.console.findings import Area, Finding, Verdict
from sidecar.settings import Problem, Settings
from sidecar.telemetry.tracing import trouble_of

IN_MEMORY: Final = frozenset({"tmpfs", "ramfs"})
OF_THE_CONTAINER: Final = frozenset({"overlay", "aufs"})
SHARED: Final = frozenset({"nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "glusterfs"})
MIB: Final = 1 << 20
CA_FILE: Final = "SIDECAR_CA_FILE"
SPOOL: Final = "SIDECAR_SPOOL_DIR"


def configuration_problems(problems: Sequence[Problem]) -> tuple[Finding, ...]:
    """Return a finding for each thing that `run` would not start with."""
    return tuple(
        Finding(
            area=Area.CONFIGURATION,
            subject=problem.variable,
            verdict=Verdict.WRONG,
            found=problem.sentence,
            advice="see the configuration reference; `run` ends with 78 as it is",
        )
        for problem in problems
    )


def check_configuration(settings: Settings) -> tuple[Finding, ...]:
    """Judge settings that can be read."""
    found = (
        *_unusable_files(settings),
        *_traces(settings),
        *_open_doors(settings),
    )
    if found:
        return found
    return (
        Finding(
            area=Area.CONFIGURATION,
            subject="environment",
            verdict=Verdict.GOOD,
            found="complete",
        ),
    )


def _unusable_files(settings: Settings) -> Iterator[Finding]:
    files = read_tls_files(settings)
    if isinstance(files, TlsFiles):
        return
    for problem in files:
        found, _, advice = problem.sentence.partition("; ")
        yield Finding(
            area=Area.CONFIGURATION,
            subject=problem.variable,
            verdict=Verdict.WRONG,
            found=found,
            advice=advice,
        )


def _traces(settings: Settings) -> Iterator[Finding]:
    trouble = trouble_of(settings.traces)
    if trouble:
        yield Finding(
            area=Area.CONFIGURATION,
            subject="SIDECAR_TRACES",
            verdict=Verdict.WRONG,
            found=trouble,
            advice="see the variables of OpenTelemetry's SDK; `run` ends with 78 as it is",
        )


def _open_doors(settings: Settings) -> Iterator[Finding]:
    if not (settings.proxy_listen.is_loopback or settings.client_keys):
        yield Finding(
            area=Area.CONFIGURATION,
            subject="SIDECAR_ALLOW_UNAUTHENTICATED",
            verdict=Verdict.RISKY,
            found="whoever reaches the proxy acts for every user",
            advice="set SIDECAR_CLIENT_KEYS, or listen on 127.0.0.1",
        )
    if not settings.control_listen.is_loopback and settings.control_tls_cert is None:
        yield Finding(
            area=Area.CONFIGURATION,
            subject="SIDECAR_ALLOW_PLAINTEXT_CONTROL",
            verdict=Verdict.RISKY,
            found="control keys and imported tokens can be read on the way",
            advice="set SIDECAR_CONTROL_TLS_CERT and SIDECAR_CONTROL_TLS_KEY, or listen on "
            "127.0.0.1",
        )


def check_spool(settings: Settings) -> tuple[Finding, ...]:
    """Look at the spool's directory, and judge it."""
    return judge_spool(look_at(Path(settings.spool_dir)))


def judge_spool(place: SpoolPlace) -> tuple[Finding, ...]:
    """Return what is thought of a place for the spool."""
    return (_directory(place), _filesystem(place), _room(place), _users(place))


def _directory(place: SpoolPlace) -> Finding:
    if place.trouble:
        where = "the directory" if place.is_there else "the directory in which it would be made"
        return Finding(
            area=Area.SPOOL,
            subject=SPOOL,
            verdict=Verdict.WRONG,
            found=f"{where} cannot be written ({place.trouble})",
            advice="mount a disk there that the user of the sidecar may write; `run` ends with 74 "
            "as it is",
        )
    found = "can be written" if place.is_there else "is not there yet, and the start can make it"
    return Finding(area=Area.SPOOL, subject=SPOOL, verdict=Verdict.GOOD, found=found)


def _filesystem(place: SpoolPlace) -> Finding:
    kind = place.filesystem
    verdict, found, advice = Verdict.GOOD, kind, ""
    if not kind:
        verdict, found = Verdict.UNSEEN, "the system does not tell"
    elif kind in IN_MEMORY:
        verdict, found = Verdict.WRONG, f"{kind} is memory: a restart of the machine empties it"
        advice = "mount a volume on a disk at SIDECAR_SPOOL_DIR"
    elif kind in OF_THE_CONTAINER:
        verdict, found = Verdict.RISKY, f"{kind} is the container's own layer, and goes with it"
        advice = "mount a volume at SIDECAR_SPOOL_DIR that outlives the container"
    elif kind in SHARED:
        verdict, found = Verdict.RISKY, f"{kind} is another machine's disk"
        advice = "take a disk of this machine: locks and fsync of shared disks may not hold"
    return Finding(
        area=Area.SPOOL, subject="filesystem", verdict=verdict, found=found, advice=advice
    )


def _room(place: SpoolPlace) -> Finding:
    is_enough = place.free_bytes >= NEEDED_BYTES
    return Finding(
        area=Area.SPOOL,
        subject="room",
        verdict=Verdict.GOOD if is_enough else Verdict.WRONG,
        found=f"{place.free_bytes // MIB} MiB are free",
        advice=""
        if is_enough
        else f"make room for {NEEDED_BYTES // MIB} MiB: without it no refresh may leave",
    )


def _users(place: SpoolPlace) -> Finding:
    found = f"{place.in_use} running, {place.left} left behind"
    verdict, advice = Verdict.GOOD, ""
    if place.foreign:
        verdict = Verdict.WRONG
        found = f"{place.foreign} directories cannot be opened by this user"
        advice = "run every sidecar of this directory as one user, or give them their owner back: "
        advice += "a start ends with 74 at the first that it cannot open"
    elif place.in_use > 1:
        # Each has a directory of its own in it; but whoever shares by mistake hardly knows.
        verdict = Verdict.RISKY
        advice = "give each sidecar a directory of its own: one full disk would stop all of them"
    return Finding(area=Area.SPOOL, subject="users", verdict=verdict, found=found, advice=advice)
