"""The reader of submitted tensors against torch's own: over good files, hostile ones, and many mutated ones."""

import io
import pickletools
import random
import struct
import time
import warnings
import zipfile
from dataclasses import dataclass, field
from functools import cache

import pytest
import test_course_hostile as hostile
import torch
from networks import seeded
from torch.nn.utils import prune

import labkit
from labkit import runtime
from labkit.course.submission.foreign import Refused
from labkit.course.submission.tensors import MOST_PICKLED, read_tensors

SECONDS = 1.0
OURS = ("pickle", "prediction", "answers", "tensor", "storage", "stride", "offset", "network")


def torch_reads(content):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)


def bits(tensor):
    flat = tensor.detach().reshape(-1)
    return flat.new_empty(len(flat)).copy_(flat).view(torch.uint8).numpy().tobytes()


def same(ours, theirs, seen):
    """Whether two readings of a file are equal to the bit; each pair of objects is compared once."""
    if (id(ours), id(theirs)) in seen:
        return True
    seen.add((id(ours), id(theirs)))
    if isinstance(ours, torch.Tensor):
        plain = isinstance(theirs, torch.Tensor) and (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
        return plain and bits(ours) == bits(theirs)
    if isinstance(ours, dict):
        return list(ours) == list(theirs) and all(same(ours[key], theirs[key], seen) for key in ours)
    if isinstance(ours, (list, tuple)):
        return (
            type(ours) is type(theirs) and len(ours) == len(theirs) and all(map(same, ours, theirs, [seen] * len(ours)))
        )
    if isinstance(ours, float):
        return struct.pack("d", ours) == struct.pack("d", theirs)
    if ours is None or isinstance(ours, (bool, int, str)):
        return type(ours) is type(theirs) and ours == theirs
    return type(ours).__name__ in ("_Storage", "_Global")  # outside of a tensor nobody looks at them


@dataclass
class Survey:
    """What became of some files."""

    accepted: int = 0
    refused: int = 0
    only_here: int = 0  # accepted here, refused by torch
    slowest: float = 0.0
    wrong: list = field(default_factory=list)

    def read(self, content, label):
        start = time.thread_time()
        try:
            ours = read_tensors(content)
        except Refused:
            ours = None
        except BaseException as error:
            self.wrong.append((label, repr(error)))
            return
        seconds = time.thread_time() - start
        self.slowest = max(self.slowest, seconds)
        if seconds > SECONDS:
            self.wrong.append((label, f"{seconds:.1f} s"))
        if ours is None:
            self.refused += 1
            return
        self.accepted += 1
        try:
            theirs = torch_reads(content)
        except Exception:
            self.only_here += 1
            return
        if not same(ours, theirs, set()):
            self.wrong.append((label, "another reading than torch's"))


# Good files


def saved(found):
    stream = io.BytesIO()
    torch.save(found, stream)
    return stream.getvalue()


def pruned(network):
    network = labkit.clone(network)
    for layer in (network.conv1, network.conv2, network.fc):
        prune.l1_unstructured(layer, "weight", amount=0.25)
    return network


def files_of(network, folder):
    for name, model in {"dense": network, "pruned": pruned(network)}.items():
        yield saved(model.state_dict())
        yield labkit.save_network(model, folder / f"{name}.pth", seed=7, note="ä", share=0.25).read_bytes()


def reference_files():
    return sorted(runtime.reference_dir().rglob("CNN*.pth"))


@pytest.mark.parametrize("path", reference_files(), ids=lambda path: path.stem)
def test_networks_of_the_project_and_prunings_of_them_are_read_as_by_torch(path, tmp_path):
    survey = Survey()
    survey.read(path.read_bytes(), path.name)
    for number, content in enumerate(files_of(labkit.load_network(path), tmp_path)):
        survey.read(content, number)
    assert (survey.accepted, survey.only_here, survey.wrong) == (5, 0, [])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.uint8])
