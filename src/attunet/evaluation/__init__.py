"""Evaluation of segmentations: metrics of masks, scores of cases, summaries of folders."""

from attunet.evaluation.evaluate import evaluate
from attunet.evaluation.scores import CaseScores, LabelScores, score_case, scored_labels
from attunet.evaluation.summary import Summary, summarize

__all__ = ["CaseScores", "LabelScores", "Summary", "evaluate", "score_case", "scored_labels", "summarize"]
