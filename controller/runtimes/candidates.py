"""Makes candidates in a process of its own, with limits: it takes a core for seconds."""

from collections.abc import Sequence
from typing import Final

import msgspec

from agent.monitor.counts import Counts
from controller.candidate.errors import Interrupted, NoCandidate
from controller.candidate.preparation import TrainedParent
from controller.candidate.trained import Trained
from controller.errors import BadModel
from controller.registry.preparation import Prepared
from controller.runtimes.candidate_job import candidate_job
from controller.runtimes.children import SECONDS, Children, half_of_memory
from controller.runtimes.preparation_job import Answer

MODULE: Final = "controller.runtimes.candidate_process"


class ProcessCandidates:
    """``controller.candidate.actions.Preparing``. May be called from several threads.

    Args:
        seconds: for one candidate.
        memory_bytes: for the same; half of the machine's if it is 0.
    """

    def __init__(self, seconds: int = SECONDS, memory_bytes: int = 0) -> None:
        self._seconds = seconds
        self._memory = memory_bytes or half_of_memory()
        self.children = Children(MODULE, at_once=1)

    def __call__(
        self, parent: TrainedParent, trained: Trained, windows: Sequence[Counts], seed: int
    ) -> Prepared:
        """What ``controller.candidate.preparation.prepare`` returns. Blocks.

        Raises:
            NoCandidate: as it does.
            BadModel: also where it took too long, or more memory than there is for it.
            Interrupted: its process went down.
            StoreError: no process can be started.
        """
        job = candidate_job(parent, trained, windows, seed, self._seconds, self._memory)
        ended = self.children.run(msgspec.msgpack.encode(job), self._seconds)
        try:
            answer = msgspec.msgpack.decode(ended.said, type=Answer)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            if ended.took_too_long:
                raise BadModel(f"it takes more than {self._seconds} s to make") from None
            raise Interrupted(f"the process that made it {ended.how}") from None
        if answer.prepared is None:
            kind = NoCandidate if answer.code == NoCandidate.code else BadModel
            raise kind(answer.detail)
        return answer.prepared

    def end(self) -> None:
        """Ends what is at work, which raises ``Interrupted``; nothing begins anew."""
        self.children.end()
