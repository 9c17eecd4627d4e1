"""A fleet over MQTT, and the same fleet over gRPC: how soon it hears, what it costs.

The controller is a process as ``muster serve`` starts it, the broker a Mosquitto with the configuration
that ``muster mqtt setup`` writes, and the devices' ends of the links, the agent's own, are a process
of their own. Everything goes over loopback and TLS, and shares the machine's cores.
"""

import tempfile
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from controller.cli.client import ApiClient
from controller.cli.profile import read_profile
from controller.descriptors import raise_limit
from controller.home import Home
from controller.registry.version import Model, State, Version
from protos.limits import KIB, MIB
from simulations.bench.image_side import manifest
from simulations.bench.invited import certificates_of, invite
from simulations.bench.load_orders import Plan
from simulations.bench.row import BenchRow
from simulations.bench.staged import bytecode, load_note
from simulations.bench.transport_run import (
    AT_A_TIME,
    FIRST,
    FLOOD,
    MODEL,
    Found,
    Pace,
    Spent,
    playing,
    run,
)
from simulations.demo.stage import Stage

DEVICES: Final = 5000
SPARE_FILES: Final = 200
SERVERS: Final = ("controller", "broker")
TARGET_KIB: Final = 80.0


def rows() -> list[BenchRow]:
    """Of as many devices as files may be open, ``DEVICES`` at most; one window a minute each."""
    return measured(min(DEVICES, raise_limit() - SPARE_FILES), Pace())


def measured(devices: int, pace: Pace) -> list[BenchRow]:
    """Of so many devices, first over MQTT and then over gRPC.

    Raises:
        ProcessFailed: there is no Mosquitto, or a process has ended.
        ArithmeticError: not every window was stored once.
    """
    raise_limit()  # the broker gets what we have
    with tempfile.TemporaryDirectory(prefix="muster-bench-") as folder, bytecode(Path(folder)):
        stage = Stage(Path(folder), 0, transports=("mqtt", "grpc"))
        try:
            mqtt, grpc = _both(stage, devices, pace)
        finally:
            stage.stop()
    return _rows(devices, mqtt, grpc)


def _both(stage: Stage, devices: int, pace: Pace) -> tuple[Found, Found]:
    stage.make_controller()
    assert stage.broker is not None  # noqa: S101 - the stage was asked for one
    home = Home(stage.home)
    _publish(home)
    members = tuple(invite(home, devices))
    certificates = certificates_of(home)
    mqtt = Plan(
        transport="mqtt",
        address=f"localhost:{stage.broker.devices}",
        server_ca=certificates.server_authority.certificate_pem,
        broker_ca=certificates.broker_authority.certificate_pem,
        members=members,
    )
    grpc = Plan(
        transport="grpc",
        address=members[0].session_address,
        server_ca=certificates.server_authority.certificate_pem,
        members=members,
    )
    stage.start_controller()  # once in vain: it leaves its bytecode, and a heap like any other's
    stage.controller.stop()
    kept = home.database.read_bytes()
    found = _measured(stage, mqtt, pace, broker=stage.broker.daemon.pid)
    stage.broker.daemon.stop()
    _check_stored(home, devices * pace.rounds + min(devices, FLOOD))
    _bring_back(home, kept)
    other = _measured(stage, grpc, pace)
    _check_stored(home, devices * pace.rounds + min(devices, FLOOD))
    return found, other


def _bring_back(home: Home, kept: bytes) -> None:
    """The database as it was before anybody connected: both fleets begin with the same."""
    for path in home.path.glob(f"{home.database.name}-*"):
        path.unlink()
    home.database.write_bytes(kept)


def _measured(stage: Stage, plan: Plan, pace: Pace, **others: int) -> Found:
    """With a controller that was just started, which is killed in the end."""
    stage.start_controller()
    try:
        with (
            playing(plan, stage.folder) as load,
            ApiClient(read_profile(stage.folder / "profile.toml")) as api,
        ):
            pids = {"controller": stage.controller.pid, **others}
            return run(load, len(plan.members), pids, api, pace)
    finally:
        stage.controller.kill()  # nobody is there any more to be told good-bye


def _publish(home: Home) -> None:
    """Puts a version there as if people had approved it: no device here looks at their signatures."""
    now = datetime.now(UTC).timestamp()
    made = manifest(MODEL)
    digest = made.digest
    store = home.open_store()
    try:
        with store.begin() as tx:
            tx.registry.put_model(Model(name=MODEL, created_at=now, threshold=1))
            tx.registry.put_version(
                Version(MODEL, 1, State.PUBLISHED, made.encode(), digest, now, "bench")
            )
    finally:
        store.close()


def _check_stored(home: Home, sent: int) -> None:
    store = home.open_store()
    try:
        with store.read() as tx:
            stored = tx.telemetry.window_count()
    finally:
        store.close()
    if stored != sent:
        raise ArithmeticError(f"{stored} windows stored of {sent}")


# --- Rows -------------------------------------------------------------------------------------------


def _rows(devices: int, mqtt: Found, grpc: Found) -> list[BenchRow]:
    return [
        *_connecting_rows(devices - FIRST, mqtt, grpc),
        *_memory_rows(devices - FIRST, mqtt, grpc),
        _rest_row(devices, mqtt, grpc),
        *_telling_rows(devices, mqtt, grpc),
        *_window_rows(mqtt, grpc),
        *_flood_rows(mqtt, grpc),
    ]


