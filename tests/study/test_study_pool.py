import dataclasses
import errno
import json
import multiprocessing
import os
import re
import resource
import signal
import sys
import time
from pathlib import Path

import few_images
import psutil
import pytest
import torch
from joblib.externals.loky import get_reusable_executor
from typer.testing import CliRunner

from labkit.cli import app
from labkit.study import plans, pool, run
from labkit.study.points import Point
from labkit.study.pool import run_plan
from labkit.study.records import PROTOCOL, Record, add_record, read_records
from labkit.study.run import run_point

pytestmark = pytest.mark.slow  # everything trains, if only a little

QUICK = Point(criterion="random", schedule="before", target=3_000, epochs=1)
DEAD = dataclasses.replace(QUICK, scope="local", target=100)  # leaves conv1 empty
RECORD = Record(QUICK, 3_000, 1, 1, 0.5, 0.5, "", 0, "cpu", "2", 1.0)
NO_ADDRESS = "tcp://127.0.0.1:9"
ROOT = Path(__file__).parent.parent.parent


def of_seeds(*seeds, **others):
    return [dataclasses.replace(QUICK, seed=seed, **others) for seed in seeds]


@pytest.fixture(autouse=True)
def _few_images(monkeypatch):
    monkeypatch.setattr(pool, "attempt", few_images.attempt)
    with few_images.in_this_process(monkeypatch):
        yield


@pytest.fixture(scope="module", autouse=True)
def _own_workers():
    """Workers that other tests have started have another environment."""
    get_reusable_executor().shutdown(wait=True, kill_workers=True)
    yield
    get_reusable_executor().shutdown(wait=True, kill_workers=True)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "out" / "records.csv"


@pytest.fixture
def no_work(monkeypatch):
    """Any training is an error from now on."""

    def attempt(point, *_):
        raise AssertionError(f"{point.name} is run")

    return lambda: monkeypatch.setattr(pool, "attempt", attempt)


@pytest.fixture(scope="module")
def alone():
    """Records of points that are run one by one in this process, without their seconds."""
    known = {}

    def give(point):
        if point not in known:
            known[point] = but_seconds(run_point(point))
        return known[point]

    return give


def but_seconds(record):
    return dataclasses.replace(record, seconds=0.0)


def found(path):
    return {record.point: but_seconds(record) for record in read_records(path)}


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


# One worker, which is this process


def test_plan_gives_the_record_of_each_point(path, alone):
    points, told = of_seeds(0, 1), []
    failed = run_plan(points, path, progress=lambda *both: told.append(both))
    assert failed == {}
    assert found(path) == {point: alone(point) for point in points}
    assert told == [(record.point, record) for record in read_records(path)]


def test_finished_points_are_not_run_again(path, no_work):
    run_plan(of_seeds(0), path)
    before = path.read_bytes()
    no_work()
    assert run_plan(of_seeds(0, 0), path) == {}
    assert run_plan([], path) == {}
    assert path.read_bytes() == before


def test_second_call_runs_what_the_first_one_lacks(path):
    told = []
    run_plan(of_seeds(0), path)
    run_plan(of_seeds(1, 0, 1), path, progress=lambda point, _: told.append(point))
    assert told == of_seeds(1)
    assert [record.point for record in read_records(path)] == of_seeds(0, 1)


def test_failing_point_is_reported_and_the_others_are_recorded(path, tmp_path):
    late = dataclasses.replace(DEAD, schedule="gradual", epochs=2)  # fails in its second epoch
    points, told = [DEAD, *of_seeds(0), late, *of_seeds(1)], {}
    options = {"scratch": tmp_path / "unfinished", "networks": tmp_path / "networks"}
    failed = run_plan(points, path, progress=told.__setitem__, **options)
    words = "ValueError: 100 weights with the scope 'local' leave conv1 without any; keep more"
    assert failed == {DEAD: words, late: words}
    assert found(path).keys() == set(of_seeds(0, 1))
    assert told.keys() == set(points)
    assert told[DEAD] == words
    assert files(tmp_path / "networks") == sorted(f"{point.name}.lks" for point in of_seeds(0, 1))


