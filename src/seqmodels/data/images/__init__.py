"""Images as sequences."""

from __future__ import annotations

from seqmodels.data.images.files import Images, read_idx, read_images
from seqmodels.data.images.hub import read_hub
from seqmodels.data.images.pictures import read_picture
from seqmodels.data.images.pixels import PixelSequences

__all__ = ["Images", "PixelSequences", "read_hub", "read_idx", "read_images", "read_picture"]
