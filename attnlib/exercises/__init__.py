"""Exercises that name the mistake: ``check`` runs an answer, and says which misconception is in it.

>>> from attnlib.exercises import catalogue, check, exercises
>>> print(exercises["softmax"].stub)
def softmax(scores):
    ...
>>> check("softmax", lambda scores: scores.softmax(dim=0)).misconception
'softmax-over-queries'
>>> catalogue["softmax-over-queries"].symptom
'Columns sum to 1, and rows do not.'

==================  ==================================================================
``tasks``           what is asked for
``solutions``       a right answer to each exercise, line by line
``misconception``   what a misconception is: lines of a solution, got wrong
``misconceptions``  the data, a module for each family
``catalogue``       all of them, by key
``contracts``       how an answer is called, and on which probes
``observe``         one call, written down
``process``         an answer runs apart, with a time limit
``explain``         which mistakes give what the answer gives
``measure``         the number that a mistake leaves open
``seen``            what shows in the result alone
``properties``      what holds of a right answer whatever its numbers are
``report``          the message
``checking``        ``check``
==================  ==================================================================
"""

from collections.abc import Mapping
from types import MappingProxyType

from attnlib.exercises.catalogue import catalogue
from attnlib.exercises.checking import Verdict, check
from attnlib.exercises.misconception import Misconception
from attnlib.exercises.tasks import TASKS, Task

__all__ = ["Misconception", "Task", "Verdict", "catalogue", "check", "exercises"]

exercises: Mapping[str, Task] = MappingProxyType(TASKS)
"""The exercises by name: what is asked for."""
