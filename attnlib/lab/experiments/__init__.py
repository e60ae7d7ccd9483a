"""What takes longer than a chapter's minute: run by ``make experiments``, stored in ``attnlib/lab/results``.

==============  =========================================================================================
``learning``    what attention, recurrence and convolution learn of the same tasks with as many parameters
``mechanisms``  how a model learns each task, and where it looks: losses and attention maps of one run
``layers``      how long each kind of layer takes, for several lengths and sizes
==============  =========================================================================================

An experiment is a module with ``ROWS``: for each row of its table, by name, the function that computes it and returns
what JSON can hold. A test computes one row of each table again.
"""
