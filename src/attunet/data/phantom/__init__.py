"""A synthetic abdomen in CT: realistic enough to train on, free to publish.

The pancreas has the intensity of the bowel around it: only its position, its curve and its neighbours
distinguish it, which is what an attention gate should learn to use.
"""

from attunet.data.phantom.patient import PHANTOM_LABELS
from attunet.data.phantom.scan import make_phantom, write_phantom_dataset

__all__ = ["PHANTOM_LABELS", "make_phantom", "write_phantom_dataset"]
