# SPDX-License-Identifier: MIT
"""What must come of opening an image and reading it: the bytes and extents of the builder's model,
what QEMU reads where it is an oracle (ordinary images of whole sectors that are not truncated), or
an error.
"""
import os

import pytest

from .builder import RawModel, Unreadable
from .core import Image, QcowError
from .project import run_line

WHOLE_READ_MAX = 48 << 20  # bytes of a disk that is read in one piece


def assert_bytes(got, want, what):
    """As `assert got == want`, without printing megabytes."""
    if got != want:
        at = next(
            (i for i, (a, b) in enumerate(zip(got, want)) if a != b), min(len(got), len(want))
        )
        pytest.fail(
            f"{what}: {len(got)} bytes, {len(want)} expected, byte {at} differs: "
            f"{got[at:at + 8].hex()}, {want[at:at + 8].hex()} expected"
        )


def compare_read(view, model, offset, length):
    """One read: the model's bytes, or an error that lies in the model's unreadable range."""
    try:
        want = model.read(offset, length)
    except Unreadable:
        with pytest.raises(QcowError) as caught:
            view.read(offset, length)
        error = caught.value
        assert error.code in ("CORRUPT", "TRUNCATED"), error
        assert offset <= error.guest_offset < offset + length, error
        assert model.place(error.guest_offset).kind == "invalid", error
        return
    assert_bytes(view.read(offset, length), want, f"{length} bytes at guest offset {offset}")


def interesting_offsets(model, rng):
    """Where pieces begin and end, in the model and its backing file; not all if there are very
    many."""
    offsets = {0, model.size}
    while model is not None:
        offsets.add(model.size)
        for index in getattr(model, "pieces", ()):
            offsets |= {index * model.granule, (index + 1) * model.granule}
        model = getattr(model, "backing", None)
    return rng.sample(sorted(offsets), min(len(offsets), 80))


def check_reads(view, model, rng):
    """The whole, around every boundary, and anywhere."""
    assert view.size == model.size
    if 0 < model.size <= WHOLE_READ_MAX:
        compare_read(view, model, 0, model.size)
    offsets = interesting_offsets(model, rng)
    for offset in offsets:
        reach = rng.choice((1, 3, 512, 700))
        start = max(0, min(offset - reach, model.size))
        end = max(start, min(offset + reach, model.size))
        compare_read(view, model, start, end - start)
    for _ in range(40 if model.size else 0):
        start = (
            rng.choice(offsets) + rng.randint(-70000, 70000)
            if rng.random() < 0.5
            else rng.randrange(model.size)
        )
        start = max(0, min(start, model.size - 1))
        compare_read(view, model, start, min(model.size - start, int(2 ** rng.uniform(0, 18))))


def check_content(view, want, rng):
    """All bytes of the view."""
    check_reads(view, RawModel(want), rng)


def check_map(view, model):
    """The extents cover the view once (map_all() sees to that), and each byte sampled is what the
    model says."""
    for extent in view.map_all():
        start, end = extent.guest_offset, extent.guest_offset + extent.length
        step = model.finest
        inside = list(range((start // step + 1) * step, end, step))
        for offset in [start, end - 1] + inside[:500] + inside[-500:]:
            place = model.place(offset)
            assert extent.kind == place.kind, (extent, offset, place)
            if place.layer is not None:
                assert extent.layer == place.layer, (extent, offset, place)
            moved = offset - start if place.kind in ("normal", "zero allocated") else 0
            if place.host_offset is None:
                assert extent.host_offset is None, (extent, offset, place)
            else:
                assert extent.host_offset + moved == place.host_offset, (extent, offset, place)
            assert extent.host_bytes == place.host_bytes, (extent, offset, place)


def check_view(view, model, rng):
    """What is read, and the map."""
    check_reads(view, model, rng)
    check_map(view, model)


def qemu_agrees(path, model):
    """qemu-img finds nothing wrong, and reads what the model says."""
    run_line("qemu-img check", path, timeout=60, cwd=path.parent)
    if model.size <= WHOLE_READ_MAX:
        assert_bytes(
            qemu_content(path), model.read(0, model.size // 512 * 512), "the model against QEMU"
        )


def qemu_content(path):
    """In the image's directory: QEMU looks for a data file from where it runs."""
    raw = path.with_suffix(".oracle")
    run_line("qemu-img convert -O raw", path, raw, timeout=60, cwd=path.parent)
    return raw.read_bytes()


def check_image(image, tmp_path, rng, oracle=True, **options):
    """Write the image, and check its active disk and every snapshot. Leaves image.qcow2 in
    tmp_path."""
    path = image.write(tmp_path / "image.qcow2")
    if oracle:
        qemu_agrees(path, image.disk.model)
    with Image(path, **options) as opened:
        check_view(opened.view(), image.disk.model, rng)
        assert len(opened.snapshots) == len(image.snapshots)
        for index, (disk, _, _) in enumerate(image.snapshots):
            check_view(opened.view(index), disk.model, rng)
        return opened.warnings


def check_bytes(data, model, rng, **options):
    """Check the active disk of an image in memory. Returns its warnings."""
    with Image.from_storage(data, **options) as image:
        check_view(image.view(), model, rng)
        return image.warnings


def opened(source, **options):
    """An image by its path, or by its bytes or a storage."""
    by_path = isinstance(source, (str, os.PathLike))
    return Image(source, **options) if by_path else Image.from_storage(source, **options)


def refused(source, codes, *words, **options):
    """Opening the image fails, as expect_error() has it."""
    with pytest.raises(QcowError) as caught:
        opened(source, **options).close()
    return expect_error(caught.value, codes, *words)


def unreadable(source, codes, *words, length=512, **options):
    """Opening the image, its active disk, or reading its start fails, as expect_error() has it."""
    with pytest.raises(QcowError) as caught:
        with opened(source, **options) as image:
            view = image.view()
            view.read(0, min(length, view.size))
    return expect_error(caught.value, codes, *words)


def expect_error(error, codes, *words):
    """The error has one of the codes (separated by blanks), and all of the words in its message, or
    in what would help."""
    assert error.code in codes.split(), error
    for word in words:
        assert word in error.with_help, f"no {word!r} in: {error.with_help}"
    return error
