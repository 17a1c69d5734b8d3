"""The page of guarantees shows the fault matrix as it is tested."""

from tests.faults.page import COMMAND, PAGE, generated, with_block


def test_the_fault_matrix_on_the_page_is_the_one_that_is_tested():
    page = PAGE.read_text("utf-8")
    assert with_block(page) == page, f"renew the page with: {COMMAND}"


def test_the_block_is_replaced_whole():
    page = PAGE.read_text("utf-8")
    assert generated() in with_block(page.replace("undone", "forgotten"))
