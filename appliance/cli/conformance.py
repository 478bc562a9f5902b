"""`brookbox conformance`: the DICOM conformance statement (PS3.2) of this very node.

The tables come from the code that negotiates and from the dictionaries that it uses,
so the statement cannot say another thing than the node does.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator

import click
from pydicom._uid_dict import UID_dictionary
from pynetdicom.sop_class import _STORAGE_CLASSES

import appliance
from appliance.cli import show
from appliance.cli.asked import Asked, pass_asked
from appliance.dicom import marks, names, statuses
from appliance.dicom.structure import DEEPEST, LEAST_BYTES_EACH, MANY_ELEMENTS, MOST_ELEMENTS
from appliance.settings import Receiver, Settings
from appliance.streams.catalog import Stream, streams_of

_STORAGE_ROOT = "1.2.840.10008.5.1.4.1.1."
_REJECTS = (
    (1, 1, 3, "The calling AE title or the address may not connect."),
    (1, 1, 7, "The called AE title names no stream, or one that is broken or switched off."),
    (
        2,
        3,
        1,
        "There is no room, too many studies wait for the stream, or the address was refused "
        "too often just now; try again later.",
    ),
    (2, 3, 2, "Too many associations, or connections of the address, are open; try again later."),
)
_STATUSES = (
    (statuses.SUCCESS, "The instance is kept, see below (`receiver.durability`)."),
    (statuses.COERCED, "The same; it lacked a UID, which the node made (`receiver.coerce`)."),
    (statuses.MARKED, "The same; it is marked, see below (`receiver.warn_of_marks`)."),
    (statuses.NOT_AUTHORISED, "It contradicts what is kept (`receiver.on_conflict: refuse`)."),
    (statuses.OUT_OF_RESOURCES, "It could not be kept just now: no room, or larger than allowed."),
    (statuses.DOES_NOT_MATCH, "Its UIDs are not those of the request, or one is missing."),
    (
        statuses.CANNOT_UNDERSTAND,
        "Its structure cannot be read, or it has too many elements, see below; the bytes are in "
        "quarantine.",
    ),
    (statuses.PROCESSING_FAILURE, "An unexpected error; the node's log has it."),
)

_ON_CONFLICT = {
    "keep-first": "the first stays, the second goes to quarantine and is answered 0x0000.",
    "replace": "the newer one is kept, the older one goes to quarantine; the answer is 0x0000. "
    "A result of this node is never replaced.",
    "refuse": "the first stays, the second goes to quarantine and is answered 0x0124.",
}


@click.command()
@pass_asked
def conformance(asked: Asked) -> None:
    """Print this node's DICOM conformance statement, in Markdown."""
    settings = asked.settings()
    if asked.as_json:
        show.as_json(
            {
                "ae_title": settings.node.ae_title,
                "port": settings.receiver.port,
                "storage_sop_classes": dict(_storage()),
                "transfer_syntaxes": dict(_transfer_syntaxes()),
                "streams": [stream.ae_title for stream in _serving(settings)],
            }
        )
        return
    click.echo("\n".join(statement(settings)))


def statement(settings: Settings) -> Iterator[str]:
    """Give the statement's lines."""
    yield f"# DICOM conformance statement: Brookbox {appliance.__version__}"
    yield ""
    yield from _overview()
    yield from _entities(settings)
    yield from _scp(settings)
    yield from _scu(settings)
    yield from _results()
    yield from _network(settings)
    yield "## 7. Storage SOP classes"
    yield ""
    yield "| SOP class | UID |"
    yield "| --- | --- |"
    yield from (f"| {name} | {uid} |" for name, uid in _storage())
    yield ""
    yield "## 8. Transfer syntaxes"
    yield ""
    yield "| Transfer syntax | UID |"
    yield "| --- | --- |"
    yield from (f"| {name} | {uid} |" for name, uid in _transfer_syntaxes())


