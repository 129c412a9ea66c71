"""A pytest plugin that says at the end how many tests were skipped for want of the shared test data."""

from tests.data import REASON


def pytest_terminal_summary(terminalreporter):
    skipped = [report for report in terminalreporter.stats.get("skipped", []) if REASON in str(report.longrepr)]
    terminalreporter.write_line(f"{len(skipped)} tests skipped for want of the test corpora ({REASON})")
