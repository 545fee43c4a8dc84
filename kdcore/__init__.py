"""KDBoard's engine: methods, trainer, probes, store and figures for comparing BERT distillation methods.

Importing this package is fast: torch and transformers are imported by the modules that use them.
"""

import os

__version__ = "0.1.0"

# Threads that wait for one another sleep in place of spinning. Where anything else uses the machine (the browser that
# watches the run is enough), spinning threads take each other's cores: a hundred times slower steps were measured.
# torch's OpenMP reads this once, when torch is imported, which is later than this line.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
