"""Hostile submissions: each is told of, none runs, none stops the class, none leaves anything behind.

The makers take the files of a lean honest submission (a manifest and one notebook) and spoil them. Each is graded
twice: by itself, within limits of time and memory, and among the class by the real command.
"""

import bz2
import csv
import io
import json
import math
import multiprocessing
import os
import pickle
import re
import resource
import shutil
import signal
import stat
import struct
import subprocess
import sys
import time
import zipfile
from functools import cache
from pathlib import Path

import course_work
import psutil
import pytest
import torch
from course_work import base, course, pruned
from torch.nn.utils import prune
from typer.testing import CliRunner

import labkit
from labkit import cli, runtime
from labkit.course import batch, grading, report, roster
from labkit.course.result import Kept, from_json, to_json
from labkit.course.submission import archive, read_submission
from labkit.course.task import TOTAL

pytestmark = pytest.mark.slow

NOTEBOOK = "notebooks/01_training.ipynb"
ENTRY = "models/CNN_MNIST.pth"
SCRIPT = "<script>alert(1)</script><img src=x onerror=alert(2)>"
MEMORY, SECONDS = 400 * 2**20, 10  # memory and time that one hostile submission may take on top
ROOM = 2 * 2**30  # for a whole worker with torch, at its peak

MAKERS = {}


def hostile(expected, *, alone=True):
    """Name a maker's submission after it; ``expected`` is found among its flags, by itself or only in a class."""

    def named(maker):
        MAKERS[maker.__name__.replace("_", "-")] = (maker, expected, alone)
        return maker

    return named


# Parts


def zipped(files, path=None, method=zipfile.ZIP_DEFLATED):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method, compresslevel=1) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    if path:
        path.write_bytes(stream.getvalue())
    return stream.getvalue()


def patched(content, name, central, local, form, value):
    """A zip with one number of an entry changed, in both of its headers."""
    content, name = bytearray(content), name.encode()
    at = content.rindex(name)  # the name's last place is the central directory
    struct.pack_into(form, content, at - 46 + central, value)
    struct.pack_into(form, content, content.index(name) - 30 + local, value)
    return bytes(content)


def with_size(content, name, size):
    return patched(content, name, 24, 22, "<I", size)


def linked(archive, name, target):
    entry = zipfile.ZipInfo(name)
    entry.create_system, entry.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    archive.writestr(entry, target)


def notebook_of(files, name=NOTEBOOK):
    return json.loads(files[name])


def put(files, notebook, name=NOTEBOOK):
    files[name] = json.dumps(notebook).encode()


def places(role):
    """(cell, name) of all cells of a role in the first notebook."""
    return [(cell["id"], cell["name"]) for cell in course()["notebooks"]["01_training"] if cell["role"] == role]


def answered(files, text):
    """Write an answer into every answer cell."""
    notebook = notebook_of(files)
    wanted = {cell for cell, _ in places("answer")}
    heads = {cell["id"]: cell["head"] for cell in course()["notebooks"]["01_training"]}
    for cell in notebook["cells"]:
        if cell["id"] in wanted:
            cell["source"] = heads[cell["id"]] + "\n\n" + text
    put(files, notebook)


def said(files, text):
    """Write a line into the output of the last code cell."""
    notebook = notebook_of(files)
    last = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"][-1]
    last["outputs"] = [{"output_type": "stream", "name": "stdout", "text": text}]
    put(files, notebook)


def torch_file(found):
    stream = io.BytesIO()
    torch.save(found, stream)
    return stream.getvalue()


def network_file(state, **more):
    sizes = {"input_shape": (1, 28, 28), "num_of_cls": 10, "channels": (32, 64, 128)}
    return torch_file(
        {"format": "labkit network 1", "architecture": sizes, "state": dict(state), "metadata": {}} | more
    )


def answer_file(task, value, base=""):
    return torch_file({"format": "labkit answer 1", "task": task, "value": value, "base": base})


def pickled_file(found, storages=(), **more):
    """A file as torch writes it, around a pickle made by hand."""
    entries = {"archive/data.pkl": b"\x80\x02" + found + b".", "archive/version": b"3\n"} | more
    return zipped(entries | {f"archive/data/{n}": s for n, s in enumerate(storages)}, method=zipfile.ZIP_STORED)


def plain(value):
    return pickle.dumps(value, 2)[2:-1]


def mapping(**items):
    return b"}(" + b"".join(plain(key) + value for key, value in items.items()) + b"u"


def tensor(numbers, size, stride, offset=0):
    storage = b"(" + plain("storage") + b"ctorch\nFloatStorage\n" + plain("0") + plain("cpu") + plain(numbers) + b"tQ"
    rest = b"".join(map(plain, (offset, size, stride, False))) + b"ccollections\nOrderedDict\n)R"
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + rest + b"tR"


def with_tensor(found, stored=b"\0\0\0\0"):
    return pickled_file(mapping(state=mapping(**{"conv1.weight": found})), [stored])


def doubled(times=60):
    """A tuple of itself twice, and so on: small here, endless when spelt out."""
    return b")" + b"q\x01h\x01\x86" * times


class Code:
    """Runs a command when it is unpickled."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


# Zips


@hostile(r"unpacks to 1,\d\d\d MB")
def zip_bomb(files, path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("manifest.json", files["manifest.json"])
        with archive.open(NOTEBOOK, "w", force_zip64=True) as entry:
            for _ in range(110):
                entry.write(bytes(10 * 2**20))
    assert path.stat().st_size < 2**23


@hostile("01_training|CRC")
def zip_that_lies_of_its_size(files, path):
    files[NOTEBOOK] = bytes(60 * 2**20)
    path.write_bytes(with_size(zipped(files), NOTEBOOK, 1_000))


@cache
def _bz2_of_zeros():
    return bz2.compress(bytes(450 * 2**20), 9)


def _bz2_bomb(name, rest):
    """Few bytes that unpack to 450 MB at once: Python's zipfile heeds no limit with bzip2 and LZMA."""
    small, packed = zipped(rest | {name: bytes(1_000)}, method=zipfile.ZIP_BZIP2), _bz2_of_zeros()
    with zipfile.ZipFile(io.BytesIO(small)) as archive:
        entry = archive.getinfo(name)
        start, size = entry.header_offset + 30 + len(name.encode()), entry.compress_size
    made = bytearray(small[:start] + packed + small[start + size :])
    at = made.rindex(name.encode())
    for place in (at - 46 + 20, made.index(name.encode()) - 30 + 18):
        struct.pack_into("<I", made, place, len(packed))
    end = made.rindex(b"PK\5\6")
    struct.pack_into("<I", made, end + 16, struct.unpack_from("<I", made, end + 16)[0] + len(packed) - size)
    return bytes(made)


