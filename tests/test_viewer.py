"""The attention viewer in a real browser: what a reader points at, presses and sees.

Needs playwright (from PyPI) and an installed Chromium; without them the tests that need a browser are skipped. The numbers in the page are compared in chapter 24."""
import contextlib
import errno
import json
import re
import socket
from pathlib import Path

import pytest

from transformer_nb.attention.viewer import AttentionViewer, attention_viewer
from transformer_nb.learning import make_trainer

STORED = Path(__file__).parents[1] / "nbs/viewer/reverse.html"  # stands on the site
WORD = "apple"


@pytest.fixture(scope="module")
def model():
    "A small model that has learned to write backwards; a few seconds."
    trainer = make_trainer("reverse", max_len=5, steps=600, eval_every=600, eval_size=50,
                           d_model=32, nhead=2, num_encoder_layers=1, num_decoder_layers=1, dim_feedforward=64)
    trainer.fit(progress=False)
    return trainer.model.eval()


def stand_in(queries, keys, n_layers=2, H=4, place="cross"):
    "Maps whose head (layer, head) looks from query t at key t + layer + head."
    T, S = len(queries), len(keys)
    weights = [[[[float(s == (t + layer + head) % S) for s in range(S)] for t in range(T)] for head in range(H)] for layer in range(n_layers)]
    return {place: (weights, queries, keys)}


def buttons(page, column):
    return page.locator("#keys button" if column == "key" else "#queries button")


def lit_weights(page, column):
    "The weights that stand beside the tokens of a column, and the opacities behind them."
    texts = [text.split("\n")[-1].strip() for text in buttons(page, column).locator("span").all_inner_texts()]
    opacities = buttons(page, column).evaluate_all("all => all.map(b => Number(getComputedStyle(b, '::before').opacity))")
    return texts, opacities


def visible_lines(page):
    return page.locator("line").evaluate_all("all => all.filter(l => l.style.display !== 'none').map(l => [Number(l.dataset.query), Number(l.dataset.key)])")


def focused(page):
    return page.evaluate("document.activeElement.getAttribute('aria-label') ?? document.activeElement.value ?? document.activeElement.tagName")


def test_the_stored_page_is_what_the_viewer_writes():
    "Its weights come from a training; all the rest is today's."
    stored = STORED.read_text(encoding="utf-8")
    places = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', stored, re.S)[1])["places"]
    maps = {kind: (place["weights"], place["queries"], place["keys"]) for kind, place in places.items()}
    assert AttentionViewer(maps, title=re.search(r"<title>(.*?)</title>", stored)[1]).html() == stored


def test_pointing_shows_the_mirrored_letter(model, open_page):
    viewer = attention_viewer(model, WORD, WORD[::-1])
    page = open_page(viewer)
    weights = viewer.maps["cross"][0][0, 0]  # (T, S)
    for t in range(len(WORD)):
        buttons(page, "query").nth(t).hover()
        texts, opacities = lit_weights(page, "key")
        assert texts == [f"{w:.2f}" for w in weights[t].round(4)]
        assert opacities == pytest.approx(weights[t], abs=1e-3)
        assert opacities.index(max(opacities)) == len(WORD) - 1 - t  # the anti-diagonal
        assert visible_lines(page) == [[t, s] for s in range(len(WORD) + 1)]
        assert re.match(f"query {t}: {WORD[-1 - t]} looks most at {len(WORD) - 1 - t}: {WORD[-1 - t]} ", page.locator("#says").inner_text())
    page.mouse.move(0, 0)
    assert lit_weights(page, "key")[0] == [""] * 6 and len(visible_lines(page)) == 36


def test_pointing_at_a_key_shows_who_looks_there(model, open_page):
    viewer = attention_viewer(model, WORD, WORD[::-1])
    page = open_page(viewer)
    buttons(page, "key").nth(4).hover()
    weights = viewer.maps["cross"][0][0, 0]
    assert lit_weights(page, "query")[0] == [f"{w:.2f}" for w in weights[:, 4].round(4)]
    assert visible_lines(page) == [[t, 4] for t in range(6)]
    assert page.locator("#says").inner_text().startswith("key 4: e is looked at most by 0: e (")


