# SPDX-License-Identifier: MIT
"""Decoding ahead, blocks for small reads, and what is remembered of a chain's holes: faster, and in
nothing different."""
import os
import random
import signal
import threading
import time
from pathlib import Path

import pytest
import qcow2core

from lib.builder import Image, deflate, pattern, squeezable, zstd
from lib.core import Image as Opened, QcowError
from lib.encrypted import create, node, write
from lib.project import BUILD, run

pytestmark = pytest.mark.usefixtures("core")
KIB = 1024
SECRET = b"secret"
needs_two_processors = pytest.mark.skipif(
    len(os.sched_getaffinity(0)) < 2, reason="one processor: no threads"
)


def thread_count():
    """How many threads of the library's there are. They name themselves, when they begin to run."""
    names = []
    for task in Path("/proc/self/task").iterdir():
        try:
            names.append((task / "comm").read_text())
        except OSError:  # it has ended
            pass
    return names.count("qcow2-ahead\n")


def becomes_true(condition):
    end = time.monotonic() + 120
    while not condition() and time.monotonic() < end:
        time.sleep(0.001)
    return condition()


def threads_are_there():
    """On a busy machine a thread that was started may not have run yet."""
    return becomes_true(lambda: thread_count() > 0)


def threads_are_gone():
    """The system may list a thread a moment longer than its end has been waited for."""
    return becomes_true(lambda: thread_count() == 0)


def same(got, want):
    """Without pytest's search for a difference, which takes minutes."""
    return got == want


def read_on(view, start, end, step=16 * KIB):
    return b"".join(view.read(at, min(step, end - at)) for at in range(start, end, step))


def compressed_image(clusters, bits, seed=0):
    """Most clusters compressed, some normal, zero or unallocated."""
    image = Image(size=clusters << bits, cluster_bits=bits)
    for cluster in range(clusters):
        if cluster % 13 == 5:
            image.disk.normal(cluster, pattern(seed + cluster, 1 << bits))
        elif cluster % 17 != 7:
            image.disk.compressed(cluster, squeezable(seed + cluster, 1 << bits))
    return image


@pytest.fixture(scope="module")
def compressed(tmp_path_factory):
    """200 clusters of 64 KiB: the path, and the disk's bytes."""
    image = compressed_image(200, 16)
    path = tmp_path_factory.mktemp("ahead") / "compressed.qcow2"
    image.write(path)
    return path, image.disk.model.read(0, image.disk.size)


# ---- The same bytes --------------------------------------------------------------


