# SPDX-License-Identifier: MIT
"""What is built and installed: exported names, headers, pkg-config, the include rule, distcheck,
optional libraries."""
import ctypes
import glob
import hashlib
import os
import re
import shutil
import stat
import subprocess
from pathlib import Path

import pytest
from lib import tools
from lib.builder import pattern
from lib.project import BUILD, SOURCE, run, run_line
from qcow2core import declarations


pytestmark = pytest.mark.unsanitized("about what is built and installed without sanitizers")


def exported(library):
    """The symbols that a shared library defines for others."""
    lines = run("nm", "-D", "--defined-only", library).stdout.splitlines()
    return {line.split()[-1].split("@")[0] for line in lines if line.split()[-2] != "A"}


def listed(script):
    """The global symbols of a version script."""
    with open(os.path.join(SOURCE, script)) as file:
        return set(re.findall(r"^  (\w+);$", file.read(), re.M))


def declared(headers, mark):
    names = set()
    for header in headers:
        with open(os.path.join(SOURCE, header)) as file:
            names |= set(re.findall("^" + mark + r" [^;{(]*?\b(\w+)\(", file.read(), re.M))
    return names


LIBRARIES = [
    (
        "core/.libs/libqcow2core.so",
        "core/qcow2core.map",
        ["core/qcow2core.h", "tsk_qcow2/qcow2names.h"],
        "QCOW2_API",
        "qcow2_",
    ),
    (
        "tsk_qcow2/.libs/libtsk_qcow2.so",
        "tsk_qcow2/tsk_qcow2.map",
        ["tsk_qcow2/tsk_qcow2.h"],
        "TSK_QCOW2_API",
        "tsk_qcow2_",
    ),
]


@pytest.mark.parametrize("library, script, headers, mark, prefix", LIBRARIES)
def test_exported_names_are_those_of_the_headers(library, script, headers, mark, prefix):
    names = exported(os.path.join(BUILD, library))
    assert names == listed(script) == declared(headers, mark)
    assert all(name.startswith(prefix) for name in names)


def undefined(library):
    lines = run("nm", "-D", "--undefined-only", library).stdout.splitlines()
    return {line.split()[-1].split("@")[0] for line in lines if line.split()[-2] == "U"}


@pytest.mark.parametrize("library", [each[0] for each in LIBRARIES])
def test_library_names_each_library_that_it_uses(library):
    """Programs that link with it, and the packages' dependencies, rely on that."""
    library = os.path.join(BUILD, library)
    needed = re.findall(r"NEEDED.*\[(.*)\]", run("readelf", "-d", library).stdout)
    places = dict(
        re.findall(
            r"(\S+) => (\S+)", run("ldd", library, env={**tools.CLEAN, **tools.stock()}).stdout
        )
    )
    assert len(needed) > 1
    loader = re.findall(r"^\s*(/\S+)", run("ldd", library, env=tools.CLEAN).stdout, re.M)
    found = set().union(*(exported(places[name]) for name in needed if name in places))
    found.update(*map(exported, loader))  # __tls_get_addr()
    assert undefined(library) - found == set()


def test_dropin_exports_only_what_it_answers():
    (dropin,) = glob.glob(os.path.join(BUILD, "tsk_qcow2/dropin/libtsk.so.*"))
    names = exported(dropin)
    assert names <= listed("tsk_qcow2/plugin/dropin.map")
    assert {"tsk_img_open", "tsk_img_read", "tsk_img_type_toid"} <= names


def test_dropin_needs_the_real_library_by_absolute_path():
    (dropin,) = glob.glob(os.path.join(BUILD, "tsk_qcow2/dropin/libtsk.so.*"))
    dynamic = run("readelf", "-d", dropin).stdout
    needed = re.findall(r"NEEDED.*\[(.*)\]", dynamic)
    assert os.path.isabs(needed[0]) and os.path.basename(needed[0]) == os.path.basename(dropin)
    assert re.findall(r"SONAME.*\[(.*)\]", dynamic) == [os.path.basename(dropin)]


