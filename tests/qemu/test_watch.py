"""What screens and serial lines say, and what a boot comes to."""

from __future__ import annotations

import json
import random
import socket
import struct
import zlib

import pytest

from hvpsbridge.formats.libvirt_domain import DomainDisk, domain_of
from hvpsbridge.qemu import glyphs
from hvpsbridge.qemu.guest import Accelerator, best_accelerator, command
from hvpsbridge.qemu.picture import Picture, png, read_ppm
from hvpsbridge.qemu.qmp import Agent, Qmp, QmpError
from hvpsbridge.qemu.screens import Stage, look_at, read
from hvpsbridge.qemu.watch import Watch

# As the firmware has them, and as Linux has them on a screen of pixels.
NARROW = {letter: bits for bits, letter in glyphs._LETTERS.items()}
WIDE = {letter: bits for bits, letter in reversed(glyphs._LETTERS.items())}
GREY, BLACK, BLUE = (170, 170, 170), (0, 0, 0), (0, 120, 215)
KERNEL = "[    1.234567] sd 0:0:0:0: [sda] Attached SCSI disk"


def screen(*lines: str, width: int = 720, height: int = 400, ink: int = 1) -> Picture:
    """A screen with text in the font of the firmware; text mode unless a size is given.

    Args:
        ink: 0 to draw each cell in reverse.
    """
    text_mode = (width, height) == (720, 400)
    cell, letters = (9, WIDE) if text_mode else (8, NARROW)
    rows = [bytearray(bytes(BLACK) * width) for _ in range(height)]
    for number, line in enumerate(lines):
        for column, letter in enumerate(line):
            for row in range(16):
                bits = letters[letter] >> ((15 - row) * 8) & 0xFF
                for pixel in range(8):
                    at = (column * cell + pixel) * 3
                    rows[number * 16 + row][at : at + 3] = bytes(
                        GREY if (bits >> (7 - pixel) & 1) == ink else BLACK
                    )
    return Picture(width, height, b"".join(rows))


def with_cursor(picture: Picture, line: int, column: int) -> Picture:
    """The text cursor: two rows of a cell."""
    pixels = bytearray(picture.pixels)
    for row in (13, 14):
        at = ((line * 16 + row) * picture.width + column * 9) * 3
        pixels[at : at + 27] = bytes(GREY) * 9
    return Picture(picture.width, picture.height, bytes(pixels))


def flat(colour: tuple[int, int, int], share: float = 1.0, size: tuple[int, int] = (1024, 768)) -> Picture:
    """A picture of one colour, with noise in the rest."""
    width, height = size
    noise = int(width * height * (1 - share))
    return Picture(
        width, height, random.Random(1).randbytes(noise * 3) + bytes(colour) * (width * height - noise)
    )


@pytest.mark.parametrize(("width", "height"), [(720, 400), (1280, 800), (1024, 768)])
@pytest.mark.parametrize("ink", [0, 1])
def test_text_is_read_from_a_screen(width: int, height: int, ink: int) -> None:
    lines = ("".join(map(chr, range(32, 80))).strip(), "".join(map(chr, range(80, 127))))
    read_back = glyphs.lines_of(screen(*lines, width=width, height=height, ink=ink))
    assert [line for line in read_back if line] == list(lines)


