"""A version that was made as its parent and an int8 step: devices that have the parent fetch the step."""

import contextlib
from pathlib import Path

import pytest
from msgspec.structs import replace

from agent.errors import AgentError, HashMismatch, Refused, TransportError
from agent.install.machine import State
from agent.install.slot.made import make_file
from agent.store.blob_folder import BlobFolder
from protos.documents import Conditions
from protos.manifest import File, Lineage, Role
from tests.agent.install.outside import Bundle, Outside, bundle, digest, stepped, trainable
from tests.agent.install.world import Device

ONE = bundle(version=1)
TWO = stepped(ONE, 2)
MODEL, STEP = (TWO.manifest.files[role].sha256 for role in (Role.MODEL, Role.MODEL_STEP))


async def running(*bundles: Bundle, before: Bundle = ONE) -> Device:
    """A device that has committed ``before``."""
    outside = Outside()
    outside.add(before, *bundles)
    device = Device(outside)
    device.direct(1, before.assignment())
    await device.settle()
    device.fetcher.fetched.clear()
    device.changes.clear()
    return device


def with_step(data: bytes, version: int = 2) -> Bundle:
    """Version 2 as ``stepped`` makes it, with another file for its step."""
    right = stepped(ONE, version)
    files = {
        **right.manifest.files,
        Role.MODEL_STEP: File(sha256=digest(data), length=len(data)),
    }
    manifest = replace(right.manifest, files=files)
    return Bundle(manifest, {**right.files, digest(data): data, manifest.digest: manifest.encode()})


async def test_the_model_is_made_of_its_parent_and_is_never_fetched() -> None:
    device = await running(TWO)

    device.direct(2, TWO.assignment())
    await device.settle()

    assert device.versions() == (2, 2)
    assert STEP in device.fetcher.fetched
    assert MODEL not in device.fetcher.fetched
    assert device.blobs.read(MODEL) == TWO.files[MODEL]


def test_it_is_made_in_a_real_folder_going_on_where_a_fetch_had_stopped(tmp_path: Path) -> None:
    blobs = BlobFolder(tmp_path / "blobs")
    model = TWO.manifest.files[Role.MODEL]
    for data in (ONE.files[ONE.manifest.files[Role.MODEL].sha256], TWO.files[STEP]):
        with contextlib.closing(blobs.writer(digest(data), len(data))) as writer:
            writer.write(data)
            writer.finish()
    with contextlib.closing(blobs.writer(MODEL, model.length)) as writer:
        writer.write(TWO.files[MODEL][:7])

    make_file(blobs, TWO.manifest, Role.MODEL)

    assert blobs.read(MODEL) == TWO.files[MODEL]
    blobs.close()


async def test_the_step_is_not_kept_once_the_version_is_committed() -> None:
    device = await running(TWO)

    device.direct(2, TWO.assignment())
    await device.settle()

    assert not device.blobs.has(STEP)
    assert device.lost() == []


async def test_what_was_fetched_is_told_with_what_it_was_for_the_model() -> None:
    device = await running(TWO)
    device.direct(2, TWO.assignment())
    await device.settle()

    told = next(one for one in device.changes if one.name == "install.checking")

    files = TWO.manifest.files
    others = sum(files[role].length for role in (Role.REFERENCE, Role.GOLDEN, Role.CARD))
    step = files[Role.MODEL_STEP].length
    assert dict(told.fields) == {"fetched_bytes": str(others + step), "model_bytes": str(step)}


async def test_a_train_step_that_only_names_another_model_is_not_fetched_either() -> None:
    parent = trainable(ONE)
    two = stepped(parent, 2)
    train = two.manifest.files[Role.TRAIN_STEP].sha256
    device = await running(two, before=parent)

    device.direct(2, two.assignment())
    await device.settle()

    assert device.versions() == (2, 2)
    assert train not in device.fetcher.fetched
    assert device.blobs.read(train) == two.files[train]


