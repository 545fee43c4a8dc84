"""KDBoard's engine: methods, trainer, probes, store and figures for comparing BERT distillation methods.

Importing this package is fast: torch and transformers are imported by the modules that use them.
"""

import os

__version__ = "0.1.0"

# Threads that wait for one another spin for a moment only, then sleep. By default torch's OpenMP lets them spin long:
# as soon as anything else uses the machine (the browser that watches the run is enough) they take each other's cores,
# and steps were seen to take a hundred times longer. Sleeping at once would cost small models half of their speed.
# OpenMP reads this once, when torch is imported, which is later than this line.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "3000")
