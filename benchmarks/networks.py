"""How large networks are: `python benchmarks/networks.py [seconds=4] [output=FILE.json]`, and a run's settings, as in
`model.num_sources=3`.

Parameters, and multiply-adds of a forward pass a second of audio, of each model at its default and at its paper's size.
torch counts those of convolutions and matrix products (half of FlopCounterMode's number), on a device without data.
"""

from typing import Any

import torch
from benchmark import settings, write_results
from torch.utils.flop_counter import FlopCounterMode

from separation.app.assembly import build
from separation.app.command import entry_point
from separation.app.settings import compose_config
from separation.errors import check_number
from separation.model.features import Mixture
from separation.model.networks import num_parameters
from separation.runs.summaries import table


def measure(overrides: list[str], seconds: float) -> dict[str, Any]:
    """A network's parameters, and multiply-adds a second of a mixture that is so many seconds long."""
    config = compose_config("config", overrides)
    with torch.device("meta"), torch.no_grad():
        network, stft = build(config, "model.network"), build(config, "stft")
        waveform = torch.empty(1, round(seconds * config.data.sample_rate))
        mixture = Mixture(waveform, stft, spectrum=stft(waveform))
        with FlopCounterMode(display=False) as counter:
            network(mixture)
    return {
        "parameters": num_parameters(network),
        "multiply_adds_a_second": counter.get_total_flops() / 2 / seconds,
        "sample_rate": config.data.sample_rate,
    }


def results_text(results: dict[str, dict[str, Any]], published: dict[str, float]) -> str:
    """The results as a table."""
    rows = [
        [
            name,
            f"{row['parameters'] / 1e6:.2f}",
            str(published.get(name, "")),
            f"{row['multiply_adds_a_second'] / 1e9:.3f}",
        ]
        for name, row in results.items()
    ]
    return table(["network", "parameters [M]", "the paper says", "multiply-adds a second [G]"], rows)


def main() -> None:
    """Measures and prints; writes JSON where an output is named."""
    program, overrides = settings(__doc__, "networks")
    check_number("seconds", program.seconds, 0.1, 600)
    results = {name: measure([*chosen, *overrides], program.seconds) for name, chosen in program.models.items()}
    print(results_text(results, program.published))
    write_results(program.output, {**results, "seconds": program.seconds})


if __name__ == "__main__":
    entry_point(main)