def test_failing_points_are_tried_again(path):
    run_plan([DEAD], path)
    assert run_plan([DEAD], path).keys() == {DEAD}


@pytest.mark.parametrize("content", ["", "a,b\n1,2\n", "dataset,seed", "half a line", "\x00\n"])
def test_damaged_file_of_records_is_refused_before_any_work_and_not_touched(content, path, no_work, tmp_path):
    path.parent.mkdir()
    path.write_text(content, encoding="utf-8")
    no_work()
    with pytest.raises(ValueError, match=r"records\.csv, line 1: .*; mend or move the file"):
        run_plan(of_seeds(0), path, scratch=tmp_path / "unfinished")
    assert path.read_text(encoding="utf-8") == content
    assert not (tmp_path / "unfinished").exists()


def test_damaged_last_line_is_refused_before_any_work_and_not_touched(path, no_work):
    add_record(path, RECORD)
    path.write_bytes(path.read_bytes()[:-20])
    before = path.read_bytes()
    no_work()
    with pytest.raises(ValueError, match=r"line 2: .*; mend or move the file"):
        run_plan(of_seeds(1), path)
    assert path.read_bytes() == before


def test_records_of_another_protocol_stay_and_their_points_are_run_again(path, alone, capsys):
    add_record(path, dataclasses.replace(RECORD, protocol=0))
    run_plan([QUICK], path)
    assert read_records(path, protocol=0) == [dataclasses.replace(RECORD, protocol=0)]
    assert found(path) == {QUICK: alone(QUICK)}
    assert len(read_records(path, protocol=None)) == 2
    assert f"1 records of protocol [0] left out, this is {PROTOCOL}" in capsys.readouterr().out


def test_second_run_that_writes_the_same_file_is_refused(path, tmp_path):
    told = []

    def progress(_point, _outcome):
        with pytest.raises(OSError, match=r"another run of the study writes .*records\.csv; wait for it, or give"):
            run_plan(of_seeds(5), path)
        run_plan(of_seeds(5), tmp_path / "other.csv")
        told.append(1)

    run_plan(of_seeds(0), path, progress=progress)
    assert told == [1]
    assert found(path).keys() == set(of_seeds(0))
    assert run_plan(of_seeds(5), path) == {}  # the first one has let go


def test_run_that_was_refused_or_broke_lets_go_of_the_file(path):
    path.parent.mkdir()
    path.write_text("x", encoding="utf-8")
    with pytest.raises(ValueError):
        run_plan(of_seeds(0), path)
    path.unlink()
    assert run_plan(of_seeds(0), path) == {}


@pytest.mark.parametrize("count", [1, pytest.param(2, marks=pytest.mark.full)])
def test_interrupt_goes_up_and_what_is_finished_is_kept(path, count, tmp_path, alone):
    def interrupt(_point, _outcome):
        raise KeyboardInterrupt

    points = of_seeds(0, 1, 2)
    with pytest.raises(KeyboardInterrupt):
        run_plan(points, path, count, scratch=tmp_path / "unfinished", progress=interrupt)
    assert len(found(path)) == 1
    assert run_plan(points, path, count, scratch=tmp_path / "unfinished") == {}
    assert found(path) == {point: alone(point) for point in points}


