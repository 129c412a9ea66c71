"""A pytest plugin that says at the end how many tests were skipped for want of the shared test data."""

from tests.data import REASON


def pytest_terminal_summary(terminalreporter):
    skipped = terminalreporter.stats.get("skipped", [])
    count = sum(REASON in str(report.longrepr) for report in skipped)
    terminalreporter.write_line(f"{count} tests skipped for want of the test corpora ({REASON})")
