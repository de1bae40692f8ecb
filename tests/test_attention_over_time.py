"""Attention over time: a recording changes nothing in the training, holds what the model does, and becomes a page that works in a real browser.

The tests of the page need playwright (from PyPI) and an installed Chromium; without them they are skipped."""
import csv
import errno
import json
import re
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from matplotlib import colormaps
from PIL import Image
from test_viewer import contrast

from transformer_nb.experiments.attention_over_time import (
    AttentionFilm,
    first_crossing,
    load_recording,
    record_attention,
    save_recording,
    sharpness,
    weight_on,
)
from transformer_nb.learning import Trainer, exact_match, make_trainer

NBS = Path(__file__).parents[1] / "nbs"
STORED, PAGE, ANIMATION, SEEDS = NBS / "data/over_time/recording.json", NBS / "viewer/over_time.html", NBS / "viewer/over_time.gif", NBS / "data/over_time/seeds.csv"
TINY = dict(d_model=8, nhead=2, dim_feedforward=16, num_encoder_layers=1, num_decoder_layers=2, eval_size=4, dropout=0.1, attention_dropout=0.1, max_len=8)


def mirrored(t, n):
    return n - 1 - t


def tiny(steps=12, **changes):
    return make_trainer("reverse", **TINY | dict(steps=steps, eval_every=2) | changes)


def stand_in(n_frames=5, n_layers=2, n_heads=3, word="abcd", **changes):
    "A recording in whose frame i head (layer, head) looks from query t at key t + i + layer + head; letters go up, words follow."
    recording = record_attention(word, mirrored)
    T = len(word) + 1
    recording.keys, recording.queries, recording.places = [*word, "<eos>"], [*word[::-1], "<eos>"], [mirrored(t, T - 1) for t in range(T - 1)]
    for i in range(n_frames):
        weights = np.zeros((n_layers, n_heads, T, T))
        for layer, head, t in np.ndindex(n_layers, n_heads, T):
            weights[layer, head, t, (t + i + layer + head) % T] = 0.75
            weights[layer, head, t, (t + i + layer + head + 1) % T] = 0.25
        scores = dict(loss=4.0 - 3.5 * i / n_frames, letters=i / (n_frames - 1 or 1), exact_match=0.98 * (i / (n_frames - 1 or 1)) ** 3, grad_norm=float(i) if i else float("nan"))
        recording.frames.append(dict(step=10 * i * i, weights=np.rint(255 * weights).astype(np.uint8), sharpness=sharpness(weights).mean(-1),
                                     share=weight_on(weights, recording.places)) | scores | changes)
    return recording


# --- the recorder ---

def all_of(trainer):
    parameters = {n: a.tobytes() for n, a in trainer.model.get_parameters().items()}
    memory = {n: a.tobytes() for n, a in trainer.optimizer.state_dict().items()}
    return parameters, memory, trainer.step


@pytest.mark.parametrize("every", [1, 2, 3])
def test_recording_changes_nothing(every):
    "The same parameters and the same optimiser, bit for bit, as a training that is neither recorded nor evaluated before its end."
    alone = tiny(eval_every=12)
    alone.fit(progress=False)
    watched = tiny(eval_every=every)
    recordings = [record_attention(word, mirrored) for word in ("abcdefgh", "a")]
    for recording in recordings:
        recording(watched)
    watched.fit(progress=False, callbacks=recordings)
    assert all_of(watched) == all_of(alone) and len(recordings[0].frames) == 12 // every + 1


def test_recording_by_steps_changes_nothing():
    "Nor does it matter whether `fit` is called once or for every step."
    alone, watched, recording = tiny(eval_every=12), tiny(eval_every=12), record_attention("abc", mirrored)
    alone.fit(progress=False)
    for step in range(1, 13):
        watched.fit(until=step, progress=False)
        recording(watched)
    assert all_of(watched) == all_of(alone) and recording.column("step").tolist() == list(range(1, 13))


def test_training_goes_on_after_a_recording_in_train_mode():
    trainer, recording = tiny(), record_attention("abc", mirrored)
    trainer.model.train()
    trainer.model.encoder.eval()
    recording(trainer)
    assert trainer.model.decoder.training and not trainer.model.encoder.training


