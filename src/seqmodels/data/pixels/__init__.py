"""Images as they are, for models of the images themselves."""

from __future__ import annotations

from seqmodels.data.pixels.base import PixelImages

__all__ = ["PixelImages"]