@pytest.mark.parametrize(
    ("lines", "stage"),
    [
        ((), Stage.NOTHING),
        (("Guest has not initialized the display (yet).",), Stage.NOTHING),
        (("SeaBIOS (version 1.16.2)", "Booting from Hard Disk..."), Stage.FIRMWARE),
        (("Booting from Hard Disk...", "Boot failed: not a bootable disk"), Stage.FIRMWARE),
        (("Boot failed: not a bootable disk", "No bootable device."), Stage.FAILURE),
        (("SYSLINUX 6.04 EDD 20210613 Copyright (C) 1994-2015 H. Peter Anvin et al",), Stage.LOADER),
        (("   GNU GRUB  version 2.06", "*Debian GNU/Linux", "automatically in 4s."), Stage.LOADER),
        (("Booting `Debian GNU/Linux'", "Loading Linux 6.1.0 ..."), Stage.LOADER),
        (("error: unknown filesystem.", "grub rescue>"), Stage.FAILURE),
        (("BOOTMGR is missing", "Press Ctrl+Alt+Del to restart"), Stage.FAILURE),
        (("Windows Boot Manager", "Choose an operating system to start"), Stage.LOADER),
        ((KERNEL,), Stage.STARTING),
        (("Loading Linux 6.1.0 ...", KERNEL), Stage.STARTING),
        (("Begin: Waiting for root file system ...",), Stage.STARTING),
        (("[    2.000001] Kernel panic - not syncing: VFS", KERNEL), Stage.FAILURE),
        (("Gave up waiting for root file system device.", "(initramfs)"), Stage.FAILURE),
        (("You are in emergency mode. After logging in,", "Press Enter for maintenance"), Stage.FAILURE),
        (("Debian GNU/Linux 12 web tty1", "", "web login:"), Stage.SYSTEM),
        (("Booting from Hard Disk...", "web login:", KERNEL), Stage.SYSTEM),
    ],
)
def test_text_says_how_far_a_guest_is(lines: tuple[str, ...], stage: Stage) -> None:
    assert read(lines).stage is stage
    assert look_at(screen(*lines)).stage is stage
    if lines:
        assert look_at(screen(*lines, width=1280, height=800)).stage is stage


@pytest.mark.parametrize(
    ("picture", "stage"),
    [
        (flat(BLACK), Stage.NOTHING),
        (flat(BLACK, size=(720, 400)), Stage.NOTHING),
        (flat(BLACK, 0.98), Stage.NOTHING),
        (flat(BLACK, 0.5), Stage.SYSTEM),
        (flat(BLUE, 0.9), Stage.FAILURE),
        (flat((20, 90, 160), 0.9), Stage.SYSTEM),
    ],
)
def test_pictures_say_how_far_a_guest_is(picture: Picture, stage: Stage) -> None:
    assert look_at(picture).stage is stage


def test_a_screen_of_the_system_must_stay() -> None:
    login, logo = screen("web login:"), flat(BLACK)
    watch = Watch(30)
    for now, picture in ((0, login), (29, login), (30, logo), (31, login), (60, login)):
        assert watch.look(now, picture) is None
    outcome = watch.look(61, login)
    assert outcome is not None
    assert (outcome.shown, outcome.by) == (True, "screen")
    assert "web login:" in outcome.what


def test_a_cursor_is_no_text() -> None:
    lines = "Booting from Hard Disk...", "SYSLINUX 6.04 EDD 20210613"
    assert look_at(with_cursor(screen(*lines), 2, 0)).stage is Stage.LOADER
    assert look_at(with_cursor(screen(lines[0]), 0, len(lines[0]))).stage is Stage.FIRMWARE
    assert look_at(with_cursor(screen(lines[0]), 0, 0)).stage is Stage.FIRMWARE
    assert look_at(with_cursor(screen("web login:"), 0, 11)) == look_at(screen("web login:"))
    assert look_at(with_cursor(flat(BLACK, size=(720, 400)), 0, 0)).stage is Stage.NOTHING


def test_a_failure_must_stay_and_is_not_shown() -> None:
    watch = Watch(30)
    panic = screen("Kernel panic - not syncing")
    assert watch.look(0, panic) is None
    outcome = watch.look(30, panic)
    assert outcome is not None
    assert (outcome.shown, outcome.by, outcome.what) == (False, "", "Kernel panic - not syncing")


def test_a_failure_on_the_serial_line_counts_whatever_the_screen_shows() -> None:
    watch = Watch(30)
    assert watch.serial("[ 1.000000] Kernel panic - not syncing\r\n") is None
    watch.look(0, screen("web login:"))
    outcome = watch.look(30, screen("web login:"))
    assert outcome is not None
    assert not outcome.shown


@pytest.mark.parametrize("text", ["\r\nweb login: ", "\x1b[0mweb \x1b[1mlogin:\x1b[0m \r\n", "ready 42 \r\n"])
def test_a_mark_on_the_serial_line_is_enough(text: str) -> None:
    watch = Watch(30, mark="ready 42")
    half = len(text) // 2
    first, second = watch.serial(text[:half]), watch.serial(text[half:])
    assert first is None
    assert second is not None
    assert (second.shown, second.by) == (True, "serial")