def test_state_of_a_finished_point_is_removed_by_the_next_call(path, tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    points, scratch = of_seeds(0, 1), tmp_path / "unfinished"
    with monkeypatch.context() as context, pytest.raises(KeyboardInterrupt):
        context.setattr(pool, "forget", interrupted)  # when the record is written, but the state is still there
        run_plan(points, path, scratch=scratch)
    assert files(scratch) == [f"{QUICK.name}.run"]
    assert run_plan(points, path, scratch=scratch) == {}
    assert files(scratch) == []


@pytest.mark.parametrize("count", [1, 2])
def test_threads_of_the_caller_stay_as_they_were(path, count):
    torch.set_num_threads(2)
    run_plan(of_seeds(0), path, count)
    assert torch.get_num_threads() == 2
    assert "1 thread(s)" in read_records(path)[0].hardware


def test_networks_and_records_agree_and_nothing_else_is_left(path, tmp_path):
    run_plan([QUICK], path, scratch=tmp_path / "unfinished", networks=tmp_path / "networks")
    run_point(QUICK, networks=tmp_path / "alone")
    assert files(tmp_path / "networks") == files(tmp_path / "alone") == [f"{QUICK.name}.lks"]
    name = f"{QUICK.name}.lks"
    assert (tmp_path / "networks" / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()
    assert files(tmp_path / "unfinished") == []
    assert [name for name in files(path.parent) if not name.endswith(".lock")] == ["records.csv"]


@pytest.mark.parametrize("broken", ["path", "scratch", "networks"])
def test_folder_that_can_not_be_written_is_told(broken, tmp_path, path, no_work):
    (tmp_path / "file").touch()
    bad = tmp_path / "file" / "in"
    no_work()
    with pytest.raises(OSError, match="cannot be written"):
        run_plan(of_seeds(0), *([bad] if broken == "path" else [path]), **({} if broken == "path" else {broken: bad}))


def test_quick_mode_is_refused_before_any_work(path, monkeypatch, no_work):
    no_work()
    monkeypatch.setenv("LABKIT_QUICK", "1")
    with pytest.raises(ValueError, match="LABKIT_QUICK is 1; the study trains on all images"):
        run_plan(of_seeds(0), path)


def test_images_that_are_missing_are_told_before_any_work(path, monkeypatch, no_work):
    def missing(name, **_):
        raise FileNotFoundError(f"no {name} here")

    no_work()
    monkeypatch.setattr(pool, "load_images", missing)
    with pytest.raises(FileNotFoundError, match="no FashionMNIST here"):
        run_plan(of_seeds(0, dataset="FashionMNIST"), path)


@pytest.mark.parametrize("changed", [{"torch": "1.0"}, {"hardware": "cpu, 1 thread(s), bfloat16 training"}])
def test_records_of_another_torch_or_precision_are_not_added_to(changed, path, no_work):
    usual = {"torch": torch.__version__, "hardware": "cpu, 1 thread(s), float32 training"}
    add_record(path, dataclasses.replace(RECORD, **(usual | changed)))
    before = path.read_bytes()
    no_work()
    with pytest.raises(ValueError, match=r"has records of torch .*, this is torch .*; give another file of records"):
        run_plan(of_seeds(0, 1), path)
    assert path.read_bytes() == before
    assert run_plan(of_seeds(0), path) == {}  # nothing is to be added
    run_plan([], path)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("no memory"), MemoryError("none"), RuntimeError("oneDNN")])
def test_whatever_goes_wrong_in_a_point_the_others_are_run(error, path, monkeypatch):
    def broken(point, *rest):
        if point.seed == 1:
            raise error
        return run_point(point, *rest)

    monkeypatch.setattr(pool, "attempt", few_images.attempt_with_loaders_of_this_process)
    monkeypatch.setattr(pool, "run_point", broken)
    failed = run_plan(of_seeds(0, 1, 2), path)
    assert failed == {of_seeds(1)[0]: f"{type(error).__name__}: {error}"}
    assert found(path).keys() == set(of_seeds(0, 2))


def test_full_disk_stops_the_plan_and_says_what_is_kept(path, monkeypatch):
    def full(point, *rest):
        if point.seed == 1:
            raise OSError(errno.ENOSPC, "No space left on device", "state.run")
        return run_point(point, *rest)

    monkeypatch.setattr(pool, "attempt", few_images.attempt_with_loaders_of_this_process)
    monkeypatch.setattr(pool, "run_point", full)
    words = (
        r"the disk is full \(state\.run\): 1 points finished and kept in .*records\.csv, 2 left; run the same command"
    )
    with pytest.raises(OSError, match=words):
        run_plan(of_seeds(0, 1, 2), path)
    assert found(path).keys() == set(of_seeds(0))