@hostile("01_training|compress")
def zip_of_bzip2_that_lies(files, path):
    manifest = {"manifest.json": files["manifest.json"]}
    path.write_bytes(_bz2_bomb(NOTEBOOK, manifest))


@hostile("leads out of the submission")
def zip_path_upwards(files, path):
    files |= {"../../escaped.txt": b"out", f"../../{ENTRY}": b"out", "..\\..\\escaped.txt": b"out"}
    zipped(files, path)


@hostile("leads out of the submission")
def zip_path_absolute(files, path):
    zipped(files | {str(path.parent.parent / "canary" / "01_training.ipynb"): files[NOTEBOOK]}, path)


@hostile("leads out of the submission")
def zip_path_of_windows(files, path):
    zipped(files | {"C:\\Users\\x\\01_training.ipynb": files[NOTEBOOK]}, path)


@hostile("symbolic link, not followed: models/CNN_MNIST.pth")
def zip_symlink(files, path):
    zipped(files, path)
    with zipfile.ZipFile(path, "a") as archive:
        linked(archive, ENTRY, "/etc/passwd")


@hostile("holds no notebook")
def zip_of_nothing(_, path):
    zipped({}, path)


@hostile("an archive inside the submission, not opened")
def zip_of_a_zip(files, path):
    zipped({"labs.zip": zipped(files)}, path)


@hostile("01_training.ipynb.*is encrypted")
def zip_encrypted(files, path):
    path.write_bytes(patched(zipped(files), NOTEBOOK, 8, 6, "<H", 1))


@hostile("is encrypted")
def zip_encrypted_with_endless_names(files, path):
    names = [f"{number}" * 60_000 for number in range(3)]
    content = zipped(files | dict.fromkeys(names, b"x"))
    for name in names:
        content = patched(content, name, 8, 6, "<H", 1)
    path.write_bytes(content)


@hostile("01_training.ipynb is there more than once")
def zip_with_a_name_twice(files, path):
    zipped(files, path)
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning):
        archive.writestr(NOTEBOOK, b"{}")


@hostile("20,002 entries")
def zip_of_many(files, path):
    zipped(files | {f"{number}.txt": b"" for number in range(20_000)}, path)