async def test_a_train_step_that_does_more_is_fetched() -> None:
    parent = trainable(ONE)
    right = stepped(parent, 2)
    data = b"quite another graph"
    train = File(sha256=digest(data), length=len(data))
    manifest = replace(right.manifest, files={**right.manifest.files, Role.TRAIN_STEP: train})
    two = Bundle(manifest, {**right.files, train.sha256: data, manifest.digest: manifest.encode()})
    device = await running(two, before=parent)

    device.direct(2, two.assignment())
    await device.settle()

    assert device.versions() == (2, 2)
    assert train.sha256 in device.fetcher.fetched


async def test_a_device_without_the_parent_fetches_the_whole_model() -> None:
    device = await running(TWO, before=bundle(model="digits", version=9))

    device.direct(2, TWO.assignment())
    await device.settle()

    assert device.versions() == (2, 2)
    assert STEP not in device.fetcher.fetched
    assert MODEL in device.fetcher.fetched


async def test_a_step_that_is_none_is_made_up_for_by_the_whole_model() -> None:
    two = with_step(b"this is no step")
    device = await running(two)

    device.direct(2, two.assignment())
    await device.settle()

    assert device.versions() == (2, 2)
    assert MODEL in device.fetcher.fetched


async def test_a_step_to_another_model_is_made_up_for_by_the_whole_model() -> None:
    other = stepped(ONE, 3)
    two = with_step(other.files[other.manifest.files[Role.MODEL_STEP].sha256])
    device = await running(two)

    device.direct(2, two.assignment())
    await device.settle()

    assert device.versions() == (2, 2)
    assert device.blobs.read(MODEL) == TWO.files[MODEL]
    assert MODEL in device.fetcher.fetched


async def test_a_parent_that_is_not_the_steps_own_is_made_up_for_by_the_whole_model() -> None:
    golden = ONE.manifest.files[Role.GOLDEN].sha256
    manifest = replace(TWO.manifest, lineage=Lineage(parent=1, parent_model=golden))
    two = Bundle(manifest, {**TWO.files, manifest.digest: manifest.encode()})
    device = await running(two)

    device.direct(2, two.assignment())
    await device.settle()

    assert device.versions() == (2, 2)
    assert MODEL in device.fetcher.fetched


@pytest.mark.parametrize(
    "refusal", [Refused("not-found", "no such blob", ""), HashMismatch("other bytes")]
)
async def test_where_the_step_can_not_be_had_the_model_is_fetched(refusal: AgentError) -> None:
    device = await running(TWO)
    device.outside.lacking[STEP] = refusal

    device.direct(2, TWO.assignment())
    await device.settle()

    assert device.versions() == (2, 2)
    assert MODEL in device.fetcher.fetched


async def test_a_link_that_is_lost_on_the_way_is_waited_for() -> None:
    device = await running(TWO)
    device.outside.errors["fetch"] = [TransportError("gone")] * 5

    device.direct(2, TWO.assignment())
    await device.settle()

    assert device.versions() == (2, 2)
    assert MODEL not in device.fetcher.fetched


async def test_other_bytes_of_a_model_that_had_begun_to_come_are_dropped() -> None:
    device = await running(TWO)
    length = TWO.manifest.files[Role.MODEL].length
    writer = device.blobs.writer(MODEL, length)
    writer.write(b"torn by a power cut")
    writer.close()

    device.direct(2, TWO.assignment())
    await device.settle()

    assert device.blobs.read(MODEL) == TWO.files[MODEL]
    assert MODEL not in device.fetcher.fetched


async def test_a_step_is_not_fetched_over_a_metered_link_that_may_not_be_used() -> None:
    device = await running(TWO)
    device.outside.metered = True
    conditions = Conditions(unmetered=True)
    device.direct(2, TWO.assignment(conditions=conditions))

    async with device.running():
        await device.until(lambda: device.install.code == "metered-link")
        assert device.install.state is State.FETCHING
        assert device.fetcher.fetched == [TWO.sha256]
        device.outside.metered = False
        device.loop.wake()
        await device.until(lambda: device.loop.is_settled)

    assert device.versions() == (2, 2)
