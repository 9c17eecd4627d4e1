"""What the agent remembers of slots and installs: frozen values, kept by the store.

They are structs of msgspec, which makes a changed copy in C: every event of an install makes one.
"""

import msgspec

from agent.install.machine import State
from protos.documents import UNCONDITIONAL, Conditions

SlotKey = tuple[str, str]
"""Which slot: (model, slot name)."""


class Deployed(msgspec.Struct, frozen=True):
    """A version that a slot points at; its files are in the blob folder.

    Attributes:
        manifest_sha256: names the manifest, and through it every file.
        model_sha256: the file that the runtime loads.
        approvals: approvers' signatures that this device verified.
    """

    model: str
    version: int
    manifest_sha256: str
    model_sha256: str
    release_counter: int
    approvals: int


class Slot(msgspec.Struct, frozen=True):
    """Where a version runs. ``active`` answers; ``committed`` is what a revert goes back to.

    ``soaked`` is the longest time that ``committed`` was asked to answer in one run and has, in
    seconds.
    """

    model: str
    name: str
    active: Deployed | None = None
    committed: Deployed | None = None
    soaked: int = 0

    @property
    def key(self) -> SlotKey:
        """Which slot."""
        return self.model, self.name


class Install(msgspec.Struct, frozen=True):
    """One attempt to bring one version to one slot. Times are Unix seconds.

    Attributes:
        generation: the directive that last asked for it.
        resumptions: restarts that found it in a counted state.
        tries: self-tests that were too slow or out of time, as on a busy device.
        rested: the agent has ended in good order since: the next restart is nobody's doing.
        not_before: deferred until then; 0 if not deferred.
        code: why it failed or waits; empty while it goes well.
        candidate: what the switch will make active; known once it is verified.
        attempt: how often people have asked for it.
        conditions: what it waits for, as its newest directive says.
        fetched_bytes: length of the files that it had fetched since the agent started; known once all
            are there.
        model_bytes: of these, for the model: its file's, or of the step that made it of its parent.
    """

    model: str
    slot: str
    version: int
    generation: int
    target: str
    sha256: str
    length: int
    state: State
    since: float
    rollout: str = ""
    resumptions: int = 0
    tries: int = 0
    rested: bool = False
    not_before: float = 0.0
    code: str = ""
    detail: str = ""
    approvals: int = 0
    candidate: Deployed | None = None
    attempt: int = 1
    conditions: Conditions = UNCONDITIONAL
    fetched_bytes: int = 0
    model_bytes: int = 0

    @property
    def key(self) -> SlotKey:
        """Which slot it is for."""
        return self.model, self.slot