def test_cluster_without_its_packages_is_told(path, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(RuntimeError, match=r"a cluster needs the packages dask and distributed: pip install"):
        run_plan(of_seeds(0), path, scheduler=NO_ADDRESS)


@pytest.mark.parametrize("address", ["tls://127.0.0.1:9", "nonsense://x"])
def test_address_of_a_sort_that_is_not_to_be_had_is_told(address, path, monkeypatch):
    monkeypatch.setattr(pool, "SECONDS_FOR_THE_SCHEDULER", 1)
    with pytest.raises(OSError, match=f"there is no Dask scheduler at '{address}'"):
        run_plan(of_seeds(0), path, scheduler=address)


# Several workers on this machine


def test_workers_give_the_same_records_as_one(path, tmp_path, alone):
    points = [*of_seeds(0, 1, 2), DEAD, Point(epochs=2, target=1_000, criterion="lamp")]
    told, folders = [], {"scratch": tmp_path / "unfinished", "networks": tmp_path / "networks"}
    failed = run_plan(points, path, 2, progress=lambda point, _: told.append(point), **folders)
    assert failed.keys() == {DEAD}
    assert found(path) == {point: alone(point) for point in points if point != DEAD}
    assert sorted(point.name for point in told) == sorted(point.name for point in points)
    for point in set(points) - {DEAD}:
        run_point(point, networks=tmp_path / "alone")
        name = f"{point.name}.lks"
        assert (tmp_path / "networks" / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()
    assert files(tmp_path / "unfinished") == []


def full_state(point, scratch):
    return torch.load(scratch / f"{point.name}.run", weights_only=True)


@pytest.mark.skipif(os.name != "posix", reason="there is no SIGKILL")
def test_worker_that_dies_is_told_and_the_same_call_goes_on(path, tmp_path, alone):
    points, told = of_seeds(0, 1, few_images.DIES, 2, 3), []
    scratch = tmp_path / "unfinished"
    with pytest.raises(RuntimeError, match="a worker died") as caught:
        run_plan(points, path, 2, scratch=scratch, progress=lambda point, _: told.append(point))
    done = found(path)
    assert len(done) == len(told) < 5
    words = f"{len(done)} points finished and kept in {path}, {5 - len(done)} left; run the same command to go on"
    assert words in str(caught.value)
    assert run_plan(points, path, 2, scratch=scratch) == {}
    assert found(path) == {point: alone(point) for point in points}
    assert files(scratch) == ["died"]


@pytest.mark.full
@pytest.mark.skipif(os.name != "posix", reason="there is no SIGKILL")
def test_killed_child_is_told_and_the_same_call_goes_on(path, alone):
    points = [*of_seeds(0), *of_seeds(1, 2, epochs=4)]

    def kill(_point, _outcome):
        for child in psutil.Process().children(recursive=True):
            if child.pid != os.getpid() and child.cpu_times().user > 0.5 and "loky" in " ".join(child.cmdline()):
                child.kill()
                return

    with pytest.raises(RuntimeError, match="a worker died"):
        run_plan(points, path, 2, progress=kill)
    assert 1 <= len(found(path)) < 3
    assert run_plan(points, path, 2) == {}
    assert found(path) == {point: alone(point) for point in points}


@pytest.mark.skipif(os.name != "posix", reason="limits of files are POSIX's")
def test_full_disk_keeps_earlier_records_and_the_state_of_the_finished_point(path, tmp_path, alone):
    points, scratch = of_seeds(0, 1, 2), tmp_path / "unfinished"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(_point, _outcome):  # here only: the workers have started
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 10, limits[1]))

    try:
        with pytest.raises(OSError, match="File too large"):
            run_plan(points, path, 2, scratch=scratch, progress=fill)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert len(found(path)) == 1
    kept = [point for point in points if (scratch / f"{point.name}.run").exists()]
    assert kept and set(kept).isdisjoint(found(path))
    finished = {point: full_state(point, scratch) for point in kept if full_state(point, scratch)["epoch"] == 1}
    assert finished
    assert run_plan(points, path, 2, scratch=scratch) == {}
    assert found(path) == {point: alone(point) for point in points}
    seconds = {record.point: record.seconds for record in read_records(path)}
    for point, state in finished.items():
        assert seconds[point] == round(state["counts"]["seconds"], 1)  # it was not trained again
    assert [name for name in files(path.parent) if not name.endswith(".lock")] == ["records.csv"]
    assert files(scratch) == []


