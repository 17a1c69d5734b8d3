"""What agents write, in every free field of every page: it is shown, and does nothing."""

import html
import re
from unittest import mock

import pytest
from tests.web.browsing import opened_shop

from aumai_transactions import StepRejected, TransactionManager, TransactionStep
from aumai_transactions.models import Resource
from aumai_transactions.stores import open_store

CALL = "window.hacked=1;alert(1)"
PAYLOADS = [
    f"<script>{CALL}</script>",
    f"</script><script>{CALL}</script>",
    f"<img src=x onerror='{CALL}'>",
    f'<img src=x onerror="{CALL}">',
    f"<svg onload={CALL}>",
    f"<svg><script>{CALL}</script></svg>",
    f"<svg><animate onbegin={CALL} attributeName=x></svg>",
    f"</title><script>{CALL}</script>",
    f"</textarea><script>{CALL}</script>",
    f"</style><script>{CALL}</script>",
    f"</pre><img src=x onerror={CALL}>",
    f"--><script>{CALL}</script>",
    f"]]><script>{CALL}</script>",
    f'"><script>{CALL}</script>',
    f"'><script>{CALL}</script>",
    f'" onmouseover="{CALL}" x="',
    f"' onfocus='{CALL}' autofocus='",
    f'" autofocus onfocus="{CALL}',
    f"` onerror=`{CALL}`",
    f"javascript:{CALL}",
    f"JaVaScRiPt:{CALL}//",
    f"data:text/html,<script>{CALL}</script>",
    f"<a href='javascript:{CALL}'>x</a>",
    f"<iframe srcdoc='<script>parent.{CALL}</script>'></iframe>",
    f"<iframe src='javascript:{CALL}'></iframe>",
    f"<object data='javascript:{CALL}'></object>",
    f"<embed src='javascript:{CALL}'>",
    f"<form action='javascript:{CALL}'><button>x</button></form>",
    f"<math><mtext><script>{CALL}</script></mtext></math>",
    f"<details open ontoggle={CALL}>x</details>",
    f"<body onload={CALL}>",
    f"<meta http-equiv=refresh content='0;url=javascript:{CALL}'>",
    "<base href='https://evil.example/'>",
    "<link rel=stylesheet href='https://evil.example/x.css'>",
    f"<div hx-get='/' hx-trigger='load' hx-on:load='{CALL}'>x</div>",
    "{{7927*7919}} {% include 'frame.html' %} ${7927*7919} #{7927*7919}",
    "left\u202eright \u200b\u2066 \x1b[31m\x07 \u2028 end",
    "data: x\n\nevent: hacked\ndata: y\r\n\r\n",
    f"&lt;script&gt;{CALL}&lt;/script&gt; &#60;img src=x onerror={CALL}&#62;",
    "A" * 5_000 + f"<script>{CALL}</script>",
]
OPENED = "document.querySelectorAll('details').forEach(one => { one.open = true })"
OURS = (
    "document.querySelectorAll('main :is(script, img, iframe, object, embed, base, math, animate, "
    "meta, link)').length + document.querySelectorAll('main [hx-get], main [hx-trigger]').length"
    " + [...document.querySelectorAll('*')].filter(one => [...one.attributes].some("
    "a => a.name.startsWith('on') || /^\\\\s*javascript:/i.test(a.value) && "
    "['href', 'src', 'action'].includes(a.name))).length"
)


def hostile(manager, payload):
    short = payload[:900]

    def raises(action, data):
        raise StepRejected(payload)

    done, undo, fails = f"do {short}", f"undo {short}", f"fail {short}"

    def does(action, data):
        return {short: payload}

    for name, handler in ((done, does), (undo, raises), (fails, raises)):
        manager.action(name)(handler)
    steps = [
        TransactionStep(
            step_id=short, agent_id=short, action=done, compensating_action=undo,
            data={short: payload}, resources=[Resource(name=f"r:{short}")],
        ),
        TransactionStep(step_id=f"{short} 2", agent_id=short, action=fails, data={"x": payload}),
    ]  # fmt: skip
    # Why: nobody can choose an id here, but another program may write into the same store.
    with mock.patch("aumai_transactions.models.transactions.uuid4", return_value=f"id {short}"):
        made = manager.begin(name=short, metadata={short: payload[:1_000]})
    made.steps = steps
    return manager.commit(made)


@pytest.fixture(scope="module")
def hostile_shop(tmp_path_factory):
    path = tmp_path_factory.mktemp("hostile") / "store.db"
    names = {}
    open_store(str(path), create=True).close()
    with TransactionManager(store=str(path)) as manager:
        for number, payload in enumerate(PAYLOADS):
            result = hostile(manager, payload)
            assert result.outstanding, payload
            names[str(number)] = result.transaction_id
    with opened_shop((path, names), tmp_path_factory.mktemp("served") / "store") as shop:
        yield shop


def links(shop, path):
    return re.findall(r'href="(/transactions/[^"]+)"', shop.get(path).body.decode())


def every_path(shop):
    found = links(shop, "/")
    assert len(found) == len(PAYLOADS)
    text = shop.get("/attention").body.decode()
    after = re.search(r'href="(/attention\?[^"]+)" rel="next"', text)
    assert after is not None
    return ["/", "/attention", html.unescape(after[1]), "/workers", "/health", *found]


def test_nothing_that_agents_write_does_anything_on_any_page(hostile_shop, open_tab):
    tab = open_tab(hostile_shop)
    page = tab.page
    for path in every_path(hostile_shop):
        assert tab.go(path).status == 200, path
        page.evaluate(OPENED)
        assert page.evaluate(OURS) == 0, path
        assert page.evaluate("window.hacked") is None, path
        assert page.url.startswith(hostile_shop.url), path
    assert tab.wrong == []


def test_what_agents_write_is_there_and_escaped(hostile_shop):
    text = "".join(hostile_shop.get(path).body.decode() for path in every_path(hostile_shop))
    assert not re.search(r"<(img|iframe|object|embed|base|math|animate)\b", text)
    ours = re.findall(r'<script src="/static/[^>]*>', text)
    assert re.findall(r"<script[^>]*>", text) == ours
    assert "62773913" not in text
    assert "&lt;script&gt;window.hacked=1" in text
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u2028\u202e\u2066]", text)
    assert '<span class="unseen" title="does not print">\\u202e</span>' in text


def test_a_person_can_act_on_a_transaction_with_any_name(hostile_shop, open_tab):
    tab = open_tab(hostile_shop)
    for number in (3, 15, 36):
        paths = {links(hostile_shop, "/")[len(PAYLOADS) - 1 - number]}
        tab.go(paths.pop())
        note = PAYLOADS[number][:400]
        tab.page.locator(".needs").get_by_role("textbox").fill(note)
        tab.page.get_by_role("button", name="Leave it in place").click()
        tab.page.locator(".flash.good").wait_for()
        assert tab.page.locator(".needs").count() == 0


def test_the_stream_cannot_be_spoken_into(hostile_shop):
    import http.client

    link = http.client.HTTPConnection(hostile_shop.server.name, timeout=30)
    link.request("GET", "/live", headers={"cookie": hostile_shop.cookie})
    answer = link.getresponse()
    seen = b""
    while b"</nav>\n\n" not in seen.replace(b"data: ", b""):
        seen += answer.read1(65_536)
    link.close()
    lines = seen.decode().splitlines()
    assert {line.partition(":")[0] for line in lines if line} <= {"retry", "data", ""}
