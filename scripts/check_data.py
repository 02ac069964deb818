"""Is a corpus what it should be: `python scripts/check_data.py data=libri2mix data.root=... [output=check]`.

Takes train.py's overrides of the corpus and of mixing. Reads all of the corpus, and all mixtures that are files; prints
counts, sample rates, lengths, levels, noise floors, offsets, mixtures that aren't the sum of their sources, test
mixtures that can't be scored, clipped, silent, doubled and damaged recordings, and speakers that splits share; and
writes it to output/report.txt, report.json and figure.png. Ends with status 1 if it finds something that makes scores
wrong.
"""

import sys

from separation.app.assembly import build_data
from separation.app.command import entry_point
from separation.app.settings import arguments, compose_config, split_overrides
from separation.data.check.measure import inspect
from separation.data.check.report import check_figure, distributions, report, summary
from separation.runs.atomic_files import check_writable, write_text
from separation.runs.paths import user_path
from separation.runs.provenance import write_json
from separation.studies.drawing import save


def main() -> None:
    """Inspects, prints and writes."""
    program, overrides = split_overrides(arguments(__doc__, "check_data"), "check_data")
    folder = user_path("output", program.output)
    check_writable("output", folder)
    config = compose_config("config", overrides)
    data = build_data(config)
    inspection = inspect(data.corpus, data.train.store, data.lists, data.tests)
    numbers = summary(inspection)
    text = report(numbers)
    print(text)
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "report.txt", f"{text}\n")
    write_json(folder / "report.json", numbers)
    save(check_figure(distributions(inspection)), folder / "figure.png")
    print(f"\n{folder}/report.txt, report.json, figure.png")
    if any(finding["is_wrong"] for finding in numbers["findings"]):
        sys.exit(1)


if __name__ == "__main__":
    entry_point(main)
