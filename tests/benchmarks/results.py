"""What the fleet's rivals cost, and what follows from it."""

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

from .meter import Cost
from .report import say, say_table, spread
from .rivals import PODBRIDGE, PUSH, RIVALS, SAVE
from .software import MB

PHASES = ("cold", "again", "changed")
FLOORS = {PUSH.name: 2.5, SAVE.name: 12.0}
"""How many times faster than a rival podbridge has to be, in wall time, cold."""


@dataclass(frozen=True, slots=True)
class Results:
    """The costs of every rival and phase, one per round; the peak memory of serve's processes, in bytes."""

    costs: dict[tuple[str, str], list[Cost]] = field(default_factory=dict)
    memory: dict[str, int] = field(default_factory=dict)

    def wall(self, rival: str, phase: str) -> list[float]:
        """Return the wall times of a rival in a phase."""
        return [cost.wall for cost in self.costs[rival, phase]]

    def cpu(self, rival: str, phase: str) -> list[float]:
        """Return the processor times of a rival in a phase."""
        return [cost.cpu for cost in self.costs[rival, phase]]

    def ratios(self, rival: str, phase: str) -> tuple[float, float]:
        """Return how much more wall and processor time a rival needs than podbridge."""
        wall, cpu = (
            statistics.median(figures(rival, phase)) / statistics.median(figures(PODBRIDGE.name, phase))
            for figures in (self.wall, self.cpu)
        )
        return wall, cpu

    def missed(self) -> list[str]:
        """Name the floors that were missed; a rival that could not run is one."""
        rivals = {rival for rival, _ in self.costs}
        lines = [f"{rival} did not run" for rival in FLOORS if rival not in rivals]
        for rival in FLOORS.keys() & rivals:
            ratio, floor = self.ratios(rival, "cold")[0], FLOORS[rival]
            if ratio < floor:
                lines.append(f"{ratio:.1f} times faster than {rival}, not {floor}")
        return lines

    def figures(self) -> dict[str, object]:
        """Return everything that was measured, as JSON knows it."""
        costs = [
            {
                "rival": rival,
                "phase": phase,
                "seconds": [asdict(cost) for cost in costs],
                "ratios": self.ratios(rival, phase),
            }
            for (rival, phase), costs in self.costs.items()
        ]
        return {"costs": costs, "peak_bytes": self.memory}


def say_results(results: Results, phases: Sequence[str] = PHASES) -> None:
    """Print the table, the phases in this order."""
    header = ("", "wall s", "cpu s", "wall ratio", "cpu ratio")
    rows = []
    for phase in phases:
        rows.append((f"{phase}:", "", "", "", ""))
        for rival in [rival.name for rival in RIVALS if (rival.name, phase) in results.costs]:
            wall, cpu = results.ratios(rival, phase)
            seconds = spread(results.wall(rival, phase)), spread(results.cpu(rival, phase))
            rows.append((f"  {rival}", *seconds, f"{wall:.1f}", f"{cpu:.1f}"))
    say_table(header, rows)
    for process, peak in results.memory.items():
        say(f"peak memory of {process}: {peak / MB:.0f} MB")
