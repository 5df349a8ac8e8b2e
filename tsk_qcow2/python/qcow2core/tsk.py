# SPDX-License-Identifier: MIT
"""qcow2 images for pytsk3, which contains a libtsk of its own that the plugin does not reach.

    import pytsk3
    from qcow2core.tsk import ImgInfo

    filesystem = pytsk3.FS_Info(ImgInfo("disk.qcow2@before-update"), offset=1048576)
    for entry in filesystem.open_dir("/"):
        print(entry.info.name.name.decode())
"""
import pytsk3

from . import Disk

__all__ = ["ImgInfo"]


class ImgInfo(pytsk3.Img_Info):
    """A pytsk3.Img_Info over an image, opened by its names as qcow2core.open() does. `disk` is the
    Disk."""

    def __init__(self, name, *chain, on_damage=None):
        self.disk = Disk(name, *chain, on_damage=on_damage)
        super().__init__(url="", type=pytsk3.TSK_IMG_TYPE_EXTERNAL)

    def read(self, offset, length):
        """For pytsk3: the bytes from `offset` on, fewer at the disk's end only."""
        return self.disk.read_at(offset, length)

    def get_size(self):
        """For pytsk3: the disk's size in bytes."""
        return self.disk.size

    def close(self):
        """Close the image. File systems over it must not be used any more."""
        self.disk.close()