@pytest.mark.parametrize(
    "compiler",
    [["gcc", "-std=c99", "-pedantic", "-xc"], ["g++", "-std=c++11", "-pedantic", "-xc++"]],
    ids=["c99", "c++11"],
)
@pytest.mark.parametrize(
    "header", ["core/qcow2core.h", "tsk_qcow2/qcow2names.h", "tsk_qcow2/tsk_qcow2.h"]
)
def test_header_compiles_alone(compiler, header):
    run(
        *compiler,
        "-Wall",
        "-Wextra",
        "-Werror",
        "-fsyntax-only",
        "-I",
        os.path.join(SOURCE, "core"),
        os.path.join(SOURCE, header),
    )


def pinned_structs():
    """(structure, field or "-", bytes) as public-structs.txt has them."""
    lines = Path(SOURCE, "tests/public-structs.txt").read_text().splitlines()
    return [
        (name, field, int(number))
        for name, field, number in (line.split() for line in lines if not line.startswith("#"))
    ]


@pytest.mark.skipif(ctypes.sizeof(ctypes.c_void_p) != 8, reason="they are pinned for 64 bits")
def test_public_structs_keep_their_layout(tmp_path):
    pinned = pinned_structs()
    header = re.sub(r"/\*.*?\*/", "", Path(SOURCE, "core/qcow2core.h").read_text(), flags=re.S)
    assert {name for name, _, _ in pinned} == set(re.findall(r"^struct (\w+) \{", header, re.M))
    sizes = [
        f"sizeof(struct {name})" if field == "-" else f"offsetof(struct {name}, {field})"
        for name, field, _ in pinned
    ]
    (tmp_path / "sizes.c").write_text(
        "#include <stdio.h>\n#include <qcow2core.h>\nint main(void)\n{\n"
        + "".join(f'  printf("%zu\\n", {size});\n' for size in sizes)
        + "}\n"
    )
    run("gcc", "-I", os.path.join(SOURCE, "core"), "-o", tmp_path / "sizes", tmp_path / "sizes.c")
    found = [int(line) for line in run(tmp_path / "sizes").stdout.split()]
    assert [(name, field, number) for (name, field, _), number in zip(pinned, found)] == pinned


@pytest.mark.skipif(ctypes.sizeof(ctypes.c_void_p) != 8, reason="they are pinned for 64 bits")
def test_python_knows_the_layout():
    known = {
        "qcow2_error": declarations.Error,
        "qcow2_open_options": declarations.OpenOptions,
        "qcow2_layout": declarations.Layout,
        "qcow2_layer_info": declarations.RawLayer,
        "qcow2_check_options": declarations.CheckOptions,
        "qcow2_cluster_run": declarations.RawClusterRun,
        "qcow2_check_result": declarations.CheckResult,
        "qcow2_residue_options": declarations.ResidueOptions,
        "qcow2_residue_result": declarations.ResidueResult,
        "qcow2_residue_stream": declarations.ResidueStream,
        "qcow2_residue_found": declarations.RawResidueFound,
        "qcow2_labelled": declarations.RawLabelled,
        "qcow2_encryption_info": declarations.EncryptionInfo,
        "qcow2_snapshot": declarations.RawSnapshot,
        "qcow2_header": declarations.RawHeader,
        "qcow2_extent": declarations.RawExtent,
        "qcow2_storage": declarations.Storage,
    }
    other_names = {"counts": "by_kind"}
    for name, field, number in pinned_structs():
        if name in known and field == "-":
            assert ctypes.sizeof(known[name]) == number, name
        elif name in known:
            assert getattr(known[name], other_names.get(field, field)).offset == number, (
                name,
                field,
            )


