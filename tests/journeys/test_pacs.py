"""What the PACS says decides what is sent again, and the delivery tells exactly what happened."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom import AE, evt

from tests.journeys.conftest import NodeMaker
from tests.kit import dicom
from tests.kit.node import Node
from tests.kit.peers import Pacs
from tests.kit.scripts import COPY_ONE, QUICK
from tests.kit.waiting import free_port, wait_for

MANY = (
    COPY_ONE
    + """
out = pathlib.Path(os.environ["BROOKBOX_OUTPUT"])
for number, file in enumerate(files):
    ds = pydicom.dcmread(file)
    ds.SeriesInstanceUID, ds.SOPInstanceUID = uid("series"), uid(str(number))
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.save_as(out / f"{number}.dcm")
"""
)


def node_with(make_node: NodeMaker, script: str) -> Node:
    node = make_node()
    node.add_stream("S", script, quiet_seconds=0.5)
    node.wait_for_stream("S")
    return node


def route_to(node: Node, port: int, **facts: Any) -> None:
    pacs = {"ae_title": "PACS", "host": "127.0.0.1", "port": port, **facts}
    node.route({"destinations": {"pacs": pacs}, "rules": [{"name": "all", "to": ["pacs"]}]})


def send(node: Node, tmp_path: Path, count: int = 1) -> None:
    report = node.send(dicom.write_study(dicom.ct_study(count), tmp_path / "sent"), "S")
    assert len(report.acknowledged) == count


def shown(node: Node, delivery_id: int) -> str:
    done = node.cli("deliveries", "show", str(delivery_id))
    assert done.returncode == 0, done.stderr
    return " ".join(done.stdout.split())


def test_ft_30_a_pacs_that_is_down_gets_it_when_it_is_up(
    make_node: NodeMaker, tmp_path: Path
) -> None:
    node = node_with(make_node, QUICK)
    pacs = Pacs(tmp_path / "pacs")
    node.route_all_to(pacs)
    send(node, tmp_path)
    [delivery] = wait_for(
        lambda: [d for d in node.deliveries("due") if d.attempt > 0], "a first attempt failed"
    )
    assert "refused" in shown(node, delivery.id)
    pacs.start()
    node.wait_for_deliveries(1, "delivered")
    assert len(pacs.files()) == 1
    pacs.stop()


def test_a_pacs_that_refuses_the_association_for_good_is_given_up_loudly(
    make_node: NodeMaker, tmp_path: Path
) -> None:
    node = node_with(make_node, QUICK)
    port = free_port()
    pacs = AE("SOMEBODYELSE")
    pacs.require_called_aet = True
    pacs.add_supported_context(CTImageStorage)
    server = pacs.start_server(("127.0.0.1", port), block=False)
    route_to(node, port)
    send(node, tmp_path)
    [delivery] = node.wait_for_deliveries(1, "gave_up")
    server.shutdown()
    text = shown(node, delivery.id)
    assert "alled AE title not recogni" in text
    assert "try" in text


def test_only_what_failed_is_sent_again(make_node: NodeMaker, tmp_path: Path) -> None:
    node = node_with(make_node, MANY)
    port = free_port()
    asked: list[str] = []

    def store(event: evt.Event) -> int:
        asked.append(event.request.AffectedSOPInstanceUID)
        return 0xA700 if len(asked) <= 9 and len(asked) % 3 == 0 else 0x0000

    pacs = AE("PACS")
    pacs.add_supported_context(CTImageStorage, ExplicitVRLittleEndian)
    server = pacs.start_server(
        ("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_STORE, store)]
    )
    route_to(node, port)
    send(node, tmp_path, 9)
    [delivery] = node.wait_for_deliveries(1, "delivered")
    server.shutdown()
    assert len(asked) == 9 + 3
    assert sorted(asked[9:]) == sorted(asked[2:9:3])
    assert delivery.attempt == 2


def test_a_context_that_the_pacs_refuses_is_told_by_name(
    make_node: NodeMaker, tmp_path: Path
) -> None:
    node = node_with(make_node, QUICK)
    port = free_port()
    pacs = AE("PACS")
    pacs.add_supported_context("1.2.840.10008.5.1.4.1.1.4")
    server = pacs.start_server(("127.0.0.1", port), block=False)
    route_to(node, port)
    send(node, tmp_path)
    [delivery] = node.wait_for_deliveries(1, "gave_up")
    server.shutdown()
    assert "CT Image Storage" in shown(node, delivery.id)


def test_ft_30_a_dead_destination_does_not_delay_another(
    make_node: NodeMaker, pacs: Pacs, tmp_path: Path
) -> None:
    node = node_with(make_node, QUICK)
    dead = {"ae_title": "DEAD", "host": "127.0.0.1", "port": free_port()}
    good = {"ae_title": pacs.ae_title, "host": "127.0.0.1", "port": pacs.port}
    node.route(
        {
            "destinations": {"dead": dead, "good": good},
            "rules": [{"name": "all", "to": ["dead", "good"]}],
        }
    )
    send(node, tmp_path)
    [delivered] = node.wait_for_deliveries(1, "delivered")
    assert delivered.destination == "good"
    assert [one.destination for one in node.deliveries("due", "sending")] == ["dead"]


def test_a_warning_is_sent_and_shown(make_node: NodeMaker, tmp_path: Path) -> None:
    node = node_with(make_node, QUICK)
    port = free_port()
    pacs = AE("PACS")
    pacs.add_supported_context(CTImageStorage, ExplicitVRLittleEndian)
    server = pacs.start_server(
        ("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_STORE, lambda event: 0xB000)]
    )
    route_to(node, port)
    send(node, tmp_path)
    [delivery] = node.wait_for_deliveries(1, "delivered")
    server.shutdown()
    assert "B000" in shown(node, delivery.id).upper()
