"""Image loaders: a file in, a `BootImage` out. `load_image` recognises the file by its content."""

from hv.loaders.image import BootImage, BootMode, BootState, ImageKind, LoadedSegment, TableRegister
from hv.loaders.load import load_image
from hv.loaders.segments import SegmentState

__all__ = [
    "BootImage",
    "BootMode",
    "BootState",
    "ImageKind",
    "LoadedSegment",
    "SegmentState",
    "TableRegister",
    "load_image",
]
