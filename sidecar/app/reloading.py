"""SIGHUP: reads again what comes from files, and has all of it taken up, or nothing.

Everything is read and tried before anything changes, in a thread that neither the loop nor the end
of the process waits for. It knows what depends on what; how each part takes its share up is that
part's business.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, TypeVar, final

from sidecar.adapters.trust import ShownCertificate
from sidecar.app.base import Base, store_of
from sidecar.app.files import SYSTEM, TlsFiles, read_tls_files
from sidecar.app.lane_side import LaneSide
from sidecar.app.serving_side import ServingSide
from sidecar.domain.events import ConfigurationReloaded, ConfigurationReloadRefused
from sidecar.domain.store_address import is_over_tls
from sidecar.ports import StoreUnavailable
from sidecar.settings import Problem, Settings, load
from sidecar.settings.loading import variable_of
from sidecar.settings.rereading import Changes, changes_between

READ_WITHIN_S: Final = 30.0
ENDS_WITHIN_S: Final = 2.0
TRIES: Final = 3
TRY_AGAIN_S: Final = 0.2

ResultT = TypeVar("ResultT")


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What was read last, and is in use."""

    settings: Settings
    files: TlsFiles


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reading:
    """What another reading found: as good as in use."""

    taken: Taken
    changes: Changes
    changed_files: frozenset[str]

    @property
    def trusts_otherwise(self) -> bool:
        """Whether other authorities are trusted than before."""
        return bool(self.changed_files & {SYSTEM, variable_of("ca_file")})

    @property
    def logs_in_otherwise(self) -> bool:
        """Whether connections to the store are replaced."""
        url = variable_of("redis_url")
        if "redis_url" in self.changes.renewed or url in self.changed_files:
            return True
        return self.trusts_otherwise and is_over_tls(self.taken.settings.redis_url.reveal())

    @property
    def redials(self) -> bool:
        """Whether connections to the data APIs are replaced."""
        return self.trusts_otherwise or "egress_proxy" in self.changes.renewed


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """The certificates of listeners that have one."""

    control: ShownCertificate | None
    connect: ShownCertificate | None

    @classmethod
    def of(cls, files: TlsFiles) -> Shown:
        """Show what was read."""
        return cls(
            control=None if files.control is None else ShownCertificate(files.control),
            connect=None if files.connect is None else ShownCertificate(files.connect),
        )

    def replace(self, files: TlsFiles) -> None:
        """Show what was read now; a listener without TLS gets none, and one with it keeps it."""
        for shown, current in ((self.control, files.control), (self.connect, files.connect)):
            if shown is not None and current is not None:
                shown.replace(current)


@dataclass(frozen=True, slots=True, kw_only=True)
class Renewed:
    """The parts that take up what was read."""

    base: Base
    lane_side: LaneSide
    serving_side: ServingSide
    shown: Shown


@final
class Reloading:
    """Reloads, one after the other, as often as it is asked to; made and used on one loop."""

    def __init__(self, *, taken: Taken, environ: Mapping[str, str]) -> None:
        self._taken = taken
        self._environ = environ
        self._asked = asyncio.Event()

    def ask(self) -> None:
        """Have everything read again soon, once for all that ask before it begins."""
        self._asked.set()

    async def run(self, renewed: Renewed) -> None:
        """Reload whenever it is asked for, until cancelled."""
        while True:
            await self._asked.wait()
            self._asked.clear()
            await self._reload(renewed)

    async def _reload(self, renewed: Renewed) -> None:
        found = await self._read()
        if isinstance(found, _Reading) and found.logs_in_otherwise:
            found = await _tried(found, renewed)
        observer = renewed.base.observer
        if not isinstance(found, _Reading):
            variables = ",".join(problem.variable for problem in found)
            advice = "; ".join(str(problem) for problem in found)
            observer.observe(ConfigurationReloadRefused(variables=variables, advice=advice))
            return
        await self._take_up(found, renewed)
        changed = {variable_of(name) for name in found.changes.renewed} | found.changed_files
        observer.observe(
            ConfigurationReloaded(
                changed=",".join(sorted(changed)),
                restart_needed=",".join(variable_of(name) for name in found.changes.restart_needed),
            )
        )

    async def _read(self) -> _Reading | Sequence[Problem]:
        try:
            async with asyncio.timeout(READ_WITHIN_S):
                return await _aside(self._read_files)
        except TimeoutError:
            sentence = f"the files could not be read within {READ_WITHIN_S:.0f} s"
            return (Problem(variable="SIDECAR_*_FILE", sentence=sentence),)

    def _read_files(self) -> _Reading | Sequence[Problem]:
        """Read and judge; it blocks."""
        settings = load(self._environ)
        if not isinstance(settings, Settings):
            return settings
        changes = changes_between(self._taken.settings, settings)
        if not isinstance(changes, Changes):
            return changes
        files = read_tls_files(settings)
        if not isinstance(files, TlsFiles):
            return files
        former = self._taken.files.marks
        changed = frozenset(name for name, mark in files.marks.items() if former.get(name) != mark)
        taken = Taken(settings=settings, files=files)
        return _Reading(taken=taken, changes=changes, changed_files=changed)

    async def _take_up(self, reading: _Reading, renewed: Renewed) -> None:
        """Change everything; nothing here can be refused any more."""
        self._taken = reading.taken
        settings, trust = reading.taken.settings, reading.taken.files.trust
        renewed.shown.replace(reading.taken.files)
        await renewed.serving_side.renew(
            settings, trust, reconnects=reading.logs_in_otherwise, redials=reading.redials
        )
        await renewed.lane_side.renew(settings, trust, reconnects=reading.logs_in_otherwise)


async def _tried(reading: _Reading, renewed: Renewed) -> _Reading | Sequence[Problem]:
    """Return the reading unless the store, which answers now, would not answer any more."""
    taken, base = reading.taken, renewed.base
    store = store_of(
        taken.settings, trust=taken.files.trust, observer=base.observer, clock=base.clock
    )
    error = ""
    try:
        for _ in range(TRIES):
            try:
                await store.probe()
            except StoreUnavailable as unavailable:
                error = str(unavailable)
                await asyncio.sleep(TRY_AGAIN_S)
            else:
                return reading
    finally:
        await store.close()
    if not renewed.lane_side.watch.is_up:
        return reading  # it cannot become worse, and may become better
    sentence = (
        f"the store does not answer with what was read ({error}); "
        "see user and password of SIDECAR_REDIS_URL, and SIDECAR_CA_FILE"
    )
    return (Problem(variable=variable_of("redis_url"), sentence=sentence),)


async def _aside(work: Callable[[], ResultT]) -> ResultT:
    """Return the result of `work`, done in a thread of its own.

    Cancelled, it waits for the thread for a moment only: a read may hang without end, but OpenSSL
    must not be at work while the process ends.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[ResultT] = loop.create_future()

    def told(result: ResultT | None, error: BaseException | None) -> None:
        if done.done():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(result)  # type: ignore[arg-type]  # there is one where no error is

    def run() -> None:
        result: ResultT | None = None
        failed: Exception | None = None
        try:
            result = work()
        except Exception as error:  # noqa: BLE001 - raised again where it is waited for
            failed = error
        with suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(told, result, failed)

    thread = threading.Thread(target=run, name="reload", daemon=True)
    thread.start()
    try:
        return await asyncio.shield(done)
    except asyncio.CancelledError:
        await asyncio.wait([done], timeout=ENDS_WITHIN_S)
        if done.done():
            done.exception()
            thread.join(ENDS_WITHIN_S)
        raise
