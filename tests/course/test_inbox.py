"""Whose submissions these are, told from names and from what lies in them: quickly, without grading."""

import io
import json
import lzma
import tarfile
import time
import zipfile
from datetime import UTC, datetime

import pytest

from labkit.course import inbox
from labkit.course.roster import Person
from labkit.course.submission import read_submission
from labkit.course.submission.archive import read_files, usual_name, wanted_files

NOTEBOOK = json.dumps({"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}).encode()
ANN = Person("ann", "Ann Alpha", canvas_id="9001", moodle_id="9001")
BOB = Person("bob", "Bob Beta", canvas_id="9002", moodle_id="9002")


def work(student="", packed="", **more):
    """A student's files: two notebooks and, if wanted, a manifest."""
    told = {"student": student} | ({"packed": packed} if packed else {})
    files = {"notebooks/01_training.ipynb": NOTEBOOK, "notebooks/03_l1_pruning.ipynb": NOTEBOOK, **more}
    return files | ({"manifest.json": json.dumps(told).encode()} if student else {})


def zipped(files):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


def tarred(files, kind):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=f"w:{kind}") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return stream.getvalue()


@pytest.fixture
def collected(tmp_path):
    """Puts files into a folder, and finds the submissions: (student, name of the file, older) of each."""

    def collect(files, people=(ANN, BOB)):
        for name, content in files.items():
            path = tmp_path / "in" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        entries = inbox.find_entries(tmp_path / "in", list(people))
        inbox.owners_of(entries, tmp_path / "in")
        collect.entries = entries
        return [(e.student, e.path.relative_to(tmp_path / "in").as_posix(), list(e.older)) for e in entries]

    return collect


def below(folder, files):
    return {f"{folder}/{name}": content for name, content in files.items()}


@pytest.mark.parametrize(
    "base",
    [
        "01_training.ipynb",
        "01_Training (1).IPYNB",
        "01_training-Copy1.ipynb",
        "01_training-1.ipynb",
        "70006_01_training-2.ipynb",
        "Copy of 01_training.ipynb",
        "01_training - Kopie (2).ipynb",
        "01_training copy 3.ipynb",
        "01_training.ipynb.txt",
        "ann_01_training_final.ipynb",
        "01 Training.ipynb",
    ],
)
def test_a_notebook_is_known_under_the_names_that_machines_give_it(base):
    assert usual_name(base, wanted_files()) == "01_training.ipynb"


@pytest.mark.parametrize(
    ("base", "usual"),
    [
        ("CNN_MNIST_GLOBAL_2.pth", "CNN_MNIST_GLOBAL_2.pth"),
        ("cnn_mnist_global (2).PTH", "CNN_MNIST_GLOBAL.pth"),
        ("70055_01-work-1.pth", "01-work.pth"),
        ("my CNN_MNIST.pth", ""),
        ("START.ipynb", ""),
        ("01_training.py", ""),
    ],
)
def test_a_network_is_no_other_one(base, usual):
    assert usual_name(base, wanted_files()) == usual


@pytest.mark.parametrize("kind", ["", "gz", "bz2", "xz"])
def test_every_tar_is_read(tmp_path, kind):
    path = tmp_path / f"labs_ann.tar.{kind}".rstrip(".")
    path.write_bytes(tarred(work("ann", **{"models/CNN_MNIST.pth": zipped({"a": b"x"})}), kind))
    files = read_files(path)
    assert set(files.content) == {"manifest.json", "01_training.ipynb", "03_l1_pruning.ipynb", "CNN_MNIST.pth"}
    assert (files.refused, files.flags) == ({}, [])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"7z\xbc\xaf\x27\x1c", "7z archive"),
        (b"Rar!\x1a\x07\x01\x00", "rar archive"),
        (b"", "broken off"),
        (zipped(work("ann"))[:200], "broken off"),
        (tarred(work("ann"), "gz")[:100], "broken off"),
        (lzma.compress(bytes(81 * 2**20), preset=0), "more than 80 MB"),
    ],
    ids=["7z", "rar", "empty", "half a zip", "half a tar", "too large"],  # an archive has the time in it
)
def test_what_can_not_be_unpacked_is_said_of_its_student(collected, content, words):
    assert collected({"alphaann_9001_70001_labs.zip": content}) == [("ann", "alphaann_9001_70001_labs.zip", [])]
    assert words in read_files(collected.entries[0].path).refused[""]


