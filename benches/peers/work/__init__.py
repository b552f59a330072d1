"""The peers' side of the benchmark suite.

Each function that is marked with `peer`, the package that does the work, makes the inputs and returns the work: a function of
no arguments that does it once and returns the number by which the two sides are compared.
"""

from .fits import *
from .language import *
from .losses import *
from .vision import *
from .weights import *
