"""Each test of the core runs on every backend that is at hand."""

import pytest

BACKENDS = ["reference", "cpu"]


@pytest.fixture(params=BACKENDS)
def backend(request, monkeypatch):
    monkeypatch.setenv("HMMTTS_BACKEND", request.param)
    return request.param