def _overview() -> Iterator[str]:
    yield from (
        "Printed by `brookbox conformance` from the code and the settings of the node. It follows",
        "DICOM PS3.2. Brookbox is research software and not a medical device.",
        "",
        "## 1. Overview",
        "",
        "Brookbox receives studies, runs processing streams on them, and sends the results on.",
        "",
        "| Service | SCU | SCP |",
        "| --- | --- | --- |",
        "| Verification | yes | yes |",
        "| Storage | yes | yes |",
        "| Query/Retrieve, Storage Commitment, Worklist, Print | no | no |",
        "",
        "Media interchange: none. Security: DICOM over TLS for reception; see section 6.",
        "",
    )


def _entities(settings: Settings) -> Iterator[str]:
    yield "## 2. Application entities"
    yield ""
    yield "| AE title | What becomes of what is sent to it |"
    yield "| --- | --- |"
    yield f"| {settings.node.ae_title} | kept without processing (the node itself) |"
    for stream in _serving(settings):
        info = stream.good_info
        yield f"| {stream.ae_title} | {_cell(info.description or info.name)} |"
    yield from (
        "",
        "Each stream folder adds its AE title while the node runs. AE titles are compared exactly,",
        "case included; spaces around them do not count. All of them share one port.",
        "",
        "| | |",
        "| --- | --- |",
        f"| Implementation Class UID | {names.IMPLEMENTATION_CLASS_UID} |",
        f"| Implementation Version Name | {names.IMPLEMENTATION_VERSION} |",
        "| Application Context Name | 1.2.840.10008.3.1.1.1 |",
        "",
    )


def _scp(settings: Settings) -> Iterator[str]:
    rules = settings.receiver
    yield from (
        "## 3. Storage and Verification SCP",
        "",
        f"It listens on TCP port {rules.port} of {_where(rules.address)}. The longest PDU it takes",
        f"is {rules.max_pdu_bytes or 'of any length'} bytes; {rules.max_associations} associations",
        f"may be open at once; an instance may be {rules.max_instance_mb} MB long. Asynchronous",
        "operations, user identity and SOP class extended negotiation are not supported; where",
        "they are offered they are left out of the answer. Association requests may be 128 KiB",
        "long; a PDU may be as long as announced, and is answered with A-ABORT when it is longer.",
        "",
        "Accepted abstract syntaxes: Verification (1.2.840.10008.1.1), every Storage SOP class of",
        "section 7, and private or unknown ones. Accepted transfer syntaxes: every one that is",
        "proposed; of several in one presentation context, the requestor's first one. The data",
        "set is kept byte for byte as it was sent (Storage level 2, full). Implicit VR Little",
        "Endian is always accepted.",
        "",
        "| Association reject | Meaning (PS3.8 9.3.4) | When |",
        "| --- | --- | --- |",
    )
    for result, source, reason, when in _REJECTS:
        words = statuses.reject_reason(result, source, reason).rpartition(" (")[0]
        yield f"| {result}, {source}, {reason} | {words} | {when} |"
    yield from ("", "| C-STORE status | When |", "| --- | --- |")
    yield from (f"| {statuses.store_status(status)} | {when} |" for status, when in _STATUSES)
    yield from (
        "",
        *_kept(rules),
        "",
        "An instance that is known already is answered with success and kept once; its reception",
        "is recorded for each called AE title. Two are the same when what they say is the same, in",
        "whatever transfer syntax without compression.",
        "",
        *_conflicts(rules),
        "",
        *_marked(rules),
        "",
        *_limits(),
        "",
        "File Meta Information (PS3.10 7.1): Source AE Title (0002,0016) is the node's, Sending",
        "(0002,0017) the calling and Receiving AE Title (0002,0018) the called one, with their",
        "presentation addresses (0002,0026 to 0002,0028).",
        "",
    )