def test_tensors_of_all_kinds_and_strides_are_read_as_by_torch(dtype):
    whole = torch.arange(24).to(dtype).view(2, 3, 4)
    found = {"whole": whole, "view": whole[:, 1:].transpose(0, 2), "one": whole[1, 2, 3], "none": torch.ones(0, 3)}
    found |= {"bool": whole > 5, "parameter": torch.nn.Parameter(torch.ones(2)), "list": [1, (2.5, None, True, "x")]}
    survey = Survey()
    survey.read(saved(found), dtype)
    assert (survey.accepted, survey.only_here, survey.wrong) == (1, 0, [])


def test_what_is_read_does_not_change_the_bytes_that_it_was_read_from():
    content = saved({"x": torch.ones(3)})
    copy = bytes(bytearray(content))
    read_tensors(content)["x"].zero_()
    assert content == copy


# Hostile files


def hostile_files(folder):
    for name, (maker, _, _) in hostile.MAKERS.items():
        if name.startswith(OURS) and "bzip2" not in name:  # that one takes long to make
            files = {}
            maker(files, folder / "in" / "labs.zip")
            yield from ((f"{name} {base}", content) for base, content in files.items())


def storage(key, kind="FloatStorage", numbers=1):
    pid = hostile.plain("storage") + f"ctorch\n{kind}\n".encode() + key + hostile.plain("cpu") + hostile.plain(numbers)
    return b"(" + pid + b"tQ"


