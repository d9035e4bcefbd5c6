"""What is read out of a Markdown page."""

from __future__ import annotations

from tests.support.pages import Page

PAGE = Page(
    "a.md",
    """# Title
```python
x = 1
```
See [there](b/c.md#part), [out](https://example.org/x) and `tests/unit/test_a.py::test_b`.
```sh
[no](link)
```
<!-- not run: it waits for a keypress -->
```python
input()
```
<!-- not run: -->
```python
y = 2
```
""",
)


def test_code_keeps_its_line_numbers() -> None:
    """An error in a page's code is reported at the page's own line."""
    assert PAGE.code("python").splitlines() == ["", "", "x = 1", *[""] * 11, "y = 2"]


def test_links_are_the_relative_ones_outside_code() -> None:
    """Only what must lie beside the page is checked."""
    assert PAGE.links() == ["b/c.md"]


def test_named_tests_are_found_with_their_parts() -> None:
    """A mention of a test is a promise that it exists."""
    assert PAGE.named_tests() == ["tests/unit/test_a.py::test_b"]
