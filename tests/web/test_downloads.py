"""Results to take away: one zip that can be resumed; no way out of the job's own folder."""

from __future__ import annotations

import io
import os
import zipfile
from types import SimpleNamespace

import pytest
from flask.testing import FlaskClient

from appliance.index import catalog
from tests.web.day import Day
from web import job_files


def zip_of(client: FlaskClient, job_id: int, **headers: str):  # type: ignore[no-untyped-def]
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.get(f"/jobs/{job_id}/results.zip", headers=names)


def test_the_zip_holds_results_and_other_files(client: FlaskClient, ids: SimpleNamespace) -> None:
    answer = zip_of(client, ids.succeeded)
    assert answer.status_code == 200
    assert int(answer.headers["Content-Length"]) == len(answer.data)
    wanted = f"attachment; filename=MONTAGE_job-{ids.succeeded}.zip"
    assert answer.headers["Content-Disposition"] == wanted
    found = zipfile.ZipFile(io.BytesIO(answer.data))
    assert found.testzip() is None
    names = found.namelist()
    top = f"MONTAGE_job-{ids.succeeded}"
    assert sum(name.startswith(f"{top}/results/series-1/") for name in names) == 2
    assert f"{top}/files/volumes/lesion.csv" in names and len(names) == 3


def test_a_broken_download_goes_on_to_the_same_bytes(
    client: FlaskClient, ids: SimpleNamespace
) -> None:
    whole = zip_of(client, ids.succeeded)
    assert whole.headers["Accept-Ranges"] == "bytes"
    for cut in (1, 1000, len(whole.data) // 2, len(whole.data) - 1):
        rest = zip_of(
            client, ids.succeeded, Range=f"bytes={cut}-", If_Range=whole.headers["ETag"]
        )
        assert rest.status_code == 206
        total = len(whole.data)
        assert rest.headers["Content-Range"] == f"bytes {cut}-{total - 1}/{total}"
        assert int(rest.headers["Content-Length"]) == total - cut
        assert whole.data[:cut] + rest.data == whole.data
    middle = zip_of(client, ids.succeeded, Range="bytes=100-199")
    assert middle.data == whole.data[100:200]
    last = zip_of(client, ids.succeeded, Range="bytes=-50")
    assert last.data == whole.data[-50:]


def test_a_changed_zip_is_sent_whole(client: FlaskClient, ids: SimpleNamespace, day: Day) -> None:
    before = zip_of(client, ids.succeeded).headers["ETag"]
    (day.layout.job(ids.succeeded).output / "more.txt").write_text("more")
    after = zip_of(client, ids.succeeded, Range="bytes=100-", If_Range=before)
    assert after.status_code == 200
    assert after.headers["ETag"] != before


def test_a_range_past_the_end_is_416(client: FlaskClient, ids: SimpleNamespace) -> None:
    assert zip_of(client, ids.succeeded, Range="bytes=99999999-").status_code == 416


def test_nothing_to_download_is_a_sentence(client: FlaskClient, ids: SimpleNamespace) -> None:
    assert zip_of(client, ids.running).status_code == 409
    assert zip_of(client, ids.cancelled).status_code == 404
    assert zip_of(client, 4711).status_code == 404


def test_one_result_is_a_dicom_file(client: FlaskClient, ids: SimpleNamespace, day: Day) -> None:
    with day.db.read() as connection:
        one = catalog.results_of(connection, ids.succeeded)[0]
    answer = client.get(f"/jobs/{ids.succeeded}/results/{one.sop_instance_uid}")
    assert answer.mimetype == "application/dicom"
    assert answer.data == (day.layout.root / one.path).read_bytes()
    assert client.get(f"/jobs/{ids.held}/results/{one.sop_instance_uid}").status_code == 404


def test_an_input_is_no_result(client: FlaskClient, ids: SimpleNamespace, day: Day) -> None:
    with day.db.read() as connection:
        kept = catalog.instances_of_study(connection, "1.2.826.0.1.3680043.8.498.1")
    received = next(one for one in kept if one.made_by_job is None)
    path = f"/jobs/{ids.succeeded}/results/{received.sop_instance_uid}"
    assert client.get(path).status_code == 404


def output_links(client: FlaskClient, job_id: int) -> list[str]:
    """The names of the other files that the page of a job offers."""
    return [file["name"] for file in client.get(f"/api/v1/jobs/{job_id}").get_json()["files"]]


def test_other_files_are_saved_never_shown(
    client: FlaskClient, ids: SimpleNamespace, day: Day
) -> None:
    output = day.layout.job(ids.succeeded).output
    (output / 'x";\r\nSet-Cookie: a=b;.html').write_text("<script>alert(1)</script>")
    for file in client.get(f"/api/v1/jobs/{ids.succeeded}").get_json()["files"]:
        answer = client.get(f"/jobs/{ids.succeeded}/output/{file['key']}")
        assert answer.status_code == 200
        assert answer.mimetype == "application/octet-stream"
        assert answer.headers["Content-Disposition"].startswith("attachment;")
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert "Set-Cookie" not in answer.headers


def test_links_pipes_and_devices_are_never_followed(
    client: FlaskClient, ids: SimpleNamespace, day: Day
) -> None:
    secret = day.settings.home / "secret"
    secret.mkdir()
    (secret / "key").write_text("the secret")
    output = day.layout.job(ids.succeeded).output
    (output / "link").symlink_to(secret / "key")
    (output / "folder").symlink_to(secret)
    (output / "up").symlink_to("../../..")
    os.mkfifo(output / "pipe")
    assert output_links(client, ids.succeeded) == ["volumes/lesion.csv"]
    assert b"the secret" not in zip_of(client, ids.succeeded).data


def test_a_file_that_became_a_link_is_not_opened(ids: SimpleNamespace, day: Day) -> None:
    output = day.layout.job(ids.succeeded).output
    (listed,) = job_files.list_files(output)
    (output / "volumes" / "lesion.csv").unlink()
    (output / "volumes" / "lesion.csv").symlink_to("/etc/passwd")
    with pytest.raises(job_files.NotFound):
        job_files.open_file(output, listed)
    (output / "volumes" / "lesion.csv").unlink()
    os.mkfifo(output / "volumes" / "lesion.csv")
    with pytest.raises(job_files.NotFound):
        job_files.open_file(output, listed)
    (output / "volumes" / "lesion.csv").unlink()
    (output / "volumes").rmdir()
    (output / "volumes").symlink_to("/etc")
    with pytest.raises(job_files.NotFound):
        job_files.open_file(output, listed)


@pytest.mark.parametrize(
    "tail",
    ["output/../../../index.sqlite3", "output/..%2f..%2findex.sqlite3", "output/%00",
     "output//etc/passwd", "results/../log", "output/" + "0" * 32, "results/1.2.3"],
)  # fmt: skip
def test_nothing_a_browser_sends_becomes_a_path(
    client: FlaskClient, ids: SimpleNamespace, tail: str
) -> None:
    answer = client.get(f"/jobs/{ids.succeeded}/{tail}")
    assert answer.status_code == 404


def test_a_name_that_is_no_text_can_be_downloaded(
    client: FlaskClient, ids: SimpleNamespace, day: Day
) -> None:
    output = day.layout.job(ids.succeeded).output
    with open(os.path.join(os.fsencode(output), b"caf\xe9.nii"), "wb") as file:
        file.write(b"volume")
    files = job_files.list_files(output)
    odd = next(file for file in files if file.shown_name == "caf\ufffd.nii")
    assert client.get(f"/jobs/{ids.succeeded}/output/{odd.key}").data == b"volume"
    assert zip_of(client, ids.succeeded).status_code == 200
    assert client.get(f"/jobs/{ids.succeeded}").status_code == 200
    assert client.get(f"/api/v1/jobs/{ids.succeeded}").status_code == 200
