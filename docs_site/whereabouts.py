"""The small map of the model at the top of a chapter, with what the chapter is about lit."""
from typing import NamedTuple


class Box(NamedTuple):
    "A part of the model on the map."
    name: str
    left: int
    top: int
    width: int


SOURCE, TARGET, HEIGHT = 8, 54, 26  # the two rows
ATTENTION = ("self-attention", "cross-attention")
BOXES = [
    *(Box(name, left, top, width) for top in (SOURCE, TARGET)
      for name, left, width in (("tokens", 1, 52), ("embedding", 59, 74), ("positions", 139, 68))),
    Box("self-attention", 221, SOURCE, 90), Box("feed-forward", 317, SOURCE, 84),
    Box("self-attention", 221, TARGET, 90), Box("cross-attention", 317, TARGET, 98), Box("feed-forward", 421, TARGET, 84),
    Box("projection", 519, TARGET, 70), Box("loss", 597, TARGET, 40),
]
FRAMES = [Box("encoder", 215, SOURCE - 6, 192), Box("decoder", 215, TARGET - 6, 296)]
EVERYTHING = tuple({box.name for box in BOXES})

LIT = {  # by chapter; the whole model for those that are not here
    "linear": (*ATTENTION, "feed-forward", "projection"), "activations": ("feed-forward",), "softmax": (*ATTENTION, "loss"),
    "embedding": ("embedding",), "positional_encoding": ("positions",),
    "dropout": ("positions", *ATTENTION, "feed-forward"), "layer_norm": (*ATTENTION, "feed-forward"), "residual": (*ATTENTION, "feed-forward"),
    "feed_forward": ("feed-forward",), "layers": ("embedding", "positions", "feed-forward"),
    "masks": ATTENTION, "scaled_dot_product": ATTENTION, "multi_head": ATTENTION, "heatmaps": ATTENTION, "viewer": ATTENTION, "attention": ATTENTION,
    "encoder": ("encoder",), "decoder": ("decoder",), "projection": ("projection",),
    "tokenizer": ("tokens",), "tasks": ("tokens",), "loss": ("loss",), "decoding": ("decoder", "projection"),
}


def model_map(chapter: str) -> str:
    "The map as SVG, with the parts of this chapter lit."
    lit = LIT.get(chapter, EVERYTHING)
    shapes = [rectangle(frame, frame.name in lit, HEIGHT + 12) for frame in FRAMES]
    shapes += [rectangle(box, box.name in lit or inside(box, lit), HEIGHT) + label(box, box.name in lit or inside(box, lit)) for box in BOXES]
    where = "the whole model" if lit == EVERYTHING else ", ".join(dict.fromkeys(lit))
    return (f'<svg class="whereabouts" viewBox="0 0 638 92" role="img" aria-label="Map of the Transformer. This chapter: {where}." '
            'width="100%" style="max-width: 638px" font-family="system-ui, sans-serif" font-size="11.5" text-anchor="middle" stroke="currentColor">'
            f'{"".join(shapes)}<path d="M366 40v12m-4 -5l4 5l4 -5" fill="none"/></svg>')


def rectangle(box: Box, lit: bool, height: int) -> str:
    "The outline of a box, filled if it is lit."
    colours = 'fill="#fde737" stroke="#777"' if lit else 'fill="none" stroke-opacity=".4"'
    return f'<rect x="{box.left}" y="{box.top}" width="{box.width}" height="{height}" rx="4" {colours}/>'


def label(box: Box, lit: bool) -> str:
    "The name in a box: black on a lit one, else the colour of the text."
    colour = "#111" if lit else "currentColor"
    return f'<text x="{box.left + box.width / 2:g}" y="{box.top + 17}" fill="{colour}" stroke="none">{box.name}</text>'


def inside(box: Box, lit: tuple[str, ...]) -> bool:
    "Whether the box stands in a lit frame."
    frames = (frame for frame in FRAMES if frame.name in lit)
    return any(frame.left < box.left < frame.left + frame.width and frame.top < box.top < frame.top + HEIGHT for frame in frames)