@hostile("neither a zip nor a folder")
def zip_truncated(files, path):
    content = zipped(files)
    path.write_bytes(content[: len(content) // 2])


@hostile("neither a zip nor a folder")
def zip_of_text(_, path):
    path.write_text("My dog ate it.", encoding="utf-8")


@hostile("cannot be read")
def zip_name_not_utf8(files, path):
    content = zipped(files | {"nämé.txt": b"x"})
    path.write_bytes(content.replace("nämé.txt".encode(), b"n\xff\xfem\xff\xfe.txt"))


@hostile(r"control or direction characters.*<U\+202E>")
def zip_name_turned_around(files, path):
    zipped(files | {"notes\u202egnp.exe": b"MZ"}, path)


@hostile("01_training")
def zip_damaged(files, path):
    content = bytearray(zipped(files | {"student.json": b"{}"}))
    at = content.index(NOTEBOOK.encode()) + len(NOTEBOOK) + 500
    content[at : at + 50] = bytes(50)
    path.write_bytes(content)


@hostile("01_training|compression")
def zip_of_an_unknown_compression(files, path):
    path.write_bytes(patched(zipped(files), NOTEBOOK, 10, 8, "<H", 99))


# Folders, and what is neither


def _folder(files, path):
    folder = path.with_suffix("")
    folder = folder.with_name(folder.name.removeprefix("labs_"))
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    (folder / "models").mkdir(exist_ok=True)
    return folder


@hostile("symbolic link, not followed: models/CNN_MNIST.pth")
def folder_with_a_symlink(files, path):
    (_folder(files, path) / ENTRY).symlink_to("/etc/passwd")


@hostile("symbolic link, not followed: models/up")
def folder_with_a_symlink_upwards(files, path):
    (_folder(files, path) / "models/up").symlink_to(path.parent, target_is_directory=True)


@hostile("neither file nor folder: models/CNN_MNIST.pth")
def folder_with_a_pipe(files, path):
    os.mkfifo(_folder(files, path) / ENTRY)


@hostile("more than 20,000 files")
def folder_of_many(files, path):
    _folder(files | {f"models/{number}.txt": b"" for number in range(20_001)}, path)


@hostile("is a symbolic link")
def symlink(files, path):
    hidden = path.parent.parent / "elsewhere.zip"
    zipped(files, hidden)
    path.symlink_to(hidden)


@hostile("neither a zip nor a folder")
def pipe(_, path):
    os.mkfifo(path)


# Pickles in place of networks and answers


@hostile("CNN_MNIST.pth was refused: it was not written by labkit.save_network")
def pickle_that_runs_code(files, path):
    files[ENTRY] = pickle.dumps(Code(f"touch {path.parent.parent / 'canary' / 'ran'}"))


@hostile(r"CNN_MNIST.pth was refused: it holds Python objects \((posix|nt).system\)")
def pickle_that_runs_code_in_a_torch_file(files, path):
    found = pickle.dumps(Code(f"touch {path.parent.parent / 'canary' / 'ran'}"), 2)[2:-1]
    files[ENTRY] = pickled_file(found)


@hostile(r"01-work.*Python objects \((posix|nt).system\)")
def pickle_that_runs_code_in_an_answer(files, path):
    found = pickle.dumps(Code(f"touch {path.parent.parent / 'canary' / 'ran'}"), 2)[2:-1]
    files["models/answers/01-work.pth"] = pickled_file(found)


@hostile(r"Python objects \(builtins.bytearray\)")
def pickle_of_ten_gigabytes(files, _):
    files[ENTRY] = pickled_file(b"cbuiltins\nbytearray\n(" + plain(10**10) + b"tR")


@hostile("CNN_MNIST.pth was refused")
def pickle_with_a_huge_memo_index(files, _):
    files[ENTRY] = pickled_file(b"}r\xff\xff\xff\xff")


@hostile("has a key that is a tuple")
def pickle_with_an_endless_key(files, _):
    files[ENTRY] = pickled_file(b"}(" + doubled() + b"Nu")


@hostile("01-work")
def pickle_with_an_endless_base(files, _):
    work = mapping(format=plain("labkit answer 1"), task=plain("01-work"), value=b"}", base=doubled())
    files["models/answers/01-work.pth"] = pickled_file(work)


@hostile("CNN_MNIST")
def pickle_with_an_endless_seed(files, _):
    with zipfile.ZipFile(io.BytesIO(network_file(base(4).state_dict(), metadata={"seed": 1234567}))) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    where = next(name for name in entries if name.endswith("/data.pkl"))
    assert plain(1234567) in entries[where]
    entries[where] = entries[where].replace(plain(1234567), b")" + b"r\xff\0\0\0j\xff\0\0\0\x86" * 60)
    files[ENTRY] = zipped(entries, method=zipfile.ZIP_STORED)


@hostile("CNN_MNIST.pth was refused")
def pickle_that_hides_methods(files, _):
    state = b"ccollections\nOrderedDict\n)R" + mapping(values=plain("x"), items=plain("x")) + b"b"
    files[ENTRY] = pickled_file(mapping(format=plain("labkit network 1"), state=state))


@hostile("CNN_MNIST.pth was refused")
def pickle_of_four_million_dicts(files, _):
    files[ENTRY] = pickled_file(b"}" * (4 * 2**20 - 2_000))


@hostile("CNN_MNIST.pth was refused")
def pickle_under_two_names(files, _):
    good = pickled_file(plain({}))
    with zipfile.ZipFile(io.BytesIO(good)) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    lie = b"\x80\x02" + mapping(state=mapping(**{"conv1.weight": tensor(1, (10**9,), (0,))})) + b"."
    files[ENTRY] = zipped({"archive/DATA.PKL": lie, "archive/data/0": bytes(4)} | entries, method=zipfile.ZIP_STORED)


@hostile("")
def prediction_too_large_for_a_float(files, _):
    files["models/answers/05-prediction.pth"] = answer_file("05-prediction", 10**400)


@hostile("01-work|09-detective|02-mask")
def answers_of_odd_kinds(files, _):
    files["models/answers/01-work.pth"] = answer_file("01-work", {"conv1": torch.ones(3), 2: [1], "fc": 10**600})
    files["models/answers/09-detective.pth"] = answer_file("09-detective", [torch.ones(2), [1], {}, None, 5, "random"])
    files["models/answers/02-mask.pth"] = answer_file("02-mask", torch.full((32, 1, 3, 3), math.nan))
    files["models/answers/03-masks.pth"] = torch_file([1, 2, 3])
    files["models/answers/10-bytes.pth"] = answer_file("10-bytes", torch.ones(2, 3))
    files["models/answers/10-solve.pth"] = answer_file("10-solve", torch.full((3, 8), math.nan))
    files["models/answers/10-wanda.pth"] = answer_file("10-wanda", [[1.0] * 8] * 3)
    files["models/answers/10-work.pth"] = answer_file("10-work", {"query": math.nan, "out": [1], "up": 10**600})


# Tensors


@hostile("a tensor of 1,000,000,000 numbers")
def tensor_of_a_billion_over_one(files, _):
    files[ENTRY] = with_tensor(tensor(1, (10**9,), (0,)))


@hostile("claims 1,000,000,000 numbers in a storage of 4 bytes")
def storage_that_lies(files, _):
    files[ENTRY] = with_tensor(tensor(10**9, (1,), (1,)))


@hostile("a tensor of an unknown kind")
def stride_negative(files, _):
    files[ENTRY] = with_tensor(tensor(1, (1,), (-1,)))


@hostile("claims 2 numbers where 2 are stored")
def stride_too_large(files, _):
    files[ENTRY] = with_tensor(tensor(2, (2,), (10**6,)), bytes(8))


@hostile("a tensor of an unknown kind")
def offset_negative(files, _):
    files[ENTRY] = with_tensor(tensor(1, (1,), (1,), -1))


@hostile("unpacks to more than 4 MB")
def network_that_unpacks(files, _):
    files[ENTRY] = zipped({"archive/data.pkl": b"\x80\x02}.", "archive/data/0": bytes(50 * 2**20)})


@hostile("CNN_MNIST.pth was refused")
def network_of_bzip2_that_lies(files, _):
    files[ENTRY] = _bz2_bomb("archive/data/0", {"archive/data.pkl": b"\x80\x02}."})


@hostile("two entries of one name")
def network_with_a_name_twice(files, _):
    stream = io.BytesIO(pickled_file(b"}"))
    with zipfile.ZipFile(stream, "a") as archive, pytest.warns(UserWarning):
        archive.writestr("archive/data.pkl", b"\x80\x02}.")
    files[ENTRY] = stream.getvalue()


def _changed(key, change):
    state = base(4).state_dict()
    state[key] = change(state[key].clone())
    return network_file(state)


def _with(value):
    def change(weight):
        weight.view(-1)[0] = value
        return weight

    return change


@hostile("1 values that are NaN or infinite")
def network_of_nan(files, _):
    files[ENTRY] = _changed("conv2.weight", _with(math.nan))


@hostile("1 values that are NaN or infinite")
def network_of_infinity(files, _):
    files[ENTRY] = _changed("fc.bias", _with(math.inf))


@hostile("CNN_MNIST")
def network_beyond_float32(files, _):
    files["models/CNN_MNIST_L1.pth"] = network_file(
        {k: v.double() * (1e300 if k == "fc.weight" else 1) for k, v in base(4).state_dict().items()}
    )


@hostile("another architecture")
def network_of_other_widths(files, _):
    network = labkit.CNN(channels=(4, 6, 8))
    files[ENTRY] = torch_file(network.state_dict())


@hostile("another architecture: layer1.0.conv1.weight")
def network_of_residual_names(files, _):
    files[ENTRY] = network_file({"layer1.0.conv1.weight": torch.ones(64, 64, 3, 3)})


@hostile("another architecture")
def network_that_claims_a_billion_channels(files, _):
    sizes = {"input_shape": (1, 28, 28), "num_of_cls": 10, "channels": (10**9, 10**9, 10**9)}
    files[ENTRY] = network_file(base(4).state_dict(), architecture=sizes)


@hostile("CNN_MNIST.pth was refused")
def network_with_tensors_for_sizes(files, _):
    sizes = {"input_shape": [torch.ones(2)] * 3, "num_of_cls": torch.ones(2), "channels": torch.ones(2)}
    files[ENTRY] = network_file(base(4).state_dict(), architecture=sizes)


@hostile("CNN_MNIST.pth was refused")
def network_with_numbers_for_names(files, _):
    files[ENTRY] = network_file({0: torch.ones(2)})


@hostile("CNN_MNIST")
def network_with_a_tensor_for_a_seed(files, _):
    files[ENTRY] = network_file(base(4).state_dict(), metadata={"seed": torch.ones(2)})


@hostile("CNN_MNIST holds float16 numbers")
def network_of_float16(files, _):
    files[ENTRY] = network_file({k: v.half() if v.is_floating_point() else v for k, v in base(4).state_dict().items()})


@hostile("CNN_MNIST.pth was refused|whole numbers")
def network_of_int8(files, _):
    files[ENTRY] = _changed("conv1.weight", lambda weight: (weight * 100).to(torch.int8))


def _l1(start):
    return pruned(start, prune.l1_unstructured, amount=0.25)


@hostile("a mask with values other than 0 and 1")
def mask_of_halves(files, _):
    state = _l1(base(4)).state_dict()
    state["conv1.weight_mask"] = state["conv1.weight_mask"] * 0.5
    files["models/CNN_MNIST_L1.pth"] = network_file(state)


@hostile("CNN_MNIST_L1")
def mask_with_a_gradient(files, _):
    state = _l1(base(4)).state_dict()
    state["conv1.weight_mask"] = state["conv1.weight_mask"].clone().requires_grad_()
    files["models/CNN_MNIST_L1.pth"] = network_file(state)


@hostile("its weights know no digits even without the mask")
def forged_network(files, _):
    labkit.set_seed(7)
    files["models/CNN_MNIST_L1.pth"] = network_file(_l1(labkit.CNN()).state_dict())


# Notebooks


@hostile("larger than 12 MB")
def notebook_too_large(files, _):
    said(files, "x" * (13 * 2**20))


@hostile("nested too deeply")
def notebook_too_deep(files, _):
    files[NOTEBOOK] = b"[" * 100_000 + b"]" * 100_000


@hostile("nested too deeply|another course version")
def notebook_deep_in_its_metadata(files, _):
    files[NOTEBOOK] = b'{"cells": [], "metadata": ' + b'{"a":' * 900 + b"1" + b"}" * 900 + b"}"


@hostile("is not JSON")
def notebook_no_json(files, _):
    files[NOTEBOOK] = files[NOTEBOOK][:-20]


@hostile("is not JSON")
def notebook_of_an_endless_number(files, _):
    files[NOTEBOOK] = b'{"cells": [], "nbformat": ' + b"9" * 10_000 + b"}"


@hostile("is not a notebook")
def notebook_of_something_else(files, _):
    files[NOTEBOOK] = b'{"cells": {"a": 1}}'


@hostile("is not UTF-8")
def notebook_not_utf8(files, _):
    files[NOTEBOOK] = files[NOTEBOOK].decode().encode("utf-16")


@hostile("is not a notebook")
def notebook_of_cells_that_are_numbers(files, _):
    files[NOTEBOOK] = b'{"cells": [1, null, "x"]}'


@hostile("was changed")
def notebook_of_sources_that_are_numbers(files, _):
    notebook = notebook_of(files)
    for cell in notebook["cells"]:
        cell |= {"source": 5, "outputs": [7, {"data": 3}, {"text": {"a": 1}}], "metadata": []}
    put(files, notebook | {"metadata": {"labkit_course": {"version": course()["version"]}}})


@hostile("01_training|cells")
def notebook_of_a_million_cells(files, _):
    files[NOTEBOOK] = b'{"cells": [' + b"{}," * 3_900_000 + b"{}]}"


@hostile("of another course version")
def notebook_of_another_version(files, _):
    notebook = notebook_of(files)
    notebook["metadata"]["labkit_course"] = {"version": "abcdef"}
    put(files, notebook)


@hostile(", a check, was changed")
def check_changed(files, _):
    notebook, (wanted, _) = notebook_of(files), places("check")[0]
    next(cell for cell in notebook["cells"] if cell["id"] == wanted)["source"] = "print('all right')"
    put(files, notebook)


@hostile("is missing")
def check_deleted(files, _):
    notebook, (wanted, _) = notebook_of(files), places("check")[0]
    notebook["cells"] = [cell for cell in notebook["cells"] if cell["id"] != wanted]
    put(files, notebook)


@hostile("is there 2 times")
def check_doubled(files, _):
    notebook, (wanted, _) = notebook_of(files), places("check")[0]
    notebook["cells"] += [cell for cell in notebook["cells"] if cell["id"] == wanted]
    put(files, notebook)


@hostile("in another order")
def cells_reordered(files, _):
    notebook = notebook_of(files)
    notebook["cells"].reverse()
    put(files, notebook)


@hostile("the notebook says 0.9999 test accuracy")
def accuracy_forged(files, _):
    files[ENTRY] = network_file(base(4).state_dict())
    said(files, "CNN_MNIST: test accuracy ≈0.9999\n")


@hostile("the notebook says 75.00% sparsity, the file has 25.00%")
def sparsity_forged(files, _):
    files["models/CNN_MNIST_L1.pth"] = network_file(_l1(base(4)).state_dict())
    said(files, "CNN_MNIST_L1: sparsity 75.00%, test accuracy ≈0.9880\n")


# Text that is no question for anybody, and must stay text


@hostile("")
def script_in_an_answer(files, _):
    answered(files, SCRIPT)
    said(files, SCRIPT)


@hostile("")
def formula_of_equals(files, _):
    answered(files, '=HYPERLINK("http://x.example","marks")')


@hostile("")
def formula_of_plus(files, _):
    answered(files, "+1+cmd|' /C calc'!A0")


@hostile("")
def formula_of_minus(files, _):
    answered(files, "-2+3+cmd|' /C calc'!A0")


@hostile("")
def formula_of_at(files, _):
    answered(files, "@SUM(1+1)")


@hostile("")
def formula_after_a_tab(files, _):
    answered(files, "\t=1+1")


@hostile("")
def home_in_an_answer(files, _):
    answered(files, "see /home/jane.roe/labs/x.py and C:\\Users\\jane.roe\\x and /Users/jane.roe/y")


@hostile("")
def half_a_character(files, _):
    answered(files, "half \ud83d of it")


@hostile("")
def packed_before_time_began(files, _):
    told = json.loads(files["manifest.json"])
    files["manifest.json"] = json.dumps(told | {"packed": "0001-01-01T00:00:00+23:59"}).encode()


@hostile("")
def packed_with_half_a_character(files, _):
    told = json.loads(files["manifest.json"])
    files["manifest.json"] = json.dumps(told | {"packed": "\ud83d"}).encode()


# Whose is it?


@hostile("handed in by impostor, but worked on by ab12")
def impostor(files, path):
    files["manifest.json"] = files["manifest.json"].replace(b'"impostor"', b'"ab12"')
    zipped(files, path.with_name("impostor_4711_99_labs.zip"))


def _nameless(files, path, told):
    manifest = json.loads(files["manifest.json"]) | {"student": told}
    zipped(files | {"manifest.json": json.dumps(manifest).encode()}, path)


@hostile(r"who made labs_<img src=x onerror=alert", alone=False)
def id_of_markup(files, path):
    _nameless(files, path.with_name("labs_<img src=x onerror=alert(3)>.zip"), "<img src=x onerror=alert(3)>")


@hostile(r"who made =HYPERLINK", alone=False)
def id_of_a_formula(files, path):
    _nameless(files, path.with_name('=HYPERLINK("x").zip'), '=HYPERLINK("x")')


@hostile(r"who made labs_\.\.", alone=False)
def id_of_a_path(files, path):
    _nameless(files, path.with_name("labs_..\\..\\x.zip"), "../../x")


@hostile(r"who made labs_.*<U\+DCFF>", alone=False)
def name_of_a_zip_not_utf8(files, path):
    _nameless(files, Path(os.fsdecode(os.fsencode(path.parent) + b"/labs_\xff\xfe!.zip")), "")


@hostile("2 submissions; the newest counts", alone=False)
def two_zips(files, path):
    zipped(files, path)
    zipped(files, path.with_name(f"{path.stem} (1).zip"))


# The class


NAMES = sorted(MAKERS)
ALONE = [name for name in NAMES if MAKERS[name][2]]


def manifest(student, **more):
    told = {"format": "labkit submission 1", "student": student, "course": course()["version"]}
    return json.dumps(told | {"packed": "2026-11-22T12:00:00+00:00"} | more).encode()


@pytest.fixture(scope="module")
def honest(tmp_path_factory):
    """One whole honest submission; only one claim is written, since measuring them takes long."""
    folder, start = tmp_path_factory.mktemp("honest"), base(3)
    networks = course_work.networks_of(start, 3)
    notebooks = course_work.worked_notebooks({"CNN_MNIST": start})
    with pytest.MonkeyPatch.context() as patch:
        work = course_work.write_work(
            folder / "work", "ab12", networks, course_work.answers_of(start, "ab12", 3), notebooks, patch
        )
    return course_work.zip_of(work, folder / "labs_ab12.zip", "ab12")


@pytest.fixture(scope="module")
def lean(honest):
    """Makes the files of a lean honest submission."""
    with zipfile.ZipFile(honest) as archive:
        notebook = archive.read(NOTEBOOK)

    def make(student):
        return {"manifest.json": manifest(student), NOTEBOOK: notebook}

    return make


def make_hostile(name, files, folder):
    """Write a hostile submission into the folder; its path, or that of the newest."""
    maker, before = MAKERS[name][0], set(folder.iterdir())
    path = folder / f"labs_{name}.zip"
    maker(files, path)
    made = sorted(set(folder.iterdir()) - before)
    if not made:
        zipped(files, path)
        made = [path]
    return made[0]


@pytest.fixture(scope="module")
def world(tmp_path_factory, honest, lean):
    """The folder of all submissions, and beside it a canary."""
    root = tmp_path_factory.mktemp("world")
    folder = root / "submissions"
    folder.mkdir()
    (root / "canary").mkdir()
    shutil.copy(honest, folder)
    paths = {name: make_hostile(name, lean(name), folder) for name in NAMES}
    return root, folder, paths


class TooSlowError(BaseException):
    """Not to be caught by what catches every Exception."""


def limited(function, *arguments):
    """Call with the time and the memory that a hostile submission may take."""

    def late(*_):
        raise TooSlowError

    old = signal.signal(signal.SIGALRM, late)
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (psutil.Process().memory_info().vms + MEMORY, limits[1]))
    signal.alarm(SECONDS)
    try:
        return function(*arguments)
    except TooSlowError:
        pytest.fail(f"takes more than {SECONDS} s")
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, old)
        resource.setrlimit(resource.RLIMIT_AS, limits)