def _row(
    name: str,
    of: Callable[[Found], float],
    unit: str,
    both: tuple[Found, ...],
    note: str = "",
    target: float | None = None,
) -> BenchRow:
    """MQTT's number, beside gRPC's."""
    ours, other = of(both[0]), of(both[1])
    times = f"{ours / other:.2f} x " if other else ""
    return BenchRow(
        f"transports: {name}", ours, unit, target, f"{times}gRPC ({other:.4g} {unit})", note
    )


def _connecting_rows(devices: int, *both: Found) -> list[BenchRow]:
    again = ", ".join(str(one.connected.again) for one in both)
    return [
        _row(
            f"{devices} devices connect over MQTT",
            lambda one: one.connected.seconds,
            "s",
            both,
            f"{AT_A_TIME} at a time: TLS, taken, facts stored; dialled in vain: {again}; {load_note()}",
        ),
        _busy_row("a device connects", lambda one: one.connecting, devices, both),
    ]


def _memory_rows(devices: int, *both: Found) -> list[BenchRow]:
    def each(process: str) -> Callable[[Found], float]:
        def of(one: Found) -> float:
            return (
                (one.after.get(process, 0.0) - one.before.get(process, 0.0)) * MIB / KIB / devices
            )

        return of

    def note(process: str) -> str:
        return "; ".join(
            f"{name} {one.before.get(process, 0.0):.0f} MiB before, {one.after[process]:.0f} after"
            for name, one in zip(("MQTT", "gRPC"), both, strict=True)
            if process in one.after
        )

    ends = " and ".join(f"{each('devices')(one):.0f}" for one in both)
    return [
        _row("controller's memory, each device", each("controller"), "KiB", both,
             note("controller"), TARGET_KIB),
        _row("broker's memory, each device", each("broker"), "KiB", both, note("broker")),
        _row("servers' memory, each device",
             lambda one: sum(each(server)(one) for server in SERVERS), "KiB", both,
             f"the device's own end of a link: {ends} KiB, of many in one process"),
    ]  # fmt: skip


def _telling_rows(devices: int, *both: Found) -> list[BenchRow]:
    return [
        _row("a directive reaches a device, p50", lambda one: _share(one.told, 0.5), "s", both,
             f"of one rollout to {devices} devices, from the request to the device's link: planned, "
             "each signed, stored, sent"),
        _row("a directive reaches a device, p99", lambda one: _share(one.told, 0.99), "s", both,
             f"slowest {max(both[0].told):.2f} s; gRPC {max(both[1].told):.2f} s; {load_note()}"),
        _busy_row("a directive", lambda one: one.telling, devices, both),
    ]  # fmt: skip


def _window_rows(*both: Found) -> list[BenchRow]:
    count = len(both[0].windows.latencies)
    return [
        _row("windows a second, one a minute each", lambda one: count / one.windows.seconds, "/s",
             both, "33 series and the agent's resources in each, stored once; of one core, "
             + _shares(both, lambda one: one.reporting)),
        _row("a window is stored, p50", lambda one: 1000 * _share(one.windows.latencies, 0.5),
             "ms", both, "from when it was due until the answer was there"),
        _row("a window is stored, p99", lambda one: 1000 * _share(one.windows.latencies, 0.99),
             "ms", both, f"slowest {1000 * max(both[0].windows.latencies):.0f} ms; "
             f"gRPC {1000 * max(both[1].windows.latencies):.0f} ms; {load_note()}"),
        _row("a window's bytes up", lambda one: one.windows.sent / count, "B", both,
             "at the device's socket, with TLS, acknowledgements and keepalives"),
        _row("a window's bytes down", lambda one: one.windows.received / count, "B", both),
        _busy_row("a window", lambda one: one.reporting, count, both),
    ]  # fmt: skip


def _rest_row(devices: int, *both: Found) -> BenchRow:
    def share(one: Found) -> float:
        return 100 * sum(map(one.resting.share, SERVERS))

    return _row(f"servers' CPU, {devices} devices at rest", share, "%", both,
                f"of one core, over {both[0].resting.seconds:.0f} s: keepalives; "
                + _shares(both, lambda one: one.resting))  # fmt: skip


def _flood_rows(*both: Found) -> list[BenchRow]:
    count = len(both[0].flood.latencies)
    return [
        _row("windows a second at most", lambda one: count / one.flood.seconds, "/s", both,
             f"{AT_A_TIME} devices at a time, {count} windows; of one core, "
             + _shares(both, lambda one: one.flooding)),
    ]  # fmt: skip


def _shares(both: tuple[Found, ...], of: Callable[[Found], Spent]) -> str:
    """What each process took of a core, the devices' too."""
    return "; ".join(
        f"{name} "
        + ", ".join(f"{process} {of(one).share(process):.1%}" for process in of(one).busy)
        for name, one in zip(("MQTT:", "gRPC:"), both, strict=True)
    )


def _busy_row(
    what: str, of: Callable[[Found], Spent], count: int, both: tuple[Found, ...]
) -> BenchRow:
    """The servers' CPU, by one of what was done."""

    def each(one: Found, process: str) -> float:
        return 1000 * of(one).busy.get(process, 0.0) / count

    def told(one: Found, *processes: str) -> str:
        return ", ".join(f"{process} {each(one, process):.2f}" for process in processes)

    return _row(
        f"servers' CPU, {what}",
        lambda one: sum(each(one, server) for server in SERVERS),
        "ms",
        both,
        f"{told(both[0], *SERVERS)}; the device's end {each(both[0], 'devices'):.2f}, "
        f"over gRPC {each(both[1], 'devices'):.2f}",
    )


def _share(values: Sequence[float], share: float) -> float:
    """The value below which that share of them is."""
    return sorted(values)[int(share * (len(values) - 1))]
