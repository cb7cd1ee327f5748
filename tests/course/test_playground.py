"""The playground: the masks and logits of torch, in a real Chromium, and a page that everybody can use."""

import os
import random
import re
import time
from pathlib import Path

import pytest
import torch
from test_browser import CHROMIUM, LAPTOP, PHONE, axe, browser  # noqa: F401
from torch.nn.utils import prune
from typer.testing import CliRunner

import labkit
from labkit import cli, runtime
from labkit.course import playground
from labkit.data import load_images

TEMPLATES = Path(playground.__file__).parent / "report" / "templates"
CONVOLUTIONS, LAYERS = ["conv1", "conv2", "conv3"], ["conv1", "conv2", "conv3", "fc"]
ZOOMED = {"width": 320, "height": 256}  # a screen of 1280 pixels at 400 %
AMOUNTS = (0, 1, 12, 25, 50, 90, 99)
in_browser = pytest.mark.skipif(not CHROMIUM, reason="no chromium: install one, or name its program in CHROMIUM")
# Strokes of the ten digits as a person draws them, in hundredths of the black field.
DIGITS = {
    0: [[(50, 15), (32, 25), (27, 50), (33, 75), (50, 85), (67, 75), (72, 50), (67, 25), (50, 15)]],
    1: [[(52, 12), (48, 88)]],
    2: [[(30, 30), (40, 17), (58, 17), (67, 32), (60, 50), (32, 84), (72, 84)]],
    3: [[(32, 20), (52, 14), (66, 26), (60, 42), (46, 48), (64, 56), (68, 74), (52, 86), (30, 80)]],
    4: [[(38, 14), (28, 52), (70, 52)], [(62, 18), (60, 88)]],
    5: [[(68, 16), (36, 16), (34, 46), (56, 44), (68, 60), (62, 80), (44, 86), (30, 78)]],
    6: [[(62, 12), (42, 32), (32, 60), (38, 82), (56, 86), (66, 70), (56, 56), (36, 64)]],
    7: [[(28, 18), (70, 18), (48, 88)]],
    8: [[(52, 48), (36, 34), (40, 18), (58, 14), (66, 28), (52, 48), (34, 64), (40, 84), (60, 86), (68, 68), (52, 48)]],
    9: [[(66, 28), (52, 16), (36, 26), (38, 44), (54, 48), (66, 32), (64, 60), (56, 88)]],
}


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("playground") / "playground.html"
    playground.write_playground(path)
    return path


@pytest.fixture(scope="module")
def network():
    return labkit.load_network(runtime.reference_dir() / "CNN_MNIST.pth")


@pytest.fixture(scope="module")
def page(file, browser):  # noqa: F811
    """The page when it is ready; what it shows is changed by the tests that draw and guess, its functions are not."""
    opened = opened_page(browser.new_context(viewport=LAPTOP), file)
    yield opened
    opened.context.close()


def opened_page(context, file):
    page = context.new_page()
    page.problems, page.addresses = [], []
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    page.on("request", lambda request: page.addresses.append(request.url))
    page.goto(file.as_uri())
    page.evaluate("() => playground.ready")
    return page


def pruned(network, method, amount, reestimate=False):
    """A copy that torch and labkit have pruned as the notebooks do."""
    copy = labkit.clone(network)
    layers = [getattr(copy, name) for name in (LAYERS if method == "global" else CONVOLUTIONS)]
    for layer in layers:
        if method == "l1":
            prune.l1_unstructured(layer, "weight", amount / 100)
        elif method == "channels":
            prune.ln_structured(layer, "weight", amount / 100, n=2, dim=0)
    if method == "global":
        prune.global_unstructured([(layer, "weight") for layer in layers], prune.L1Unstructured, amount=amount / 100)
    if reestimate:
        # Contiguous batches: of channels-last ones, as loaders give them, torch's float32 means are off by up to 0.015.
        images, labels = (part[: playground.TUNING].split(64) for part in load_images(train=True))
        batches = [(batch[:, None].float() / 255, labels[i]) for i, batch in enumerate(images)]
        labkit.reestimate_batchnorm(copy, batches, torch.device("cpu"))
    return copy.eval()


def digits_of(mask):
    return (mask.flatten() + ord("0")).to(torch.uint8).numpy().tobytes().decode()