def graded(path, student=""):
    return grading.grade(read_submission(path), course(), student)


def told_of(result):
    """Everything that is said of a submission."""
    lost = [
        f"{name}: {finding.text} {finding.hint}"
        for name, task in result.tasks.items()
        for finding in task.findings
        if finding.holds is False
    ]
    refused = [f"{name or 'all'}: {why}" for name, why in result.refused.items()]
    return "\n".join([*result.flags, *refused, *lost])


def test_the_lean_submission_itself_has_no_flag(lean, tmp_path):
    zipped(lean("lean"), tmp_path / "labs_lean.zip")
    assert told_of(graded(tmp_path / "labs_lean.zip")) == ""


@pytest.mark.parametrize("name", ALONE)
def test_a_hostile_submission_is_told_of_and_does_not_raise(world, name):
    root, _, paths = world
    before = sorted(root.rglob("*"))
    result = limited(graded, paths[name], name)
    assert re.search(MAKERS[name][1], told_of(result), re.DOTALL)
    assert "MemoryError" not in told_of(result)
    kept = Kept("mark", result)
    assert from_json(to_json(kept)) == kept
    assert sorted(root.rglob("*")) == before


def test_what_stands_beside_a_damaged_file_is_still_read(lean, tmp_path):
    path, answer = tmp_path / "labs_ann.zip", "models/answers/01-prediction.pth"
    zip_damaged(lean("ann") | {answer: answer_file("01-prediction", 0.5)}, path)
    files = archive.read_files(path)
    assert set(files.content) == {"manifest.json", "student.json", "01-prediction.pth"}
    assert set(files.refused) == {"01_training.ipynb"}


