# SPDX-License-Identifier: MIT
"""Images of the builder with deleted snapshots, as QEMU leaves them where discards do not reach the
file: their old entries, and all to which these lead, are still there."""
import struct

MAGIC_TABLE = 60  # host offset of the header's nb_snapshots and snapshots_offset


def delete(image, data, keep=()):
    """Delete all snapshots but those at the indices `keep`: the old table stays, and a new one is
    at the end of the file. Returns the image's bytes."""
    data = bytearray(data)
    table = image.snapshot_table()
    ends = image.snapshot_offsets[1:] + [len(table)]
    kept = b"".join(table[image.snapshot_offsets[i] : ends[i]] for i in keep)
    at = 0
    if kept:
        data += bytes(-len(data) % image.cluster_size)
        at = len(data)
        data += kept.ljust(image.cluster_size, b"\0")
    data[MAGIC_TABLE : MAGIC_TABLE + 12] = struct.pack(">IQ", len(keep), at)
    return data