# Which folders the files of a folder may include from. The public headers, which stand beside the
# folders, are for all.
RANKS = {
    "core/base": {"core/base"},
    "core/format": {"core/base", "core/format"},
    "core/storage": {"core/base", "core/storage"},
    "core/read": {"core/base", "core/format", "core/storage", "core/read"},
    "core/image": {"core/base", "core/format", "core/storage", "core/read", "core/image"},
    "core/check": {
        "core/base",
        "core/format",
        "core/storage",
        "core/read",
        "core/image",
        "core/check",
    },
    "core/residue": {
        "core/base",
        "core/format",
        "core/storage",
        "core/read",
        "core/image",
        "core/check",
        "core/residue",
    },
    "tsk_qcow2/names": {"tsk_qcow2/names"},
    "tsk_qcow2/plugin": {"tsk_qcow2/names", "tsk_qcow2/plugin"},
    "tsk_qcow2/command": {"tsk_qcow2/names", "tsk_qcow2/command"},
    "tsk_qcow2/states": {
        "tsk_qcow2/names",
        "tsk_qcow2/plugin",
        "tsk_qcow2/command",
        "tsk_qcow2/states",
    },
    "tsk_qcow2/report": {"tsk_qcow2/names", "tsk_qcow2/command", "tsk_qcow2/report"},
    "tsk_qcow2/mount": {"tsk_qcow2/names", "tsk_qcow2/command", "tsk_qcow2/mount"},
}


def includes():
    """(file, file that it includes), both by their paths in the source; those of the compiler and
    of libraries are left out."""
    for path in glob.glob(f"{SOURCE}/core/**/*.[ch]", recursive=True) + glob.glob(
        f"{SOURCE}/tsk_qcow2/**/*.[ch]", recursive=True
    ):
        for name in re.findall(r'^#include "(.*)"', Path(path).read_text(), re.M):
            places = [os.path.dirname(path), f"{SOURCE}/tsk_qcow2/names"]
            found = [
                os.path.normpath(os.path.join(place, name))
                for place in places
                if os.path.exists(os.path.join(place, name))
            ]
            assert found, f"{path} includes {name}, which is nowhere"
            yield os.path.relpath(path, SOURCE), os.path.relpath(found[0], SOURCE)


def test_includes_point_one_way():
    pairs = list(includes())
    assert len(pairs) > 150
    for path, target in pairs:
        folder = os.path.dirname(target)
        if folder not in ("core", "tsk_qcow2"):
            assert folder in RANKS[os.path.dirname(path)], f"{path} includes {target}"


def test_files_do_not_go_round_in_circles():
    """What a file and its header include, and so on, never leads back to them: the files can be put
    in an order."""
    below = {}
    for path, target in includes():
        pair = [os.path.splitext(name)[0] for name in (path, target)]
        if pair[0] != pair[1]:
            below.setdefault(pair[0], set()).add(pair[1])
    left = set(below).union(*below.values())
    assert len(left) > 80
    while left:
        lowest = {name for name in left if not below.get(name, set()) & left}
        assert lowest, f"these include each other: {sorted(left)}"
        left -= lowest


def test_architecture_names_each_file():
    with open(os.path.join(SOURCE, "ARCHITECTURE.md")) as file:
        words = set(re.findall(r"\w+", file.read()))
    names = {
        os.path.splitext(os.path.basename(path))[0]
        for folder in ("core", "tsk_qcow2")
        for path in glob.glob(f"{SOURCE}/{folder}/**/*.[ch]", recursive=True)
    }
    assert len(names) > 60 and names <= words, f"not in ARCHITECTURE.md: {sorted(names - words)}"


def test_the_tests_readme_names_each_file():
    words = set(re.findall(r"[\w-]+\.?\w*", Path(SOURCE, "tests/README.md").read_text()))
    names = {
        path.name
        for path in [
            *Path(SOURCE, "tests").glob("test_*.py"),
            *Path(SOURCE, "tests/lib").glob("[!_]*.py"),
        ]
    }
    assert len(names) > 50 and names <= words, f"not in tests/README.md: {sorted(names - words)}"