def test_nothing_ran_when_the_pickles_were_read(world):
    assert list((world[0] / "canary").iterdir()) == []


# All of them in one class


def command(*arguments):
    """The real command line, in a session of its own: code, output, peak of memory, processes that are left."""
    line = [sys.executable, "-m", "labkit.cli", "grade", *map(str, arguments)]
    environment = os.environ | {"COLUMNS": "200", "LABKIT_BARS": "0", "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment, start_new_session=True
    ) as process:
        try:
            output, _ = process.communicate(timeout=150)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            output, _ = process.communicate()
            output += b" ... took more than 150 s"
    until = time.monotonic() + 5  # the one that watches over shared memory ends when it sees that nobody is left
    while (left := course_work.processes_of_session(process.pid)) and time.monotonic() < until:
        time.sleep(0.1)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    return process.returncode, output.decode(errors="replace"), peak, left


def rows_of(out):
    with (out / "grades.csv").open(encoding="utf-8-sig", newline="") as file:
        return {row["pseudonym"]: row for row in csv.DictReader(file)}


def flags_page(out):
    """The part of the class page that lists the flags."""
    return (out / "index.html").read_text(encoding="utf-8").split("<h2>")[1]


def snapshot(root, but):
    """Path -> size and time of everything but what lies in one folder."""
    found = [path for path in root.rglob("*") if but not in (path, *path.parents)]
    return {path: (path.lstat().st_size, path.lstat().st_mtime_ns) for path in found if not path.is_dir()}


