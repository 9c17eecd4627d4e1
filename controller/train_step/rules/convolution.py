"""Rules for convolutions, by the input and by the bias; `kernel_gradient` has that by the kernel."""

from collections.abc import Mapping
from typing import Final

from controller.train_step.rules.geometry import Geometry, geometry
from controller.train_step.rules.indexing import TO_THE_END
from controller.train_step.rules.kernel_gradient import kernel_gradient
from controller.train_step.site import Gradients, Rule, Site


def conv(site: Site) -> Gradients:
    """Conv with any strides, dilations, groups and padding."""
    x, kernels = site.input(0), site.input(1)
    lengths = site.static(kernels)[2:]
    shape = geometry(site, x, site.output, lengths, site.attributes.integer("group", 1))
    of_x = of_kernels = of_bias = None
    channels, filters = site.length(x, 1), site.static(kernels)[0]
    if site.needed[0]:
        of_x = input_gradient(site, site.gradient, kernels, shape, (channels, filters))
    if site.needed[1]:
        of_kernels = kernel_gradient(site.emitter, x, site.gradient, shape, channels, filters)
    if any(site.needed[2:]):
        of_bias = _bias_gradient(site, shape)
    return [of_x, of_kernels, of_bias]


def conv_transpose(site: Site) -> Gradients:
    """ConvTranspose: the adjoint of a convolution, so what it was is its gradient."""
    x, kernels = site.input(0), site.input(1)
    attributes = site.attributes
    if attributes.text("auto_pad", "NOTSET") != "NOTSET" or attributes.has("output_shape"):
        raise site.refusal("auto_pad and output_shape have no rule")
    lengths = site.static(kernels)[2:]
    spare = attributes.integers("output_padding", [0] * len(lengths))
    groups = attributes.integer("group", 1)
    shape = geometry(site, site.output, x, lengths, groups).without_end(spare)
    if min(shape.end) < 0:
        raise site.refusal("output_padding larger than the padding behind has no rule")
    of_x = of_kernels = of_bias = None
    if site.needed[0]:
        of_x = _convolved(site, kernels, shape)
    if site.needed[1]:
        channels, filters = site.length(site.output, 1), site.length(x, 1)
        of_kernels = kernel_gradient(site.emitter, site.gradient, x, shape, channels, filters)
    if any(site.needed[2:]):
        of_bias = _bias_gradient(site, shape)
    return [of_x, of_kernels, of_bias]


def input_gradient(
    site: Site, gradient: str, kernels: str, shape: Geometry, lengths: tuple[int, int]
) -> str:
    """Of a convolution's input: its adjoint, ConvTranspose, or a faster Conv where there is one.

    Both lay out windows: ConvTranspose those of the channels, Conv those of the filters. Conv needs
    none for points, and is a third faster with a kernel for each channel. ``lengths`` are how many
    channels and filters there are.
    """
    pads = [
        *(reach - pad for reach, pad in zip(shape.reach, shape.begin, strict=True)),
        *(reach - pad for reach, pad in zip(shape.reach, shape.end, strict=True)),
    ]
    e = site.emitter
    channels, filters = lengths
    dense = shape.groups == 1 and (channels > filters or shape.pointwise)
    depthwise = channels == filters == shape.groups
    if shape.unit_strides and (dense or depthwise) and min(pads) >= 0:
        return e.op(
            "Conv",
            gradient,
            _flipped(site, kernels, shape),
            kernel_shape=shape.kernel,
            dilations=shape.dilations,
            pads=pads,
            group=shape.groups,
        )
    missing = [
        size - ((out - 1) * step + reach + 1 - begin - end)
        for size, out, step, reach, begin, end in zip(
            shape.size, shape.out, shape.strides, shape.reach, shape.begin, shape.end, strict=True
        )
    ]
    return e.op(
        "ConvTranspose",
        gradient,
        kernels,
        kernel_shape=shape.kernel,
        strides=shape.strides,
        dilations=shape.dilations,
        pads=shape.pads,
        group=shape.groups,
        output_padding=missing if any(missing) else None,
    )


def _flipped(site: Site, kernels: str, shape: Geometry) -> str:
    """Kernels turned around, their inputs and outputs swapped; one for each channel has no more."""
    e = site.emitter
    space = list(range(2, 2 + shape.axes))
    swapped = kernels
    if shape.groups == 1:
        swapped = e.op("Transpose", kernels, perm=[1, 0, *space])
    if all(length == 1 for length in shape.kernel):
        return swapped
    back = e.integers([-1] * shape.axes)
    return e.op(
        "Slice", swapped, back, e.integers([-TO_THE_END] * shape.axes), e.integers(space), back
    )


def _convolved(site: Site, kernels: str, shape: Geometry) -> str:
    return site.emitter.op(
        "Conv",
        site.gradient,
        kernels,
        kernel_shape=shape.kernel,
        strides=shape.strides,
        dilations=shape.dilations,
        pads=shape.pads,
        group=shape.groups,
    )


def _bias_gradient(site: Site, shape: Geometry) -> str:
    axes = site.emitter.integers([0, *range(2, 2 + shape.axes)])
    return site.emitter.op("ReduceSum", site.gradient, axes, keepdims=0)


RULES: Final[Mapping[str, Rule]] = {"Conv": conv, "ConvTranspose": conv_transpose}