def _kept(rules: Receiver) -> list[str]:
    """Say what 0x0000 promises, and what it does not."""
    if rules.durability == "none":
        return _filled(
            "Kept means: in the memory of the operating system (`receiver.durability: none`). A "
            "process that is killed loses nothing that was answered; a power cut may lose what was "
            "answered in the last seconds, or leave it empty. The row in the index follows within "
            "100 ms, or once the index can be written."
        )
    return _filled(
        "Kept means: on the disk (`receiver.durability: committed`). The file, its name and every "
        "folder that was made for it are synced before the answer; a sync that fails is answered "
        "0xA700, and nothing more is taken until the receiver is started again. The row in the "
        "index follows within 100 ms, or once the index can be written: neither a killed process "
        "nor a power cut between the two loses what was answered. When rows are behind for over "
        "30 s the answer is 0xA700."
    )


def _conflicts(rules: Receiver) -> list[str]:
    answer = "0x0124" if rules.on_conflict == "refuse" else "0x0000"
    return _filled(
        f"Other content under a known SOP Instance UID: {_ON_CONFLICT[rules.on_conflict]} An "
        "instance whose Study Instance UID is that of a study of another patient, or whose Series "
        "Instance UID is that of a series of another study, does not join: it is answered "
        f"{answer} and held in quarantine until a person decides. Two patients are told apart by "
        "the Patient ID; by name and birth date where the ID is the same; by the name where an ID "
        "is missing. What the same sender sends again for the same AE title is one entry of "
        "quarantine, which counts, and is answered as before."
    )


def _marked(rules: Receiver) -> list[str]:
    answer = "0xB007, the finding as Error Comment," if rules.warn_of_marks else "0x0000"
    found = "; ".join(words for code, words in marks.WORDS.items() if code != marks.COERCED)
    missing = "answered 0xA900."
    if rules.coerce:
        missing = (
            "made by the node, unless the data set is deflated: the SOP Instance UID is the "
            "request's, the others are derived under 2.25 from the calling AE title and what the "
            "data set says of patient, study and series (without a patient, or without Accession "
            "Number and Study Date and Time, from the association). The answer is 0xB000."
        )
    return _filled(
        f"What hurts nobody is kept, marked and answered {answer} when: {found}. A SOP Instance, "
        f"Study Instance or Series Instance UID that is missing is {missing}"
    )


def _limits() -> list[str]:
    return _filled(
        f"Sequences may be nested {DEEPEST} levels deep. A data set of more than "
        f"{MOST_ELEMENTS:,} elements and items, those in sequences counted, is answered 0xC000; so "
        f"is one of more than {MANY_ELEMENTS:,} with less than {LEAST_BYTES_EACH} bytes each on "
        "average, which costs time and is no image."
    )


def _filled(text: str) -> list[str]:
    return textwrap.wrap(text, 96, break_on_hyphens=False)


def _scu(settings: Settings) -> Iterator[str]:
    rules = settings.router
    yield from (
        "## 4. Storage and Verification SCU",
        "",
        "Results, or inputs, go to the destinations of routing.yaml. Each delivery is one",
        "association (several when more than 128 presentation contexts are needed) that proposes",
        "the pairs of SOP class and transfer syntax of its instances, and each of these SOP",
        "classes in Explicit and Implicit VR Little Endian. An instance goes as it is, byte for",
        "byte, where its transfer syntax is accepted. Where it is not, it is decoded and goes in",
        "one of these two; its UID stays, and what was compressed with loss says so: Lossy Image",
        "Compression (0028,2110) 01 with ratio (0028,2112) and method (0028,2114). Nothing is ever",
        "compressed. The calling AE title is the destination's `own_ae_title`, by default",
        f"{settings.node.ae_title}.",
        "",
        "| Answer | What the node does |",
        "| --- | --- |",
        "| 0x0000 | the instance is delivered |",
        "| 0xBxxx | delivered, with a warning that is shown |",
        "| 0xA7xx, no answer, transient reject | tried again after "
        f"{rules.first_retry_seconds:g} s, doubling to {rules.longest_retry_minutes:g} min, "
        f"for {rules.give_up_days:g} days |",
        "| any other status, permanent reject, refused context of what cannot be decoded "
        "| given up, and shown |",
        "",
        "Only what failed is sent again. Verification is sent by a person:"
        " `brookbox send echo AE@HOST:PORT`.",
        "",
    )