def test_core_knows_nothing_of_tsk():
    for path in glob.glob(SOURCE + "/core/**/*.[ch]", recursive=True):
        with open(path) as file:
            assert not re.search(r"#include.*tsk", file.read()), path


def test_image_names_know_nothing_of_tsk():
    """They are a part of libqcow2core."""
    with open(os.path.join(SOURCE, "Makefile.am")) as file:
        rule = re.search(r"^tsk_qcow2_libnames_la_SOURCES = ((?:.*\\\n)*.*)", file.read(), re.M)[1]
    names = re.findall(r"\S+\.[ch]\b", rule)
    assert len(names) > 8
    for name in names:
        with open(os.path.join(SOURCE, name)) as file:
            assert not re.search(r'#include.*[<"](tsk/|tsk_qcow2\.h)', file.read()), name


# All of this header is inline, so it can be shared by what is not linked with the core.
SHARED_HEADERS = {"qcow2core.h", "base/libgcrypt_start.h"}


def test_backend_uses_the_core_by_its_public_header():
    found = set()
    for path in glob.glob(SOURCE + "/tsk_qcow2/**/*.[ch]", recursive=True):
        for name in re.findall(r'#include [<"](.*)[>"]', Path(path).read_text()):
            if os.path.exists(f"{SOURCE}/core/{name}"):
                found.add(name)
                assert name in SHARED_HEADERS, path
            assert not re.match(r"(\.\./)*core/", name), path
    assert found == SHARED_HEADERS


def string_literals(text):
    """Those of C, with those that stand side by side joined; comments and includes are left out."""
    token = r'/\*.*?\*/|//[^\n]*|#include[^\n]*|"(?:\\.|[^"\\])*"|\S'
    whole = ""
    for found in re.findall(token, text, re.S):
        if found[0] == '"':
            whole += found[1:-1]
        elif whole and not found.startswith(("/*", "//")):
            yield whole
            whole = ""


@pytest.mark.skipif(shutil.which("clang") is None, reason="only clang checks the locks")
@pytest.mark.parametrize("name", ("cache", "ahead"))
def test_a_missed_lock_is_an_error(name):
    """With clang, as lint.sh builds: each call that locks or unlocks is left out in turn."""
    text = Path(SOURCE, f"core/read/{name}.c").read_text()
    pieces = [found.span() for found in re.finditer(r"^ +(un)?lock(_list)?\(\w*\);\n", text, re.M)]
    assert len(pieces) > 12
    command = ["clang", "-fsyntax-only", "-std=gnu11", "-Wthread-safety", "-Werror"]
    command += ["-I", f"{SOURCE}/core/read", "-x", "c", "-"]
    unnoticed = []
    for start, end in [(0, 0), *pieces]:
        broken = text[:start] + text[end:]
        broken = broken.replace('"../', f'"{SOURCE}/core/')
        done = subprocess.run(command, input=broken, text=True, capture_output=True)
        if (done.returncode == 0) != (start == end):
            unnoticed.append(f"{text[:start].count(chr(10)) + 1}: {text[start:end]} {done.stderr}")
    assert not unnoticed


# What users type, which the core knows nothing of: a program that calls it may have none of it.
TYPED = (
    r"tsk-qcow2|-i qcow2|Sleuth Kit|image name|selector|\bword\b|"
    r"\b(backing|data-file|search|key-file|format|errors)=|\b(vmstate)\b|@(id|name|index)\b"
)


def test_messages_of_the_core_name_no_option_of_layers_above():
    """An error says by its `help` what would help; the layer above says how to type it."""
    seen = 0
    for path in glob.glob(f"{SOURCE}/core/**/*.[ch]", recursive=True):
        for literal in string_literals(Path(path).read_text()):
            seen += 1
            assert not re.search(TYPED, literal), f"{path}: {literal}"
    assert seen > 300


