"""Where the book explains a thing: the pages of the sections that misconceptions name by their labels."""

PAGES = {
    "conventions": "reference/conventions",
    "encoder_decoder": "4_practice/encoder_decoder",
    "faq-dropout": "8_faq/faq",
    "faq-nan": "8_faq/faq",
    "faq-polarity": "8_faq/faq",
    "faq-wo": "8_faq/faq",
    "fast_attention": "4_practice/fast_attention",
    "gradients": "3_mathematics/gradients",
    "language-model": "4_practice/language_model",
    "language-model-cache": "4_practice/language_model",
    "masks": "2_algorithm/masks",
    "mha-per-head": "4_practice/multi_head_attention",
    "multi_head_attention": "4_practice/multi_head_attention",
    "one_class": "4_practice/one_class",
    "one_class-grouped": "4_practice/one_class",
    "one_layer": "4_practice/one_layer",
    "order": "1_concepts/order",
    "positions": "2_algorithm/positions",
    "positions-in-practice": "reference/positions_in_practice",
    "pytorch": "6_tools/pytorch",
    "scaling": "3_mathematics/scaling",
    "soft_lookup": "1_concepts/soft_lookup",
    "softmax": "2_algorithm/softmax",
    "softmax-temperature": "2_algorithm/softmax",
    "steps": "2_algorithm/steps",
    "worked_example": "3_mathematics/worked_example",
}


def link(section: str) -> str:
    """The address of a section on the book's site, from its root."""
    return f"{PAGES[section]}.html#{section.replace('_', '-')}"
