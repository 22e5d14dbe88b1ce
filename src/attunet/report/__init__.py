"""Figures and reports: overlays, curves, box plots, and the HTML report that contains them."""

from attunet.report.figures import curves, overlay, save_figure, score_boxes
from attunet.report.html import Animation, Picture, Table, write_report

__all__ = ["Animation", "Picture", "Table", "curves", "overlay", "save_figure", "score_boxes", "write_report"]