def test_everything_by_keyboard(model, open_page):
    page = open_page(attention_viewer(model, WORD, WORD[::-1]))
    press = page.keyboard.press
    press("Tab")
    assert focused(page) == "cross"
    press("Tab")
    assert focused(page) == "query 0: e"
    assert page.locator("#says").inner_text().startswith("query 0: e looks most at 4: e")
    press("ArrowDown")
    assert focused(page) == "query 1: l" and visible_lines(page) == [[1, s] for s in range(6)]
    press("ArrowRight")
    assert focused(page) == "key 1: p"
    for _ in range(9):  # stops at the last one
        press("ArrowDown")
    assert focused(page) == "key 5: <eos>"
    press("Tab")  # one stop for all tokens, then one for all heads
    assert focused(page) == "layer 0, head 0"
    press("ArrowRight")
    assert focused(page) == "layer 0, head 1" and page.locator("#name").inner_text() == "cross, layer 0, head 1"
    assert page.locator("#heads button[aria-checked=true]").get_attribute("aria-label") == "layer 0, head 1"
    assert visible_lines(page) == [[t, 5] for t in range(6)]  # the token stays chosen
    press("Escape")
    assert len(visible_lines(page)) == 36
    press("Shift+Tab")
    assert focused(page) == "key 5: <eos>"  # where we left
    press("Shift+Tab")
    press("ArrowUp")
    assert focused(page) == "decoder" and page.locator("#name").inner_text() == "decoder, layer 0, head 1"
    assert buttons(page, "key").first.inner_text().strip() == "<sos>"


def test_a_group_is_entered_at_its_first_button(open_page):
    page = open_page(AttentionViewer(stand_in([*"abc"], [*"xyz"])))
    page.locator("#heads button").last.focus()
    page.keyboard.press("Shift+Tab")
    assert focused(page) == "query 0: a"


def test_heads_and_places_by_mouse(open_page):
    maps = stand_in([*"abc"], [*"vwxyz"], 2, 4) | stand_in([*"de"], [*"de"], 1, 1, "encoder")
    page = open_page(AttentionViewer(maps, layer=0, head=3))
    buttons(page, "query").nth(1).click()
    assert lit_weights(page, "key")[1] == [0, 0, 0, 0, 1]  # 1 + 0 + 3
    page.get_by_role("radio", name="layer 1, head 0").click()
    page.mouse.move(0, 0)
    assert lit_weights(page, "key")[1] == [0, 0, 1, 0, 0]  # 1 + 1 + 0, for the same token
    page.get_by_label("encoder").check()
    assert page.locator("#name").inner_text() == "encoder, layer 0, head 0"  # it has no more
    assert page.locator("canvas").count() == 1 and page.locator("line").count() == 4
    page.get_by_label("cross").check()
    buttons(page, "query").nth(0).click()
    page.locator("h1").click()
    assert page.locator(".lit").count() == 0 and len(visible_lines(page)) == 15


def test_miniatures_have_the_colours_of_the_heatmaps(open_page):
    from matplotlib import colormaps

    page = open_page(AttentionViewer({"cross": ([[[[0.0, 0.25, 0.75], [1.0, 0.0, 0.0]]]], [*"ab"], [*"xyz"])}))
    pixels = page.evaluate("(c => [c.width, c.height, ...c.getContext('2d').getImageData(0, 0, c.width, c.height).data])(document.querySelector('canvas'))")
    assert pixels[:2] == [3, 2]
    colours = [round(255 * c) for w in (0.0, 0.25, 0.75, 1.0, 0.0, 0.0) for c in colormaps["cividis"](w)]
    assert pixels[2:] == colours