def test_a_frame_holds_what_the_model_does():
    trainer, recording = tiny(), record_attention("abcde", mirrored)
    recording(trainer)
    trainer.fit(progress=False, callbacks=[recording])
    frame, weights = recording.frames[-1], trainer.model.attention_maps("abcde", "edcba")["cross"][0]
    assert np.abs(frame["weights"] / 255 - weights).max() <= 0.5 / 255 + 1e-6 and frame["weights"].dtype == np.uint8
    for layer, head in np.ndindex(2, 2):
        assert frame["share"][layer, head] == pytest.approx(np.mean([weights[layer, head, t, 4 - t] for t in range(5)]), abs=1e-6)
        entropies = [-sum(p * np.log(p) for p in row if p > 0) / np.log(6) for row in weights[layer, head].astype(float)]
        assert frame["sharpness"][layer, head] == pytest.approx(1 - np.mean(entropies), abs=1e-6)
    assert [frame["exact_match"] for frame in recording.frames[1:]] == [row["exact_match"] for row in trainer.history]
    assert [frame["grad_norm"] for frame in recording.frames[1:]] == [row["grad_norm"] for row in trainer.history]
    assert np.isnan(recording.frames[0]["grad_norm"]) and recording.frames[0]["exact_match"] == 0


def test_loss_and_letters_of_the_strings_that_are_evaluated():
    "One string and one letter after the other, and the strings are those of `Trainer.evaluate`."
    trainer = tiny(steps=60, eval_every=60, dropout=0.0, attention_dropout=0.0, d_model=16, max_len=3, eval_size=20)
    recording = record_attention("abc", mirrored)
    seen = []
    trainer.task.exam, draw = lambda rng, n: seen.append(draw(rng, n)) or seen[-1], trainer.task.exam
    trainer.fit(progress=False, callbacks=[recording])
    evaluated, measured = seen
    assert evaluated == measured and exact_match(trainer.model, measured) == recording.frames[-1]["exact_match"]
    t, losses, right = trainer.model.tokenizer, [], []
    for source, answer in measured:
        ids = t.encode(answer)
        logits = trainer.model.eval()(np.array([t.encode(source)]), np.array([[t.sos_id, *ids[:-1]]]))[0].astype(float)
        losses += [np.log(np.exp(row).sum()) - row[i] for row, i in zip(logits, ids)]
        right += [row.argmax() == i for row, i in zip(logits[:-1], ids)]
    assert recording.frames[-1]["loss"] == pytest.approx(np.mean(losses), abs=1e-5)
    assert recording.frames[-1]["letters"] == pytest.approx(np.mean(right)) and 0 < np.mean(right) < 1


def test_a_frame_between_two_evaluations():
    "The history is then of an earlier step: the exact match is measured, and the norm of the gradient is not known."
    trainer, recording = tiny(), record_attention("abc", mirrored)
    trainer.fit(3, progress=False)
    trainer.history[-1]["exact_match"] = 0.7
    recording(trainer)
    assert trainer.history[-1]["step"] == 2 and recording.frames[-1]["exact_match"] == trainer.evaluate() != 0.7 and np.isnan(recording.frames[-1]["grad_norm"])


def test_every_so_many_steps_and_at_the_end():
    trainer, recording = tiny(steps=11), record_attention("abc", mirrored, every=4)
    recording(trainer)
    trainer.fit(progress=False, callbacks=[recording])
    assert recording.column("step").tolist() == [0, 4, 8, 11]


def test_a_stopped_recording_goes_on(tmp_path):
    whole, half = record_attention("abc", mirrored), record_attention("abc", mirrored)
    tiny().fit(progress=False, callbacks=[whole])
    tiny().fit(6, progress=False, callbacks=[half], save_to=tmp_path / "training.safetensors")
    save_recording(half, tmp_path / "half.json")
    half = load_recording(tmp_path / "half.json")
    Trainer.load(tmp_path / "training.safetensors").fit(progress=False, callbacks=[half])
    for name in whole.frames[0]:
        np.testing.assert_allclose(half.column(name).astype(float), whole.column(name).astype(float), atol=5.1e-5)


