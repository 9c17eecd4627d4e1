"""What people ask of the simulated controller: the product's own actions."""

from dataclasses import replace

from controller.errors import ControllerError
from controller.fleet import actions as fleet
from controller.fleet.device import DeviceStatus
from controller.registry.version import State
from controller.rollout import actions
from controller.rollout.explain import named, told
from controller.rollout.policy import AT_ONCE, STAGED
from controller.rollout.steering import actions as steering
from controller.store.store import Transaction
from simulations.fleet.cast import Cast
from simulations.fleet.centre import Controller
from simulations.fleet.scenario import Ask, Verb, Who
from simulations.fleet.truth import drawn

ACTOR = "ada"


class Operator:
    """Somebody who types what the scenario says."""

    def __init__(self, centre: Controller, members: Cast, seed: int) -> None:
        self._centre = centre
        self._members = members
        self._seed = seed

    def does(self, ask: Ask, text: str) -> None:
        """Asks it; what is refused is told, and changes nothing."""
        transcript = self._centre.transcript
        transcript.say(ACTOR, text)
        if not self._centre.is_up:
            transcript.say("controller", "does not answer")
            return
        try:
            with self._centre.store.begin() as tx:
                told = self._asked(tx, ask)
        except ControllerError as error:
            transcript.say("controller", f"refuses ({error.code}): {error.detail}")
            return
        for line in told:
            transcript.say("controller", line)
        self._centre.wake()

    def _asked(self, tx: Transaction, ask: Ask) -> list[str]:
        now, rollout = self._centre.now(), ask.subject
        match ask.verb:
            case Verb.START:
                return self._start(tx, ask, now)
            case Verb.PAUSE:
                steering.pause(tx, rollout, ACTOR, now)
            case Verb.RESUME:
                steering.resume(tx, rollout, ACTOR, now)
            case Verb.APPROVE:
                steering.approve(tx, rollout, ACTOR, now)
            case Verb.RETRY:
                return [f"asks again: {named(steering.retry(tx, rollout, ACTOR, now))}"]
            case Verb.ABORT:
                steering.abort(tx, rollout, ACTOR, now, steering.Abort(ask.how))
            case Verb.SHOW:
                return [line.strip() for line in told(actions.show(tx, rollout, now))]
            case _:
                self._about_devices(tx, ask, now)
        return []

    def _about_devices(self, tx: Transaction, ask: Ask, now: float) -> None:
        if ask.verb is Verb.RECALL:
            self._recall(tx, ask.subject)
            return
        for device in self.meant(ask.who):
            known = tx.devices.get(device)
            if ask.verb is Verb.LABEL:
                key, value = ask.subject.split("=", 1)
                fleet.label(tx, device, ACTOR, now, {key: value})
            elif known is not None:
                tx.devices.put(replace(known, status=DeviceStatus.REVOKED))

    def _start(self, tx: Transaction, ask: Ask, now: float) -> list[str]:
        words = ask.how.split()
        slot = "challenger" if "challenger" in words else "champion"
        policy = self._centre.policy
        if "under" in words:
            policy = AT_ONCE if "at-once" in words else STAGED
        order = actions.Order(slot=slot, policy=policy)
        made = actions.start(tx, ask.subject, ask.who.selector, ACTOR, now, order)
        return [f"starts {made.id}"]

    def _recall(self, tx: Transaction, reference: str) -> None:
        model, number = reference.split("/")
        known = tx.registry.version(model, int(number))
        if known is not None:
            tx.registry.put_version(replace(known, state=State.RECALLED))

    def meant(self, who: Who) -> list[str]:
        """The ids of the devices that are meant."""
        births = self._members.births
        return [births[at].id for at in drawn(who, self._members.attributes, f"{self._seed} {who}")]