def test_a_zip_in_a_zip_is_read_and_no_deeper(tmp_path):
    (tmp_path / "once.zip").write_bytes(zipped({"labs.zip": zipped(work("ann"))}))
    (tmp_path / "twice.zip").write_bytes(zipped({"labs.zip": (tmp_path / "once.zip").read_bytes()}))
    once, twice = read_files(tmp_path / "once.zip"), read_files(tmp_path / "twice.zip")
    assert "01_training.ipynb" in once.content
    assert len(once.flags) == 1
    assert twice.content == {}
    assert "not opened: labs.zip" in twice.flags[0]


def test_an_exact_name_counts_before_a_copy_and_a_copy_that_differs_is_told_of(tmp_path):
    other = NOTEBOOK.replace(b"4", b"3")
    files = {"01_training (1).ipynb": other, "a/01_training.ipynb": NOTEBOOK, "03_l1_pruning-Copy1.ipynb": NOTEBOOK}
    (tmp_path / "labs.zip").write_bytes(zipped(files | {"b/01_training.ipynb": NOTEBOOK}))
    read = read_files(tmp_path / "labs.zip")
    assert read.content == {"01_training.ipynb": NOTEBOOK, "03_l1_pruning.ipynb": NOTEBOOK}
    assert read.flags == ["01_training.ipynb is there more than once; not counted: 01_training (1).ipynb"]


def test_the_networks_that_everybody_was_given_are_nobodys(tmp_path):
    files = {"labs/models/reference/CNN_MNIST.pth": b"x", "labs/data/MNIST/raw/x.gz": b"x"}
    (tmp_path / "labs.zip").write_bytes(zipped(files | below("labs", work("ann"))))
    read = read_files(tmp_path / "labs.zip")
    assert ("CNN_MNIST.pth" in read.content, read.flags) == (False, [])
    assert read_submission(tmp_path / "labs.zip").networks == {}


def test_loose_files_of_canvas_are_one_submission_each_hand_in(collected):
    old, new = NOTEBOOK, NOTEBOOK.replace(b"5", b"4")
    files = {
        "alphaann_LATE_9001_70001_01_training.ipynb": old,
        "alphaann_LATE_9001_70055_01_training-1.ipynb": new,
        "alphaann_LATE_9001_70002_CNN_MNIST.pth": b"x",
        "alphaann_LATE_9001_70003_report.pdf": b"x",
        "betabob_9002_70004_labs.zip": zipped(work()),
        "betabob_9002_70005_report.pdf": b"x",
    }
    assert [x[:2] for x in collected(files)] == [
        ("ann", "alphaann_LATE_9001_*"),
        ("bob", "betabob_9002_70004_labs.zip"),
    ]
    ann = collected.entries[0]
    assert ann.late
    assert read_files(ann.path).content == {"01_training.ipynb": new, "CNN_MNIST.pth": b"x"}


def test_loose_files_beside_a_zip_complete_it(collected):
    more = {"alphaann_9001_70009_CNN_MNIST.pth": b"x"}
    collected({"alphaann_9001_70001_labs.zip": zipped(work("ann", "2026-11-22T12:00:00+00:00"))} | more)
    (ann,) = collected.entries
    assert set(read_files(ann.path).content) == {
        "manifest.json", "01_training.ipynb", "03_l1_pruning.ipynb", "CNN_MNIST.pth"
    }  # fmt: skip
    assert ann.packed == datetime(2026, 11, 22, 12, tzinfo=UTC)


@pytest.mark.parametrize("start", ["alphaann_9001_7000{}_", "Ann Alpha_9001_assignsubmission_file_/{}"])
def test_two_archives_that_have_no_file_in_common_are_one_submission(collected, start):
    halves = {"notebooks.zip": work("ann"), "models.zip": {"CNN_MNIST.pth": b"x"}}
    collected({start.format(n) + name: zipped(files) for n, (name, files) in enumerate(halves.items())})
    (ann,) = collected.entries
    read = read_files(ann.path)
    assert (ann.student, len(read.content), read.flags) == ("ann", 4, [])


def test_anonymous_names_of_canvas_are_told_by_what_is_in_them(collected):
    assert collected({"LATE_anon_aB3xZ_70003_labs.zip": zipped(work("bob"))})[0][0] == "bob"
    assert collected.entries[0].late


