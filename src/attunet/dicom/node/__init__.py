"""A node beside a PACS: studies come in, wait until they are complete, are predicted, and their results go out."""

from attunet.dicom.node.node import Node
from attunet.dicom.node.settings import NodeSettings, load_node_settings
from attunet.dicom.node.state import STUDY_STATES, NodeState, StudyState, read_state, retry_study

__all__ = [
    "STUDY_STATES",
    "Node",
    "NodeSettings",
    "NodeState",
    "StudyState",
    "load_node_settings",
    "read_state",
    "retry_study",
]
