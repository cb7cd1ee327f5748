import json

import pytest

import labkit
from labkit import files, runtime

ROW = {"sparsity": 0.25, "test_accuracy": 0.985, "trained": 1}


def test_record_comes_back(tmp_path):
    curves = {"L1": [{"sparsity": 0.0, "accuracy": 0.98}, {"sparsity": 0.25, "accuracy": 0.97}]}
    path = labkit.save_record("00_test", {"größer": ROW}, curves)
    assert path == tmp_path / "models" / "records" / "00_test.json"
    found = labkit.load_record("00_test")
    assert (found["notebook"], found["networks"], found["curves"]) == ("00_test", {"größer": ROW}, curves)
    assert found["versions"] == labkit.versions()
    assert "thread(s)" in found["hardware"]


def test_record_is_readable_text_that_ends_with_a_newline():
    text = labkit.save_record("00_test", {"größer": ROW}).read_text(encoding="utf-8")
    assert "größer" in text
    assert text.endswith("}\n")


def test_own_record_comes_before_the_committed_one(tmp_path, monkeypatch):
    monkeypatch.setattr(runtime, "PROJECT", tmp_path / "project")
    own = labkit.save_record("00_test", {"own": ROW})
    committed = runtime.reference_dir() / "records" / own.name
    committed.parent.mkdir(parents=True)
    committed.write_text(own.read_text(encoding="utf-8").replace("own", "committed"), encoding="utf-8")
    assert list(labkit.load_record("00_test")["networks"]) == ["own"]
    own.unlink()
    assert list(labkit.load_record("00_test")["networks"]) == ["committed"]


def test_missing_record_names_the_notebook_to_run():
    with pytest.raises(FileNotFoundError, match=r"no record of 00_none; run notebooks/00_none\.ipynb first"):
        labkit.load_record("00_none")


@pytest.mark.parametrize("key", ["sparsity", "test_accuracy", "trained"])
@pytest.mark.parametrize("value", [-0.1, 1.1, 98.5, float("nan")])
def test_number_out_of_range_is_refused_by_name(key, value):
    with pytest.raises(ValueError, match=rf"{key} of L1 is {value}; it must be a number in \[0, 1\]"):
        labkit.save_record("00_test", {"L1": ROW | {key: value}})
    assert not labkit.models_dir().exists()


@pytest.mark.parametrize("key", ["sparsity", "test_accuracy", "trained"])
def test_missing_number_is_refused_by_name(key):
    with pytest.raises(ValueError, match=f"{key} of L1 is None"):
        labkit.save_record("00_test", {"L1": {k: v for k, v in ROW.items() if k != key}})


@pytest.mark.parametrize("value", [None, "0.5"])
def test_what_is_no_number_is_refused_by_name(value):
    with pytest.raises(ValueError, match=f"sparsity of L1 is {value}"):
        labkit.save_record("00_test", {"L1": ROW | {"sparsity": value}})


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"networks": []}', '{"networks": {}}', '{"networks": {}, "curves": []}', "null"]
)
def test_file_that_is_no_record_is_refused_by_name(tmp_path, text):
    path = tmp_path / "record.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"record\.json is not a labkit record"):
        files.read_record(path)


def test_file_that_is_not_even_text_is_refused_by_name(tmp_path):
    (tmp_path / "record.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="is not a labkit record"):
        files.read_record(tmp_path / "record.json")


def test_record_that_can_not_be_written_leaves_the_old_one(monkeypatch):
    path = labkit.save_record("00_test", {"L1": ROW})
    before = path.read_bytes()

    def breaks_off(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(json, "dumps", breaks_off)
    with pytest.raises(KeyboardInterrupt):
        labkit.save_record("00_test", {"L1": ROW | {"sparsity": 0.5}})
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_committed_results_are_rows_of_text():
    rows = labkit.load_results("baseline")
    assert len(rows) >= 1
    assert all(isinstance(value, str) for row in rows for value in row.values())


def test_unknown_results_are_refused_with_the_known_ones():
    with pytest.raises(FileNotFoundError, match=r"results are 'none'; there are \[.*'baseline'"):
        labkit.load_results("none")


@pytest.mark.parametrize("name", ["../../escaped", "", "a/b"])
def test_record_with_a_name_that_is_a_path_is_refused(name):
    with pytest.raises(ValueError, match="plain name"):
        labkit.save_record(name, {})
