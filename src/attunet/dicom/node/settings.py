"""The settings of a node: one YAML file, in which unknown keys are refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from attunet.config import Settings, load_settings
from attunet.dicom.network.addresses import AE_TITLE, FolderAddress, PeerAddress, WebAddress, parse_address
from attunet.dicom.output_types import DicomType
from attunet.errors import ConfigError

__all__ = [
    "DestinationSettings",
    "NodeSettings",
    "OutputType",
    "PageSettings",
    "PeerSettings",
    "QuerySettings",
    "ReceiveSettings",
    "RetrySettings",
    "RuleSettings",
    "WatchSettings",
    "load_node_settings",
]

OutputType = Literal["nifti", DicomType]


class PeerSettings(Settings):
    """A node that may send."""

    ae_title: str = Field(description="The AE title by which it calls.")
    address: str | None = Field(
        None, description="The IP address from which it calls; null for any. An AE title alone proves nothing."
    )


class ReceiveSettings(Settings):
    """How instances are received by C-STORE."""

    ae_title: str = Field("ATTUNET", description="Our AE title; calls for another one are rejected.")
    port: int = Field(11112, ge=1, le=65535, description="Port on which it listens.")
    address: str = Field(
        "127.0.0.1",
        description="Address on which it listens: this machine only by default; 0.0.0.0 for every network.",
    )
    peers: tuple[PeerSettings, ...] = Field(
        (), description="Who may send; associations of others are rejected. Empty: everyone who reaches the port."
    )
    largest_instance_mb: float = Field(
        1024, gt=0, le=10**5, description="Megabytes of an instance, above which the association is aborted."
    )
    associations: int = Field(8, ge=1, le=100, description="Associations at the same time; further ones are rejected.")

    @field_validator("ae_title")
    @classmethod
    def _is_title(cls, title: str) -> str:
        return _checked_title(title)


class WatchSettings(Settings):
    """A folder in which others put DICOM files. They stay there: the node copies them and changes nothing."""

    folder: Path = Field(description="The folder; its subfolders are read, too.")
    every: float = Field(5, gt=0, le=10**6, description="Seconds between two looks.")


class QuerySettings(Settings):
    """A DICOMweb service that is asked for new studies."""

    url: str = Field(description="Address of the service, such as https://pacs.example/dicom-web.")
    every: float = Field(60, gt=0, le=10**6, description="Seconds between two queries.")
    days: int = Field(1, ge=0, le=10**5, description="Days before today whose studies are asked for, by StudyDate.")
    filters: dict[str, str] = Field(
        default_factory=dict, description="Further attributes to match, such as ModalitiesInStudy: CT."
    )
    credentials: Path | None = Field(
        None, description="File in the format of netrc with name and password; null for ~/.netrc."
    )
    authority: Path | None = Field(
        None, description="PEM file with the certificates that are trusted; null for those of the system."
    )

    @field_validator("url")
    @classmethod
    def _is_service(cls, url: str) -> str:
        if not isinstance(_parsed(url), WebAddress):
            raise ValueError("expected the address of a DICOMweb service, such as https://pacs.example/dicom-web")
        return url


class RuleSettings(Settings):
    """Which series a model predicts. Every condition that is given must hold; every rule that matches applies.

    Patterns are regular expressions, found anywhere in the text, upper and lower case alike.
    """

    name: str = Field(pattern=r"^[\w.-]{1,64}$", description="Name of the rule, in logs and on the state page.")
    model: Path = Field(description="Model folder, made by `attunet train` or `attunet select`.")
    outputs: tuple[OutputType, ...] = Field(
        ("dicom-seg",), min_length=1, description="What is made of each series: see `attunet predict --output-type`."
    )
    modality: tuple[str, ...] = Field((), description="Modalities, such as [CT]; empty for every one.")
    body_part: str | None = Field(None, description="Pattern that BodyPartExamined matches.")
    study_description: str | None = Field(None, description="Pattern that StudyDescription matches.")
    series_description: str | None = Field(None, description="Pattern that SeriesDescription matches.")
    not_series_description: str | None = Field(None, description="Pattern that SeriesDescription does not match.")
    image_type: str | None = Field(None, description=r"Pattern that ImageType matches, such as ORIGINAL\\PRIMARY.")
    least_instances: int = Field(1, ge=1, le=10**6, description="Instances that a series has at least.")
    destinations: tuple[str, ...] | None = Field(
        None, description="Names of the destinations of its results; null for all that take them."
    )

    @field_validator("body_part", "study_description", "series_description", "not_series_description", "image_type")
    @classmethod
    def _is_pattern(cls, pattern: str | None) -> str | None:
        try:
            re.compile(pattern or "")
        except re.error as error:
            raise ValueError(f"is no regular expression: {error}") from error
        return pattern


class DestinationSettings(Settings):
    """Where results are sent."""

    name: str = Field(pattern=r"^[\w.-]{1,64}$", description="Name of the destination, in rules and logs.")
    address: str = Field(
        description="dicom://AETITLE@host:port for C-STORE, https://host/dicom-web for STOW-RS, or a folder."
    )
    calling: str | None = Field(None, description="Our AE title for C-STORE; null for that of receive.")
    credentials: Path | None = Field(
        None, description="File in the format of netrc with name and password; null for ~/.netrc."
    )
    authority: Path | None = Field(
        None, description="PEM file with the certificates that are trusted; null for those of the system."
    )

    @field_validator("address")
    @classmethod
    def _is_address(cls, text: str) -> str:
        _parsed(text)
        return text

    def takes(self, output: OutputType) -> bool:
        """Whether it takes results of this kind: a PACS takes no NIfTI."""
        return output != "nifti" or isinstance(parse_address(self.address), FolderAddress)


class RetrySettings(Settings):
    """How often and how long something is tried again."""

    first: float = Field(5, gt=0, le=10**6, description="Seconds before the second try; each wait is twice the last.")
    longest: float = Field(600, gt=0, le=10**6, description="Seconds of the longest wait.")
    give_up_hours: float = Field(
        72,
        gt=0,
        le=10**5,
        description="Hours after which a result that no peer took, or a study that no model could predict, is put on "
        "the dead-letter list.",
    )
    starts: int = Field(
        3,
        ge=1,
        le=1000,
        description="Predictions of a study during which the node is killed before it is put on the dead-letter list.",
    )

    def wait(self, tries: int) -> float:
        """Seconds to wait after a number of failed tries."""
        return min(self.longest, self.first * 2.0 ** min(tries - 1, 60))


class PageSettings(Settings):
    """The page with the node's state, read-only."""

    address: str = Field("127.0.0.1", description="Address on which it listens: this machine only by default.")
    port: int = Field(11180, ge=1, le=65535, description="Port on which it listens.")