def test_wrong_uses():
    trainer, recording = tiny(), record_attention("abc", mirrored, every=3)
    with pytest.raises(ValueError, match="every=3, but callbacks run after evaluations, every 2 steps; make the trainer with eval_every=3"):
        trainer.fit(progress=False, callbacks=[recording])
    for word, error in (("", TypeError), (7, TypeError), (None, TypeError)):
        with pytest.raises(error, match="at least one character"):
            record_attention(word, mirrored)
    with pytest.raises(TypeError, match="position is a list"):
        record_attention("abc", [2, 1, 0])
    with pytest.raises(ValueError, match="every=0"):
        record_attention("abc", mirrored, 0)
    with pytest.raises(ValueError, match="'é'"):
        record_attention("café", mirrored)(tiny())
    outside = record_attention("abc", lambda t, n: n + 1 + t)
    with pytest.raises(ValueError, match=r"places=\[4, 5, 6\]; needed are 1 to 4 keys from 0 to 3"):
        outside(tiny())
    assert not outside.frames and not recording.frames
    first = record_attention("abc", mirrored)
    tiny().fit(progress=False, callbacks=[first])
    with pytest.raises(ValueError, match="at step 2 and the last frame was at step 12"):
        tiny().fit(progress=False, callbacks=[first])
    with pytest.raises(ValueError, match="no frame yet"):
        record_attention("abc", mirrored).column("step")
    with pytest.raises(ValueError, match="no column 'steps'; there are step, weights"):
        first.column("steps")


# --- numbers ---

def test_sharpness():
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(7), size=(2, 3))
    by_hand = [[1 - sum(-w * np.log(w) for w in row) / np.log(7) for row in rows] for rows in p]
    np.testing.assert_allclose(sharpness(p), by_hand, atol=1e-12)
    np.testing.assert_allclose(sharpness(np.eye(3, dtype=np.float32)), np.ones(3), atol=1e-12)
    for bad in (np.float64(1), np.ones(1), np.ones((4, 1))):
        with pytest.raises(ValueError, match="at least two keys"):
            sharpness(bad)


def test_weight_on():
    weights = np.arange(24.0).reshape(2, 3, 4) / 24
    np.testing.assert_allclose(weight_on(weights, [3, 0]), [(3 + 4) / 48, (15 + 16) / 48])
    for bad in ([], [0, 1, 2, 3], [4], [-1]):
        with pytest.raises(ValueError, match="1 to 3 keys from 0 to 3"):
            weight_on(weights, bad)


def test_first_crossing():
    assert first_crossing([0, 10, 20], [0.0, 1.0, 0.0], 0.25) == 2.5
    assert first_crossing([0, 10, 20], [0.0, 0.4, 0.6], 0.6) == 20
    assert first_crossing([3, 10], [0.9, 0.0], 0.5) == 3
    assert first_crossing([0, 10, 20, 30], [0.0, 1.0, 0.0, 1.0], 0.5) == 5  # the first of two
    assert first_crossing([0, 10, 20], [np.nan, 0.0, 1.0], 0.5) == 15
    with pytest.raises(ValueError, match="level 0.5 is never reached; the largest value is 0.4"):
        first_crossing([0, 1], [0.1, 0.4], 0.5)
    with pytest.raises(ValueError, match="must have one shape"):
        first_crossing([0, 1], [0.1], 0.5)
    with pytest.raises(ValueError, match="must have one shape"):
        first_crossing([], [[]], 0.5)


# --- files ---

def test_a_recording_survives_its_file(tmp_path):
    recording, path = stand_in(), tmp_path / "r.json"
    save_recording(recording, path, command="this test", seed=3)
    first = path.read_bytes()
    again = load_recording(path)
    assert again.about == {"command": "this test", "seed": 3} and (again.word, again.queries, again.keys, again.places) == (recording.word, recording.queries, recording.keys, recording.places)
    assert (again.column("weights") == recording.column("weights")).all()
    for name in ("step", "loss", "letters", "exact_match", "grad_norm", "sharpness", "share"):
        np.testing.assert_allclose(again.column(name), recording.column(name), atol=5e-5)
    assert AttentionFilm(again).html() == AttentionFilm(recording).html()
    save_recording(again, path, **again.about)
    assert path.read_bytes() == first and list(tmp_path.iterdir()) == [path]
    with pytest.raises(FileNotFoundError, match="nowhere"):
        save_recording(recording, tmp_path / "nowhere" / "r.json")
    with pytest.raises(FileNotFoundError, match=r"none\.json"):
        load_recording(tmp_path / "none.json")
    with pytest.raises(ValueError, match="no frame yet"):
        save_recording(record_attention("a", mirrored), tmp_path / "empty.json")
    assert list(tmp_path.iterdir()) == [path]