def test_each_rule_stands_once():
    """What says a rule of the format, or sets up a library, stands in one file and its header."""
    for word, place in [
        ("GCRYCTL_INITIALIZATION_FINISHED", "core/base/libgcrypt_start"),
        (".subcluster_bitmap = ", "core/format/cluster"),
        ("both allocated and zero", "core/format/cluster"),
        ("L1_TABLE_BYTES_MAX", "core/format/geometry"),
        ("REFCOUNT_TABLE_BYTES_MAX", "core/format/refcount"),
    ]:
        found = {
            os.path.splitext(os.path.relpath(path, SOURCE))[0]
            for folder in ("core", "tsk_qcow2")
            for path in glob.glob(f"{SOURCE}/{folder}/**/*.[ch]", recursive=True)
            if word in Path(path).read_text()
        }
        assert found == {place}, word


CORE_PROGRAM = r"""
#include <qcow2core.h>
#include <stdio.h>
int main(int argc, char *argv[])
{
  struct qcow2_error error;
  struct qcow2_image *image;
  if (argc != 2 || qcow2_image_open(argv[1], NULL, &image, &error) != 0) {
    printf("%s\n", argc == 2 ? error.message : "?");
    return 1;
  }
  printf("%zu files, version %s\n", qcow2_layer_count(image), qcow2_version());
  qcow2_image_close(image);
  return 0;
}
"""
TSK_PROGRAM = r"""
#include <tsk_qcow2.h>
int main(int argc, char *argv[])
{
  const TSK_TCHAR *names[] = { argv[argc - 1] };
  char byte;
  TSK_IMG_INFO *img = tsk_qcow2_open(1, names, 0);
  if (img == NULL) {
    tsk_error_print(stdout);
    return 1;
  }
  printf("%lld bytes, type 0x%04x, read %lld\n", (long long) img->size, (unsigned) img->itype,
         (long long) tsk_img_read(img, img->size - 1, &byte, 1));
  tsk_img_close(img);
  return 0;
}
"""


@pytest.fixture(scope="module")
def prefix(command):
    """Where `command` is installed."""
    return command.parents[1]


@pytest.fixture()
def image(tmp_path):
    path = tmp_path / "small.qcow2"
    run_line("qemu-img create -q -f qcow2", path, "1M")
    return path


def compile_with(prefix, package, program, directory, *more):
    environment = dict(os.environ, PKG_CONFIG_PATH=str(prefix / "lib" / "pkgconfig"))
    flags = run("pkg-config", "--cflags", "--libs", *more, package, env=environment).stdout.split()
    source, binary = directory / "program.c", directory / "program"
    source.write_text(program)
    run("gcc", "-Wall", "-Werror", source, "-o", binary, *flags)
    return binary


def test_program_built_with_pkg_config(prefix, image, tmp_path):
    binary = compile_with(prefix, "qcow2core", CORE_PROGRAM, tmp_path)
    result = run(binary, image, env={"LD_LIBRARY_PATH": str(prefix / "lib")})
    assert re.fullmatch(r"1 files, version \d+\.\d+\.\d+\n", result.stdout)


def examples():
    """The examples in public headers and manuals, and the package that each needs."""
    for path, package, begin in [
        ("core/qcow2core.h", "qcow2core", "struct qcow2_error error;"),
        ("tsk_qcow2/qcow2names.h", "qcow2core", "const char *name ="),
        ("tsk_qcow2/tsk_qcow2.h", "tsk_qcow2", "const TSK_TCHAR *names"),
        ("man/qcow2core.3.in", "qcow2core", "struct qcow2_error error;"),
    ]:
        text = Path(SOURCE, path).read_text()
        text = text[text.index(begin) :]
        if path.endswith(".h"):
            text = re.split(r"^ \*/?$\n(?! \*   )|^ \*/", text, maxsplit=1, flags=re.M)[0]
            text = re.sub(r"^ \* ?", "", text, flags=re.M)
        else:
            text = text.split("\n.EE")[0].replace("\\en", "\\n").replace("\\-", "-")
        yield pytest.param(package, text.replace("...", "tsk_fs_close(fs);"), id=path)


