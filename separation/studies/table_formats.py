"""A study's tables and what is to be said below them, as text, Markdown, LaTeX or CSV."""

import html
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from separation.runs.atomic_files import write_text
from separation.runs.summaries import table


class Report(NamedTuple):
    """What a study prints."""

    tables: dict[str, pd.DataFrame]
    """Tables of texts, by the heading of their rows' names."""
    notes: list[str]
    tables_of: str = "model"
    """What each of several tables is of."""

    def __str__(self) -> str:
        parts = [_aligned(rows.rename_axis(heading).reset_index()) for heading, rows in self.tables.items()]
        return "\n\n".join([*parts, "\n".join(self.notes)])

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        tables = [
            rows.rename_axis(columns=heading.replace("_", " ")).to_html() for heading, rows in self.tables.items()
        ]
        notes = "".join(f"<li>{html.escape(note)}</li>" for note in self.notes)
        return "\n".join([*tables, f"<ul>{notes}</ul>"])

    def write(self, path: Path) -> None:
        """Writes a file in the format of its suffix, all tables as one."""
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, FORMATS[path.suffix](self))

    def joined(self) -> pd.DataFrame:
        """All tables as one, in which a column says whose rows they are where there are several."""
        if len(self.tables) == 1:
            [(heading, rows)] = self.tables.items()
            return rows.rename_axis(heading).reset_index()
        return pd.concat(self.tables, names=[self.tables_of, "row"]).reset_index().fillna("")


def _aligned(rows: pd.DataFrame) -> str:
    return table(list(rows), rows.to_numpy().tolist())


def _markdown(report: Report) -> str:
    rows = report.joined()
    lines = [list(rows), [":--", *["--:"] * (len(rows.columns) - 1)], *rows.to_numpy().tolist()]
    return "\n".join([*(f"| {' | '.join(line)} |" for line in lines), "", *(f"- {note}" for note in report.notes), ""])


def _latex(report: Report) -> str:
    rows = report.joined()
    first, *others = (" & ".join(map(_escaped, line)) + r" \\" for line in [list(rows), *rows.to_numpy().tolist()])
    columns = "l" + "r" * (len(rows.columns) - 1)
    begin, end = rf"\begin{{tabular}}{{{columns}}}", r"\end{tabular}"
    return "\n".join([*(f"% {note}" for note in report.notes), begin, first, r"\hline", *others, end, ""])


def _escaped(text: str) -> str:
    for character in "&%_#":
        text = text.replace(character, f"\\{character}")
    return text.replace("+-", r"$\pm$")


FORMATS = {
    ".txt": lambda report: f"{report}\n",
    ".csv": lambda report: report.joined().to_csv(index=False),
    ".md": _markdown,
    ".tex": _latex,
}
