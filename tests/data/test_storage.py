import pytest

from vdet_ssl.data.storage import is_remote, join


@pytest.mark.parametrize("path", ["s3://bucket/a.mp4", "https://host/a.mp4", "simplecache::s3://bucket/a.mp4"])
def test_urls_that_are_known(path):
    assert is_remote(path) and join("folder", path) == path


@pytest.mark.parametrize(
    "path", ["http:host/a.mp4", "concat:http://host/a.mp4", "subfile,,:http://host/a", "nobody://a", "a:b"]
)
def test_everything_else_is_a_local_path(path):
    assert not is_remote(path) and join("folder", path) == f"folder/{path}"
