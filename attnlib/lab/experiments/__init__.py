"""What takes longer than a chapter's minute: run by ``make experiments``, stored in ``attnlib/lab/results``.

======================  ==========================================================================================
``decisions``           what a decision transformer gets of what is asked, three seeds, blocked, and its rivals
``graphs``              whom to trust in a network: three seeds of graph attention, its rivals, what breaks it
``huggingface``         a vision transformer of Transformers learns one person's hand: five seeds, its rivals
``induction``           how a name that was said is said again: two layers learn it, and what they need
``language_model``      bits a character of a small language model, of counts and of a GRU, three seeds
``layers``              how long each kind of layer takes, for several lengths and sizes
``modalities``          questions in words about digits on a canvas: three seeds, what breaks them, rivals
``order``               who hunts, of five seeds: attention without positions and with them, a GRU, longer sentences
``question_answering``  how often a reader of stories finds the answer, what breaks it, its rivals, chains of facts
``recurrence``          what attention and recurrent nets keep of what they read: recall and parity
``rivals``              what the model of three_tasks without positions, GRUs and convolutions learn of its tasks
``scaling``             what the division by √d_k does to training, for three widths, five seeds and three rates
``speech``              strings of spoken digits: attention, its rivals, what it reads and what breaks it
``summarisation``       what is true in summaries: the pointer's with three seeds, blocked, and its rivals'
``translation``         what the translator of dates learns with three seeds, what breaks it, and its rivals
``vision``              scans and ticked lists: a vision transformer, its rivals, and what breaks it
``where_next``          what is kept of a text by attention and what costs less, and what is found in it again
======================  ==========================================================================================

An experiment is a module with ``ROWS``: for each row of its table, by name, the function that computes it and returns
what JSON can hold. A test computes one row of each table again.
"""
