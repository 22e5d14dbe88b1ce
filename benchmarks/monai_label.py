"""MONAI Label in its own environment: its installation, an app for one MONAI Bundle, and the command of its server."""

from __future__ import annotations

import json
import shutil
import venv
from dataclasses import dataclass
from pathlib import Path

from nnunet.peer import STUB, TORCH, call
from programs import Command

__all__ = ["MONAILabel"]

APP = "monaibundle"
LABEL = "monailabel==0.8.5"
"""Installed without its dependencies: torchvision would require another torch, and SAM 2 is not used here."""
# From 1.6 on, MONAI's Spacingd fails with NIfTI in MONAI Label, whose requests have a text beginning with "image_".
MONAI = ("monai==1.5.2", "itk", "nibabel", "pillow", "psutil", "pytorch-ignite", "scikit-image", "tensorboard", "tqdm")
DICOM = ("dicomweb-client[gcp]<0.60", "google-auth", "pydicom<3", "pydicom-seg", "pynetdicom<3", "SimpleITK")
SERVER = ("fastapi", "httpx", "pydantic-settings", "python-dotenv", "python-multipart", "requests-toolbelt", "uvicorn")
ACCESS = ("bcrypt", "girder-client", "passlib", "pyjwt", "requests", "urllib3")
NUMBERS = ("einops", "numpymaxflow", "pynrrd", "scikit-learn", "scipy", "shapely")
OTHERS = ("cachetools", "expiring_dict", "expiringdict", "filelock", "pyyaml", "schedule", "timeloop", "watchdog")

AUTOCAST = "$torch.autocast('cpu', dtype=torch.bfloat16)(@windows)"


@dataclass(frozen=True)
class MONAILabel:
    """MONAI Label, and an app of it with one model.

    Args:
        env: its virtual environment, with MONAI Label's own app for bundles.
        app: the folder of the app.
        model: the name of the model.
    """

    env: Path
    app: Path
    model: str

    @classmethod
    def create(cls, bundle: Path, model: str, env: Path, app: Path, *, bf16: bool = False) -> MONAILabel:
        """Install it if it is missing, and copy its app for bundles with this MONAI Bundle as its only model.

        Args:
            bundle: the MONAI Bundle.
            model: the name that it gets.
            env: the virtual environment of MONAI Label.
            app: the folder of the app, which is replaced.
            bf16: change the copy of the bundle so that its network computes in bf16.
        """
        _install(env)
        shutil.rmtree(app, ignore_errors=True)
        shutil.copytree(env / "monailabel" / "sample-apps" / APP, app)
        shutil.copytree(bundle, app / "model" / model)
        if bf16:
            file = app / "model" / model / "configs" / "inference.json"
            config = json.loads(file.read_text())
            autocast = {"windows": config["inferer"], "inferer": AUTOCAST}
            file.write_text(json.dumps(config | autocast))
        return cls(env.resolve(), app, model)

    def command(self, studies: Path, *, preload: bool) -> Command:
        """Its server, without a port. Bundles that are not in the app would be downloaded from `zoo_source`."""
        command: Command = [self.env / "bin" / "python", "-m", "monailabel.main", "start_server", "--app", self.app]
        settings = {"models": self.model, "zoo_source": "ngc", "preload": str(preload).lower()}
        pairs = [word for key, value in settings.items() for word in ("--conf", key, value)]
        return [*command, "--studies", studies, "--host", "127.0.0.1", *pairs]

    @property
    def variables(self) -> dict[str, str]:
        """The environment variables that its server needs; without one of them it would write into the home folder."""
        return {"PYTHONPATH": str(self.env / "stubs"), "MONAI_LABEL_SESSION_PATH": str(self.app / "sessions")}


def _install(env: Path) -> None:
    """Create the environment, unless it is complete."""
    if (env / "installed").exists():
        return
    venv.create(env, with_pip=True)
    constraints = env / "constraints.txt"
    constraints.write_text(TORCH + "\n")
    needed = (*MONAI, *DICOM, *SERVER, *ACCESS, *NUMBERS, *OTHERS)
    for packages in ([TORCH], ["--no-deps", LABEL], ["-c", str(constraints), *needed]):
        call([env / "bin" / "pip", "install", "--quiet", *packages], env / "install.log")
    # It imports functions from torchvision that only training and active learning call; stubs are enough.
    stub = env / "stubs" / "torchvision"
    stub.mkdir(parents=True, exist_ok=True)
    (stub / "__init__.py").write_text("")
    (stub / "utils.py").write_text(STUB)
    (env / "installed").touch()
