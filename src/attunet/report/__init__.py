"""What a person looks at: overlays, curves, score boxes, and the HTML report that gathers them."""

from attunet.report.figures import curves, overlay, save_figure, score_boxes
from attunet.report.html import Animation, Picture, Table, write_report

__all__ = ["Animation", "Picture", "Table", "curves", "overlay", "save_figure", "score_boxes", "write_report"]
