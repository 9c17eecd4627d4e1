"""The device's end of a link through a real Mosquitto, where the contracts say nothing."""

from pathlib import Path

import pytest

from agent.errors import TransportError
from agent.transport.mqtt.questions import Waits
from protos.methods import UPLOAD
from tests.contracts.centre import Centre
from tests.contracts.networks import OverMqtt, mqtt


async def test_who_leaves_because_nobody_answers_says_goodbye(tmp_path: Path) -> None:
    centre = Centre()  # its gate is shut: uploads are not answered
    async with mqtt(centre, tmp_path) as network:
        assert isinstance(network, OverMqtt)
        link = await (await network.dialer("cam-1", waits=Waits(call=0.3))).dial()
        with pytest.raises(TransportError, match="no controller"):
            await link.call(UPLOAD.name, b"x")

        await link.close()

        await centre.until(lambda: centre.presence == [("up", "cam-1"), ("down", "cam-1")])
        centre.gate.set()
