"""What the tests of the PostgreSQL store share."""

from contextlib import closing

import psycopg
import pytest

from aumai_transactions.stores.postgres import PostgresStore


@pytest.fixture
def url(postgres16):
    """The name of a store that does not exist yet."""
    return postgres16.store()


@pytest.fixture
def store(url):
    with closing(PostgresStore(url)) as opened:
        yield opened


@pytest.fixture
def database(postgres16, url):
    """A connection of somebody else's, which sees the tables of the store."""
    schema = url.rpartition("=")[2]
    options = f"-c search_path={schema}"
    with psycopg.connect(postgres16.url, options=options, autocommit=True) as connection:
        yield connection