def contrast(page, element, background):
    "Contrast of the text of an element as WCAG computes it, on the page's own or another colour."
    def luminance(colour):
        channels = [int(c) / 255 for c in re.findall(r"\d+", colour)[:3]]
        r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
        return 0.2126 * r + 0.7152 * g + 0.0722 * b

    text = page.locator(element).first.evaluate("e => getComputedStyle(e).color")
    low, high = sorted((luminance(text), luminance(background)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_light_and_dark(open_page, scheme):
    page = open_page(AttentionViewer(stand_in([*"abc"], [*"vwxyz"])), color_scheme=scheme)
    page.evaluate("document.body.style.background = 'Canvas'")  # a root without a colour of its own is painted in it
    canvas = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert canvas == ("rgb(255, 255, 255)" if scheme == "light" else "rgb(18, 18, 18)")
    buttons(page, "query").first.hover()
    fill = buttons(page, "key").first.evaluate("e => getComputedStyle(e, '::before').backgroundColor")
    for element in ("h1", "bdi", "output", "#heads span"):
        assert contrast(page, element, canvas) > 7
    assert contrast(page, "bdi", fill) > 4.5  # the token that gets all attention stays readable


def test_a_site_may_choose_light_or_dark(open_page):
    page = open_page(AttentionViewer(stand_in([*"abc"], [*"vwxyz"])), color_scheme="light")
    page.evaluate("document.body.style.background = 'Canvas'")
    lines = []
    for scheme, canvas in (("dark", "rgb(18, 18, 18)"), ("light", "rgb(255, 255, 255)"), ("", "rgb(255, 255, 255)")):
        page.evaluate("scheme => { location.hash = scheme; }", scheme)
        page.wait_for_function("canvas => getComputedStyle(document.body).backgroundColor === canvas", arg=canvas, timeout=2000)
        lines.append(page.locator("line").first.evaluate("e => getComputedStyle(e).stroke"))
    assert lines == ["rgb(86, 180, 233)", "rgb(0, 114, 178)", "rgb(0, 114, 178)"]


@pytest.mark.parametrize("width", [1280, 390])
def test_no_sideways_scrolling(open_page, width):
    labels = [f"token{i}" * 4 for i in range(16)]
    page = open_page(AttentionViewer(stand_in(labels, labels, 6, 8)), viewport=dict(width=width, height=800))
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_tokens_stay_text(open_page):
    nasty = ["<", "&", "</script>", "<img src=x onerror=alert(1)>", "&lt;", "'\"`${1}", " ", "\n", "é", "שלום"]
    page = open_page(AttentionViewer(stand_in(nasty, nasty), title="</title><b>"))
    shown = [label.replace(" ", "␣").replace("\n", "\\n") for label in nasty]
    assert page.locator("#queries bdi").evaluate_all("all => all.map(e => e.textContent)") == shown
    assert page.title() == page.locator("h1").inner_text() == "</title><b>" and page.locator("img, b").count() == 0
    buttons(page, "query").nth(2).focus()
    assert page.locator("#says").inner_text().startswith("query 2: </script> looks most at ")


@pytest.mark.parametrize("policy", [True, False])
def test_the_policy_lets_nothing_else_run(browser, tmp_path, policy):
    "Even if a text became HTML, it would neither run nor fetch; without the policy it would do both."
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.5)
        smuggled = f"<script>document.title = 'mine'</script><img src='http://127.0.0.1:{server.getsockname()[1]}/x.png'>"
        html = AttentionViewer(stand_in(["a"], ["b"])).html().replace("<main>", smuggled + "<main>")
        path = tmp_path / "a.html"
        path.write_text(html if policy else html.replace("Content-Security-Policy", "nothing"), encoding="utf-8")
        page = browser.new_page()
        page.goto(path.as_uri(), wait_until="domcontentloaded")
        assert page.title() == ("Attention" if policy else "mine") and page.locator("line").count() == 1
        with pytest.raises(TimeoutError) if policy else contextlib.nullcontext():
            server.accept()[0].close()
        page.close()


def test_shown_in_a_notebook(browser, open_page):
    html_of = pytest.importorskip("IPython.display").HTML
    output = AttentionViewer(stand_in([*"ab"], [*"xy"])).show()
    assert isinstance(output, html_of)
    page = browser.new_page()
    page.set_content(output.data)
    frame = page.frame_locator("iframe")
    frame.locator("#queries button").nth(1).hover()
    assert frame.locator("#says").inner_text().startswith("query 1: b looks most at 0: x (1.00)")  # 1 + 1 + 0, modulo 2
    page.close()


def test_no_html_of_its_own():
    viewer = AttentionViewer(stand_in(["a"], ["b"]))
    assert not [name for name in dir(viewer) if name.startswith("_repr_") or name == "_ipython_display_"]
    assert len(repr(viewer)) < 200


def test_files(model, tmp_path):
    viewer = attention_viewer(model, WORD, WORD[::-1])
    for suffix in ("html", "png", "svg"):
        viewer.save(tmp_path / f"a.{suffix}")
        viewer.save(str(tmp_path / f"b.{suffix.upper()}"))
        assert (tmp_path / f"a.{suffix}").read_bytes() == (tmp_path / f"b.{suffix.upper()}").read_bytes()
    text = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert "://" not in text and json.loads(re.search(r'id="data">(.*?)</script>', text)[1])["places"].keys() == {"encoder", "decoder", "cross"}
    with pytest.raises(FileNotFoundError, match="nowhere"):
        viewer.save(tmp_path / "nowhere" / "a.html")


def test_a_failing_disk_leaves_the_old_page(monkeypatch, tmp_path):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    viewer, path = AttentionViewer(stand_in(["a"], ["b"])), tmp_path / "a.html"
    path.write_bytes(b"old")
    with monkeypatch.context() as patched, pytest.raises(OSError, match="No space left on device.*a.html"):
        patched.setattr("os.fsync", full)
        viewer.save(path)
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]
    viewer.save(path)
    assert path.read_text(encoding="utf-8") == viewer.html() and list(tmp_path.iterdir()) == [path]
