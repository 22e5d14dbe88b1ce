"""The settings of a model: network, preprocessing, plan and training. Unknown keys are refused."""

from attunet.config.coding import ANATOMY, Code, SegmentCode
from attunet.config.fingerprint import ChannelRanges, FingerprintSummary, ImageRanges
from attunet.config.intervals import IntervalCalibration, PredictionInterval, interval_text
from attunet.config.localizer import MOST_CONTEXT, Localizer
from attunet.config.network import NetworkConfig
from attunet.config.plan import IGNORED, Plan, mirrored_order, mirrored_values
from attunet.config.postprocessing import ComponentRules, Postprocessing, QualityCalibration, RankCorrelation
from attunet.config.prediction_choice import Evidence, MeasuredPrediction, PredictionChoice
from attunet.config.preprocessing import Normalization, Preprocessing
from attunet.config.settings import Settings, describe, load_settings, parse_settings
from attunet.config.training import TrainingConfig

__all__ = [
    "ANATOMY",
    "IGNORED",
    "MOST_CONTEXT",
    "ChannelRanges",
    "Code",
    "ComponentRules",
    "Evidence",
    "FingerprintSummary",
    "ImageRanges",
    "IntervalCalibration",
    "Localizer",
    "MeasuredPrediction",
    "NetworkConfig",
    "Normalization",
    "Plan",
    "Postprocessing",
    "PredictionChoice",
    "PredictionInterval",
    "Preprocessing",
    "QualityCalibration",
    "RankCorrelation",
    "SegmentCode",
    "Settings",
    "TrainingConfig",
    "describe",
    "interval_text",
    "load_settings",
    "mirrored_order",
    "mirrored_values",
    "parse_settings",
]
