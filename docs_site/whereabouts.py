"""The small map of the model at the top of a chapter. Lit is what is built with the layers of the chapter, as the imports say."""
from collections.abc import Iterator
from typing import NamedTuple

from docs_site.book import Chapter, defined, imports, modules


class Box(NamedTuple):
    "A rectangle of the map: a box with its name in it, or the frame of the encoder or the decoder."
    name: str
    left: int
    top: int
    width: int
    lit: bool


class Arrangement(NamedTuple):
    "Rows of boxes and frames, for screens of one kind."
    kind: str
    rows: tuple[tuple[str, ...], ...]
    pitch: int  # from row to row
    memory: str  # the path of the arrow from the encoder to cross-attention


WIDTHS = {  # enough for the name
    "tokens": 52, "embedding": 74, "positions": 68, "self-attention": 90, "cross-attention": 98, "feed-forward": 84, "projection": 70, "loss": 40,
}
HEIGHT, GAP, MARGIN = 26, 6, 8  # of a box, between boxes, above the first row
FRAMES = {"encoder": ("self-attention", "feed-forward"), "decoder": ("self-attention", "cross-attention", "feed-forward")}
FRONT = ("tokens", "embedding", "positions")
WIDE = Arrangement("wide", ((*FRONT, "encoder"), (*FRONT, "decoder", "projection", "loss")), 46, "M366 40v12m-4 -5l4 5l4 -5")
NARROW = Arrangement("narrow", (FRONT, ("encoder",), FRONT, ("decoder",), ("projection", "loss")), 41, "M193 62h43v61h-84v6m-4 -5l4 5l4 -5")

MODULES = {  # what a box stands for
    "tokens": "learning.tokenizer", "embedding": "layers.embedding", "positions": "layers.positional_encoding",
    "self-attention": "attention.multi_head", "cross-attention": "attention.multi_head", "feed-forward": "layers.feed_forward",
    "projection": "model.projection", "loss": "learning.loss", "encoder": "model.encoder", "decoder": "model.decoder",
}
ATTENTION = ("self-attention", "cross-attention")
SAID = {  # what no import says
    "softmax": (*ATTENTION, "loss"),  # the loss computes its softmax in place
    "masks": ATTENTION,  # they reach it as arrays
    "heatmaps": ATTENTION, "viewer": ATTENTION, "attention": ATTENTION,  # they look at it from outside
    "tasks": ("tokens",), "decoding": ("decoder", "projection"),
}


def whereabouts(chapter: Chapter) -> str:
    "The map as SVG, twice: the style sheet shows the arrangement that fits the screen."
    lit = lit_boxes(chapter)
    return "".join(drawn(arrangement, lit or tuple(WIDTHS), ", ".join(lit) or "the whole model") for arrangement in (WIDE, NARROW))


def lit_boxes(chapter: Chapter) -> tuple[str, ...]:
    "The boxes and frames that are built with this chapter; none if it is about the whole."
    package = chapter.module.partition(".")[0]
    return SAID.get(chapter.name) or tuple(name for name, module in MODULES.items() if chapter.module in made_of(f"{package}.{module}", name in FRAMES))


def made_of(module: str, is_frame: bool) -> set[str]:
    "A module and those that it is made of, through any number of steps; for a frame, only what stands in it beside its boxes."
    if is_frame:
        return {module} | {part for part in components(module) if not part.endswith(tuple(MODULES.values()))}
    found, waiting = {module}, [module]
    while waiting:
        new = components(waiting.pop()) - found
        found |= new
        waiting += new
    return found


def components(module: str) -> set[str]:
    "The modules from which this one takes a class, what makes one, or a function with its gradient beside it; what checks or reshapes does not count."
    taken = imports(modules()[module].stem) if module in modules() else {}
    return {source for source, names in taken.items() if any(name[:1].isupper() or name.startswith("make_") or f"{name}_bwd" in defined(source) for name in names)}


def drawn(arrangement: Arrangement, lit: tuple[str, ...], where: str) -> str:
    "The map in one arrangement."
    boxes = list(placed(arrangement, lit))
    width, height = max(box.left + box.width for box in boxes) + 1, boxes[-1].top + HEIGHT + MARGIN
    shapes = "".join(rectangle(box) + (label(box) if box.name in WIDTHS else "") for box in boxes)
    return (f'<svg class="whereabouts {arrangement.kind}" viewBox="0 0 {width} {height}" role="img" '
            f'aria-label="Map of the Transformer. This chapter: {where}." width="100%" style="max-width: {width}px" '
            f'font-family="system-ui, sans-serif" font-size="11.5" text-anchor="middle" stroke="currentColor">'
            f'{shapes}<path d="{arrangement.memory}" fill="none"/></svg>')


def placed(arrangement: Arrangement, lit: tuple[str, ...]) -> Iterator[Box]:
    "Each frame, then its boxes, in their places."
    for i, row in enumerate(arrangement.rows):
        left, top = 1, MARGIN + i * arrangement.pitch
        for name in row:
            inner = FRAMES.get(name, (name,))
            if name in FRAMES:
                yield Box(name, left, top, sum(WIDTHS[box] + GAP for box in inner) + GAP, name in lit)
                left += GAP
            for box in inner:
                yield Box(box, left, top, WIDTHS[box], box in lit or name in lit)
                left += WIDTHS[box] + GAP
            left += GAP * (name in FRAMES)


def rectangle(box: Box) -> str:
    "The outline, filled if it is lit; a frame is a little higher than the boxes."
    colours = 'fill="#fde737" stroke="#777"' if box.lit else 'fill="none" stroke-opacity=".4"'
    more = 6 * (box.name in FRAMES)
    return f'<rect x="{box.left}" y="{box.top - more}" width="{box.width}" height="{HEIGHT + 2 * more}" rx="4" {colours}/>'


def label(box: Box) -> str:
    "The name in a box: black on a lit one, else the colour of the text."
    colour = "#111" if box.lit else "currentColor"
    return f'<text x="{box.left + box.width / 2:g}" y="{box.top + 17}" fill="{colour}" stroke="none">{box.name}</text>'
