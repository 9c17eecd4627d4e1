"""What the agent asks of its trust: refresh it, take a directive, judge a version.

python-tuf's client runs in a scratch folder that is filled from the store and thrown away; what it
verified is committed in one piece, with the floors and recalls. See ``verify`` for all the steps.
"""

import asyncio
import logging
import os
import tempfile
import threading
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from tuf.api.exceptions import DownloadError, RepositoryError

from agent.clock import Clock
from agent.errors import (
    AgentError,
    BadSignature,
    MalformedDocument,
    MirrorDistrusted,
    NotEnrolled,
    NotListed,
    NotYetTrusted,
    Refused,
    TransportError,
    Untrusted,
)
from agent.install.record import Deployed
from agent.store.device_store import DeviceStore, Identity, TrustedState
from agent.trust.directive import check_directive, directs
from agent.trust.floor import objection_to
from agent.trust.growth import Update, grown
from agent.trust.questions import NOT_FOUND, Fetch, Questions
from agent.trust.refusal import Scene, refusal
from agent.trust.state import ROOT, TARGETS, TIMESTAMP, TOP_LEVEL, Opened, close_state, open_state
from agent.trust.verify import (
    VerifiedVersion,
    check_fresh,
    delegated_models,
    listed,
    trusted_now,
    verified,
)
from protos.documents import Assignment, Directive
from protos.limits import METADATA_BYTES
from protos.manifest import role_name, target_path

log = logging.getLogger(__name__)

ReadManifest = Callable[[str, int], Awaitable[bytes]]
"""The manifest's bytes by SHA-256 and length; raises ``TransportError`` or ``EndlessData``."""

TMPFS: Final = Path("/dev/shm")  # noqa: S108 - a folder of our own is made there, mode 0700


@dataclass(frozen=True, slots=True)
class Refreshed:
    """What a refresh found.

    Attributes:
        problems: refusals that concern one model only, by its name.
        mirrored: a mirror has said so, and not the controller: there may be newer.
    """

    limits_changed: bool
    problems: Mapping[str, AgentError] = field(default_factory=dict)
    mirrored: bool = False


