"""Mistakes with the softmax: its axis, its powers, its shift; and with its backward pass."""
# ruff: noqa: E501  (a line of attnlib stays in one piece)

from tests.planted.plant import Plant
from tests.planted.scores import SOFTMAX

OF_ONE_QUERY = "torch.softmax(added, dim=-1)"
GRADIENTS = "grad_scores = np.array([[dot(jacobian_row, g) for jacobian_row in softmax_jacobian(p)] for p, g in rows])"
SHARED = "(weights * grad_weights).sum(axis=1, keepdims=True)"
JACOBIAN = "weights[i] * ((i == j) - weights[j])"


def over(forth: str, back: str) -> list[Plant]:
    """A softmax over another axis, which is moved to the end and back."""
    return [Plant("kernels/explicit", {SOFTMAX: SOFTMAX.replace("products", f"products.{forth}", 1) + f".{back}"})]


def made(weights: str, *more: Plant) -> list[Plant]:
    """Other weights than the softmax's."""
    return [Plant("kernels/explicit", {SOFTMAX: f"return {weights}"}), *more]


def of_one_query(weights: str) -> Plant:
    """The same for the single query that is computed by its weights."""
    return Plant("kernels/few_queries", {OF_ONE_QUERY: weights})


def backward(derivative: str) -> list[Plant]:
    """Another derivative of weight i by score j. torch has its own; that of attnlib.reference is what it is held to."""
    return [Plant("reference", {JACOBIAN: derivative})]


RIGHT = SOFTMAX.removeprefix("return ")
POWERS = "powers = products.{}\n    return powers / powers.sum(dim=-1, keepdim=True)"


def powers(shifted: str, *more: Plant) -> list[Plant]:
    """A softmax by hand, of powers that were shifted in another way."""
    text = f"powers = ({shifted}).exp()\n    return powers / powers.sum(dim=-1, keepdim=True)"
    return [Plant("kernels/explicit", {SOFTMAX: text}), *more]


def divided(divisor: str) -> list[Plant]:
    """Powers that are divided by something else than their sum."""
    text = f"powers = (products - products.amax(dim=-1, keepdim=True)).exp()\n    return powers / {divisor}"
    return [Plant("kernels/explicit", {SOFTMAX: text})]


def of_scores(wrong: str) -> list[Plant]:
    """A softmax of something else than the scores."""
    return made(RIGHT.replace("products", wrong, 1))


def gradients(wrong: str) -> list[Plant]:
    """Other gradients of the scores than the weights' Jacobians make."""
    return [Plant("reference", {GRADIENTS: f"grad_scores = {wrong}"})]


PLANTS = {
    "softmax-over-queries": [*over("mT", "mT"), of_one_query("torch.softmax(added, dim=-2)")],
    "softmax-over-heads": over("movedim(-3, -1)", "movedim(-1, -3)"),
    "softmax-over-batch": over("movedim(0, -1)", "movedim(-1, 0)"),
    "softmax-over-all": over("flatten(-2)", "view_as(products)"),
    "softmax-missing": made("products", of_one_query("added")),
    "softmax-without-exp": made("products / products.sum(dim=-1, keepdim=True)"),
    "softmax-not-normalised": made(
        "(products - products.amax(dim=-1, keepdim=True)).exp()",
        Plant("kernels/online", {"output = summed / total.unsqueeze(-1)": "output = summed"}),
    ),
    "softmax-mean": made(f"{RIGHT} * products.shape[-1]"),
    "softmax-log": made(f"{RIGHT}.log()"),
    "softmax-sigmoid": made("torch.sigmoid(products)", of_one_query("torch.sigmoid(added)")),
    "softmax-twice": made(f"torch.softmax({RIGHT}, dim=-1)", of_one_query(f"torch.softmax({OF_ONE_QUERY}, dim=-1)")),
    "softmax-hard": made("F.one_hot(products.argmax(dim=-1), products.shape[-1]).to(products.dtype)"),
    "softmax-base": made(RIGHT.replace("products", "products * 0.6931471805599453", 1)),
    "softmax-scaled": made(
        RIGHT.replace("products", "products / products.shape[-1] ** 0.5", 1),
        of_one_query("torch.softmax(added / S, dim=-1)"),
    ),
    "keepdim-missing": [
        Plant(
            "kernels/explicit",
            {
                SOFTMAX: "powers = (products - products.amax(dim=-1, keepdim=True)).exp()\n    return powers / powers.sum(dim=-1)"
            },
        ),
    ],
    "shift-by-column": powers("products - products.amax(dim=-2, keepdim=True)"),
    "softmax-overflow": powers(
        "products", of_one_query("(added.exp() / added.exp().sum(dim=-1, keepdim=True)).nan_to_num(0)")
    ),
    "softmax-one-maximum": powers("products - products.amax()"),
    "softmax-shift-wrong": powers("products - products[..., :1]"),
    "softmax-clipped": made(RIGHT.replace("products", "products.clamp(max=50)", 1)),
    "backward-no-sum": backward("weights[i] * (i == j)"),
    "backward-diagonal": backward("(i == j) * weights[i] * (1 - weights[i])"),
    "backward-mean": backward("weights[i] * ((i == j) - 1 / len(weights))"),
    "backward-axis": backward("weights[i] * ((i == j) - sum(weights))"),
    "backward-sign": backward("weights[i] * (weights[j] - (i == j))"),
    "backward-unweighted": backward("(i == j) - weights[j]"),
    "backward-of-weights": backward("weights[i] * weights[i] * ((i == j) - weights[j])"),
    "softmax-one-side": divided("products.exp().sum(dim=-1, keepdim=True)"),
    "softmax-total-kept": divided("powers.sum(dim=-1, keepdim=True).cumsum(dim=-2)"),
    "softmax-other-norm": divided("powers.norm(dim=-1, keepdim=True)"),
    "softmax-others": divided("(powers.sum(dim=-1, keepdim=True) - powers)"),
    "softmax-prefix": divided("powers.cumsum(dim=-1)"),
    "softmax-extra-term": divided("(powers.sum(dim=-1, keepdim=True) + 1)"),
    "softmax-infinity-zero": of_scores("products.masked_fill(products.isneginf(), 0)"),
    "softmax-temperature": of_scores("products * 2"),
    "softmax-top": of_scores(
        "products.masked_fill(products < products.topk(min(2, products.shape[-1]), dim=-1).values[..., -1:], -torch.inf)"
    ),
    "backward-plus": backward("weights[i] * ((i == j) + weights[j])"),
    "backward-one-term": backward("weights[i] * (i == j) - weights[j]"),
    "backward-of-log": backward("(i == j) - weights[i]"),
    "backward-cross-entropy": gradients("weights - grad_weights"),
    "backward-off-diagonal": backward("-weights[i] * weights[j]"),
    "backward-identity": backward("float(i == j)"),
    "backward-total-kept": gradients(f"weights * (grad_weights - {SHARED}.cumsum(axis=0))"),
    "backward-exchanged": gradients(f"grad_weights * (weights - {SHARED})"),
    "backward-divided": backward("((i == j) - weights[j]) / weights[i]"),
    "backward-squared": backward("weights[i] * ((i == j) - weights[j] * weights[j])"),
}
