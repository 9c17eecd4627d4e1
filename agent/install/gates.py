"""What an install may have to wait for between the self-test and the switch.

Directives ask for neither a shadow run nor a maintenance window, so both gates say why they open.
"""

from agent.install.record import Install


def shadow_gate(install: Install) -> str:
    """Why the install need not run in the champion's shadow (any longer)."""
    return f"no shadow asked for {install.model}/{install.version}"


def window_gate(install: Install) -> str:
    """Why the install need not wait for a window (any longer)."""
    return f"no window asked for {install.model}/{install.version}"