class ImageTrust:
    """What this device believes of the image side, and what follows from it.

    Every method may be called at any time from any task; updates happen one after the other.
    """

    def __init__(
        self,
        store: DeviceStore,
        clock: Clock,
        agent_version: str,
        scratch: Path | None = None,
        mirror: Fetch | None = None,
    ) -> None:
        """``mirror`` is asked where the controller gives no answer, and trusted no further."""
        self._mirror = mirror
        self._store = store
        self._clock = clock
        self._agent_version = agent_version
        self._scratch = scratch
        self._answered = True  # by the controller, when it was asked last
        self._limiting: TrustedState | None = None
        self._noting = threading.Lock()  # what is known is what is stored
        self._turn = threading.Lock()  # one refresh at a time
        self._accepting = threading.Lock()  # one directive at a time, however long a refresh takes

    async def refresh(self, fetch: Fetch, models: Iterable[str] = ()) -> Refreshed:
        """Brings the metadata up to date: the top level, and the roles of all models that run here.

        Newer metadata is committed even if what follows it is refused, so that nobody can go back.
        All of a refresh comes from the controller, or all of it from the mirror. What a mirror has
        wrong says nothing of the fleet: it is as if the mirror had not answered.

        Raises:
            Untrusted: refused; what is trusted has not changed, or only for the newer.
            TransportError, Refused: the controller does not answer, or not this; nor does a mirror.
            TrustDamaged: the stored state is not whole.
        """
        wanted = frozenset(models)
        try:
            refreshed = await asyncio.to_thread(self._refresh, fetch, wanted)
            self._answered = True
            return refreshed
        except TransportError as silence:
            if self._mirror is None:
                raise
            level = logging.INFO if self._answered else logging.DEBUG
            self._answered = False
            log.log(level, "trust.asks-mirror detail=%s", silence)
        return await asyncio.to_thread(self._refresh_from, self._mirror, wanted)

    async def accept_directive(self, envelope: bytes, fetch: Fetch | None = None) -> Directive:
        """The directive in ``envelope``, persisted once everything about it holds.

        With ``fetch``, the metadata is refreshed before a signature is refused for good: the fleet
        may have another director by now.

        Raises:
            Untrusted: refused. See ``check_directive``.
            NotYetTrusted: there is no verified metadata yet.
        """
        try:
            return await asyncio.to_thread(self._accept, envelope)
        except (BadSignature, NotYetTrusted):
            if fetch is None:
                raise
        refreshed = await self.refresh(fetch)
        try:
            return await asyncio.to_thread(self._accept, envelope)
        except BadSignature as error:
            if refreshed.mirrored:
                raise _unknown_yet(error) from error
            raise

    async def verify(
        self, assignment: Assignment, fetch: Fetch, read_manifest: ReadManifest
    ) -> VerifiedVersion:
        """The version that ``assignment`` names, if this device may install it.

        Without an answer from the controller the stored metadata decides, until it expires; but that
        it does not list a version is no refusal then, for the version may be newer.

        Raises:
            Untrusted: refused, and the code says why.
            Incompatible: this agent is too old for it.
            NotYetTrusted, TransportError, Refused: it can't be known now.
        """
        newest = False
        try:
            refreshed = await self.refresh(fetch, (assignment.model,))
        except TransportError:
            if not (await asyncio.to_thread(self._opened)).complete:
                raise
        else:
            problem = refreshed.problems.get(assignment.model)
            if problem is not None:
                raise problem
            newest = not refreshed.mirrored
        opened = await asyncio.to_thread(self._opened)
        now = trusted_now(self._clock.now(), opened.state)
        try:
            listing = await asyncio.to_thread(listed, opened, assignment, now)
        except NotListed as error:
            if newest:
                raise
            raise _unknown_yet(error) from error
        data = await read_manifest(assignment.sha256, assignment.length)
        return verified(data, assignment, listing, opened.state, self._agent_version)

    def objection(self, deployed: Deployed) -> Untrusted | None:
        """Why a version must not run, or not run again; None if it may.

        A damaged state still forbids what it forbade: what runs goes on, nothing becomes free. The
        first to ask, here or for the ``limits``, waits for the disk; nobody does after that.
        """
        return objection_to(self._known(), deployed)

    def limits(self) -> tuple[Mapping[str, int], frozenset[str]]:
        """The floors by model, and the recalled manifests, as they are now."""
        return _limits(self._known())

    def _known(self) -> TrustedState:
        """The stored state without its metadata. Nobody else writes it while an agent runs."""
        known = self._limiting
        if known is None:
            with self._noting:
                known = self._limiting = replace(self._store.trust.load(), metadata={})
        return known

    def _save(self, state: TrustedState) -> None:
        with self._noting:
            self._store.trust.save(state)
            self._limiting = replace(state, metadata={})

    def _identity(self) -> Identity:
        identity = self._store.identity.load()
        if identity is None:
            raise NotEnrolled("this device has no identity, so it trusts nobody")
        return identity

    def _opened(self) -> Opened:
        return open_state(self._store.trust.load(), self._identity().root_metadata)  # (1)

    def _accept(self, envelope: bytes) -> Directive:
        with self._accepting:
            installs = self._store.installs
            targets = self._opened().files.get(TARGETS)
            highest, stored = installs.generation(), installs.directive()
            directive = check_directive(envelope, targets, self._identity().device, highest, stored)
            if directive.generation > highest:
                installs.save_directive(envelope, directive.generation)
            elif targets is not None and not directs(targets, stored):
                with self._store.transaction():
                    installs.forget_directive()
                    installs.save_directive(envelope, directive.generation)
            return directive

    def _models(self) -> frozenset[str]:
        installs = self._store.installs
        slots = {slot.model for slot in installs.slots()}
        return frozenset(slots | {install.model for install in installs.installs()})

    def _refresh(self, fetch: Fetch, models: frozenset[str]) -> Refreshed:
        with self._turn:
            before = self._opened()
            questions = Questions(fetch)
            wanted = models | self._models()
            now = self._clock.now()
            if unchanged(before, questions, wanted):
                check_fresh(before, TOP_LEVEL, trusted_now(now, before.state))
                return Refreshed(limits_changed=False)
            bootstrap = before.files.get(ROOT) or self._identity().root_metadata
            with tempfile.TemporaryDirectory(prefix="muster-", dir=self._parent()) as folder:
                ran = run_updater(Path(folder), bootstrap, before, questions, wanted)
            after, malformed = grown(before, ran.update)
            if after != before:
                self._save(close_state(after))
            if ran.error is not None:
                raise ran.error
            check_fresh(after, TOP_LEVEL, trusted_now(now, after.state))
            changed = _limits(before.state) != _limits(after.state)
            return Refreshed(changed, {**ran.problems, **malformed})

    def _refresh_from(self, mirror: Fetch, models: frozenset[str]) -> Refreshed:
        """As ``_refresh``; but what is wrong is the mirror's fault, or it is only behind."""
        try:
            refreshed = self._refresh(mirror, models)
        except (Untrusted, Refused) as error:
            raise _distrusted(error) from error
        problems = {model: _distrusted(error) for model, error in refreshed.problems.items()}
        return replace(refreshed, problems=problems, mirrored=True)

    def _parent(self) -> Path | None:
        if self._scratch is not None:
            return self._scratch
        return TMPFS if TMPFS.is_dir() and os.access(TMPFS, os.W_OK) else None


