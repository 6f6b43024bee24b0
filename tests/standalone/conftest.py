"""The tests of the core have a pipeline that fits into a test; the page is tried on the same."""

from tests.core import conftest

make_config, pictures, tiny_host = conftest.make_config, conftest.pictures, conftest.tiny_host
