"""Kernel templates (floor 5): the interface of hand-tuned kernels in `kernels/`.

The compiler asks templates first and falls back to generic lowering: same region, same interface,
so that any template can be turned off and compared. A template builds loop IR only; what the
machine can do comes from `Target` data.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, Protocol

from graphc.base.target import Target
from graphc.lower.kernel_builder import KernelBuilder, LoweredKernel
from graphc.lower.regions import Region
from graphc.schedule.choices import Choice


class KernelTemplate(Protocol):
    """One hand-tuned kernel: when it applies, its configurations, its loops."""

    @property
    def name(self) -> str:
        """The template's name, for messages."""

    def match(self, region: Region, target: Target) -> Any | None:
        """The problem that the template would solve for a region, None where it does not apply."""

    def configs(self, problem: Any, target: Target) -> Iterable[Any]:
        """A small set of configurations, the best guess first."""

    def build(self, problem: Any, config: Any, builder: KernelBuilder) -> list[LoweredKernel]:
        """The kernels, in order; what runs before the last one fills temporaries for it.

        Operands are read and results written through the builder, so prologues and epilogues fuse.
        """


def from_templates(
    templates: Sequence[KernelTemplate], region: Region, builder: KernelBuilder, target: Target
) -> list[LoweredKernel] | None:
    """The kernels of the first template that matches, in its first configuration; None where none
    does. They know no contraction that is larger than its region's domain.
    """
    if region.in_parts:
        return None
    for template in templates:
        problem = template.match(region, target)
        if problem is not None:
            config = next(iter(template.configs(problem, target)))
            return template.build(problem, config, builder)
    return None


def from_choice(
    templates: Sequence[KernelTemplate],
    region: Region,
    builder: KernelBuilder,
    target: Target,
    choice: Choice,
) -> list[LoweredKernel] | None:
    """The kernels of the template that a choice names, configured as it says; None where that one
    does not match.
    """
    for template in templates:
        if template.name == choice.template:
            problem = template.match(region, target)
            if problem is not None:
                config = next(iter(template.configs(problem, target)))
                return template.build(problem, replace(config, **dict(choice.settings)), builder)
    return None