@dataclass(frozen=True, slots=True)
class Ran:
    """One run of python-tuf's client. ``error`` ended it; ``problems`` concern one model each."""

    update: Update
    error: AgentError | None = None
    problems: Mapping[str, AgentError] = field(default_factory=dict)


def unchanged(before: Opened, questions: Questions, models: Collection[str]) -> bool:
    """Whether the controller shows exactly what was verified before.

    The timestamp decides: it names the snapshot, and that names everything else, by digest. If there
    is no newer root and the timestamp is byte for byte the verified one, then every check would be
    made on the same bytes with the same keys again, but for expiry, which the caller looks at.

    Raises:
        TransportError, Refused, EndlessData: the controller does not answer, or not this.
    """
    if not before.complete or not all(before.current(f"{role_name(one)}.json") for one in models):
        return False
    try:
        questions.ask(f"{before.seals[ROOT].version + 1}.root.json")
    except Refused as refused:
        if refused.code != NOT_FOUND:
            raise
    else:
        return False
    return questions.ask(TIMESTAMP) == before.files[TIMESTAMP]


def run_updater(
    folder: Path,
    bootstrap: bytes,
    before: Opened,
    questions: Questions,
    models: Collection[str],
) -> Ran:
    """Runs python-tuf's client in ``folder``, hydrated with ``before``: steps (2) to (5).

    It judges expiry by the machine's clock; the caller does again, by the time that it trusts.
    """
    # Imported here: heavy, and not needed while nothing is new.
    from tuf.ngclient.config import UpdaterConfig  # noqa: PLC0415
    from tuf.ngclient.updater import Updater  # noqa: PLC0415

    from agent.trust.fetcher import BASE_URL, MetadataFetcher  # noqa: PLC0415

    fetcher = MetadataFetcher(questions)

    config = UpdaterConfig(
        root_max_length=METADATA_BYTES["root"],
        timestamp_max_length=METADATA_BYTES["timestamp"],
        snapshot_max_length=METADATA_BYTES["snapshot"],
        targets_max_length=METADATA_BYTES["targets"],
    )
    names = {*TOP_LEVEL, *(f"{role_name(model)}.json" for model in models)}
    for name in names & before.files.keys() - {ROOT}:
        (folder / name).write_bytes(before.files[name])
    problems: dict[str, AgentError] = {}
    error: AgentError | None = None
    newest: list[str] = []
    try:
        updater = Updater(
            str(folder), BASE_URL, fetcher=fetcher, config=config, bootstrap=bootstrap
        )
        updater.refresh()
        newest.append(TARGETS)
        delegated = delegated_models((folder / TARGETS).read_bytes(), models)
        for model in sorted(delegated):
            try:
                updater.get_targetinfo(target_path(model, 1))
            except (DownloadError, RepositoryError, ValueError, TypeError) as raised:
                problems[model] = refusal(raised, _scene(folder, questions))
            else:
                newest.append(f"{role_name(model)}.json")
    except (DownloadError, RepositoryError) as raised:
        error = refusal(raised, _scene(folder, questions))
    except (ValueError, TypeError, KeyError, AttributeError) as raised:
        # Metadata of a shape that python-tuf does not expect, signed or not.
        error = MalformedDocument(f"{questions.asked}: {raised}")
    return Ran(Update(_files(folder), newest), error, problems)


def _scene(folder: Path, questions: Questions) -> Scene:
    return Scene(questions.asked, questions.answer(), _files(folder))


def _files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.json") if path.exists()}


def _distrusted(error: AgentError) -> TransportError:
    if isinstance(error, TransportError):
        return error
    log.warning("trust.mirror-refused code=%s detail=%s", error.code, error.detail)
    distrusted = MirrorDistrusted(f"{error.code}: {error.detail}")
    distrusted.__cause__ = error
    return distrusted


def _unknown_yet(error: AgentError) -> NotYetTrusted:
    return NotYetTrusted(f"{error.detail}, as far as is known here: the controller did not answer")


def _limits(state: TrustedState) -> tuple[Mapping[str, int], frozenset[str]]:
    return state.floors, state.recalled