def test_a_failing_disk_leaves_the_old_files(monkeypatch, tmp_path):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    recording = stand_in(2)
    for name, save in (("r.json", lambda path: save_recording(recording, path)), ("f.html", AttentionFilm(recording).save), ("f.gif", AttentionFilm(recording).save)):
        (tmp_path / name).write_bytes(b"old")
        with monkeypatch.context() as patched, pytest.raises(OSError, match=f"No space left on device.*{name}"):
            patched.setattr("os.fsync", full)
            save(tmp_path / name)
        assert (tmp_path / name).read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["f.gif", "f.html", "r.json"]


DAMAGES = [
    ("half of it", lambda d: None, "not a recording"),
    ("a list", lambda d: [d], "not a recording"),
    ("a number", lambda d: 7, "not a recording"),
    ("of another kind", lambda d: d | {"kind": "model"}, "kind do not fit"),
    ("without loss", lambda d: {n: v for n, v in d.items() if n != "loss"}, "lacks 'loss'"),
    ("without weights", lambda d: {n: v for n, v in d.items() if n != "weights"}, "lacks 'weights'"),
    ("weights that are no base 64", lambda d: d | {"weights": d["weights"][:-8] + "!!!!" + d["weights"][-4:]}, "not a recording"),
    ("too few weights", lambda d: d | {"weights": d["weights"][:-8]}, "not a recording"),
    ("another shape", lambda d: d | {"shape": [d["shape"][0], d["shape"][2], d["shape"][1], *d["shape"][3:]]}, "sharpness, share do not fit"),
    ("a shape of four", lambda d: d | {"shape": d["shape"][1:]}, "not a recording"),
    ("no frames", lambda d: d | {"shape": [0, *d["shape"][1:]], "weights": "", "step": []}, "step"),
    ("steps that fall", lambda d: d | {"step": d["step"][::-1]}, "step do not fit"),
    ("a step too few", lambda d: d | {"step": d["step"][1:]}, "step do not fit"),
    ("a step that is text", lambda d: d | {"step": ["x", *d["step"][1:]]}, "not a recording"),
    ("a loss too few", lambda d: d | {"loss": d["loss"][1:]}, "loss do not fit"),
    ("a loss that is text", lambda d: d | {"loss": ["high", *d["loss"][1:]]}, "not a recording"),
    ("no loss", lambda d: d | {"loss": [None, *d["loss"][1:]]}, "loss do not fit"),
    ("letters beyond all", lambda d: d | {"letters": [1.5, *d["letters"][1:]]}, "letters do not fit"),
    ("a negative share", lambda d: d | {"share": (-np.array(d["share"])).tolist()}, "share do not fit"),
    ("a ragged share", lambda d: d | {"share": [[[0.5]], *d["share"][1:]]}, "not a recording"),
    ("a key too few", lambda d: d | {"keys": d["keys"][1:]}, "keys do not fit"),
    ("labels that are numbers", lambda d: d | {"queries": list(range(len(d["queries"])))}, "queries do not fit"),
    ("places outside", lambda d: d | {"places": [9, *d["places"][1:]]}, "places do not fit"),
    ("no word", lambda d: d | {"word": ""}, "at least one character"),
]