@pytest.fixture(scope="module")
def course_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("course") / "course.json"
    path.write_text(json.dumps(course()), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def finished(world, course_file):
    """One run of the command over the whole class."""
    root, folder, _ = world
    out = root / "grades"
    names = ["ab12", *NAMES]
    lines = [
        "student,name,canvas_id",
        *(f"{name},Person {n},{4711 if name == 'impostor' else n}" for n, name in enumerate(names)),
    ]
    (root / "roster.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    before = snapshot(root, out)
    told = command(folder, "--out", out, "--course", course_file, "--roster", root / "roster.csv", "--jobs", 2)
    return root, out, before, told


def test_a_class_of_hostile_submissions_is_graded_to_its_end(finished):
    _, out, _, (code, output, _, _) = finished
    assert code == 0, output[-1_500:]
    assert "Traceback" not in output
    assert (out / "index.html").exists()


def test_no_process_and_no_file_is_left_behind(finished):
    root, out, before, (_, _, _, left) = finished
    assert left == []
    assert snapshot(root, out) == before
    assert list((root / "canary").iterdir()) == []
    assert not list(root.parent.rglob("escaped.txt"))


def test_no_process_needed_much_memory(finished):
    assert finished[3][2] < ROOM


def test_the_honest_submission_among_hostile_ones_keeps_its_points_and_has_no_flag(finished):
    row = next(row for row in rows_of(finished[1]).values() if row["student"] == "ab12")
    assert (float(row["points"]), row["flags"]) == (TOTAL, "")


@pytest.mark.parametrize("name", NAMES)
def test_a_hostile_submission_has_a_row_and_stands_among_the_flags(finished, name):
    out, expected = finished[1], MAKERS[name][1]
    rows = list(rows_of(out).values())
    if "id_of" in MAKERS[name][0].__name__ or "name_of_a" in MAKERS[name][0].__name__:
        row = next(row for row in rows if re.search(expected, row["flags"]))
    else:
        row = next(row for row in rows if row["student"] == name)
    assert (out / "feedback" / f"{row['pseudonym']}.html").exists()
    found = re.search(f"<tr><td ?>.{{0,40}}{row['pseudonym']}.html.*?</tr>", flags_page(out), re.DOTALL)
    assert bool(found) == bool(expected)


def test_what_a_student_wrote_stays_text_on_every_page(finished):
    pages = [path.read_text(encoding="utf-8") for path in finished[1].rglob("*.html")]
    assert len(pages) > len(NAMES)
    for page in pages:
        assert "<script>alert" not in page
        assert "<img" not in page.lower()
        assert "\u202e" not in page
        assert "jane.roe" not in page
    assert any("&lt;script&gt;alert(1)" in page for page in pages)


def test_no_cell_of_a_table_is_a_formula_or_a_home(finished):
    for path in finished[1].glob("*.csv"):
        with path.open(encoding="utf-8-sig", newline="") as file:
            cells = [cell for row in csv.reader(file) for cell in row]
        assert [
            cell for cell in cells if re.match(r"\s*[=+@|%\t-]", cell) and not re.fullmatch(r"-?[\d.]+", cell)
        ] == []
        assert "jane.roe" not in "".join(cells)
    assert "'=HYPERLINK" in (finished[1] / "grades.csv").read_text(encoding="utf-8")


def test_a_second_run_over_hostile_names_does_not_stumble_over_its_own_table(finished):
    """The CSV reader refuses fields over 131,072 characters."""
    if not (finished[1] / "grades.csv").exists():
        pytest.skip("the first run made no table")
    assert len(report.read_marks(finished[1] / "grades.csv")) > len(NAMES)


# Smaller classes


def run(*arguments):
    """The command in this process; what it grades is read in others."""
    return CliRunner(env={"COLUMNS": "200"}).invoke(cli.app, ["grade", *map(str, arguments), "--jobs", "1"])


@pytest.fixture
def few(tmp_path, lean, course_file):
    """Makes a folder of lean submissions, and grades it."""
    folder, out = tmp_path / "in", tmp_path / "grades"
    folder.mkdir()

    def grade(*options, **submissions):
        for student, files in submissions.items():
            zipped(lean(student) | files, folder / f"labs_{student}.zip")
        done = run(folder, "--out", out, "--course", course_file, *options)
        assert done.exit_code == 0, done.output
        return out, rows_of(out)

    grade.folder = folder
    return grade


def by_student(rows):
    return {row["student"]: row for row in rows.values()}


def copied(start):
    state = network_file(start.state_dict(), metadata={"seed": 1})
    return {ENTRY: state, "models/CNN_MNIST_L1.pth": network_file(_l1(start).state_dict())}


def test_networks_of_two_students_that_are_equal_are_told_of_at_both(few):
    out, rows = few(ann=copied(base(4)), bob=copied(base(4)))
    assert all("CNN_MNIST equals that of" in by_student(rows)[name]["flags"] for name in ("ann", "bob"))
    page = (out / "index.html").read_text(encoding="utf-8")
    assert all(f"CNN_MNIST equals that of {name}" in page for name in ("ann", "bob"))


def test_equal_networks_of_one_group_are_not_told_of(few, tmp_path):
    (tmp_path / "roster.csv").write_text("student;group\nann;7\nbob;7\ncyd;7\n", encoding="utf-8")
    out, rows = few("--roster", tmp_path / "roster.csv", ann=copied(base(4)), bob=copied(base(4)))
    rows = by_student(rows)
    assert all("equals" not in rows[name]["flags"] for name in ("ann", "bob"))
    assert "handed in by the group" in rows["cyd"]["flags"]
    assert out.exists()


def test_networks_from_the_same_reference_are_not_told_of_as_equal(few):
    reference = labkit.load_network(runtime.reference_dir() / "CNN_MNIST.pth")
    rows = by_student(few(ann=copied(reference), bob=copied(reference))[1])
    assert all("equals" not in rows[name]["flags"] for name in ("ann", "bob"))
    assert "is the reference CNN_MNIST" in rows["ann"]["flags"]


def test_what_is_finished_is_not_graded_again_and_what_changed_is(few):
    out, rows = few(ann={}, bob={})
    keys = {row["student"]: key for key, row in rows.items()}
    times = {name: (out / "results" / f"{key}.json").stat().st_mtime_ns for name, key in keys.items()}
    few(bob={"models/answers/01-prediction.pth": answer_file("01-prediction", 0.5)})
    again = {name: (out / "results" / f"{key}.json").stat().st_mtime_ns for name, key in keys.items()}
    assert again["ann"] == times["ann"]
    assert again["bob"] > times["bob"]


def test_a_damaged_result_of_an_interrupted_run_is_made_again(few):
    out, rows = few(ann={})
    path = out / "results" / f"{next(iter(rows))}.json"
    whole = path.read_text(encoding="utf-8")
    path.write_text(whole[:100], encoding="utf-8")
    few()
    assert path.read_text(encoding="utf-8") == whole


@pytest.mark.parametrize("delimiter", [",", ";"])
def test_marks_of_the_instructor_outlive_grading_again(few, delimiter):
    out, rows = few(ann={}, bob={})
    table = list(rows.values())
    table[0] |= {"instructor_points": "2,5", "instructor_comment": "- good; but <b>why</b>?"}
    for _ in range(2):
        with (out / "grades.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(table[0]), delimiter=delimiter)
            writer.writeheader()
            writer.writerows(table)
        table = list(few()[1].values())
    assert table[0]["instructor_points"] == "2,5"
    assert table[0]["instructor_comment"].endswith("- good; but <b>why</b>?")
    page = (out / "feedback" / f"{table[0]['pseudonym']}.html").read_text(encoding="utf-8")
    assert "- good; but &lt;b&gt;why&lt;/b&gt;?" in page
    assert "&#x27;- good" not in page
    gradebook = (out / "gradebook.csv").read_text(encoding="utf-8-sig")
    assert f",{float(table[0]['points']) + 2.5:g}" in gradebook


@pytest.mark.parametrize(
    "content", ["ÿ".encode("latin-1"), b"student,points\na,1\n", b"\xff\xfe" + "a;b".encode("utf-16-le")]
)
def test_a_table_of_marks_that_can_not_be_read_stops_the_run_before_anything_is_written(few, content, course_file):
    out, _ = few(ann={})
    (out / "grades.csv").write_bytes(content)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    done = run(few.folder, "--out", out, "--course", course_file)
    assert done.exit_code == 2
    assert len(done.output.strip().splitlines()) == 1
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


def test_anonymous_pages_hold_neither_ids_nor_names(few, tmp_path, lean):
    text = "student,name,canvas_id\nann.lee,Ann Lee,11\nbobby,Bob Roe,12\nabsent77,Zoe Quill,13\npair88,Pia Rot,14\n"
    (tmp_path / "roster.csv").write_text(text, encoding="utf-8")
    zipped(lean("bobby"), few.folder / "leeann_11_98_labs.zip")
    zipped(lean("ann.lee"), few.folder / "leeann_11_99_labs-1.zip")
    zipped(lean("stranger5"), few.folder / "labs_stranger5.zip")
    zipped(lean("stranger9"), few.folder / "rotpia_14_96_labs.zip")  # worked on by another one
    out, _ = few("--roster", tmp_path / "roster.csv", "--anonymous", bobby={}, **{"ann.lee": {}})
    (few.folder / "labs_bobby (1).zip").write_bytes((few.folder / "labs_bobby.zip").read_bytes())
    few("--roster", tmp_path / "roster.csv", "--anonymous")
    for path in [out / "index.html", out / "grades.csv", *out.glob("feedback/*.html")]:
        content = path.read_text(encoding="utf-8").lower()
        told = ("ann.lee", "ann lee", "leeann", "bobby", "bob roe", "absent77", "zoe quill", "stranger5")
        told += ("pair88", "stranger9")
        assert [word for word in told if word in content] == [], path.name
    assert "absent77" in (out / "pseudonyms.csv").read_text(encoding="utf-8")


class Deadly(str):
    """A student's ID that ends the process that unpickles it."""

    def __reduce__(self):
        return os._exit, (9,)


def entry_of(lean, folder, student):
    zipped(lean(str(student)), folder / f"labs_{student}.zip")
    return roster.Entry(folder / f"labs_{student}.zip", student, "", 0, False, None)


@pytest.fixture
def three(lean, tmp_path):
    """Makes three submissions of which the middle one is another one, and grades them two at a time."""

    def graded(middle="bob"):
        entries = {name: entry_of(lean, tmp_path, name) for name in ("ann", middle, "cyd")}
        results = batch.grade_all(entries, course(), tmp_path / "out", 2, lambda _: None)
        assert list(results) == ["ann", "bob", "cyd"]
        kept = {path.stem for path in (tmp_path / "out" / "results").iterdir()}
        assert all(results[name].refused == {} and name in kept for name in ("ann", "cyd"))
        assert multiprocessing.active_children() == []
        return results["bob"], "bob" in kept

    return graded


@pytest.fixture
def bob_does(monkeypatch):
    """Put a hostile reader in the place of the real one, for one submission; a fork has it, too."""

    def reads(hostile):
        def read(path):
            return hostile() if "bob" in path.name else read_submission(path)

        if sys.platform != "linux":
            pytest.skip("processes that are not forked have the real reader")
        monkeypatch.setattr(batch, "read_submission", read)

    return reads


def test_a_submission_that_ends_the_process_that_reads_it_is_refused_alone(three):
    result, is_kept = three(Deadly("bob"))
    assert result.refused == {"": "ended the process that read it"}
    assert result.flags == ("the submission ended the process that read it",)
    assert not is_kept  # the next run tries it again


@pytest.mark.full
def test_a_process_that_has_ended_before_it_is_asked_stops_nobody(lean, tmp_path, monkeypatch):
    ended = []

    class Ending(batch.PROCESSES.Process):
        def start(self):
            super().start()
            if not ended:
                ended.append(self.kill())
                self.join()

    monkeypatch.setattr(batch.PROCESSES, "Process", Ending)
    entries = {name: entry_of(lean, tmp_path, name) for name in ("ann", "bob")}
    results = batch.grade_all(entries, course(), tmp_path / "out", 1, lambda _: None)
    assert [result.refused for result in results.values()] == [{"": "ended the process that read it"}, {}]
    assert [path.stem for path in (tmp_path / "out" / "results").iterdir()] == ["bob"]


def test_a_submission_that_never_ends_is_refused_alone_when_its_time_is_over(three, bob_does, monkeypatch):
    monkeypatch.setattr(batch, "SECONDS", 3)
    bob_does(lambda: re.match("(a+)+$", "a" * 60 + "b"))  # lets no other thread of its process go on
    started = time.monotonic()
    result, is_kept = three()
    assert result.flags == ("the submission took longer than 3 s to be read and graded",)
    assert not is_kept
    assert time.monotonic() - started < 60


@pytest.mark.full
def test_a_process_for_grading_waits_for_no_lock_of_the_progress_bar(three, bob_does, monkeypatch):
    class Locked(io.StringIO):
        def write(self, _):
            time.sleep(1_000)

    monkeypatch.setattr(batch, "SECONDS", 20)
    bob_does(lambda: print("a warning", file=sys.stderr))
    with monkeypatch.context() as bar:
        bar.setattr(sys, "stderr", Locked())
        assert "could not be graded" in three()[0].flags[0]  # since print gives nothing to grade


@pytest.mark.parametrize("hostile", [lambda: bytearray(5 * 2**30), lambda: torch.ones(5 * 2**28)])
def test_a_submission_that_needs_much_memory_is_refused_alone(three, bob_does, hostile):
    bob_does(hostile)
    assert three()[0].flags == ("the submission needed more than 2 GB of memory to be read and graded",)


def test_a_file_of_80_gigabytes_is_not_read_to_tell_whether_it_has_changed(tmp_path):
    with (tmp_path / "labs_ann.zip").open("wb") as file:
        file.truncate(80 * 2**30)
    started = time.monotonic()
    batch.digest_of(tmp_path / "labs_ann.zip")
    assert time.monotonic() - started < 20


@pytest.mark.full
def test_processes_that_are_not_forked_do_the_same(three, monkeypatch):
    monkeypatch.setattr(batch, "PROCESSES", multiprocessing.get_context("spawn"))
    assert three(Deadly("bob"))[0].refused == {"": "ended the process that read it"}


def test_many_small_flags_do_not_hide_the_large_ones(few, lean):
    path = few.folder / "labs_ann.zip"
    files = lean("ann")
    notebook_of_another_version(files, path)
    zipped(files, path)
    with zipfile.ZipFile(path, "a") as archive:
        for number in range(60):
            linked(archive, f"{number}", "/etc/passwd")
    out, _ = few()
    assert "another course version" in flags_page(out)


def test_a_refused_submission_counts_among_those_with_flags(few, course_file):
    (few.folder / "labs_ann.zip").write_text("no zip", encoding="utf-8")
    done = run(few.folder, "--out", few.folder.parent / "grades", "--course", course_file)
    assert "1 submissions graded, 1 with flags" in done.output


# Platforms


ROSTER = "student,name,canvas_id,moodle_id,group,late_days\njd1,Jane Doe,12345,1234,,2\nkk2,Karl Kuhn,777,888,,0\n"


def test_names_of_canvas_tell_the_student_the_attempt_and_that_it_is_late(few, tmp_path, lean):
    (tmp_path / "roster.csv").write_text(ROSTER, encoding="utf-8")
    zipped(lean("jd1"), few.folder / "doejane_LATE_12345_678_labs_x.zip")
    zipped(lean("jd1"), few.folder / "doejane_LATE_12345_679_labs_x-1.zip")
    zipped({NOTEBOOK: lean("x")[NOTEBOOK]}, few.folder / "kuhnkarl_777_680_labs.zip")
    _, rows = few("--roster", tmp_path / "roster.csv", "--due", "2026-11-20T12:00+00:00")
    rows = by_student(rows)
    assert set(rows) == {"jd1", "kk2"}
    assert (rows["jd1"]["name"], rows["jd1"]["attempts"]) == ("Jane Doe", "2")
    assert (rows["jd1"]["days_late"], rows["jd1"]["late_days_allowed"]) == ("2", "2")
    assert "late, according to the platform" in rows["jd1"]["flags"]
    assert "the newest counts, not doejane_LATE_12345_678_labs_x.zip" in rows["jd1"]["flags"]
    assert (rows["kk2"]["flags"], rows["kk2"]["days_late"]) == ("", "0")


def test_a_bulk_zip_of_canvas_is_unpacked_and_stays_in_its_folder(tmp_path, lean, course_file):
    (tmp_path / "roster.csv").write_text(ROSTER, encoding="utf-8")
    inner = zipped(lean("jd1"))
    bulk = {"doejane_12345_678_labs.zip": inner, "../../kuhnkarl_777_680_labs.zip": zipped(lean("kk2"))}
    zipped(bulk, tmp_path / "bulk.zip")
    done = run(
        tmp_path / "bulk.zip", "--out", tmp_path / "out", "--course", course_file, "--roster", tmp_path / "roster.csv"
    )
    assert done.exit_code == 0, done.output
    assert set(by_student(rows_of(tmp_path / "out"))) == {"jd1", "kk2"}
    assert not list(tmp_path.parent.glob("kuhn*"))


def test_folders_of_moodle_tell_the_student(few, tmp_path, lean):
    (tmp_path / "roster.csv").write_text(ROSTER, encoding="utf-8")
    for folder in ("Jane Doe_1234_assignsubmission_file_", "Karl Kuhn_888_assignsubmission_file_"):
        (few.folder / folder).mkdir()
        zipped({NOTEBOOK: lean("x")[NOTEBOOK]}, few.folder / folder / "labs.zip")
    rows = by_student(few("--roster", tmp_path / "roster.csv")[1])
    assert {name: row["flags"] for name, row in rows.items()} == {"jd1": "", "kk2": ""}


def test_digits_at_the_end_of_an_id_belong_to_the_id(few):
    (few.folder / "labs_ab12.zip").write_text("no zip", encoding="utf-8")
    (few.folder / "labs_cd34 (1).zip").write_text("no zip", encoding="utf-8")
    assert set(by_student(few()[1])) == {"ab12", "cd34"}


def test_two_nameless_zips_of_one_file_name_are_two_submissions(few, lean):
    for folder in ("Jane Doe_1234_assignsubmission_file_", "Karl Kuhn_888_assignsubmission_file_"):
        (few.folder / folder).mkdir()
        zipped({NOTEBOOK: lean("x")[NOTEBOOK]}, few.folder / folder / "labs.zip")
    assert len(few()[1]) == 2


def test_a_stray_file_named_like_a_student_does_not_take_the_place_of_one(few):
    (few.folder / "ann").write_text("x", encoding="utf-8")
    _, rows = few(ann={})
    assert sorted(row["student"] for row in rows.values()) == ["", "ann"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,name\n1,x\n", "one must be called student"),
        ("student\nann\nAnn\n", "line 3: ann is there twice"),
        ("student\n=1+1\n", "line 2: student is '=1+1'"),
        ("student,late_days\nann,two\n", "line 2"),
    ],
)
def test_a_wrong_roster_is_one_line_and_status_2(few, tmp_path, course_file, lean, text, message):
    zipped(lean("ann"), few.folder / "labs_ann.zip")
    (tmp_path / "roster.csv").write_text(text, encoding="utf-8")
    done = run(few.folder, "--out", tmp_path / "o", "--course", course_file, "--roster", tmp_path / "roster.csv")
    assert done.exit_code == 2
    assert message in done.output
    assert len(done.output.strip().splitlines()) == 1
    assert not (tmp_path / "o").exists()
