"""Exercises that name the mistake: ``check`` runs an answer, and says which misconception is in it.

>>> from attnlib.exercises import catalogue, check, exercises
>>> print(exercises["softmax"])
softmax(scores)
>>> check("softmax", lambda scores: scores.softmax(dim=0)).misconception
'softmax-over-queries'
>>> catalogue["softmax-over-queries"].symptom
'Columns sum to 1, and rows do not.'

==================  ==================================================================
``solutions``       a right answer to each exercise, line by line
``misconception``   what a misconception is: lines of a solution, got wrong
``misconceptions``  the data, a module for each family
``catalogue``       all of them, by key
``contracts``       how an answer is called, and on which probes
``observe``         one call, written down
``process``         an answer runs apart, with a time limit
``explain``         which mistakes give what the answer gives
``report``          the message
``checking``        ``check``
==================  ==================================================================
"""

from collections.abc import Mapping
from types import MappingProxyType

from attnlib.exercises.catalogue import catalogue
from attnlib.exercises.checking import Verdict, check
from attnlib.exercises.contracts import CONTRACTS
from attnlib.exercises.misconception import Misconception

__all__ = ["Misconception", "Verdict", "catalogue", "check", "exercises"]

exercises: Mapping[str, str] = MappingProxyType({name: contract.sign for name, contract in CONTRACTS.items()})
"""The exercises by name, each with how an answer is called."""