@pytest.mark.parametrize(
    "junk",
    [
        "__MACOSX/._labs_ann.zip",
        "desktop.ini",
        "Thumbs.db",
        ".DS_Store",
        "~$notes.docx",
        "Ann Alpha_9001_assignsubmission_onlinetext_/onlinetext.html",
        "Ann Alpha_9001_assignfeedback_file_/graded.zip",
        "Ann Alpha_9001_assignfeedback_comments_/x.html",
        "Ann Alpha_9001_assignsubmission_comments_/x.html",
        "grades.csv",
        "README",
    ],
)
def test_junk_is_nobody(collected, junk):
    assert [x[0] for x in collected({junk: b"x", "labs_ann.zip": zipped(work())})] == ["ann"]


@pytest.mark.parametrize(
    ("files", "students"),
    [
        (below("Ann Alpha_9001_assignsubmission_file_/release", work()), ["ann"]),
        ({"group A/ann.zip": zipped(work()), "group A/bob.zip": zipped(work())}, ["ann", "bob"]),
        (below("Section 1/ann", work()) | below("Section 1/bob", work()), ["ann", "bob"]),
        (below("Section 1/x", work("ann")) | below("Section 1/y", work("bob")), ["ann", "bob"]),
        ({"all/S1/Ann Alpha_9001_assignsubmission_file_/labs.zip": zipped(work())}, ["ann"]),
        (below("ann", work()) | {"ann/labs_ann.zip": zipped(work())}, ["ann"]),
        (below("Bob Beta_9002_assignsubmission_file_", {"01_training.ipynb": NOTEBOOK}), ["bob"]),
        ({"Bob Beta_9002_assignsubmission_file_03_l1_pruning.ipynb": NOTEBOOK}, ["bob"]),
        ({"Labs - ann - final.zip": zipped(work())}, ["ann"]),
        ({"alphaann_9001_70001_labs.tar-1.gz": tarred(work(), "gz")}, ["ann"]),
        ({"labs_ann.tar (1).gz": tarred(work(), "gz")}, ["ann"]),
    ],
)
def test_folders_in_folders_are_the_submissions_that_lie_in_them(collected, files, students):
    assert [x[0] for x in collected(files)] == students


def test_students_of_a_class_without_a_roster_are_told_by_what_is_in_their_folders(collected):
    files = below("Section 1/x", work("ann")) | below("Section 1/y", work("bob"))
    assert [x[0] for x in collected(files, ())] == ["ann", "bob"]


def test_the_folder_of_one_submission_is_no_class(collected):
    with pytest.raises(ValueError, match="is one submission; give the folder that it lies in"):
        collected(work("ann") | {"models/CNN_MNIST.pth": b"x"})


EARLY, LATE = "2026-11-01T12:00:00+00:00", "2026-11-08T12:00:00+00:00"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (("a_1_70001_labs_s2026-12.zip", EARLY), ("a_1_70055_labs_s2026-12-1.zip", LATE)),
        (("a_1_70001_labs_s2026-12.zip", ""), ("a_1_70055_labs_s2026-12-1.zip", "")),
        (("a_1_70001_hw-12.zip", ""), ("a_1_70055_hw-12-1.zip", "")),
        (("labs_s2026-12 (1).zip", EARLY), ("labs_s2026-12.zip", LATE)),
        (("labs_s2026-12.zip", ""), ("labs_s2026-12 (1).zip", "")),
        (("labs_s2026-12.zip", ""), ("labs_s2026-12-1.zip", "")),
    ],
)
def test_the_newest_counts_whatever_its_name_ends_in(collected, old, new):
    files = {name: zipped(work("s2026-12", packed)) for name, packed in (old, new)}
    person = Person("s2026-12", "A", canvas_id="1")
    for people in ((person,), ()):
        assert collected(files, people) == [("s2026-12", new[0], [old[0]])]


def test_a_zip_of_another_ones_never_takes_the_place_of_that_ones(collected):
    files = {"labs_ann.zip": zipped(work("ann", EARLY)), "labs_bob.zip": zipped(work("ann", LATE))}
    for people in ((ANN, BOB), ()):
        assert collected(files, people) == [("ann", "labs_ann.zip", []), ("bob", "labs_bob.zip", [])]


def test_the_number_of_a_copy_is_nobodys_id(collected):
    people = (ANN, Person("7"))
    assert [x[0] for x in collected({"labs_ann (7).zip": zipped(work()), "labs_7.zip": zipped(work())}, people)] == [
        "7",
        "ann",
    ]


def test_of_two_that_claim_one_id_ones_own_comes_last_and_counts(collected):
    files = {"labs_ann.zip": work("ann"), "labs_bob.zip": work("ann"), "labs_bob (1).zip": work("bob")}
    found = collected({name: zipped(content) for name, content in files.items()})
    assert [x[:2] for x in found] == [("ann", "labs_ann.zip"), ("bob", "labs_bob.zip"), ("bob", "labs_bob (1).zip")]


