"""How threads wait: steps a second of a small layer by how long threads spin before they sleep, alone and in company.

    python -m bench.thread_wait

Prints one line a case and, as JSON, the ratios. In company means: as many busy processes as there are cores.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

SECONDS = 4
SPINS = ["0", "1000", "3000", "300000"]
"""0 sleeps at once; 300,000 is what libgomp does by default where threads do not outnumber cores."""
STEPS = f"""
import time, torch
torch.set_num_threads({os.cpu_count()})
layer = torch.nn.TransformerEncoderLayer(64, 4, 128, batch_first=True, dropout=0.0)
optimizer = torch.optim.AdamW(layer.parameters(), fused=True)
states = torch.randn(32, 16, 64)
def step():
    layer(states).sum().backward(); optimizer.step(); optimizer.zero_grad()
for _ in range(3): step()
start, done = time.perf_counter(), 0
while time.perf_counter() - start < {SECONDS}: step(); done += 1
print(done / (time.perf_counter() - start))
"""
BUSY = "while True: pass"


def main() -> None:
    rates_by_case: dict[tuple[str, int], list[float]] = {}
    for company in (0, os.cpu_count() or 1):
        others = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(company)]
        try:
            for spins in SPINS * 2:  # in turn, so that drift shows
                inherited = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
                environment = {**inherited, "GOMP_SPINCOUNT": spins, "OMP_NUM_THREADS": str(os.cpu_count())}
                out = subprocess.run([sys.executable, "-c", STEPS], env=environment, capture_output=True, check=True)
                rates_by_case.setdefault((spins, company), []).append(float(out.stdout))
                print(f"{spins:>6} spins beside {company} busy processes: {float(out.stdout):7.1f} steps/s", flush=True)
        finally:
            for other in others:
                other.kill()
    ratios = {
        f"{spins} against {SPINS[-1]} spins, beside {company}": max(rates) / max(rates_by_case[SPINS[-1], company])
        for (spins, company), rates in rates_by_case.items()
    }
    print(json.dumps({"cores": os.cpu_count(), **ratios}, indent=1))


if __name__ == "__main__":
    main()