def same_masks(page, network, settings):
    asked = [{"method": method, "amount": amount} for method, amount in settings]
    masks = page.evaluate(
        "all => all.map(one => Object.values(playground.masks(one)).map(mask => mask.join('')))", asked
    )
    for (method, amount), ours in zip(settings, masks, strict=True):
        copy = pruned(network, method, amount)
        for name, mask in zip(LAYERS, ours, strict=True):
            layer = getattr(copy, name)
            assert mask == digits_of(getattr(layer, "weight_mask", torch.ones_like(layer.weight))), (method, amount)


def same_logits(page, network, settings):
    images, labels = (part[:: playground.STEP] for part in load_images(train=False))
    for method, amount, reestimate in settings:
        setting = {"method": method, "amount": amount, "reestimate": reestimate}
        ours = torch.tensor(page.evaluate("one => playground.logits(one)", setting))
        with torch.no_grad():
            theirs = pruned(network, method, amount, reestimate)(images[:, None].float() / 255)
        assert len(labels) >= 500
        assert (ours - theirs).abs().max() < 1e-2, setting
        assert torch.equal(ours.argmax(1), theirs.argmax(1)), setting


def test_file_is_small_and_its_javascript_is_short(file):
    assert len(file.read_bytes()) <= 1_000_000
    lines = [line for path in TEMPLATES.glob("playground*.js.j2") for line in path.read_text("utf-8").splitlines()]
    assert len(lines) <= 600  # comments and blank lines, too
    assert max(map(len, lines)) <= 120


def test_file_names_no_address(file):
    assert re.findall(r"(?:https?:)?//[\w.-]+\.\w+", file.read_text(encoding="utf-8")) == []


def test_command_writes_the_page(file, tmp_path, monkeypatch):
    monkeypatch.setattr(playground, "page", lambda: file.read_text(encoding="utf-8"))
    done = CliRunner().invoke(cli.app, ["playground", "--out", str(tmp_path / "new" / "page.html")])
    assert done.exit_code == 0, done.output
    assert "0.8" in done.output
    assert (tmp_path / "new" / "page.html").read_bytes() == file.read_bytes()


@pytest.mark.parametrize("name", ["folder", "file.txt/page.html", "device"])
def test_command_says_in_one_line_why_it_cannot_write_and_loses_nothing(tmp_path, monkeypatch, name):
    monkeypatch.setattr(playground, "page", lambda: pytest.fail("the page is made only where it can be written"))
    (tmp_path / "folder").mkdir()
    (tmp_path / "file.txt").write_text("precious")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "device")
    elif name == "device":
        pytest.skip("no such devices here")
    done = CliRunner().invoke(cli.app, ["playground", "--out", str(tmp_path / name)], env={"COLUMNS": "500"})
    assert done.exit_code == 2
    assert "must be a" in done.output
    assert done.output.count("\n") == 1
    assert (tmp_path / "file.txt").read_text() == "precious"


def test_command_knows_the_home_and_replaces_an_older_page(tmp_path, monkeypatch):
    monkeypatch.setattr(playground, "page", lambda: "new")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    (tmp_path / "page").write_text("older")
    assert CliRunner().invoke(cli.app, ["playground", "--out=~/page"]).exit_code == 0
    assert (tmp_path / "page").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["page"]


@pytest.mark.full
def test_page_is_the_same_each_time(file):
    assert playground.page() == file.read_text(encoding="utf-8")


@in_browser
def test_masks_are_torchs(page, network):
    same_masks(page, network, [(method, amount) for method in ("l1", "channels", "global") for amount in AMOUNTS])


@in_browser
@pytest.mark.full
@pytest.mark.parametrize("method", ["l1", "channels", "global"])
def test_masks_are_torchs_for_every_amount(page, network, method):
    same_masks(page, network, [(method, amount) for amount in range(100)])


@in_browser
def test_random_masks_have_the_exact_count_and_follow_the_seed(page):
    masks = [
        page.evaluate("seed => playground.masks({ method: 'random', amount: 25, seed }).conv3.join('')", seed)
        for seed in (1, 1, 2)
    ]
    assert [mask.count("0") for mask in masks] == [18_432] * 3
    assert masks[0] == masks[1] != masks[2]


@in_browser
def test_logits_and_answers_are_the_networks(page, network):
    same_logits(page, network, [("l1", 70, False)])


@in_browser
@pytest.mark.full
def test_logits_and_answers_are_the_networks_for_more_settings(page, network):
    settings = [
        ("none", 0, False),
        ("none", 0, True),
        ("l1", 50, True),
        ("channels", 25, False),
        ("channels", 50, True),
    ]
    same_logits(page, network, [*settings, ("global", 50, False), ("global", 90, True), ("l1", 99, True)])


