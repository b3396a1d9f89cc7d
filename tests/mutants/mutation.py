"""A mutation: one small change of the product that puts a failure back which it was built against.

Each is a file of this folder, to be read by people: the number of the scenario in the failure
model, what fails again, the exact text that is replaced, and the test that must notice. It must not
know how tests are run.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self, final

ROOT: Final = Path(__file__).parents[2]
FOLDER: Final = Path(__file__).parent


class CodeMoved(Exception):
    """The text of a mutation stands no longer exactly once in its file."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Mutation:
    """One change, and who must notice.

    Attributes:
        name: Of its file, without the ending.
        scenario: Number of a row of the failure model.
        failure: What goes wrong once the change is made.
        file: What is changed, from the root of the repository.
        text: What is replaced; stands exactly once in the file.
        replacement: What comes in its place.
        killed_by: The test that must fail, as pytest names it.
    """

    name: str
    scenario: int
    failure: str
    file: str
    text: str
    replacement: str
    killed_by: str

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read one file.

        Raises:
            TypeError: A member is missing, or there is one too many.
        """
        members: dict[str, Any] = tomllib.loads(path.read_text("utf-8"))
        return cls(name=path.stem, **members)

    @property
    def test(self) -> str:
        """The test function that must fail, whatever its parameters."""
        return self.killed_by.partition("[")[0]

    def applied(self, root: Path) -> str:
        """Return the file below `root` as it is once the change is made.

        Raises:
            CodeMoved: The mutation must be renewed.
        """
        source = (root / self.file).read_text("utf-8")
        times = source.count(self.text)
        if times != 1:
            raise CodeMoved(
                f"{self.name}: its text stands {times} times in {self.file}, not once; "
                f"the code moved: renew tests/mutants/{self.name}.toml"
            )
        return source.replace(self.text, self.replacement)


def all_mutations() -> list[Mutation]:
    """Return every mutation, in the order of the scenarios."""
    return [Mutation.read(path) for path in sorted(FOLDER.glob("*.toml"))]
