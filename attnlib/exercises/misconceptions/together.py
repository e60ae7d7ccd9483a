"""Two mistakes in one line. Slips in different lines are put together by the search; these cannot be."""

from attnlib.exercises.misconception import Slip, slip
from attnlib.exercises.misconceptions.lines import LARGEST, TABLES, WEIGHTS
from attnlib.exercises.misconceptions.masks import CAUSAL, PADDING, WINDOW
from attnlib.exercises.misconceptions.positions import NEIGHBOURS, PARTS, TABLE, TURNED


def _unsafe(axes: str) -> Slip:
    return Slip({LARGEST: "largest = 0", WEIGHTS: f"weights = powers / powers.sum(dim={axes}, keepdim=True)"}, TABLES)


_TURNED_BACK = "turned = torch.stack([first * cos + second * sin, second * cos - first * sin], dim=-1).flatten(-2)"

SLIPS: tuple[tuple[tuple[str, str], Slip], ...] = (
    (("softmax-over-queries", "softmax-overflow"), _unsafe("-2")),
    (("softmax-over-all", "softmax-overflow"), _unsafe("(-2, -1)")),
    (
        ("padding-left", "padding-one-more"),
        slip(PADDING, "allowed = key_place >= S - torch.as_tensor(lengths)[:, None] - 1"),
    ),
    (
        ("padding-left", "padding-one-less"),
        slip(PADDING, "allowed = key_place > S - torch.as_tensor(lengths)[:, None]"),
    ),
    (("rotary-neighbours", "rotary-backwards"), Slip({PARTS: NEIGHBOURS, TURNED: _TURNED_BACK})),
    (("sinusoidal-halves", "sinusoidal-exchanged"), slip(TABLE, "table = torch.cat([cos, sin], dim=-1)")),
    (
        ("window-back-only", "window-one-more"),
        slip(WINDOW, "allowed = (distance <= size) & (key_place <= query_place)"),
    ),
    (
        ("window-back-only", "window-one-less"),
        slip(WINDOW, "allowed = (distance < size - 1) & (key_place <= query_place)"),
    ),
    (
        ("window-back-only", "window-half"),
        slip(WINDOW, "allowed = (distance <= size // 2) & (key_place <= query_place)"),
    ),
    (
        ("window-back-only", "window-half"),
        slip(WINDOW, "allowed = (distance < size // 2) & (key_place <= query_place)"),
    ),
    (
        ("window-back-only", "self-hidden"),
        slip(WINDOW, "allowed = ((distance < size) & (distance > 0)) & (key_place <= query_place)"),
    ),
    (
        ("window-back-only", "window-double"),
        slip(WINDOW, "allowed = (distance < 2 * size) & (key_place <= query_place)"),
    ),
    (
        ("window-ahead-only", "window-one-more"),
        slip(WINDOW, "allowed = (distance <= size) & (key_place >= query_place)"),
    ),
    (
        ("window-ahead-only", "window-one-less"),
        slip(WINDOW, "allowed = (distance < size - 1) & (key_place >= query_place)"),
    ),
    (
        ("window-ahead-only", "window-half"),
        slip(WINDOW, "allowed = (distance <= size // 2) & (key_place >= query_place)"),
    ),
    (
        ("window-ahead-only", "window-half"),
        slip(WINDOW, "allowed = (distance < size // 2) & (key_place >= query_place)"),
    ),
    (
        ("window-ahead-only", "self-hidden"),
        slip(WINDOW, "allowed = ((distance < size) & (distance > 0)) & (key_place >= query_place)"),
    ),
    (
        ("window-ahead-only", "window-double"),
        slip(WINDOW, "allowed = (distance < 2 * size) & (key_place >= query_place)"),
    ),
    (("causal-future", "self-hidden"), slip(CAUSAL, "allowed = key_place > query_place")),
)