class NodeSettings(Settings):
    """A node: where studies come from, which model predicts them, and where the results go."""

    state: Path = Field(
        description="Folder of the queue and of the instances in work, readable only by the node's user."
    )
    settle: float = Field(
        60, gt=0, le=10**6, description="Seconds without a new instance after which a study is complete."
    )
    receive: ReceiveSettings | None = Field(None, description="C-STORE; null to receive nothing.")
    watch: tuple[WatchSettings, ...] = Field((), description="Folders that are watched.")
    queries: tuple[QuerySettings, ...] = Field((), description="DICOMweb services that are asked.")
    rules: tuple[RuleSettings, ...] = Field(min_length=1, description="Which series which model predicts.")
    destinations: tuple[DestinationSettings, ...] = Field(min_length=1, description="Where results are sent.")
    retry: RetrySettings = Field(default_factory=RetrySettings, description="How failures are repeated.")
    keep_days: float = Field(
        7, ge=0, le=10**5, description="Days that the instances of a finished study are kept, for a retry."
    )
    least_free_mb: float = Field(
        1024, ge=0, le=10**7, description="Megabytes that stay free on the disk: below, nothing is received."
    )
    page: PageSettings | None = Field(
        default_factory=PageSettings, description="The page with the node's state; null for none."
    )

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if self.receive is None and not self.watch and not self.queries:
            raise ValueError("no studies come in: give receive, watch or queries")
        for what, names in (
            ("rules", [rule.name for rule in self.rules]),
            ("destinations", [destination.name for destination in self.destinations]),
        ):
            if repeated := sorted({name for name in names if names.count(name) > 1}):
                raise ValueError(f"two {what} are named {repeated[0]}")
        for rule in self.rules:
            for output in rule.outputs:
                if not self.destinations_of(rule, output):
                    raise ValueError(f"no destination of rule {rule.name} takes {output}")
        return self

    def destinations_of(self, rule: RuleSettings, output: OutputType) -> tuple[str, ...]:
        """The names of the destinations to which a rule's results of a kind go."""
        names = [one.name for one in self.destinations]
        if unknown := [name for name in rule.destinations or () if name not in names]:
            raise ValueError(f"rule {rule.name} names the unknown destination {unknown[0]}")
        chosen = names if rule.destinations is None else rule.destinations
        return tuple(one.name for one in self.destinations if one.name in chosen and one.takes(output))


def load_node_settings(path: Path) -> NodeSettings:
    """Settings from a YAML file; relative paths start at its folder.

    Raises: ConfigError naming the file and each offending key.
    """
    settings: NodeSettings = _anchored(load_settings(NodeSettings, path), path.absolute().parent)
    return settings


def _anchored(settings: Any, folder: Path) -> Any:
    """The same settings, whose relative paths start at a folder."""
    if isinstance(settings, Path):
        return folder / settings.expanduser()
    if isinstance(settings, tuple):
        return tuple(_anchored(part, folder) for part in settings)
    if isinstance(settings, DestinationSettings) and isinstance(parse_address(settings.address), FolderAddress):
        settings = settings.model_copy(update={"address": str(folder / Path(settings.address).expanduser())})
    if isinstance(settings, Settings):
        return settings.model_copy(update={name: _anchored(value, folder) for name, value in settings})
    return settings


def _parsed(text: str) -> PeerAddress | WebAddress | FolderAddress:
    try:
        return parse_address(text)
    except ConfigError as error:
        raise ValueError(str(error)) from error


def _checked_title(title: str) -> str:
    if AE_TITLE.fullmatch(title) is None:
        raise ValueError("an AE title has 1 to 16 printable characters and no backslash")
    return title