@in_browser
def test_drawn_digits_are_recognised_wherever_and_however_large_they_are(page):
    for size, right, down in ((1, 0, 0), (0.4, 0.5, 0.1)):
        drawn = [
            [[{"x": x / 100 * size + right, "y": y / 100 * size + down} for x, y in stroke] for stroke in strokes]
            for strokes in DIGITS.values()
        ]
        answers = page.evaluate("all => all.map(one => best(playground.answers(rasterOf(one))[0]))", drawn)
        assert answers == [*DIGITS]


@in_browser
def test_accuracy_is_hidden_until_the_guess_and_a_newer_choice_cancels_it(page):
    result, commit = page.locator("#result"), page.locator("#commit")
    page.get_by_role("button", name="Random, 50 %").click()
    page.wait_for_timeout(200)
    assert result.inner_text() == ""
    assert page.locator("#history").is_hidden()
    assert page.locator("#mistake").is_disabled()
    commit.click()
    under_way = page.evaluate("run")
    page.get_by_role("button", name="L1, 50 %").click()  # while the first is measured
    assert page.evaluate("run") > under_way
    assert result.inner_text() == ""
    page.locator("#guess").fill("40")
    commit.click()
    page.wait_for_selector("#result .compare")
    assert "40 %" in result.inner_text()
    assert "94.6 %" in result.inner_text()
    assert page.locator("#tries tr").count() == 1
    page.locator("#mistake").click()
    verdict, label = page.locator("#verdict").inner_text(), page.locator("#digit").inner_text()[-2]
    assert not verdict.endswith(f"after pruning {label}.")
    assert [url for url in page.addresses if not url.startswith(("file:", "blob:"))] == []
    assert page.problems == []


@in_browser
def test_any_text_in_the_field_of_the_seed_is_a_seed(page):
    page.locator("input[value=random]").check()
    for typed, seed in (("", 0), ("-1", 0), ("1e99", 9999), ("3.7", 4), ("7", 7)):
        page.locator("#seed").fill(typed)
        page.keyboard.press("Enter")
        assert page.locator("#guess-what").inner_text().endswith(f"seed {seed}")
        assert page.locator("#seed").input_value() == str(seed)
    assert page.locator("#measuring").is_hidden()  # Enter commits no guess
    assert page.problems == []


@in_browser
def test_drawing_outside_the_field_stays_in_it_and_a_stroke_ends_when_another_digit_is_taken(page):
    page.locator("#clear").click()
    box, mouse = page.locator("#pad").bounding_box(), page.mouse
    mouse.move(box["x"] + 50, box["y"] + 50)
    mouse.down()
    mouse.move(box["x"] - 300, box["y"] + 900)
    assert page.evaluate("strokes.flat().every(({ x, y }) => x >= 0 && x <= 1 && y >= 0 && y <= 1)")
    page.evaluate("document.getElementById('next').click()")
    mouse.move(box["x"] + 90, box["y"] + 60)
    mouse.up()
    assert page.locator("#digit").inner_text().startswith("Test image")
    page.locator("#clear").click()
    page.locator("#pad").click()  # one dot
    assert re.fullmatch(r"Before it says \d, after pruning \d\.", page.locator("#verdict").inner_text())
    assert page.problems == []


@in_browser
@pytest.mark.full
def test_no_other_settings_number_is_shown_however_fast_they_change(file, browser):  # noqa: F811
    page = opened_page(browser.new_context(viewport=LAPTOP), file)
    shown = 0
    page.get_by_role("button", name="L1, 50 %").click()
    page.locator("#commit").click()
    page.wait_for_selector("#result .compare")
    choices = random.Random(1).choices(["none", "l1", "channels", "reestimate", "free", "commit", "mistake"], k=40)
    for i, choice in enumerate(choices):
        page.evaluate("one => document.querySelector(`#${one}, [value=${one}]`).click()", choice)
        page.wait_for_timeout((0, 20, 200, 900)[i % 4])
        result, rows = page.locator("#result").inner_text(), page.locator("#tries tr").all_inner_texts()
        if result:
            setting = page.locator("#guess-what").inner_text()
            right = [row.split("\t")[3] for row in rows if row.split("\t")[0] == setting]
            assert right == [line for line in result.splitlines() if line.endswith(" %")][-1:]
            shown += 1
    names = [row.split("\t")[0] for row in page.locator("#tries tr").all_inner_texts()]
    assert shown > 0
    assert len(names) == len(set(names))
    assert page.problems == []
    page.context.close()


