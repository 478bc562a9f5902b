"""`brookbox streams new`: a folder with which an author begins."""

from __future__ import annotations

import json
import re
from pathlib import Path

from appliance.dicom.names import is_ae_title
from appliance.errors import StreamError

_RUN = '''"""Say here what this stream makes of a study."""

from brookbox_results import credit, new_result, read_input, run, save, series_number
from pydicom.uid import SecondaryCaptureImageStorage


def brightest(job):
    """Give the slice that is brightest as a picture of its own.

    Gives the outcome (success, partial or failed) and a sentence for the job's page.
    """
    images, left_out = read_input(job.input)
    pixels = max((ds.pixel_array for ds in images), key=lambda array: array.sum())
    ds = new_result(
        job,
        "brightest",
        SecondaryCaptureImageStorage,
        images,
        number=series_number(job, images),
        description="Brightest slice",
        modality=images[0].Modality,
    )
    ds.ConversionType, ds.InstanceNumber, ds.PatientOrientation = "WSD", 1, ""
    ds.ImageType = ["DERIVED", "SECONDARY"]
    ds.set_pixel_data(pixels, "MONOCHROME2", 16)
    credit(job, ds, images, "The slice with the highest sum of pixels.")
    save(job, ds, "brightest")
    return "success", f"Chosen from {len(images)} slices."


run(brightest)
'''

_DOCKERFILE = """ARG BASE=brookbox/base:1.0.0
FROM ${BASE}
WORKDIR /opt/stream
COPY info.json *.py ./
RUN python3 -m compileall -q . && chmod -R a+rX .
CMD ["python3", "run.py"]
"""

_TEST = '''"""Run this stream over a folder of DICOM files: python3 test_run.py INPUT OUTPUT."""

import subprocess
import sys
from pathlib import Path


def main(source, output):
    here = Path(__file__).parent
    command = ["brookbox", "--json", "streams", "run", str(here), source, output]
    subprocess.run(command, check=True)
    assert list(Path(output).glob("*.dcm")), "it made no result"


if __name__ == "__main__":
    main(*sys.argv[1:])
'''


def new_stream(streams_folder: Path, name: str, ae_title: str) -> Path:
    """Make the folder of a new stream, switched off until its author has looked at it.

    Raises StreamError when there is such a folder, or the AE title cannot be one.
    """
    folder = streams_folder / re.sub(r"[^a-z0-9-]+", "-", name.lower()).strip("-")
    ae_title = ae_title or re.sub(r"[^A-Z0-9_]+", "_", name.upper())[:16]
    if not is_ae_title(ae_title) or folder == streams_folder:
        raise StreamError(
            f"{name} gives no AE title (1 to 16 printable ASCII characters)",
            remedy="brookbox streams new NAME --ae-title TITLE",
        )
    part = folder.with_name(f".{folder.name}.part")
    try:
        if folder.exists():
            raise FileExistsError
        part.mkdir(parents=True)
        (part / "info.json").write_text(_info(name, folder.name, ae_title), "utf-8")
        (part / "run.py").write_text(_RUN, "utf-8")
        (part / "Dockerfile").write_text(_DOCKERFILE, "utf-8")
        (part / "test_run.py").write_text(_TEST, "utf-8")
        part.rename(folder)
    except FileExistsError as error:
        raise StreamError(
            f"there is a {folder} already", remedy="choose another name, or remove that folder"
        ) from error
    except OSError as error:
        raise StreamError(
            f"{folder} cannot be made: {error.strerror}",
            remedy=f"make sure that you may write to {streams_folder}",
        ) from error
    return folder


def _info(name: str, folder_name: str, ae_title: str) -> str:
    info = {
        "name": name,
        "description": "What it makes of a study, in one sentence.",
        "version": "0.1.0",
        "AETitle": ae_title,
        "license": "",
        "enabled": 0,
        "image": f"brookbox/{folder_name}:0.1.0",
        "command": ["python3", "run.py"],
        "level": "study",
        "timeout_minutes": 20,
        "memory_gb": 2,
        "cpus": 1,
    }
    return json.dumps(info, indent=2) + "\n"