def patterns_of_reading(size, rng):
    """Sequences of (offset, length): in order, with steps of many sizes and with gaps, at random,
    both by turns, and again."""
    for step in (256, 4 * KIB, 16 * KIB, 100_001, 1 << 20):
        start = rng.randrange(size // 2) if step < 4 * KIB else 0
        end = min(size, start + 1500 * step)
        yield [(at, min(step, size - at)) for at in range(start, end, step)]
    yield [(at, 4 * KIB) for at in range(0, size - 4 * KIB, rng.choice((96, 160)) * KIB)] * 2
    there = [(at, 8 * KIB) for at in range(0, size // 2, size // 1000)]
    elsewhere = [(size // 2 + at * 3 // 4, 512) for at, _ in there]
    yield [place for both in zip(there, elsewhere) for place in both]
    yield [
        (at := rng.randrange(size), rng.randrange(1, size - at + 1) % (256 * KIB) or 1)
        for _ in range(300)
    ]


@pytest.mark.parametrize("cache_bytes", (0, 1), ids=("default", "tiny"))
@pytest.mark.parametrize(
    "clusters, bits", ((2000, 12), (160, 16), (6, 21)), ids=("4k", "64k", "2m")
)
def test_every_way_of_reading_gives_the_same(clusters, bits, cache_bytes, tmp_path, rng):
    image = compressed_image(clusters, bits)
    path = tmp_path / "image.qcow2"
    image.write(path)
    want = image.disk.model.read(0, image.disk.size)
    with Opened(path, cache_bytes=cache_bytes) as opened:
        for places in patterns_of_reading(len(want), rng):
            with opened.view() as view:
                for at, length in places[
                    : 60 if bits == 21 else None
                ]:  # the smallest cache holds one cluster of 2 MiB
                    assert same(view.read(at, length), want[at : at + length]), (at, length)
    assert threads_are_gone()


@pytest.mark.parametrize("cache_bytes", (0, 1), ids=("default", "tiny"))
def test_encrypted(cache_bytes, tmp_path, rng):
    size = 8 << 20
    path = create(tmp_path / "image.qcow2", size, "luks", secret=SECRET)
    data = [(at, pattern(at, 384 * KIB)) for at in range(0, size, 512 * KIB)]
    write(node(path, "luks"), data, [SECRET])
    want = b"".join(piece.ljust(512 * KIB, b"\0") for _, piece in data)
    with Opened(path, cache_bytes=cache_bytes, passphrases=[SECRET]) as opened:
        for places in patterns_of_reading(size, rng):
            with opened.view() as view:
                for at, length in places:
                    assert same(view.read(at, length), want[at : at + length]), (at, length)


def test_several_readers_at_once(compressed, tmp_path, rng):
    """Threads that share views of one image, some in order and some not, with the smallest
    caches."""
    path, want = compressed
    problems = []
    with Opened(path, cache_bytes=1) as opened:
        views = [opened.view(), opened.view()]

        def work(seed):
            choice = random.Random(seed)
            for places in patterns_of_reading(len(want), choice):
                for at, length in places[:400]:
                    if views[choice.randrange(2)].read(at, length) != want[at : at + length]:
                        problems.append((at, length))

        threads = [threading.Thread(target=work, args=(rng.random(),)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert problems == []


@pytest.mark.parametrize("compression", (0, 1))
@pytest.mark.parametrize("bits", (12, 16, 20, 21))
def test_reading_in_order_decodes_each_cluster_once(bits, compression, tmp_path):
    """However large the clusters and the pieces are. Every third has no data."""
    size, count = 1 << bits, 60 if bits > 16 else 700
    image = Image(count * size, cluster_bits=bits, compression=compression)
    packed = [i for i in range(count) if i % 3 or i > count // 2]
    for cluster in packed:
        data = pattern(cluster, 64) * (size // 64)
        image.disk.compressed(cluster, data, zstd(data) if compression else deflate(data))
    path = image.write(tmp_path / "disk.qcow2")
    for piece in (16 * KIB, 64 * KIB, 1 << 20, 5 << 20):
        answer = run(os.path.join(BUILD, "tests/threads/decodes"), path, piece).stdout
        assert int(answer) == len(packed), piece


@pytest.mark.parametrize("compression", (0, 1))
def test_random_reads_among_16_large_clusters_decode_each_once(compression, rng):
    """32 MiB of clusters: more than the cache has for them, less than all caches together."""
    size = 2 << 20
    image = Image(16 * size, cluster_bits=21, compression=compression)
    for cluster in range(16):
        data = pattern(cluster, 64) * (size // 64)
        image.disk.compressed(cluster, data, zstd(data) if compression else deflate(data))
    data, reads = image.build(), []

    def read(offset, length):
        reads.append(offset)
        return bytes(data[offset : offset + length])

    with Opened.from_storage(read, len(data)) as opened:
        view = opened.view()
        streams = {view.map(cluster * size, 1).host_offset for cluster in range(16)}
        for _ in range(1000):
            offset = rng.randrange(16 * size // 4096) * 4096
            assert view.read(offset, 4096) == pattern(offset // size, 64) * 64
    assert sorted(offset for offset in reads if offset in streams) == sorted(streams)


def test_deep_chain(tmp_path, rng):
    """Layers of several sizes and cluster sizes; each region is read more than once, for what is
    remembered of its holes."""
    below, size = None, 40 * 64 * KIB
    for depth in range(9):
        bits = (16, 12, 17)[depth % 3]
        image = Image(
            size=size - (3 - depth) * 30_000 * (depth < 3) // 512 * 512,
            cluster_bits=bits,
            **(
                {}
                if below is None
                else {
                    "backing": b"%d.qcow2" % (depth - 1),
                    "backing_format": b"qcow2",
                    "backing_model": below.disk.model,
                }
            ),
        )
        for cluster in range(image.disk.size >> bits):
            if rng.random() < 0.08:
                image.disk.normal(cluster, pattern(depth * 10_000 + cluster, 1 << bits))
            elif rng.random() < 0.03:
                image.disk.zero(cluster)
        image.write(tmp_path / f"{depth}.qcow2")
        below = image
    want = below.disk.model.read(0, below.disk.size)
    with Opened(tmp_path / "8.qcow2") as opened, opened.view() as view:
        for _ in range(2):
            for places in patterns_of_reading(len(want), rng):
                for at, length in places:
                    assert same(view.read(at, length), want[at : at + length]), (at, length)


# ---- Threads ---------------------------------------------------------------------


@needs_two_processors
def test_threads_come_with_reading_in_order_and_go_with_the_image(compressed):
    path, want = compressed
    with Opened(path) as opened:
        with opened.view() as view:
            assert same(read_on(view, 0, 4 << 20), want[: 4 << 20])
            assert threads_are_there()
        with opened.view() as view:
            assert same(read_on(view, 0, len(want)), want)
    assert threads_are_gone()


def test_no_threads_for_little_or_random_reading_nor_for_plain_images(compressed, tmp_path, rng):
    plain = Image(size=100 << 16, cluster_bits=16)
    scattered = Image(size=20_000 << 16, cluster_bits=16)
    for cluster in range(100):
        plain.disk.normal(cluster, pattern(cluster, 1 << 16))
        scattered.disk.compressed(cluster * 200, squeezable(cluster, 1 << 16))
    plain.write(tmp_path / "plain.qcow2")
    scattered.write(tmp_path / "scattered.qcow2")
    with Opened(compressed[0]) as opened, opened.view() as view:
        read_on(view, 0, 12 * 64 * KIB)
        assert thread_count() == 0
    with Opened(tmp_path / "scattered.qcow2") as opened, opened.view() as view:
        places = [cluster * 200 << 16 for cluster in range(100)]
        rng.shuffle(places)
        for at in places:
            view.read(at, 4 * KIB)
        assert thread_count() == 0
    with Opened(tmp_path / "plain.qcow2") as opened, opened.view() as view:
        read_on(view, 0, view.size)
        assert thread_count() == 0


def test_no_threads_for_a_storage_of_the_callers(compressed):
    """Its read function is called from the caller's threads only."""
    path, want = compressed
    callers = set()
    data = path.read_bytes()

    def source(offset, length):
        callers.add(threading.get_native_id())
        return data[offset : offset + length]

    with Opened.from_storage(source, len(data)) as opened, opened.view() as view:
        assert same(read_on(view, 0, len(want)), want)
    assert callers == {threading.get_native_id()}


def test_close_while_they_are_at_work(compressed):
    path, want = compressed
    for units in range(16, 56):
        with Opened(path) as opened:
            view = opened.view()
            other = opened.view()
            assert same(read_on(view, 0, units * 64 * KIB, 64 * KIB), want[: units * 64 * KIB])
            if units % 2:
                view.close()  # the image lives on, and so do the threads
                assert same(other.read(0, 100_000), want[:100_000])
        assert threads_are_gone()


@pytest.mark.parametrize("way", ("option", "variable"))
def test_no_threads_if_they_are_not_wanted(way, compressed, monkeypatch):
    path, want = compressed
    if way == "option":
        with Opened(path, no_threads=True) as opened, opened.view() as view:
            assert same(read_on(view, 0, len(want), 64 * KIB), want) and thread_count() == 0
        return
    monkeypatch.setenv("TSK_QCOW2_NO_THREADS", "1")
    monkeypatch.setenv("QCOW2CORE_LIBRARY", f"{BUILD}/core/.libs/libqcow2core.so")
    with qcow2core.open(path) as disk:
        assert same(disk.read(), want) and thread_count() == 0


# ---- fork() ----------------------------------------------------------------------

thread_allocates_during_fork = pytest.mark.unsanitized(
    "fork() leaves locks of AddressSanitizer's allocator held if another thread allocates"
)


def in_child(work):
    """Run `work` in a child after fork(); its exit status. A child that hangs is killed."""
    child = os.fork()
    if child == 0:
        status = 2
        try:
            signal.alarm(120)
            status = 0 if work() else 1
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@needs_two_processors
def test_fork_while_they_are_at_work(tmp_path):
    """The children read on, without threads, and close the image; the parent goes on with them.
    Clusters are large, so that at each fork() some are being decoded."""
    bits, clusters = 19, 44
    image = compressed_image(clusters, bits)
    image.write(tmp_path / "image.qcow2")
    want = image.disk.model.read(0, image.disk.size)
    opened = Opened(tmp_path / "image.qcow2")
    view = opened.view()

    def read_ten(start):
        end = min(len(want), start + (10 << bits))
        is_same = same(read_on(view, start, end, 64 * KIB), want[start:end]) and same(
            view.read(0, 300), want[:300]
        )
        opened.close()
        return is_same and thread_count() == 0

    for cluster in range(clusters):
        start = cluster << bits
        # The view has one more cluster decoded ahead.
        assert same(view.read(start, 20_000), want[start : start + 20_000])
        if cluster > 18:
            assert in_child(lambda: read_ten(start + (1 << bits))) == 0
    assert threads_are_there()
    opened.close()
    assert threads_are_gone()


@needs_two_processors
@thread_allocates_during_fork
def test_fork_by_one_thread_while_another_reads(compressed):
    """The parent's reader goes on as if nothing had happened."""
    path, want = compressed
    problems, done = [], threading.Event()
    with Opened(path, cache_bytes=1) as opened, opened.view() as view:

        def work():
            while not done.is_set():
                if not same(read_on(view, 0, len(want), 64 * KIB), want):
                    problems.append("different")

        reader = threading.Thread(target=work)
        reader.start()
        for _ in range(40):
            if in_child(lambda: True) != 0:
                problems.append("child")
            time.sleep(0.005)
        done.set()
        reader.join()
    assert problems == []


@needs_two_processors
@thread_allocates_during_fork
def test_a_child_reads_its_own_image_while_another_is_read(compressed):
    """The promise of the header: no other thread was using *that* image."""
    path, want = compressed
    done = threading.Event()
    with Opened(path, cache_bytes=1) as busy, busy.view() as busy_view, Opened(
        path
    ) as opened, opened.view() as view:

        def work():
            while not done.is_set():
                read_on(busy_view, 0, len(want), 64 * KIB)

        def read_all():
            return same(read_on(view, 0, len(want), 64 * KIB), want) and thread_count() == 0

        reader = threading.Thread(target=work)
        reader.start()
        try:
            assert threads_are_there()
            assert [in_child(read_all) for _ in range(10)] == [0] * 10
        finally:
            done.set()
            reader.join()


# ---- Errors ----------------------------------------------------------------------


def contents_and_errors(view, step):
    """What reading in order in steps gives: each step's bytes, or its error."""
    found = []
    for at in range(0, view.size, step):
        try:
            found.append(view.read(at, min(step, view.size - at)))
        except QcowError as error:
            words = error.message.split(" (file ")[0]  # a storage has no name
            found.append(
                (
                    error.code,
                    words,
                    error.guest_offset,
                    error.guest_length,
                    error.host_offset,
                    error.table_offset,
                )
            )
    return found


@pytest.mark.parametrize("step", (300, 4 * KIB, 16 * KIB, 64 * KIB))
def test_damage_ahead_is_the_later_reads_error(step, tmp_path):
    """Bad streams and bad entries ahead of a sequential reader concern only those who read them;
    with threads and without (storage of the caller's), the first and the second time, in the
    same words."""
    image = compressed_image(60, 16)
    for cluster in (30, 31, 44):
        image.disk.compressed(cluster, bytes(65536), stream=b"\x07" * 500)  # no such block type
    image.disk.set(50, 512 | 1 << 63)  # not at a cluster's start
    data = bytes(image.build())
    path = tmp_path / "image.qcow2"
    path.write_bytes(data)
    with Opened(path) as opened, opened.view() as view:
        there = contents_and_errors(view, step)
        again = contents_and_errors(view, step)
    with Opened.from_storage(data) as opened, opened.view() as view:
        without = contents_and_errors(view, step)

    assert same(there, without) and same(again, without)
    bad = {part[2] // 65536 for part in there if not isinstance(part, bytes)}
    assert bad == {30, 31, 44, 50}


def test_small_reads_near_damage(tmp_path):
    """A block for small reads that holds a bad cluster gives the good ones."""
    image = Image(size=64 * 4096, cluster_bits=12)
    for cluster in range(64):
        image.disk.normal(cluster, pattern(cluster, 4096))
    image.disk.set(5, 4096 * 3 + 512)
    path = tmp_path / "image.qcow2"
    image.write(path)
    with Opened(path) as opened, opened.view() as view:
        for _ in range(2):
            for at in range(0, 64 * 4096, 512):
                if at // 4096 == 5:
                    with pytest.raises(QcowError) as caught:
                        view.read(at, 512)
                    assert (caught.value.code, caught.value.guest_offset) == ("CORRUPT", at)
                else:
                    assert view.read(at, 512) == image.disk.model.read(at, 512)
        salvaged, found = view.salvage(5 * 4096 - 256, 512)
        assert salvaged == image.disk.model.read(5 * 4096 - 256, 256) + bytes(256)
        assert [error.guest_offset for error in found] == [5 * 4096]


# ---- What it saves ---------------------------------------------------------------


def counted_reads(image, read):
    """How many reads of the storage `read(view)` takes, once the image is open."""
    data, calls = bytes(image.build()), []

    def source(offset, length):
        calls.append((offset, length))
        return data[offset : offset + length]

    with Opened.from_storage(source, len(data)) as opened, opened.view() as view:
        calls.clear()
        read(view)
        return len(calls)


def test_small_reads_take_few_calls(rng):
    """A table of 1 MiB that is read in pieces of 256 bytes: TSK reads inodes so."""
    image = Image(size=4 << 20, cluster_bits=16)
    for cluster in range(64):
        image.disk.normal(cluster, pattern(cluster, 1 << 16))
    assert counted_reads(image, lambda view: read_on(view, 1 << 20, 2 << 20, 256)) <= 66
