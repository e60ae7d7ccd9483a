"""What the book's chapters share. Nothing else in attnlib imports it.

==================  ===================================================================================
``example``         three tokens, *cats chase mice*
``source``          attnlib's own source, shown in a chapter
``figures``         the book's style, stored as SVG, in panels that the site lays out (needs IPython)
``tables``          tables of numbers, drawn as on paper
``sheet``           one head of attention on paper, in fractions and powers of e
``paper``           Figure 1 of the paper, as a map of its sections
``tasks``           reversal, sorting, copying: what each needs, and what is kept for tests
``dates``           translation in small: dates and amounts (needs babel, cn2an, num2words)
``matches``         summaries in small: reports of football matches
``docstrings``      real summaries: the first sentences of docstrings
``stories``         questions about small stories, after bAbI
``names``           names of two tokens that come again in a text
``recall``          pairs of which one is asked for; parity
``prose``           this book's own prose, frozen: characters in batches, and counts of them
``digits``          handwritten digits, alone or on ticked lists, and models for them (needs scikit-learn)
``networks``        networks of people, and models that read them through a mask
``gridworld``       a grid to decide in: coins, two chests, a sign that is shown once
``speech``          spoken digits: log-mel features, strings of them, models and CTC (needs jiwer)
``canvas``            digits in cells, and questions in words about what stands beside them
``words``           words as tokens, pairs of texts as padded batches
``models``          small models, and recurrence and convolution of the same size
``training``        the loop, what it measures, its spread over seeds (needs tqdm)
``graphs``          layers as graphs: paths, and steps that wait
``contributions``   what each key adds to each query
``memory``          the peak of a computation, in bytes
``traffic``         what a computation moves between a slow and a fast memory
``experiments``     what takes longer than a chapter's minute
``stored``          what they found
``machine``         what it was measured on
==================  ===================================================================================
"""
