"""What takes longer than a chapter's minute: run by ``make experiments``, stored in ``attnlib/lab/results``.

==============  ==========================================================================================
``rivals``      what the model of three_tasks without positions, GRUs and convolutions learn of its tasks
``layers``      how long each kind of layer takes, for several lengths and sizes
==============  ==========================================================================================

An experiment is a module with ``ROWS``: for each row of its table, by name, the function that computes it and returns
what JSON can hold. A test computes one row of each table again.
"""
