"""File names as tokens: the words that people use for channels, labels, raters and splits, in one table.

A path such as `case_3/imaging.nii.gz` is a few parts (the folders, and the name without suffix), each part a few
tokens. A token that is in `WORDS` has a role; what is left of a path without such tokens names its case.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterator
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple

__all__ = [
    "DRAWN",
    "EDGES",
    "Role",
    "Token",
    "fold",
    "nfc",
    "raters_of",
    "residue",
    "runs",
    "subject",
    "tokenize",
    "values",
]


class Role(StrEnum):
    """What a word in a file name tells."""

    IMAGE = "image"
    LABEL = "label"
    CHANNEL = "channel"
    RATER = "rater"
    SPLIT = "split"
    SUBORDINATE = "time point, side or slice of a patient"
    PATIENT = "patient"
    PLACE = "a part of the data set"
    FIELD = "field of view"
    SOFT = "probability map"
    SERIES = "series over time"
    ENTITY = "how an image was acquired or derived"


class Token(NamedTuple):
    """A word of a name.

    Args:
        text: as written.
        start: where it begins in its part.
        role: its role; None for the words that name a case.
        value: the split (train, val or test) that it tells; the folded text otherwise.
    """

    text: str
    start: int
    role: Role | None
    value: str

    @property
    def stop(self) -> int:
        """Where it ends in its part."""
        return self.start + len(self.text)


WORDS: dict[Role, str] = {
    Role.IMAGE: "images image imgs img im imaging imagestr imagesva imagests volumes volume vol scans scan originals "
    "original orig inputs input raw jpegimages pictures picture photos photo source data "
    "preprocessed pp reg",
    Role.LABEL: "labels label labelstr labelsva labelsts masks mask msks msk segs seg segm segmentations segmentation "
    "segmented gts gt groundtruths groundtruth ground truths truth manuals manual annotations annotation annotated "
    "annot anno dseg rois roi lesions lesion contours contour delineations delineation targets target references "
    "reference voi labelmap segmentationclass segmentationobject wmh structures aseg "
    "aparc wmparc",
    Role.CHANNEL: "flair t1 t1ce t1gd t1c t1n t1w t1p t1post t1km t2 t2w t2f t2star t2s pd pdw pdt2 dwi adc swi asl "
    "cbf cbv mtt tmax ttp ct cta ncct cect pet pt suv mr mri mra dce fa md trace b0 b1000 hbv inplanet1 inplanet2 "
    "ir mp2rage mprage dp gado gad gd tof lge unit1 phase magnitude inphase outphase red green blue rgb",
    Role.RATER: "rater raters reader readers annotator annotators observer observers expert experts 1st 2nd 3rd 4th "
    "5th 1stho 2ndho consensus staple",
    Role.SPLIT: "train training val valid validation dev test testing",
    Role.SUBORDINATE: "ses session visit frame frames timepoint timepoints tp time day week month year baseline "
    "followup followups fu slice slices slc left right l r od os",
    Role.PATIENT: "patient patients pat subject subjects subj sub participant person",
    Role.PLACE: "derivatives rawdata sourcedata anat func perf datasets dataset parts part batches batch sites site "
    "centers center centre files nifti nii png tif jpg hgg lgg release",
    Role.FIELD: "fov fovmask brainmask bodymask",
    Role.SOFT: "probseg probs prob probability probabilities softmax heatmaps heatmap",
    Role.SERIES: "4d timeseries bold",
}
"""The words of each role, in lower case; a word has the first role that lists it."""

SPLITS = {
    "train": "train training imagestr labelstr",
    "val": "val valid validation dev imagesva labelsva",
    "test": "test testing imagests labelsts",
}
"""The words that tell a split, whatever else they tell."""

ENTITIES = {
    "sub": Role.PATIENT,
    "ses": Role.SUBORDINATE,
    "label": Role.LABEL,
    "seg": Role.LABEL,
    "ce": Role.CHANNEL,
    "echo": Role.CHANNEL,
    **dict.fromkeys(("desc", "atlas", "space", "res", "den", "mod"), Role.ENTITY),
}
"""The roles of entities of BIDS, such as label-lesion; all others (run-1, acq-2) belong to the name of the case."""

DRAWN = "manual manuals annotation annotations annot anno " + WORDS[Role.RATER]
"""Words that are followed by the number or letter of a rater: manual1, rater_A."""

EDGES = " _-.,;+&=~@"
"""Separators at the edge of a word."""

_ROLES = {word: role for role in reversed(WORDS) for word in WORDS[role].split()}
_SPLIT_OF = {word: split for split, words in SPLITS.items() for word in words.split()}
_DRAWN = frozenset(DRAWN.split())
_FIELDS = frozenset(["brain", "body"])
_MASKS = frozenset(["mask", "masks"])
_RUN = re.compile(r"[^\s_\-.,;()\[\]{}+&'=~@!]+")
_NUMBERED = re.compile(r"(\D+)(\d+)")
_CAMEL = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[^\WA-Z]+")
_BIDS = re.compile(r"sub-[^_]+(_|$)", re.IGNORECASE)
_BRATS = re.compile(r"(brats-[a-z]+-\d+)-\d{3}", re.IGNORECASE)
_DATE = re.compile(r"(?:19|20)\d\d[01]\d[0-3]\d")
_SIDE = re.compile(r"(.*\d)[lr]", re.IGNORECASE)


def nfc(text: str) -> str:
    """The text in the composed Unicode form, which ids have whatever form the names of files have."""
    return unicodedata.normalize("NFC", text)


@lru_cache(maxsize=2**17)
def fold(text: str) -> str:
    """The text by which names are compared: one Unicode form, without letter case."""
    return nfc(nfc(text).casefold())


@lru_cache(maxsize=2**17)
def tokenize(part: str) -> tuple[Token, ...]:
    """The tokens of a folder's name, or of a file's name without suffix.

    A word with a number, such as img0001, is two tokens if the word has a role; so are words in camel case if each has
    one. A name of BIDS (sub-01_ses-1_T1w) is divided into its entities.
    """
    if _BIDS.match(part):
        return tuple(_entity(match[0], match.start()) for match in re.finditer(r"[^_]+", part))
    tokens = [token for match in _RUN.finditer(part) for token in _divided(match[0], match.start())]
    named = any(token.role is None and not _attached(tokens, index) for index, token in enumerate(tokens))
    return tuple(_of_rater(tokens, index, named) for index in range(len(tokens)))


@lru_cache(maxsize=2**17)
def residue(part: str, dropped: frozenset[Role]) -> str:
    """What is left of a part without the tokens of some roles: the name of a case; empty when nothing is left."""
    return "_".join(text for text in runs(part, dropped) if text)


def runs(part: str, dropped: Collection[Role]) -> list[str]:
    """The texts before, between and after the tokens of some roles, without separators at their edges."""
    texts, start = [], 0
    for token in tokenize(part):
        if token.role in dropped:
            texts.append(part[start : token.start])
            start = token.stop
    if start == 0 and not texts:
        return [part]
    return [_trimmed(text) for text in (*texts, part[start:])]


def values(part: str, role: Role) -> list[Token]:
    """The tokens of a part with a role."""
    return [token for token in tokenize(part) if token.role is role]


def raters_of(part: str) -> list[str]:
    """The raters that a part names: each a word, with the number or letter after it, as in expert1."""
    found: list[tuple[int, int]] = []
    tokens = tokenize(part)
    for before, token in zip((None, *tokens), tokens, strict=False):
        if token.role is Role.RATER and before is not None and before.role is Role.RATER:
            found[-1] = (found[-1][0], token.stop)
        elif token.role is Role.RATER:
            found.append((token.start, token.stop))
    return [part[start:stop] for start, stop in found]


def subject(id: str) -> str | None:
    """The patient that a case's id names besides a time point, a side or a slice; None when it names nothing else.

    Known are words (patient001_frame01, p7_left), dates, the entities of BIDS, the time points of BraTS, and L and R
    after a number (Image_01L).
    """
    if match := _BRATS.fullmatch(id) or _SIDE.fullmatch(id):
        return match[1]
    tokens = tokenize(id)
    for index, token in enumerate(tokens[:-1]):
        if token.role is Role.PATIENT:
            own = token if "-" in token.text else tokens[index + 1]
            return id[: own.stop] if own.stop < len(id) else None
    kept, start = [], 0
    for index, token in enumerate(tokens):
        if token.role is Role.SUBORDINATE or (index and _DATE.fullmatch(token.text)):
            following = tokens[index + 1] if index + 1 < len(tokens) else token
            kept.append(id[start : token.start])
            start = following.stop if following.text.isdigit() else token.stop
    rest = "_".join(text for piece in (*kept, id[start:]) if (text := _trimmed(piece)))
    return rest if kept and rest else None


def _divided(text: str, start: int) -> Iterator[Token]:
    match = _NUMBERED.fullmatch(text)
    camel = list(_CAMEL.finditer(text))
    if fold(text) in _ROLES:
        yield _token(text, start)
    elif match is not None and fold(match[1]) in _ROLES:
        yield _token(match[1], start)
        yield Token(match[2], start + len(match[1]), None, match[2])
    elif len(camel) > 1 and all(fold(piece[0]) in _ROLES for piece in camel):
        yield from (_token(piece[0], start + piece.start()) for piece in camel)
    else:
        yield _token(text, start)


def _token(text: str, start: int) -> Token:
    folded = fold(text)
    return Token(text, start, _ROLES.get(folded), _SPLIT_OF.get(folded, folded))


def _entity(text: str, start: int) -> Token:
    key, dash, _ = fold(text).partition("-")
    return Token(text, start, ENTITIES.get(key), fold(text)) if dash else _token(text, start)


def _attached(tokens: list[Token], index: int) -> bool:
    """Whether a token is the number of the word before it, as in manual1."""
    return index > 0 and tokens[index].start == tokens[index - 1].stop and tokens[index].text.isdigit()


def _of_rater(tokens: list[Token], index: int, named: bool) -> Token:
    """The token, with the role of a rater if it numbers the label of a case that is named by other tokens."""
    token, before = tokens[index], tokens[index - 1] if index else tokens[index]
    if token.value in _FIELDS and len(tokens) == index + 2 and tokens[-1].value in _MASKS:
        return token._replace(role=Role.FIELD)  # brain_mask, but not brain_mask_1
    if index == 0 or token.role is not None:
        return token
    if before.role is Role.LABEL and index > 1 and tokens[index - 2].value in _DRAWN:
        before = tokens[index - 2]  # ManualSegmentation_1
    numbers_label = before.role is Role.LABEL and _attached(tokens, index) and named
    short = token.text.isdigit() or len(token.text) == 1
    return token._replace(role=Role.RATER) if numbers_label or (before.value in _DRAWN and short) else token


def _trimmed(text: str) -> str:
    text = text.strip(EDGES)
    return text if text.count("(") == text.count(")") else text.strip(EDGES + "()")