def _results() -> Iterator[str]:
    yield from (
        "## 5. Results",
        "",
        "A result keeps the patient and study of the input and takes no SOP Instance UID that is",
        "known; nothing else that a stream wrote is changed. One of the shipped streams, or of any",
        "that uses the helper for authors, has a new series (number from 9000),",
        "references its sources (Source Image Sequence, Referenced Series Sequence), names its",
        "maker (Contributing Equipment Sequence) and says that it is research, unless the stream's",
        "info.json says otherwise. UIDs are derived from the job under 2.25 (PS3.5 B.2).",
        "",
    )


def _network(settings: Settings) -> Iterator[str]:
    rules = settings.receiver
    yield from (
        "## 6. Network, character sets and security",
        "",
        "TCP/IP, IPv4 and IPv6. Timeouts: "
        f"{rules.association_timeout_seconds:g} s for an association request and for release, "
        f"{rules.network_timeout_seconds:g} s of silence. A connection that says nothing is closed "
        f"after {rules.header_timeout_seconds:g} s; an instance that comes more slowly than "
        f"{rules.least_bytes_a_second} bytes a second is cut off. {_crowd(rules)}",
        _tls(rules),
        "Every character set of PS3.3 C.12.1.1.2 is kept as sent; pages show Unicode.",
        f"Calling AE titles: {', '.join(rules.allow_calling) or 'all may connect'}.",
        f"Addresses: {_addresses(rules)}.",
        "AE titles are no authentication: keep the port inside a protected network.",
        "",
    )


def _crowd(rules: Receiver) -> str:
    if rules.behind_nat or not rules.max_connections_per_address:
        return "An address may have any number of connections."
    return f"An address may have {rules.max_connections_per_address} connections."


def _tls(rules: Receiver) -> str:
    if not rules.tls_port:
        return "TLS is off (receiver.tls_port); the port for it would be one of its own."
    asks = "asks for" if rules.tls_ca_file else "does not ask for"
    return (
        f"TLS 1.2 and 1.3 on port {rules.tls_port}; the node shows its certificate and {asks} "
        "the sender's."
    )


def _addresses(rules: Receiver) -> str:
    if rules.behind_nat:
        return "all may connect, since those of the senders are hidden (receiver.behind_nat)"
    return ", ".join(rules.allow_addresses) or "all may connect"


def _serving(settings: Settings) -> list[Stream]:
    return streams_of(settings).serving()


def _storage() -> list[tuple[str, str]]:
    """List the standard's Storage SOP classes, by UID: name and UID."""
    found = {uid: _words(keyword) for keyword, uid in _STORAGE_CLASSES.items()}
    for uid, (name, kind, *_) in UID_dictionary.items():
        if kind == "SOP Class" and uid.startswith(_STORAGE_ROOT) and "Storage" in name:
            found[uid] = name
    return sorted(((name, uid) for uid, name in found.items()), key=_by_uid)


def _transfer_syntaxes() -> list[tuple[str, str]]:
    found = [(facts[0], uid) for uid, facts in UID_dictionary.items() if _is_syntax(facts)]
    return sorted(found, key=_by_uid)


def _is_syntax(facts: tuple[str, ...]) -> bool:
    return facts[1] == "Transfer Syntax"


def _by_uid(one: tuple[str, str]) -> tuple[int, ...]:
    return tuple(int(part) for part in one[1].split("."))


def _words(keyword: str) -> str:
    """Write a keyword in words: CTImageStorage is CT Image Storage."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", keyword)


def _where(address: str) -> str:
    return "all addresses" if address in ("0.0.0.0", "::") else address


def _cell(text: str) -> str:
    return show.printable(text).replace("|", "\\|")