def test_a_zip_that_was_renamed_is_whose_it_says(collected):
    assert collected({"labs_final.zip": zipped(work("ann"))}) == [("ann", "labs_final.zip", [])]


def test_an_id_that_is_not_in_the_class_does_not_outrank_one_that_is(collected):
    assert collected({"labs_ann.zip": zipped(work("ann.alpha"))}) == [("ann", "labs_ann.zip", [])]


def test_a_bulk_zip_of_odd_names_is_unpacked_whole(tmp_path):
    long = f"{'深' * 110}_9001_70001_{'x' * 100}.zip"
    longest = [
        f"x_1_{'9' * 5_000}_labs.zip",
        f"x_1_assignfeedback_{'x' * 300}/labs.zip",
        f"anon_{'x' * 300}_1_labs.zip",
    ]
    with zipfile.ZipFile(tmp_path / "bulk.zip", "w") as archive:
        for name in (
            long,
            *longest,
            "ann",
            "ann/labs_ann.zip",
            "a\\labs_bob.zip",
            "../../up.zip",
            "x/" * 30 + "labs_cyd.zip",
        ):
            archive.writestr(name, zipped(work()))
    folder = inbox.unpack_bulk(tmp_path / "bulk.zip", tmp_path / "out")
    paths = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.zip"))
    assert len(paths) == 8
    assert {"up.zip", "ann/labs_ann.zip", "a/labs_bob.zip"} <= set(paths)
    assert not list(tmp_path.parent.glob("up.zip"))
    assert any(entry.platform_id == "9001" for entry in inbox.find_entries(folder, []))


def test_entries_of_one_name_and_of_its_copies_names_all_come_out(tmp_path):
    names = ["b?.zip", "b_ (2).zip", "b_ (3).zip", "b_ (4).zip", "b*.zip", "b:.zip", "B_.zip"]
    with zipfile.ZipFile(tmp_path / "bulk.zip", "w") as archive:
        for number, name in enumerate(names):
            archive.writestr(name, zipped(work(f"s{number}")))
    folder = inbox.unpack_bulk(tmp_path / "bulk.zip", tmp_path / "out")
    assert {entry.student for entry in inbox.find_entries(folder, [])} == {f"s{number}" for number in range(7)}


def test_whose_a_single_archive_is_is_told_without_reading_its_work(collected, monkeypatch):
    asked = []
    monkeypatch.setattr(inbox, "read_files", lambda path, wanted=None: asked.append(wanted) or read_files(path, wanted))
    collected({"alphaann_9001_70001_labs.zip": zipped(work("ann")), "labs_bob.zip": zipped(work("bob"))})
    assert set(asked) == {("manifest.json", "student.json")}


def _with_a_long_name():
    return zipped({"_" * 60_000 + ".zip": b"x", "manifest.json": b'{"student": "ann"}'})


def _with_a_header_of_digits():
    entry = tarfile.TarInfo("x")
    entry.type, entry.size = tarfile.XHDTYPE, 102_400
    return entry.tobuf(tarfile.USTAR_FORMAT) + b"1" * entry.size + tarfile.TarInfo("y").tobuf() + bytes(1024)


@pytest.mark.parametrize("content", [_with_a_long_name, _with_a_header_of_digits])
def test_names_and_headers_made_to_take_minutes_take_none(collected, content):
    started = time.process_time()
    assert [student for student, *_ in collected({"labs_ann.zip": content()})] == ["ann"]
    assert time.process_time() - started < 3


def test_a_bulk_zip_that_lies_in_the_folder_is_the_class_but_no_students_zip_is(tmp_path):
    bulk = {"alphaann_9001_70001_labs.zip": zipped(work("ann")), "betabob_9002_70002_labs.zip": zipped(work())}
    folder, scratch = tmp_path / "in", tmp_path / "scratch"
    folder.mkdir()
    (folder / "submissions.zip").write_bytes(zipped(bulk))
    (folder / ".DS_Store").write_bytes(b"\0")
    assert [e.student for e in inbox.find_entries(inbox.class_folder(folder, scratch), [ANN, BOB])] == ["ann", "bob"]
    (folder / "labs_cyd.zip").write_bytes(zipped(work("cyd")))
    assert inbox.class_folder(folder, tmp_path / "new") == folder
    (folder / "submissions.zip").unlink()
    assert inbox.class_folder(folder, tmp_path / "new") == folder
