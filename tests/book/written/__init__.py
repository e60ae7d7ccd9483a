"""Checks of the exercises in which a reader writes a function, one module for each exercise.

A module says ``LABEL``, the exercise's label; ``NAME``, the function that its stub and its solution define; and
``check(function)``, which raises AssertionError for a function that is wrong. What it compares with is not attnlib.
It may say ``WRONG``: by name, functions as learners write them that ``check`` must refuse.

``tests/book/test_written.py`` takes stub and solution out of the pages and runs them.
"""
