"""Rules for operators that move elements and compute nothing."""

from collections.abc import Mapping
from typing import Final

from controller.train_step.site import Gradients, Rule, Site
from controller.train_step.transposition import transposed


def reshape(site: Site) -> Gradients:
    """Reshape, Flatten, Squeeze, Unsqueeze."""
    return [site.reshaped(site.gradient, site.input(0))]


def transpose(site: Site) -> Gradients:
    """Transpose."""
    e, rank = site.emitter, site.rank(site.input(0))
    order = site.attributes.integers("perm", range(rank)[::-1])
    inverse = [order.index(axis) for axis in range(rank)]
    found = e.name("Transpose")
    e.nodes += transposed(e, site.gradient, inverse, site.shapes[site.output], found)
    return [found]


def expand(site: Site) -> Gradients:
    """Expand."""
    return [site.unbroadcast(site.gradient, site.output, site.input(0))]


def concat(site: Site) -> Gradients:
    """Concat along an axis of fixed lengths."""
    e = site.emitter
    axis = site.attributes.integer("axis", 0) % site.rank(site.output)
    gradients: list[str | None] = []
    start = 0
    for name, needed in zip(site.node.input, site.needed, strict=True):
        end = start + site.length(name, axis)
        bounds = (e.integers([start]), e.integers([end]), e.integers([axis]))
        gradients.append(e.op("Slice", site.gradient, *bounds) if needed else None)
        start = end
    return gradients


def split(site: Site) -> Gradients:
    """Split; parts that the loss does not depend on count as zero."""
    parts = [
        gradient or site.zeros_like(name)
        for gradient, name in zip(site.gradients, site.node.output, strict=True)
    ]
    return [site.emitter.op("Concat", *parts, axis=site.attributes.integer("axis", 0))]


RULES: Final[Mapping[str, Rule]] = {
    "Reshape": reshape,
    "Flatten": reshape,
    "Squeeze": reshape,
    "Unsqueeze": reshape,
    "Transpose": transpose,
    "Expand": expand,
    "Concat": concat,
    "Split": split,
}
