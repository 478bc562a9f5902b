"""The run.py of small test streams."""

# The input as one new instance, quickly; its UID is the same at every attempt.
COPY_ONE = """
import hashlib, json, os, pathlib, sys, time
import pydicom
job = json.loads((pathlib.Path(os.environ["BROOKBOX_JOB"]) / "info.json").read_text())
files = sorted(pathlib.Path(os.environ["BROOKBOX_INPUT"]).iterdir())
print("started", job["job"], len(files), flush=True)
def uid(name):
    digest = hashlib.sha256((job["result_seed"] + name).encode()).digest()
    return f"2.25.{int.from_bytes(digest[:15], 'big')}"
def make():
    ds = pydicom.dcmread(files[0])
    ds.SeriesInstanceUID, ds.SOPInstanceUID = uid("series"), uid("one")
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.SeriesNumber, ds.InstanceNumber = "9001", str(len(files))
    ds.save_as(pathlib.Path(os.environ["BROOKBOX_OUTPUT"]) / "one.dcm")
"""
QUICK = COPY_ONE + "make()\n"

# Runs until a file named `gate` stands in the stream's folder.
HELD = (
    COPY_ONE
    + """
make()
gate = pathlib.Path(__file__).parent / "gate"
while not gate.exists():
    time.sleep(0.05)
print("the gate is open", flush=True)
"""
)

SLEEP = (
    COPY_ONE
    + """
time.sleep(float(job["stream"]["settings"]["seconds"]))
make()
"""
)