@pytest.mark.parametrize("package, example", examples())
def test_examples_are_programs(package, example, prefix, tmp_path):
    """Each runs on an image as it names one."""
    image = tmp_path / "disk.qcow2"
    run_line("qemu-img create -q -f qcow2", image, "1M")
    run_line("qemu-img snapshot -c before-update", image)
    header = {"tsk_qcow2": "tsk_qcow2.h"}.get(package, "qcow2names.h")
    program = f"#include <err.h>\n#include <{header}>\nint main(void)\n{{\n{example}\nreturn 0;}}\n"
    binary = compile_with(prefix, package, program, tmp_path)
    run(binary, cwd=tmp_path, env={"LD_LIBRARY_PATH": str(prefix / "lib")})


def only_static(prefix, folder):
    """Options for pkg-config, by which a linker finds the static libraries of the prefix alone."""
    for library in prefix.glob("lib/*.a"):
        shutil.copy(library, folder)
    return ["--static", f"--define-variable=libdir={folder}"]


def test_static_program_built_with_pkg_config(prefix, image, tmp_path):
    static = only_static(prefix, tmp_path)
    binary = compile_with(prefix, "qcow2core", CORE_PROGRAM, tmp_path, *static)
    assert "1 files" in run(binary, image, env={}).stdout
    assert "qcow2core" not in run("readelf", "-d", binary).stdout


@pytest.mark.parametrize(
    "example", glob.glob(os.path.join(SOURCE, "examples", "*.c")), ids=os.path.basename
)
def test_example(prefix, example, tmp_path):
    """As its own first lines say, on an image with two snapshots, one of them of a smaller disk."""
    raw, image = tmp_path / "disk.raw", tmp_path / "disk.qcow2"
    raw.write_bytes(pattern("before", 1 << 20))
    run_line("qemu-img convert -f raw -O qcow2", raw, image)
    states = [("before", raw.read_bytes())]
    run_line("qemu-img snapshot -c before", image)
    run_line("qemu-img resize -q", image, "3M")
    run("qemu-io", "-c", "write -P 0x5a 2M 512k", image)
    states.append(("after", states[0][1] + bytes(1 << 20) + b"\x5a" * (1 << 19) + bytes(1 << 19)))
    run_line("qemu-img snapshot -c after", image)
    with open(example) as file:
        command = re.search(r"^ \*   (cc .*)$", file.read(), re.M)[1]
    shutil.copy(example, tmp_path)
    run(
        "sh",
        "-c",
        command,
        cwd=tmp_path,
        env=dict(os.environ, PKG_CONFIG_PATH=str(prefix / "lib" / "pkgconfig")),
    )
    result = run(tmp_path / "hash-snapshots", image, env={"LD_LIBRARY_PATH": str(prefix / "lib")})
    assert result.stdout == "".join(
        f"{hashlib.sha256(data).hexdigest()}  {len(data)} bytes  {name}\n" for name, data in states
    )
    data = bytearray(image.read_bytes())
    data[60:64] = (3).to_bytes(4, "big")  # a snapshot more than there are
    image.write_bytes(data)
    result = run(
        tmp_path / "hash-snapshots",
        image,
        env={"LD_LIBRARY_PATH": str(prefix / "lib")},
        check=False,
    )
    assert (
        result.returncode == 1
        and len(result.stdout.splitlines()) == 2
        and "warning: the snapshot table cannot be read" in result.stderr
    )


