import pytest
import torch

from labkit import data, resume


class Counter:
    """A part with one number."""

    def __init__(self, number=0):
        self.number = number

    def state_dict(self):
        return {"number": self.number}

    def load_state_dict(self, state_dict):
        self.number = state_dict["number"]


def test_parts_go_back_to_the_kept_state_as_often_as_asked():
    counter, generator = Counter(3), resume.TorchGenerator()
    state = resume.RunState({"counter": counter, "random": generator}, "")
    state.keep(0)
    drawn = []
    for _ in range(2):
        drawn.append(torch.rand(1).item())
        counter.number = 7
        state.go_back()
        assert counter.number == 3
    assert drawn[0] == drawn[1]


def test_what_is_kept_does_not_move_with_the_network():
    layer = torch.nn.Linear(2, 2)
    before = layer.weight.detach().clone()
    state = resume.RunState({"model": layer}, "")
    state.keep(0)
    with torch.no_grad():
        layer.weight += 1
    state.go_back()
    assert torch.equal(layer.weight, before)


def test_what_has_no_state_is_no_part():
    state = resume.RunState({"counter": Counter(), "scheduler": None, "batches": [1, 2]}, "")
    assert list(state.parts) == ["counter"]


def test_another_run_of_the_same_settings_goes_on_from_the_file(tmp_path):
    path = tmp_path / "folder" / "a.run"
    first = resume.RunState({"counter": Counter(5)}, "as told", path)
    first.keep(0, seconds=0.0)
    assert not path.exists()  # the state before the first epoch needs no file
    first.keep(2, seconds=1.5)
    counter = Counter()
    second = resume.RunState({"counter": counter}, "as told", path)
    content = second.read()
    assert (content["epoch"], content["counts"]) == (2, {"seconds": 1.5})
    second.take_up(content)
    assert counter.number == 5
    second.discard()
    assert list(path.parent.iterdir()) == []


def test_nothing_is_read_of_other_settings_of_an_older_form_or_without_a_file(tmp_path):
    path = tmp_path / "a.run"
    state = resume.RunState({"counter": Counter(5)}, "as told", path)
    assert state.read() is None
    state.keep(1)
    assert resume.RunState({}, "otherwise", path).read() is None
    torch.save({**state.content, "format": "labkit run 1"}, path)
    assert state.read() is None
    assert resume.RunState({}, "as told").read() is None


@pytest.mark.parametrize("change", [{"format": "labkit network 1"}, {"more": 1}, {"format": None}])
def test_file_of_another_sort_is_refused_with_its_name(tmp_path, change):
    path = tmp_path / "a.run"
    state = resume.RunState({"counter": Counter(5)}, "as told", path)
    state.keep(1)
    torch.save({**state.content, **change}, path)
    with pytest.raises(ValueError, match=r"a\.run, not an unfinished run"):
        state.read()


def test_loader_gives_the_same_batches_again_after_a_restart_and_from_its_state():
    images = torch.arange(6, dtype=torch.uint8)[:, None, None].expand(6, 2, 2)
    loader = data.Loader(images, torch.arange(6), 2, shuffle=True, seed=3)
    first, second = ([y.tolist() for _, y in loader] for _ in range(2))
    assert first != second
    loader.restart()
    assert [y.tolist() for _, y in loader] == first
    other = data.Loader(images, torch.arange(6), 2, shuffle=True, seed=3)
    other.load_state_dict(loader.state_dict())
    assert [y.tolist() for _, y in other] == second