def filled(head, step, tail=b""):
    """A pickle as long as it may be, of one step again and again."""
    return head + step * ((MOST_PICKLED - len(head) - len(tail) - 10) // len(step)) + tail


REBUILD = b"ctorch._utils\n_rebuild_tensor_v2\n"
ZEROS = storage(hostile.plain("0"))
LONG = b"(" + b"K\0" * 10_000 + b"t"
ODD = {
    "an endless key of a storage": storage(hostile.doubled()),
    "calls of ten thousand arguments": filled(REBUILD + b"q\1" + LONG + b"q\2", b"h\1h\2R"),
    "sizes of ten thousand numbers": filled(
        REBUILD + b"q\1(" + ZEROS + b"K\0" + LONG + b"q\3h\3" + b"tq\2", b"h\1h\2R"
    ),
    "as many tensors as fit": filled(REBUILD + b"q\1(" + ZEROS + b"K\0K\1\x85h\3" + b"tq\2", b"h\1h\2R"),
    "as many tensors as fit, good ones": filled(
        b"]" + REBUILD + b"q\1(" + ZEROS + b"K\0K\1\x85q\3h\3" + b"tq\2", b"h\1h\2R", b"}"
    ),
    "a list of itself": b"]q\1" + b"(h\1h\1e" * 5_000,
    "an item of a tensor": hostile.tensor(1, (1,), (1,)) + b"K\0K\1s",
    "a storage of two kinds": b"(" + ZEROS + storage(hostile.plain("0"), "IntStorage") + b"t",
    "numbers of 2,000 bits": filled(b"}", b"\x8a\xff" + b"\x7f" * 255 + b"0"),
    "a tensor of none of very many": hostile.tensor(0, (0, 10**30), (1, 1)),
    "marks only": filled(b"", b"("),
    "tuples in tuples": filled(b")", b"\x85"),
    "globals only": filled(b"", b"ccollections\nOrderedDict\n"),
}


def test_hostile_files_are_refused_or_read_as_by_torch_and_at_once(tmp_path):
    (tmp_path / "canary").mkdir()
    survey = Survey()
    for label, content in hostile_files(tmp_path):
        survey.read(content, label)
    for label, described in ODD.items():
        survey.read(hostile.pickled_file(described, [bytes(4)]), label)
    assert survey.wrong == []
    assert survey.refused > 25
    assert list((tmp_path / "canary").iterdir()) == []


# Mutated files


@cache
def bases():
    """Small files of every sort, taken apart: the bytes, the members, the places of the pickle's opcodes."""
    network = seeded(channels=(2, 3, 4), shape=(1, 12, 12), classes=3)
    sizes = {"input_shape": (1, 12, 12), "num_of_cls": 3, "channels": (2, 3, 4)}
    whole = {"format": "labkit network 1", "architecture": sizes, "metadata": {"seed": 7, "share": 0.5}}
    found = [network.state_dict(), pruned(network).state_dict(), whole | {"state": pruned(network).state_dict()}]
    masks = {name: torch.ones(3, 4, dtype=torch.uint8) for name in ("conv1", "fc")}
    found += [{"format": "labkit answer 1", "task": "06-masks", "value": masks, "base": "ab"}]
    found += [{"value": [1, (2.5, None, True), torch.arange(6).view(2, 3).t(), torch.ones(2).bfloat16()]}]
    found += [{"a": torch.nn.Parameter(torch.ones(2)), "b": torch.arange(8).double()[2::2], "c": torch.ones(0)}]
    taken = []
    for content in map(saved, found):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        where = next(name for name in members if name.endswith("/data.pkl"))
        taken.append((content, members, where, [place for _, _, place in pickletools.genops(members[where])]))
    return taken


KINDS = ["flip", "cut", "opcode", "opcode", "swap", "byte", "byte", "insert", "splice", "member", "stored"]
CODES = [code.code.encode("latin-1") for code in pickletools.opcodes]


def mutated(dice):
    """One file, mutated; but for the first two kinds, its checksums are right."""
    content, members, where, places = dice.choice(bases())
    members, described = dict(members), bytearray(members[where])
    kind = dice.choice(
        ["flip", "cut", "opcode", "opcode", "swap", "byte", "byte", "insert", "splice", "member", "stored"]
    )
    if kind == "flip":
        changed = bytearray(content)
        for _ in range(dice.randint(1, 4)):
            changed[dice.randrange(len(changed))] ^= 1 << dice.randrange(8)
        return kind, bytes(changed)
    if kind == "cut":
        return kind, content[: dice.randrange(len(content))]
    if kind == "opcode":
        for _ in range(dice.randint(1, 2)):
            place = dice.choice(places)
            described[place : place + 1] = dice.choice(CODES)
    elif kind == "swap":
        a, b = dice.choice(places), dice.choice(places)
        described[a], described[b] = described[b], described[a]
    elif kind == "byte":
        for _ in range(dice.randint(1, 3)):
            described[dice.randrange(len(described))] = dice.randrange(256)
    elif kind == "insert":
        place = dice.choice(places)
        described[place:place] = b"".join(dice.choices(CODES, k=dice.randint(1, 4)))
    elif kind == "splice":
        a, b, c = (dice.choice(places) for _ in range(3))
        described[c:c] = described[min(a, b) : max(a, b)]
    elif kind == "member":
        _change_a_member(members, dice)
    else:
        name = dice.choice([name for name in members if "/data/" in name])
        changed = bytearray(members[name]) or bytearray(1)
        changed[dice.randrange(len(changed))] = dice.randrange(256)
        members[name] = bytes(changed)
    if where in members and kind != "member":
        members[where] = bytes(described)
    return kind, hostile.zipped(
        members, method=dice.choice([zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
    )


def _change_a_member(members, dice):
    name, other = dice.choice(list(members)), dice.choice(list(members))
    change = dice.choice(["drop", "longer", "shorter", "exchange", "rename", "upper", "empty"])
    if change == "exchange":
        members[name], members[other] = members[other], members[name]
    else:
        content = members.pop(name)
        new = {"longer": content + bytes(4), "shorter": content[:-4], "empty": b""}.get(change, content)
        if change != "drop":
            members[{"rename": name + "x", "upper": name.upper()}.get(change, name)] = new


def survey_of(count, seed):
    survey, dice = Survey(), random.Random(seed)
    for number in range(count):
        kind, content = mutated(dice)
        survey.read(content, (number, kind))
    return survey


def test_mutated_files_are_refused_or_read_as_by_torch():
    survey = survey_of(2_000, 1)
    assert survey.wrong == []
    assert min(survey.accepted, survey.refused) > 200


@pytest.mark.full
def test_very_many_mutated_files_are_refused_or_read_as_by_torch():
    assert survey_of(100_000, 2).wrong == []