def skip_if_libtsk_cannot_be_linked(folder):
    """By its own pkg-config file, without anything of ours."""
    flags = run("pkg-config", "--static", "--libs", "tsk").stdout.split()
    linked = run(
        "gcc",
        "-shared",
        "-xc",
        "/dev/null",
        "-xnone",
        "-o",
        folder / "stock.so",
        *flags,
        check=False,
    )
    if linked.returncode != 0:
        pytest.skip(
            "libtsk-dev lacks libraries that its tsk.pc names: "
            + ", ".join(re.findall(r"cannot find (-l\w+)", linked.stderr))
        )


def test_static_tsk_program_built_with_pkg_config(prefix, image, tmp_path):
    """Static but for libtsk, which many systems have as a shared library only."""
    skip_if_libtsk_cannot_be_linked(tmp_path)
    static = only_static(prefix, tmp_path)
    binary = compile_with(prefix, "tsk_qcow2", TSK_PROGRAM, tmp_path, *static)
    assert run(binary, image, env={}).stdout == "1048576 bytes, type 0x0800, read 1\n"
    assert "qcow2" not in run("readelf", "-d", binary).stdout


def test_tsk_program_built_with_pkg_config(prefix, image, tmp_path):
    binary = compile_with(prefix, "tsk_qcow2", TSK_PROGRAM, tmp_path)
    environment = {"LD_LIBRARY_PATH": str(prefix / "lib")}
    assert run(binary, image, env=environment).stdout == "1048576 bytes, type 0x0800, read 1\n"
    result = run(binary, str(image) + "@none", env=environment, check=False)
    assert result.returncode == 1 and "no such snapshot" in result.stdout


def test_inside_a_java_machine_the_type_is_raw(prefix, image, tmp_path):
    """TSK's Java classes throw on a type number that they do not know."""
    program = (
        TSK_PROGRAM
        + "int JNI_GetCreatedJavaVMs(void);\nint JNI_GetCreatedJavaVMs(void) { return 0; }\n"
    )
    environment = dict(os.environ, PKG_CONFIG_PATH=str(prefix / "lib" / "pkgconfig"))
    flags = run("pkg-config", "--cflags", "--libs", "tsk_qcow2", env=environment).stdout.split()
    (tmp_path / "program.c").write_text(program)
    run("gcc", "-rdynamic", tmp_path / "program.c", "-o", tmp_path / "program", *flags)
    result = run(tmp_path / "program", image, env={"LD_LIBRARY_PATH": str(prefix / "lib")})
    assert "type 0x0001" in result.stdout


def test_destdir_install_and_uninstall(tmp_path):
    """Every user gets into the folders of our own, though root's umask lets no one."""
    run("make", "install", f"DESTDIR={tmp_path}", cwd=BUILD, umask=0o077)
    for folder in filter(os.path.isdir, tmp_path.glob("*/**/*qcow2*/**")):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o755, folder
    files = {
        os.path.basename(path)
        for path in glob.glob(str(tmp_path) + "/**", recursive=True)
        if os.path.isfile(path)
    }
    assert {
        "qcow2core.h",
        "qcow2names.h",
        "tsk_qcow2.h",
        "tsk-qcow2",
        "qcow2core.pc",
        "tsk_qcow2.pc",
    } <= files
    run("make", "uninstall", f"DESTDIR={tmp_path}", cwd=BUILD)
    prefix = re.search("^prefix = /(.*)$", Path(BUILD, "Makefile").read_text(), re.M)[1]
    left = (tmp_path / prefix).rglob("*")
    assert [path for path in left if path.is_file() or "qcow2" in path.name] == []


def test_configure_cleans_up(command):
    """The source has a folder "core", as a crashing compiler leaves a file, which configure
    removes."""
    assert sorted(path.name for path in (command.parents[2] / "build").glob("conf*")) == [
        "config.h",
        "config.log",
        "config.status",
    ]


def test_a_path_with_a_blank_is_refused(source, tmp_path):
    """By a sentence; automake would say that a value is unsafe, or libtool fail in the middle."""
    folder = tmp_path / "with a blank"
    folder.mkdir()
    said = run(os.path.join(source, "configure"), cwd=folder, check=False)
    assert said.returncode != 0 and f'blank in the path "{folder}"' in said.stderr


