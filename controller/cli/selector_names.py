"""Selectors that name what no device has: more often a slip of the hand than a wish."""

from controller.cli.client import ApiClient


def unknown_names(api: ApiClient, selector: str) -> str:
    """A sentence about the labels and facts that ``selector`` names and no device has; or empty.

    Such a name makes every comparison false, and so ``not`` of it true: the selector may then match
    every device, or none.
    """
    from controller.errors import BadSelector  # noqa: PLC0415 - quick --help
    from controller.fleet.attributes import FACTS  # noqa: PLC0415
    from controller.fleet.selector import names  # noqa: PLC0415
    from controller.fleet.selector_parser import parse  # noqa: PLC0415

    try:
        named = names(parse(selector)) - {"id", *FACTS}
    except BadSelector:
        return ""  # the controller says where
    devices = api.get("/devices") if named else []
    unknown = sorted(named.difference(*({*one["labels"], *one["facts"]} for one in devices)))
    if not unknown or not devices:
        return ""
    listed = ", ".join(map(repr, unknown))
    return f"no device has a label or fact {listed}; a device's own name is `id`"