@pytest.mark.parametrize("damage, message", [d[1:] for d in DAMAGES], ids=[d[0] for d in DAMAGES])
def test_a_damaged_file_is_refused(tmp_path, damage, message):
    path = tmp_path / "damaged.json"
    save_recording(stand_in(), path)
    whole = path.read_text(encoding="utf-8")
    changed = damage(json.loads(whole))
    path.write_text(whole[: len(whole) // 2] if changed is None else json.dumps(changed), encoding="utf-8")
    with pytest.raises(ValueError, match=r"damaged\.json is not a recording.*" + ("" if message == "not a recording" else re.escape(message))):
        load_recording(path)


# --- the film ---

def test_a_film_writes_files(tmp_path):
    film = AttentionFilm(stand_in())
    for suffix, start in (("html", b"<!doctype html>"), ("gif", b"GIF89a"), ("png", b"\x89PNG")):
        film.save(tmp_path / f"a.{suffix}")
        film.save(str(tmp_path / f"b.{suffix.upper()}"))
        assert (tmp_path / f"a.{suffix}").read_bytes() == (tmp_path / f"b.{suffix.upper()}").read_bytes()
        assert (tmp_path / f"a.{suffix}").read_bytes().startswith(start)
    with pytest.raises(ValueError, match="'.mp4'; allowed are .html, .gif and .png"):
        film.save(tmp_path / "a.mp4")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        film.save(tmp_path / "nowhere" / "a.gif")
    with pytest.raises(TypeError, match="got a list; a recording is needed"):
        AttentionFilm([])
    with pytest.raises(ValueError, match="no frame yet"):
        AttentionFilm(record_attention("abc", mirrored))
    for frames, error, message in (([5], ValueError, "frame 5; the recording has 5, so allowed are -5 to 4"), ([-6], ValueError, "frame -6"), ([0.5], TypeError, "0.5 is a float"), ([], ValueError, "no frames")):
        with pytest.raises(error, match=message):
            film.animation(frames)
        with pytest.raises(error, match=message):
            film.strip(frames)
    with pytest.raises(ValueError, match="milliseconds=0"):
        film.animation([0], 0)


def test_moments():
    assert AttentionFilm(stand_in(11)).moments() == [0, 5, 8, 10]  # letters ≥ ½ at 5 of 10, words = letters³
    assert AttentionFilm(stand_in(1)).moments() == [0]
    assert AttentionFilm(stand_in(4, exact_match=0.1, letters=0.2)).moments() == [0, 3]  # never


def gif_frames(data):
    picture = Image.open(BytesIO(data))
    frames = []
    for i in range(picture.n_frames):
        picture.seek(i)
        frames.append(np.array(picture.convert("RGB")).astype(int))
    return picture, frames


def test_the_animation_shows_the_weights():
    "The colour in the middle of each cell, in every frame."
    import matplotlib.pyplot as plt

    recording = stand_in()
    film = AttentionFilm(recording)
    picture, frames = gif_frames(film.animation(milliseconds=70))
    assert picture.n_frames == 5 and picture.info["duration"] == 70 and "loop" not in picture.info
    figure = film.figure(0)
    figure.set_dpi(80)
    figure.canvas.draw()
    pixels = frames[0].shape[0]
    for ax, (layer, head) in zip(figure.axes, np.ndindex(2, 3)):
        for i, t, s in np.ndindex(5, 5, 5):
            x, y = ax.transData.transform((s, t)).astype(int)
            expected = 255 * np.array(colormaps["cividis"](recording.frames[i]["weights"][layer, head, t, s] / 255)[:3])
            assert np.abs(frames[i][pixels - 1 - y, x] - expected).max() < 8  # 44 colours
    plt.close(figure)


def test_drawing_leaves_no_figure_open():
    import matplotlib.pyplot as plt

    before = plt.get_fignums()
    for suffix in (".html", ".gif", ".png"):
        AttentionFilm(stand_in()).render(suffix)
    assert plt.get_fignums() == before


def test_one_frame_is_a_film(open_page):
    page = open_page(AttentionFilm(stand_in(1)))
    page.locator("#play").click()
    assert page.locator("#step").inner_text() == "step 0" and page.locator(".marker").first.get_attribute("x1") == "0"


# --- the page ---

def canvas_weights(page):
    "What the heatmaps show, as indices into cividis: (L·H, T, S)."
    palette = {tuple(round(255 * c) for c in colormaps["cividis"](i)[:3]): i for i in range(256)}
    pixels = page.locator("canvas").evaluate_all("""all => all.map(c => {
        const pen = new OffscreenCanvas(c.width, c.height).getContext("2d", {willReadFrequently: true});
        pen.drawImage(c, 0, 0);
        return [c.height, c.width, ...pen.getImageData(0, 0, c.width, c.height).data];
    })""")
    return np.array([[palette[tuple(rgba[:3])] for rgba in np.array(data).reshape(-1, 4).tolist()] for _, _, *data in pixels]).reshape(len(pixels), *pixels[0][:2])


def marker(page):
    "Where the markers of all panels stand, 0 to 1000."
    places = {float(line.get_attribute(end)) for line in page.locator(".marker").all() for end in ("x1", "x2")}
    assert len(places) == 1
    return places.pop()


def wait_for_button(page, text):
    page.wait_for_function("text => document.getElementById('play').textContent === text", arg=text)


def test_every_frame_shows_its_weights_and_scores(open_page):
    recording = stand_in()
    page = open_page(AttentionFilm(recording))
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    for i, frame in enumerate(recording.frames):
        assert (canvas_weights(page) == frame["weights"].reshape(6, 5, 5)).all()
        assert page.locator("#step").inner_text() == f"step {frame['step']}"
        assert marker(page) == pytest.approx(1000 * frame["step"] / 160)
        shares = [f"{100 * share:.0f} %" for share in frame["share"].ravel()]
        assert page.locator("#heads figcaption b").all_inner_texts() == shares
        assert page.locator("#says").inner_text().startswith(f"letters right {100 * frame['letters']:.0f} %, words right {100 * frame['exact_match']:.0f} %, loss {frame['loss']:.2f};")
        assert page.locator("#time").get_attribute("aria-valuetext") == f"step {frame['step']}: letters right {100 * frame['letters']:.0f} %, words right {100 * frame['exact_match']:.0f} %, loss {frame['loss']:.2f}"
        assert page.locator("canvas").first.get_attribute("aria-label") == f"layer 0, head 0: {shares[0]} of the weight on the right letter"
        norm = page.locator(".panel").last.locator(".legend b").inner_text()
        assert norm == ("" if i == 0 else f"{frame['grad_norm']:.2f}")
        page.keyboard.press("ArrowRight")


def test_everything_by_keyboard(open_page):
    page = open_page(AttentionFilm(stand_in(21)))
    press, step = page.keyboard.press, lambda: page.locator("#step").inner_text()
    press("Tab")
    assert page.evaluate("document.activeElement.id") == "play"
    press("Tab")
    assert page.evaluate("document.activeElement.id") == "time" and step() == "step 0"
    for key, frame in (("ArrowRight", 1), ("ArrowUp", 2), ("ArrowLeft", 1), ("End", 20), ("ArrowRight", 20), ("PageDown", 18), ("Home", 0), ("ArrowLeft", 0), ("PageUp", 2)):
        press(key)
        assert step() == f"step {10 * frame**2}", key
        assert marker(page) == pytest.approx(1000 * frame**2 / 400)
    press("Tab")
    assert page.evaluate("document.activeElement.tagName") == "BODY"  # nothing else to stop at


def test_the_curves_are_the_recorded_ones(open_page):
    recording = stand_in(6)
    page = open_page(AttentionFilm(recording))
    names = [text.split("  ")[0] for text in page.locator(".panel > figcaption").evaluate_all("all => all.map(e => e.firstChild.textContent)")]
    assert names == ["right (%)", "each head on the right letter (%)", "sharpness of each head", "loss (nats/token)", "norm of the gradient"]
    heights = {"letters": (0, 0, 1), "exact_match": (0, 1, 1), "loss": (3, 0, 4), "grad_norm": (4, 0, 5)}  # panel, line, upper end
    for name, (panel, line, high) in heights.items():
        points = page.locator(".panel").nth(panel).locator("polyline").nth(line).get_attribute("points").split()
        x, y = np.array([point.split(",") for point in points], float).T
        values = recording.column(name)
        known = np.isfinite(values)
        np.testing.assert_allclose(x, 1000 * recording.column("step")[known] / 250, atol=1e-6)
        np.testing.assert_allclose(y, 100 - 98 * values[known] / high, atol=0.01)
    assert [page.locator(".panel").nth(i).locator("polyline").count() for i in range(5)] == [3, 6, 6, 1, 1]
    lines = page.locator(".panel").first.locator("polyline").evaluate_all("all => all.map(e => [getComputedStyle(e).stroke, getComputedStyle(e).strokeDasharray])")
    assert len({colour for colour, _ in lines}) == 3 and lines[0][1] != "none"


def test_playing_and_pausing(open_page):
    page = open_page(AttentionFilm(stand_in(30)))
    button, step = page.locator("#play"), lambda: page.locator("#step").inner_text()
    assert button.inner_text() == "play" and step() == "step 0"
    page.wait_for_timeout(300)
    assert step() == "step 0"  # nothing moves by itself
    button.press("Space")
    assert button.inner_text() == "pause"
    page.wait_for_function("() => document.getElementById('time').value > 2")
    button.press("Enter")
    stopped = step()
    assert button.inner_text() == "play" and stopped != "step 0"
    page.wait_for_timeout(400)
    assert step() == stopped
    button.click()
    page.locator("#time").press("ArrowRight")  # whoever takes the slider, has it
    assert button.inner_text() == "play"
    page.locator("#time").press("End")
    page.locator("#time").press("ArrowLeft")
    button.click()
    wait_for_button(page, "play")  # stops at the end
    assert step() == f"step {10 * 29**2}"
    button.click()
    assert button.inner_text() == "pause" and int(page.locator("#time").input_value()) < 5  # and begins again
    button.click()


def test_less_motion(open_page):
    page = open_page(AttentionFilm(stand_in(4)), reduced_motion="reduce")
    button, step = page.locator("#play"), lambda: page.locator("#step").inner_text()
    assert button.inner_text() == "next frame"
    for i in (1, 2, 3, 0):
        button.click()
        assert step() == f"step {10 * i * i}"
        page.wait_for_timeout(200)
        assert step() == f"step {10 * i * i}"
    page.emulate_media(reduced_motion="no-preference")
    wait_for_button(page, "play")
    button.click()
    page.emulate_media(reduced_motion="reduce")
    wait_for_button(page, "next frame")  # what plays, stops
    now = step()
    page.wait_for_timeout(300)
    assert step() == now


def test_the_marker_is_dragged(open_page):
    page = open_page(AttentionFilm(stand_in()))
    box = page.locator(".plot svg").nth(2).bounding_box()
    page.mouse.move(box["x"] + 0.6 * box["width"], box["y"] + 20)
    assert page.locator("#step").inner_text() == "step 0"  # moving is not enough
    page.mouse.down()
    assert page.locator("#step").inner_text() == "step 90"  # 0.6 of 160 is 96; there are 0, 10, 40, 90, 160
    page.mouse.move(box["x"] + 0.2 * box["width"], box["y"] + 20)
    assert page.locator("#step").inner_text() == "step 40" and page.locator("#time").input_value() == "2"
    page.mouse.up()
    page.mouse.move(box["x"] + 0.9 * box["width"], box["y"] + 20)
    assert page.locator("#step").inner_text() == "step 40"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_light_and_dark(open_page, scheme):
    page = open_page(AttentionFilm(stand_in()), color_scheme=scheme)
    page.evaluate("document.body.style.background = 'Canvas'")
    canvas = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert canvas == ("rgb(255, 255, 255)" if scheme == "light" else "rgb(18, 18, 18)")
    for element in ("h1", "#step", "#says", "figcaption", ".map span", ".range span", "#play"):
        assert contrast(page, element, canvas) > 7, element
    for line in range(4):
        page.evaluate("c => { const e = document.querySelector('h1'); e.style.color = `var(--c${c})`; }", line)
        assert contrast(page, "h1", canvas) > 3, f"line {line}"
    page.evaluate("location.hash = '#light'")
    page.wait_for_function("() => getComputedStyle(document.body).backgroundColor === 'rgb(255, 255, 255)'")


@pytest.mark.parametrize("width", [1280, 390, 320])
def test_no_sideways_scrolling(open_page, width):
    page = open_page(AttentionFilm(stand_in(4, 3, 8, "abcdefghijklmnop")), viewport=dict(width=width, height=800))
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    maps = [canvas.bounding_box() for canvas in page.locator("canvas").all()]
    assert min(box["width"] for box in maps) > 35 and all(box["height"] == pytest.approx(box["width"], rel=0.02) for box in maps)
    for letters in ("keys", "queries"):  # stand beside their cells
        spans = [span.bounding_box() for span in page.locator(".map").first.locator(f".{letters} span").all()]
        side, at = ("width", "x") if letters == "keys" else ("height", "y")
        for i, span in enumerate(spans):
            middle = span[at] + span[side] / 2
            assert middle == pytest.approx(maps[0][at] + maps[0][side] * (i + 0.5) / 17, abs=1.5)


def test_controls_stay_in_sight(open_page):
    page = open_page(AttentionFilm(stand_in()), viewport=dict(width=390, height=500))
    page.evaluate("scrollTo(0, document.documentElement.scrollHeight)")
    assert page.evaluate("scrollY") > 200 and page.locator("#controls").bounding_box()["y"] == pytest.approx(0, abs=1)


def test_words_stay_text(open_page):
    nasty = "<img src=x onerror=alert(1)></script>&'\" é"
    page = open_page(AttentionFilm(stand_in(2, 1, 1, nasty), title="</title><b>"))
    shown = [*nasty.replace(" ", "␣"), "∎"]
    assert page.locator(".keys span").all_inner_texts() == shown and page.locator(".queries span").all_inner_texts() == shown[-2::-1] + ["∎"]
    assert page.title() == page.locator("h1").inner_text() == "</title><b>" and page.locator("img, b:has(b)").count() == 0


def test_without_scripts_there_are_frames_to_see(open_page):
    page = open_page(AttentionFilm(stand_in(11)), java_script_enabled=False)
    assert page.locator("noscript img").get_attribute("alt") == "heatmaps of all heads at the steps 0, 250, 640, 1000"
    assert page.locator("noscript img").bounding_box()["height"] > 100 and not page.locator("#controls").is_visible()


def test_the_page_is_self_contained():
    text = AttentionFilm(stand_in()).html()
    assert "://" not in text and re.search(r"default-src 'none'; img-src data:; style-src 'sha256-[^']+'; script-src 'sha256-[^']+'", text)
    assert "innerHTML" not in text and "eval(" not in text


# --- what is stored ---

def without_picture(html):
    return re.sub(r"base64,[A-Za-z0-9+/=]+", "", html, count=1)


def test_the_stored_page_is_what_the_film_writes():
    "Byte for byte but for the picture inside, which another matplotlib may draw a little differently."
    stored, today = PAGE.read_text(encoding="utf-8"), AttentionFilm(load_recording(STORED)).html()
    assert without_picture(stored) == without_picture(today)
    pictures = [Image.open(BytesIO(__import__("base64").b64decode(re.search(r"base64,([A-Za-z0-9+/=]+)", html)[1]))) for html in (stored, today)]
    assert pictures[0].size == pictures[1].size
    assert len(stored.encode()) < 300_000 and STORED.stat().st_size < 200_000


def test_the_stored_animation():
    recording = load_recording(STORED)
    picture, frames = gif_frames(ANIMATION.read_bytes())
    assert 30 <= picture.n_frames <= len(recording.frames) and ANIMATION.stat().st_size < 300_000 and "loop" not in picture.info
    bright = [int(((frame[..., 0] > 200) & (frame[..., 2] < 110)).sum()) for frame in (frame[: len(frame) // 2] for frame in frames)]  # yellow, in the heatmaps
    assert bright[0] == 0 and bright[-1] > 200  # from an even blue to patterns


def test_the_stored_page_in_a_browser(open_page):
    film = AttentionFilm(load_recording(STORED))
    page = open_page(film)
    page.locator("#time").press("End")
    assert page.locator("#step").inner_text() == "step 1000"
    assert (canvas_weights(page) == film.recording.frames[-1]["weights"].reshape(8, 12, 12)).all()
    layer_1 = canvas_weights(page)[4:].mean(0)
    assert [abs(int(layer_1[t].argmax()) - (10 - t)) <= 1 for t in range(11)] == [True] * 11  # the anti-diagonal


@pytest.mark.slow
def test_the_stored_recording_is_made_again():
    "The same training once more. Another processor rounds differently, so that only what the chapter claims has to come out again."
    import sys

    sys.path.insert(0, str(STORED.parent))
    import record

    recording, shares, _ = record.train(0)
    stored = load_recording(STORED)
    steps, share = recording.column("step"), recording.column("share")[:, -1].mean(-1)
    half, letters, words = (first_crossing(steps, values, level) for values, level in ((share, share[-1] / 2), (recording.column("letters"), 0.5), (recording.column("exact_match"), 0.5)))
    print(half, letters, words, share[-1], recording.column("exact_match")[-1])
    assert half < words - 50 and letters < words - 50 and share[-1] > 0.5 and recording.column("exact_match")[-1] > 0.99
    np.testing.assert_allclose(recording.column("loss")[:5], stored.column("loss")[:5], atol=0.05)  # before rounding errors have grown
    rows = [*csv.DictReader(line for line in SEEDS.read_text(encoding="utf-8").splitlines() if not line.startswith("#"))]
    assert int(rows[0]["seed"]) == 0 and len(rows) == 5