def test_without_python_the_module_is_left_out(source, tmp_path):
    """There is no place where a Python would look for it. It goes where the user says."""
    for given, place in (
        ("PYTHON=/nonexistent", None),
        ("pythondir=/opt/python", "opt/python/qcow2core/tsk.py"),
    ):
        folder = tmp_path / given.replace("/", "-")
        folder.mkdir()
        said = run(
            os.path.join(source, "configure"), "PYTHON=/nonexistent", given, cwd=folder
        ).stdout
        assert ("Python module      left out: no python3 was found" in said) == (place is None)
        run("make", "install-dist_qcow2corepythonDATA", f"DESTDIR={folder}/there", cwd=folder)
        assert [str(path.relative_to(folder / "there")) for path in folder.rglob("tsk.py")] == (
            [place] if place else []
        )


def test_without_optional_libraries(source, tmp_path):
    """zlib alone reads what libdeflate reads. Selectors that leave their directory are neither
    written nor followed."""
    run(
        os.path.join(source, "configure"),
        "--without-libdeflate",
        "--without-libgcrypt",
        "--with-fuse=no",
        "--enable-developer",
        "--disable-static",
        "CFLAGS=-O2",
        cwd=tmp_path,
    )
    run("make", "-j2", cwd=tmp_path)
    raw, image = tmp_path / "disk.raw", tmp_path / "disk.qcow2"
    shutil.copy(os.path.join(BUILD, "core/.libs/libqcow2core.so"), raw)
    os.truncate(raw, (os.path.getsize(raw) + 511) // 512 * 512)
    run_line("qemu-img convert -c -f raw -O qcow2", raw, image)
    environment = {
        "LD_LIBRARY_PATH": str(tmp_path / "tsk_qcow2/dropin"),
        "PATH": os.environ["PATH"],
    }
    assert "libdeflate" not in run("readelf", "-d", tmp_path / "core/.libs/libqcow2core.so").stdout
    script = f"img_cat -i qcow2 {image} | cmp - {raw}"
    run("sh", "-c", script, env=environment)
    (tmp_path / "case").mkdir()
    (tmp_path / "case/some.img").write_text(f"TSK-QCOW2-SELECTOR 1\n{image}\nMAC {'0' * 64}\n")
    command = tmp_path / "tsk_qcow2/tsk-qcow2"
    for words in (
        ["img_cat", "case/some.img"],
        [command, "selector", "--directory", "case", image],
    ):
        failed = run(*words, env=environment, cwd=tmp_path, check=False)
        assert failed.returncode == 1 and "without libgcrypt" in failed.stderr
    assert (
        "disk-active.img"
        in run(command, "selector", "--directory", ".", image, env=environment, cwd=tmp_path).stdout
    )
    run("sh", "-c", f"img_cat disk-active.img | cmp - {raw}", env=environment, cwd=tmp_path)
    failed = run(command, "mount", image, tmp_path / "case", env=environment, check=False)
    assert failed.returncode == 1 and "apt-get install tsk-qcow2-fuse" in failed.stderr


@pytest.mark.skipif(
    not os.path.exists(os.path.join(SOURCE, "Makefile.in")), reason="the source is not bootstrapped"
)
def test_distcheck():
    """The tarball builds, passes its unit tests, installs and uninstalls, out of a read-only tree,
    and without a network where the system lets us take that away."""
    alone = ["unshare", "-rn"]
    if run(*alone, "true", check=False).returncode != 0:
        alone = []
    flags = "DISTCHECK_CONFIGURE_FLAGS=--disable-static CFLAGS=-O0"
    chosen = ["TESTS_ARGS=-q", "TESTS_FILES=test_unit.py"]
    run(*alone, "make", "distcheck", flags, *chosen, cwd=BUILD)