@pytest.mark.skipif(os.name != "posix", reason="limits of files are POSIX's")
def test_full_disk_of_a_worker_fails_its_point_only(path, tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, limits[1]))  # records and networks are smaller
    try:
        failed = run_plan(of_seeds(0, 1), path, scratch=tmp_path / "unfinished")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert failed.keys() == set(of_seeds(0, 1))
    assert all("OSError" in words for words in failed.values())
    assert files(tmp_path / "unfinished") == []
    assert run_plan(of_seeds(0, 1), path, scratch=tmp_path / "unfinished") == {}


# Runs in processes of their own


def ready_processes():
    """Processes that start at once, since what they need is imported already."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["few_images"])
    return context


def in_a_process(points, path, tmp_path, seconds, kills=(0, 0), deaf=False, **options):
    """Run a plan in a process of its own; gives what it said in the end, and the numbers of records on the way.

    ``kills`` and ``deaf``: as ``few_images.do_plan``.
    """
    said, counts = tmp_path / "said.json", []
    process = ready_processes().Process(target=few_images.do_plan, args=(points, path, said, kills, deaf, options))
    process.start()
    end = time.monotonic() + seconds
    while process.is_alive() and time.monotonic() < end:
        counts.append(len(read_records(path)))  # the file is whole at every moment
        time.sleep(0.01)
    if process.is_alive():
        process.kill()
        process.join()
        raise AssertionError(f"the run hangs; {len(found(path))} of {len(points)} records are there")
    process.join()
    assert process.exitcode == (-signal.SIGKILL if kills[0] and not kills[1] else 0)
    return json.loads(said.read_text(encoding="utf-8")), counts


@pytest.mark.skipif(os.name != "posix", reason="there is no SIGKILL")
@pytest.mark.parametrize(
    ("count", "deaf"),
    [pytest.param(1, False, marks=pytest.mark.full), pytest.param(2, False, marks=pytest.mark.full), (2, True)],
)
def test_killed_run_keeps_its_records_and_the_next_call_completes_them(path, count, deaf, tmp_path, alone):
    points = of_seeds(*range(6))
    folders = {"scratch": tmp_path / "unfinished", "networks": tmp_path / "networks"}
    family, counts = in_a_process(points, path, tmp_path, 300, kills=(2, 0), deaf=deaf, workers=count, **folders)
    assert counts == sorted(counts)
    assert len(found(path)) == 2
    assert run_plan(points, path, count, **folders) == {}
    assert found(path) == {point: alone(point) for point in points}
    assert files(tmp_path / "networks") == sorted(f"{point.name}.lks" for point in points)
    # Nobody is left to train on for ever, or to hold memory.
    family = [psutil.Process(pid) for pid in family if psutil.pid_exists(pid)]
    _, alive = psutil.wait_procs(family, timeout=30)
    alive = [child for child in alive if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]
    for child in alive:
        child.kill()
    assert not alive, alive
    assert [name for name in files(tmp_path / "unfinished") if name.endswith(".run")] == []


# Dask


class Cluster:
    """A scheduler and workers, each in a process of its own."""

    def __init__(self, folder, count):
        folder.mkdir()
        self.folder, self.processes = folder, []
        file = folder / "scheduler.json"
        self.start("scheduler", "--host", "127.0.0.1", "--port", "0", "--scheduler-file", str(file))
        wait = time.monotonic() + 120
        while not file.exists() or not file.read_text(encoding="utf-8").strip():
            assert self.processes[0].is_alive() and time.monotonic() < wait
            time.sleep(0.05)
        self.address = json.loads(file.read_text(encoding="utf-8"))["address"]
        for _ in range(count):
            self.add()

    def add(self, *options):
        common = ("--no-nanny", "--nworkers", "1", "--nthreads", "1", "--preload", "few_images")
        self.start("worker", self.address, *common, "--local-directory", str(self.folder), *options)

    def start(self, what, *options):
        log = self.folder / f"{what}{len(self.processes)}.log"
        arguments = (what, [*options, "--no-dashboard"], log)
        process = ready_processes().Process(target=few_images.do_dask, args=arguments)
        process.start()
        self.processes.append(process)

    def stop(self):
        for process in self.processes:
            process.kill()
            process.join()


@pytest.fixture
def cluster(tmp_path):
    started = []

    def start(count=2):
        started.append(Cluster(tmp_path / f"cluster{len(started)}", count))
        return started[-1]

    yield start
    for one in started:
        one.stop()


@pytest.fixture(scope="module")
def lasting_cluster(tmp_path_factory):
    one = Cluster(tmp_path_factory.mktemp("dask") / "cluster", 2)
    yield one
    one.stop()


def test_dask_workers_give_the_same_records_as_this_process(path, tmp_path, alone, lasting_cluster):
    points = [*of_seeds(0, 1, 2), DEAD, Point(epochs=2, target=1_000, criterion="lamp")]
    folders = {"scratch": tmp_path / "unfinished", "networks": tmp_path / "networks"}
    (kind, failed), _ = in_a_process(points, path, tmp_path, 300, scheduler=lasting_cluster.address, **folders)
    assert (kind, set(failed)) == ("", {DEAD.name})
    assert found(path) == {point: alone(point) for point in points if point != DEAD}
    assert files(tmp_path / "unfinished") == []
    assert len(files(tmp_path / "networks")) == 4


def test_second_call_on_a_cluster_runs_nothing_and_needs_no_scheduler(path, no_work):
    add_record(path, RECORD)
    no_work()
    assert run_plan([QUICK], path, scheduler=NO_ADDRESS) == {}


@pytest.mark.parametrize("address", [NO_ADDRESS, "no address", "tcp://127.0.0.1:port", "nowhere.invalid:8786"])
def test_address_without_a_scheduler_is_told_at_once(address, path, monkeypatch):
    monkeypatch.setattr(pool, "SECONDS_FOR_THE_SCHEDULER", 1)
    start = time.monotonic()
    with pytest.raises(OSError, match=f"there is no Dask scheduler at '{address}'.*start one with: dask scheduler"):
        run_plan(of_seeds(0), path, scheduler=address)
    assert time.monotonic() - start < 10
    assert not path.exists()


def test_cluster_without_workers_is_told(path, tmp_path, cluster):
    (kind, words), _ = in_a_process(of_seeds(0), path, tmp_path, 120, scheduler=cluster(0).address, patience=3)
    assert kind in ("OSError", "TimeoutError")
    assert "no worker" in words


@pytest.mark.full
@pytest.mark.skipif(os.name != "posix", reason="there is no SIGKILL")
def test_scheduler_that_dies_is_told_within_a_minute_and_finished_points_are_kept(path, tmp_path, cluster, alone):
    points, one = of_seeds(*range(8), epochs=3), cluster()
    options = {"scheduler": one.address, "scratch": tmp_path / "unfinished"}
    (kind, words), _ = in_a_process(points, path, tmp_path, 300, kills=(1, one.processes[0].pid), **options)
    done = len(found(path))
    assert kind == "RuntimeError"
    assert one.address in words
    assert f"{done} points finished and kept in {path}, {8 - done} left; run the same command to go on" in words
    assert 1 <= done < 8
    assert all(record == alone(point) for point, record in found(path).items())


@pytest.mark.full
@pytest.mark.skipif(os.name != "posix", reason="there is no SIGKILL")
def test_other_workers_take_over_from_one_that_dies(path, tmp_path, cluster, alone):
    points, one = of_seeds(*range(6), epochs=2), cluster()
    options = {"scheduler": one.address, "scratch": tmp_path / "unfinished"}
    said, _ = in_a_process(points, path, tmp_path, 300, kills=(1, one.processes[1].pid), **options)
    assert said == ["", {}]
    assert found(path) == {point: alone(point) for point in points}


@pytest.mark.full
@pytest.mark.skipif(os.name != "posix", reason="there is no SIGKILL")
def test_point_that_kills_every_dask_worker_is_told_and_nothing_hangs(path, tmp_path, cluster):
    one = cluster()
    for _ in range(3):
        one.add()
    points = of_seeds(0, few_images.ALWAYS_DIES, 1)
    (kind, words), _ = in_a_process(points, path, tmp_path, 300, scheduler=one.address)
    name = of_seeds(few_images.ALWAYS_DIES)[0].name
    assert kind == "RuntimeError" or (kind == "" and list(words) == [name])
    assert found(path).keys() <= set(of_seeds(0, 1))


# The command


@pytest.fixture(name="short_plan")
def _short_plan(monkeypatch):
    """A plan as small is, but of points that take less; the timing has enough images."""
    points = [*of_seeds(0, 1), dataclasses.replace(QUICK, target=500, criterion="lamp")]
    points.append(Point(criterion="none", scope="none", schedule="none", target=124_448, epochs=1))
    monkeypatch.setattr(plans, "_small", lambda: points)
    monkeypatch.setattr(run, "seconds_of_an_epoch", lambda _point, _device: 36.0)
    return points


def study(*options):
    result = CliRunner().invoke(app, ["study", *map(str, options)], env={"COLUMNS": "160", "TERM": "dumb"})
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


def test_command_tells_the_hours_runs_the_plan_and_prints_what_is_done(short_plan, tmp_path, no_work):
    out = tmp_path / "out"
    status, said = study("--workers", 1, "--out", out)
    assert status == 0
    lines = said.splitlines()
    assert lines[0] == "plan small: 4 points, 0 of them done"
    assert re.match(r"4 epochs left: [\d.e-]+ compute hours, [\d.e-]+ hours with 1 workers", lines[1])
    assert lines[2].startswith(short_plan[0].name)
    for point in short_plan:
        assert f"{point.name}: " in said
    assert "What is done" in said
    assert said.count("random-global-before") >= 3
    assert found(out / "small.csv").keys() == set(short_plan)
    assert len(files(out / "networks")) == 4
    assert files(out / "unfinished") == []
    no_work()
    before = (out / "small.csv").read_bytes()
    status, said = study("--workers", 1, "--out", out)
    assert status == 0
    assert said.splitlines()[0] == "plan small: 4 points, 4 of them done"
    assert "epochs left" not in said
    assert "What is done" in said
    assert (out / "small.csv").read_bytes() == before


def test_command_tells_of_failed_points_in_its_status(monkeypatch, tmp_path, short_plan):
    monkeypatch.setattr(plans, "_small", lambda: [*short_plan[:1], DEAD])
    status, said = study("--workers", 1, "--out", tmp_path)
    assert status == 1
    assert f"{DEAD.name}: ValueError: 100 weights" in said
    assert "1 points failed; the same command tries them again" in said


@pytest.mark.usefixtures("short_plan")
@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--plan", "big"), "plan is 'big'; it must be one of small, full"),
        (("--device", "cuda:99"), "device is 'cuda:99', but this machine has"),
        (("--device", "gpu"), "device is 'gpu'; it must be cpu, cuda or cuda:N"),
        (("--records", "{}/damaged.csv"), "mend or move the file"),
        (("--records", "{}"), "is not a file of records"),
        (("--out", "{}/damaged.csv/in"), "damaged.csv"),
    ],
)
def test_command_says_what_is_wrong_in_one_line_with_status_2(options, words, tmp_path, no_work):
    (tmp_path / "damaged.csv").write_text("damaged\n", encoding="utf-8")
    no_work()
    options = [option.format(tmp_path) for option in options]
    status, said = study("--out", tmp_path / "out", *options)
    assert status == 2
    assert words in " ".join(said.split())
    assert "Traceback" not in said
    assert not list(tmp_path.rglob("*.run"))


@pytest.mark.usefixtures("short_plan")
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is CUDA")
def test_command_refuses_cuda_without_cuda(tmp_path):
    status, said = study("--device", "cuda", "--out", tmp_path)
    assert status == 2
    assert said.count("\n") <= 2
    assert "device is 'cuda', but this machine has 0 CUDA devices; use 'cpu'" in " ".join(said.split())


@pytest.mark.usefixtures("short_plan")
def test_command_says_that_there_is_no_scheduler(tmp_path, monkeypatch):
    monkeypatch.setattr(pool, "SECONDS_FOR_THE_SCHEDULER", 1)
    status, said = study("--scheduler", NO_ADDRESS, "--out", tmp_path)
    assert status == 2
    assert f"there is no Dask scheduler at '{NO_ADDRESS}'" in " ".join(said.split())


@pytest.mark.usefixtures("short_plan")
def test_command_that_is_interrupted_has_status_130(tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(pool, "forget", interrupted)  # after the first record
    status, said = study("--workers", 1, "--out", tmp_path)
    assert status == 130
    assert "interrupted; what is finished is kept in" in said
    assert len(found(tmp_path / "small.csv")) == 1


def command(folder):
    """The command in a process of its own."""
    arguments = ["study", "--plan", "small", "--workers", "2", "--out", str(folder)]
    process = ready_processes().Process(
        target=few_images.do_command, args=(arguments, folder / "out.txt", folder / "err.txt")
    )
    process.start()
    return process


def ended(process, folder, seconds):
    """Exit status, and what was said."""
    process.join(seconds)
    assert process.exitcode is not None, "the command hangs"
    return process.exitcode, *((folder / f"{name}.txt").read_text(encoding="utf-8") for name in ("out", "err"))


@pytest.mark.skipif(os.name != "posix", reason="interrupts are sent to a group")
@pytest.mark.full  # the whole plan, twice: minutes
def test_small_plan_is_interrupted_and_goes_on(tmp_path):
    process = command(tmp_path)
    wait = time.monotonic() + 120
    while len(read_records(tmp_path / "small.csv")) < 2:
        assert process.is_alive() and time.monotonic() < wait
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the workers too
    status, out, err = ended(process, tmp_path, 60)
    assert status == 130, err
    assert "interrupted; what is finished is kept in" in out
    assert "Traceback" not in err
    done = len(found(tmp_path / "small.csv"))
    assert 2 <= done < 10

    process = command(tmp_path)
    status, out, err = ended(process, tmp_path, 300)
    assert status == 0, err
    assert f"plan small: 10 points, {done} of them done" in out
    assert f"{2 * (10 - done)} epochs left: " in out
    assert out.index("compute hours") < out.index("NO WEIGHTS" if "NO WEIGHTS" in out else "validation")
    assert "What is done" in out
    assert found(tmp_path / "small.csv").keys() == set(plans.plan("small"))
    assert files(tmp_path / "unfinished") == []
    assert len(files(tmp_path / "networks")) == 10