@in_browser
@pytest.mark.full
def test_old_browsers_and_those_without_javascript_get_a_sentence_that_helps(file, browser):  # noqa: F811
    old = browser.new_context()
    old.add_init_script("delete window.DecompressionStream")
    page = old.new_page()
    page.goto(file.as_uri())
    page.get_by_text("lacks DecompressionStream").wait_for()
    assert page.get_by_role("button").count() == 0
    assert axe(page) == {}
    old.close()
    without = browser.new_context(java_script_enabled=False)
    page = without.new_page()
    page.goto(file.as_uri())
    assert "Allow JavaScript" in page.locator("noscript").inner_text()
    assert page.locator("main").is_hidden()
    without.close()


@in_browser
@pytest.mark.full
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [LAPTOP, PHONE, ZOOMED], ids=["laptop", "phone", "zoomed"])
def test_page_has_nothing_that_axe_finds_and_does_not_scroll_sideways(file, browser, size, scheme):  # noqa: F811
    page = opened_page(browser.new_context(viewport=size, color_scheme=scheme), file)
    for setting in (None, "Random, 50 %", "Global, 90 %"):
        if setting:
            page.get_by_role("button", name=setting).click()
            page.locator("#commit").click()
            page.wait_for_selector("#result .compare")
        assert axe(page) == {}
        assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]
    page.context.close()


@in_browser
@pytest.mark.full
def test_digit_is_drawn_by_touch(file, browser):  # noqa: F811
    context = browser.new_context(viewport=PHONE, has_touch=True, is_mobile=True)
    page = opened_page(context, file)
    page.get_by_role("button", name="Clear and draw").tap()
    page.locator("#pad").scroll_into_view_if_needed()
    box, fingers = page.locator("#pad").bounding_box(), context.new_cdp_session(page)
    for x, y in DIGITS[7][0]:
        point = {"x": box["x"] + x / 100 * box["width"], "y": box["y"] + y / 100 * box["height"]}
        kind = "touchStart" if (x, y) == DIGITS[7][0][0] else "touchMove"
        fingers.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [point]})
    fingers.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    page.wait_for_function("document.querySelector('#verdict').textContent.startsWith('Before it says 7')")
    assert page.locator("#digit").inner_text() == "Your drawing."
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    context.close()


@in_browser
@pytest.mark.full
def test_page_is_used_by_keyboard_alone(file, browser):  # noqa: F811
    page = opened_page(browser.new_context(viewport=LAPTOP), file)
    press = page.keyboard.press

    def tab_to(name):
        for _ in range(40):
            press("Tab")
            if page.evaluate("document.activeElement.id || document.activeElement.value") == name:
                return
        raise AssertionError(f"{name} is not reached by Tab")

    tab_to("next")
    press("Enter")
    assert "Test image 2 of 500" in page.locator("#digit").inner_text()
    tab_to("random")
    press("ArrowDown")
    tab_to("amount")
    press("ArrowRight")
    tab_to("reestimate")
    tab_to("guess")
    press("End")
    tab_to("commit")
    press("Enter")
    page.wait_for_selector("#result .compare")
    assert page.locator("#guess-what").inner_text() == "L1, 26 %"
    assert "100 %" in page.locator("#result").inner_text()
    page.context.close()


@in_browser
@pytest.mark.full
def test_page_computes_without_workers(file, browser, network):  # noqa: F811
    context = browser.new_context(viewport=LAPTOP)
    context.add_init_script("delete window.Worker")
    page = opened_page(context, file)
    same_logits(page, network, [("global", 90, True)])
    context.close()


@in_browser
@pytest.mark.full
def test_first_picture_and_a_new_accuracy_are_quick(file, browser):  # noqa: F811
    """The aims are 1 s and 3 s; two busy cores (load 7) took 0.5 s and 3.3 to 3.6 s, hence the margin."""
    start = time.monotonic()
    page = opened_page(browser.new_context(viewport=LAPTOP), file)
    assert time.monotonic() - start < 3
    start = time.monotonic()
    page.evaluate("() => playground.accuracy({ method: 'none', amount: 0, reestimate: true })")
    assert time.monotonic() - start < 9
    page.context.close()
