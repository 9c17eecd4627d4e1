"""What this machine is now: told to the controller at every link, held against a version's needs."""

import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

import psutil

from agent.local_time import zone_name
from protos.v1 import common_pb2

RUNTIMES: Final = ("onnxruntime",)


def agent_version() -> str:
    """Of the installed distribution."""
    return _version("muster") or "0"


def read_facts(home: Path, timezone: str = "") -> common_pb2.DeviceFacts:
    """The facts of this machine; the free disk space is that of ``home``'s file system.

    ``timezone`` is the zone that agent.toml names; empty is the system's.

    Raises:
        ConfigError: there is no such time zone.
    """
    return common_pb2.DeviceFacts(
        agent_version=agent_version(),
        arch=platform.machine(),
        os=f"{platform.system()} {platform.release()}",
        memory_bytes=psutil.virtual_memory().total,
        disk_free_bytes=psutil.disk_usage(str(_nearest(home))).free,
        cpu_count=psutil.cpu_count() or 1,
        runtimes={name: found for name in RUNTIMES if (found := _version(name))},
        python=".".join(str(part) for part in sys.version_info[:3]),
        timezone=zone_name(timezone),
    )


def _nearest(path: Path) -> Path:
    """The path itself, or the first folder above it that is there."""
    path = path.absolute()
    return next((one for one in (path, *path.parents) if one.exists()), Path("/"))


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return ""
