"""sgm's attention is LDM's."""

from ldm.modules.attention import BasicTransformerBlock, CrossAttention, SpatialTransformer  # noqa: F401
