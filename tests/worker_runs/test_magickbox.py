"""MagickBox's two kinds of stream run unchanged: an image with /root/work.sh, and a work.sh."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from appliance.worker.container import Docker
from appliance.worker.container_runs import ContainerExecutor
from appliance.worker.executor import Executor
from appliance.worker.plain_process import ProcessExecutor
from tests.kit import engine
from tests.kit.runs import Bystander, Workshop

# As its authors wrote them: root, writing where they like, in a login shell.
BUCKET = """\
#!/bin/bash
echo "called $0 $@ as $(id -u)"
echo "profile: $FROM_PROFILE"
echo "overwritten" > $1/00001.dcm
rm $1/00002.dcm
mkdir -p /var/log/bucket && echo "log" > /var/log/bucket/log
chown 1000:1000 /var/log/bucket/log
touch $2/result.dcm && chmod 600 $2/result.dcm
mkdir $2/closed && touch $2/closed/in && chown -R 4321:4321 $2/closed && chmod 700 $2/closed
mkdir -p /memory && echo "$(date +%s)" >> /memory/seen
for c in net_raw mknod sys_admin; do
  capsh --has-p=cap_$c 2>/dev/null && echo "HAS $c"
done
mknod $2/disk b 8 0 2>/dev/null && echo "MADE A DEVICE"
mount -t tmpfs none /mnt 2>/dev/null && echo "MOUNTED"
ls /sys/class/net
exit 0
"""

DOCKERFILE = """\
ARG BASE
FROM ${BASE}
COPY work.sh /root/work.sh
RUN echo 'export FROM_PROFILE=yes' >> /root/.profile && chmod 755 /root/work.sh
CMD ["/bin/false"]
"""

# Newer template: two words in one argument.
NEW_HOST = """\
#!/bin/bash
read -r INPUT OUTPUT <<< "$1"
echo "new template, $# argument"
for file in $INPUT/*; do cp "$file" "$OUTPUT/$(basename "$file").result"; echo "did $file"; done
echo "overwritten" > "$INPUT/00001.dcm"
echo '[{"success": "success", "message": "all of it"}]' > "$OUTPUT/proc.json"
"""

# Older template: reads only the first word, and writes beside INPUT.
OLD_HOST = """\
#!/bin/bash
set -- $1
INPUT=$1
LOG=$INPUT/../processing.log
echo "old template starts" > $LOG
mkdir -p $INPUT/../OUTPUT
for file in $INPUT/*; do cp "$file" "$INPUT/../OUTPUT/"; echo "did $(basename $file)" >> $LOG; done
echo "on standard output"
echo "overwritten" > "$INPUT/00001.dcm"
echo '[{"success": "partial", "message": "half of it"}]' > $INPUT/../proc.json
echo "old template ends" >> $LOG
"""


@pytest.fixture(scope="session")
def bucket(docker_required: Docker) -> str:
    """An image as MagickBox's buckets are."""
    files = {"Dockerfile": DOCKERFILE, "work.sh": BUCKET}
    return engine.build(docker_required, "brookbox-test/bucket:1", files)


def test_a_docker_bucket_runs_unchanged(
    workshop: Workshop, containers: ContainerExecutor, bucket: str
) -> None:
    # The key is one of MagickBox's own, which we do not know.
    stream = workshop.stream("bucket", {"image": bucket, "enabled": 1, "lastChanged": "2014"})
    assert stream.contract == "magickbox"
    assert containers.why_not(stream) is None
    run = workshop.run_of(containers, stream)
    ended = containers.run(run, Bystander())
    log = run.folder.log.read_text()
    assert (ended.how, ended.exit_code) == ("exited", 0), log
    assert "called /root/work.sh /input /output as 0" in log
    assert "profile: yes" in log  # it was called by a login shell
    assert not {"HAS net_raw", "HAS mknod", "HAS sys_admin", "MADE A DEVICE", "MOUNTED"} & set(
        log.splitlines()
    )
    assert log.rstrip().endswith("lo")
    # It wrote into its own copy; what is archived is as it was.
    assert (run.folder.input / "00001.dcm").read_text() == "overwritten\n"
    assert (workshop.layout.studies / "1-1.dcm").read_bytes() == b"stored 1"
    assert (workshop.layout.studies / "1-2.dcm").read_bytes() == b"stored 2"
    assert _owners(run.folder.path) == {os.geteuid()}
    assert (run.folder.output / "result.dcm").read_bytes() == b""
    assert (run.folder.output / "closed" / "in").exists()


def test_an_image_without_work_sh_waits_and_says_what_to_add(
    workshop: Workshop, containers: ContainerExecutor, image: str
) -> None:
    waits = containers.why_not(workshop.stream("other", {"image": image}))
    assert waits is not None
    assert "has no /root/work.sh" in waits.sentence and "command" in waits.remedy


def test_a_bucket_that_fills_its_own_disk_is_stopped(
    workshop: Workshop, containers: ContainerExecutor, docker_required: Docker
) -> None:
    work_sh = "#!/bin/bash\nfor n in $(seq 100000); do head -c 20M /dev/zero > /fill$n; done\n"
    files = {"Dockerfile": DOCKERFILE, "work.sh": work_sh}
    image = engine.build(docker_required, "brookbox-test/filler:1", files)
    stream = workshop.stream("filler", {"image": image, "output_gb": 0.1})
    ended = containers.run(workshop.run_of(containers, stream), Bystander())
    assert ended.how == "output" and "output_gb" in ended.sentence


@pytest.mark.parametrize("template", ["new", "old"])
def test_a_host_stream_of_either_generation_runs_unchanged(
    workshop: Workshop, template: str
) -> None:
    executor: Executor = ProcessExecutor(workshop.settings)
    work_sh = NEW_HOST if template == "new" else OLD_HOST
    # Without root it would be the node's own user, which takes an admin's word.
    trusted = {} if os.geteuid() == 0 else {"trusted": True}
    stream = workshop.stream("host", {"enabled": 1, **trusted}, {"work.sh": work_sh})
    assert stream.contract == "magickbox-host"
    assert executor.why_not(stream) is None
    run = workshop.run_of(executor, stream)
    ended = executor.run(run, Bystander())
    log = run.folder.log.read_text()
    assert (ended.how, ended.exit_code) == ("exited", 0), log
    results = sorted(path.name for path in run.folder.output.iterdir())
    if template == "new":
        assert "new template, 1 argument" in log
        assert results == ["00001.dcm.result", "00002.dcm.result", "proc.json"]
    else:
        lines = log.splitlines()
        assert "old template starts" in lines and "old template ends" in lines
        assert "on standard output" in lines  # its own log did not destroy ours
        assert results == ["00001.dcm", "00002.dcm"]
        assert json.loads(run.folder.proc.read_text())[0]["success"] == "partial"
    assert (workshop.layout.studies / "1-1.dcm").read_bytes() == b"stored 1"
    assert _owners(run.folder.path) == {os.geteuid()}
    kept = {path.name for path in run.folder.path.iterdir()}
    assert kept <= {"INPUT", "OUTPUT", "info.json", "proc.json", "processing.log"}


def _owners(folder: Path) -> set[int]:
    return {path.lstat().st_uid for path in folder.rglob("*")}
