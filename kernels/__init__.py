"""Hand-tuned kernel templates (beside the floors; imported as `graphc.kernels`).

Each module is one template: it matches a region of the graph and builds loop IR for it. Templates
import floors 0 to 5 only, never name a device (capability comes from `Target` data), and are
imported by `graphc/compiler.py` alone. Always write `graphc.kernels`, never `import kernels`: that
would load a second copy.
"""

from __future__ import annotations

from graphc.kernels.cascade_cpu import CascadeTemplate
from graphc.kernels.direct_cpu import DirectTemplate
from graphc.kernels.gemm_cpu import GemmTemplate
from graphc.kernels.gemm_strips import StripTemplate
from graphc.kernels.line_bands import BandTemplate
from graphc.kernels.line_strips import LineTemplate
from graphc.kernels.transpose_cpu import TransposeTemplate
from graphc.kernels.winograd_cpu import WinogradTemplate
from graphc.lower.template import KernelTemplate

# In the order in which they are asked.
TEMPLATES: tuple[KernelTemplate, ...] = (
    CascadeTemplate(),
    BandTemplate(),
    WinogradTemplate(),
    LineTemplate(),
    DirectTemplate(),
    GemmTemplate(),
    StripTemplate(),
    TransposeTemplate(),
)
