"""Only exactly what W3C Trace Context says is taken for a place in a trace."""
# mypy: disable-error-code="dict-item, union-attr"

import pytest

from aumai_transactions.core.definition import Definition
from aumai_transactions.core.tracing import (
    TraceParent,
    parsed_traceparent,
    parsed_tracestate,
    trace_in,
    without_trace,
)

FINE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_a_traceparent_comes_back_as_it_was():
    assert str(parsed_traceparent(FINE)) == FINE
    assert str(TraceParent(1, 2, 0)) == f"00-{1:032x}-{2:016x}-00"


@pytest.mark.parametrize(
    "text",
    [
        None,
        7,
        b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "",
        FINE + "\n",
        " " + FINE,
        FINE.upper(),
        "01" + FINE[2:],
        "ff" + FINE[2:],
        FINE + "-",
        FINE.replace("-01", "-1"),
        f"00-{0:032x}-b7ad6b7169203331-01",
        f"00-0af7651916cd43dd8448eb211c80319c-{0:016x}-01",
        FINE.replace("0af", "\u0660af"),
        FINE.replace("0af", "\uff10af"),
    ],
)
def test_anything_else_is_none(text):
    assert parsed_traceparent(text) is None
    assert trace_in({"traceparent": text}) is None


@pytest.mark.parametrize(
    "text,members",
    [
        ("a=1", (("a", "1"),)),
        (
            "rojo=00f067aa0ba902b7, congo=t61rcWkgMzE",
            (("rojo", "00f067aa0ba902b7"), ("congo", "t61rcWkgMzE")),
        ),
        ("tenant@vendor=x y", (("tenant@vendor", "x y"),)),
    ],
)
def test_a_tracestate_is_a_list_of_members(text, members):
    assert parsed_tracestate(text) == members
    assert trace_in({"traceparent": FINE, "tracestate": text}).state == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        None,
        "a",
        "a=",
        "A=1",
        "a=1\r\nEvil: 1",
        "a=1,a=2",
        "a=\u2028",
        "a=1 ",
        "=1",
        "a==",
        "a=1," * 2,
        ",".join(f"k{n}=1" for n in range(33)),
        "a=" + "x" * 600,
    ],
)
def test_no_other_tracestate_is_taken_and_the_parent_stays(text):
    assert parsed_tracestate(text) == ()
    found = trace_in({"traceparent": FINE, "tracestate": text})
    assert (str(found.parent), found.state) == (FINE, None)


def test_a_plan_without_its_trace_is_the_plan_of_somebody_who_noted_none():
    plan = Definition(1, 60, ())
    assert without_trace(plan) is plan
    noted = plan._replace(metadata={"traceparent": FINE, "tracestate": "a=1"})
    assert without_trace(noted) == plan
    both = noted._replace(metadata={**noted.metadata, "tenant": "acme"})
    assert without_trace(both).metadata == {"tenant": "acme"}