@pytest.mark.parametrize(
    "text", ["", "ready 4", "booting\r\n", "login: not at the end of a line", "\xff" * 200_000]
)
def test_other_text_is_not(text: str) -> None:
    watch = Watch(30, mark="ready 42")
    assert watch.serial(text) is None
    ended = watch.ended("time is up")
    assert not ended.shown
    assert ended.what.startswith("time is up; last seen: nothing")


def test_a_screenshot_is_read_and_written() -> None:
    picture = screen("text", width=320, height=200)
    assert read_ppm(b"P6\n320 200\n255\n" + picture.pixels) == picture
    for bad in (b"", b"P5\n1 1\n255\n.", b"P6\n320 200\n255\n...", b"P6\n0 0\n255\n"):
        with pytest.raises(ValueError, match=r"PPM|bytes"):
            read_ppm(bad)
    data = png(picture)
    assert struct.unpack(">II", data[16:24]) == (320, 200)
    length = struct.unpack(">I", data[33:37])[0]
    assert zlib.decompress(data[41 : 41 + length])[1 : 320 * 3 + 1] == picture.pixels[: 320 * 3]


@pytest.mark.parametrize("generation", [1, 2])
@pytest.mark.parametrize("accelerator", list(Accelerator))
def test_a_guest_has_no_network(generation: int, accelerator: Accelerator, tmp_path: object) -> None:
    definition = json.dumps({"vm": {"Generation": generation}, "network": [{"MacAddress": "00155DDAB787"}]})
    domain = domain_of("a,b", definition, [DomainDisk("scsi-0-0", "scsi 0:0", 512)])
    options = command(domain, accelerator, tmp_path / "it's, here")  # type: ignore[operator]
    assert options[options.index("-nic") + 1] == "none"
    assert options.count("-nic") == 1
    assert not [
        each for each in options if each in ("-net", "-netdev") or "e1000" in each or "virtio-net" in each
    ]
    drive = json.loads(options[options.index("-blockdev") + 1])
    assert (drive["driver"], drive["export"]) == ("nbd", "scsi-0-0")


def test_kvm_is_used_only_where_the_processor_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hvpsbridge.qemu.guest._processor", lambda: "flags\t\t: fpu vme\n")
    assert best_accelerator() is Accelerator.TCG
    monkeypatch.setattr("hvpsbridge.qemu.guest._processor", lambda: "flags\t\t: fpu svm lm\n")
    monkeypatch.setattr("hvpsbridge.qemu.guest._KVM", "/dev/null")
    assert best_accelerator() is Accelerator.KVM
    monkeypatch.setattr("hvpsbridge.qemu.guest._KVM", "/nowhere")
    assert best_accelerator() is Accelerator.TCG


def test_an_agent_has_answered_when_it_repeats_the_number() -> None:
    ours, guest = socket.socketpair()
    agent = Agent(ours)
    with guest:
        assert not agent.answers(0.0)
        number = json.loads(guest.recv(1000))["arguments"]["id"]
        for wrong in (
            b"no JSON\n",
            b'{"return": 1}\n',
            b"[" * 5000 + b"\n",
            b'{"error": {}}\n',
            b'{"return": ',
        ):
            guest.sendall(wrong)
            assert not agent.answers(1.0)
        guest.sendall(b"1}\n\xff" + json.dumps({"return": number}).encode() + b"\n")
        assert agent.answers(2.0)
    assert not agent.answers(20.0)
    agent.close()


def test_an_error_of_qemu_and_its_end_are_errors() -> None:
    ours, qemu = socket.socketpair()
    qmp = Qmp(ours)
    with qemu:
        qemu.sendall(
            b'{"QMP": {}}\n{"return": {}}\n{"event": "RESUME"}\n{"return": 5}\n{"error": {"desc": "no"}}\n'
        )
        assert qmp.execute("one") == 5
        with pytest.raises(QmpError, match="two: no"):
            qmp.execute("two")
    with pytest.raises(QmpError):
        qmp.execute("three")
    qmp.close()
