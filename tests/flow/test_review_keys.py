"""The keys of the review page, pressed in a real browser, on the page as the server makes it."""

import asyncio
import json
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path

import pytest
from fakes.curator_api import running_api, tagged

from tunemill.curator_api.settings import Settings

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
# Presses keys where the cursor is, one after another, and writes on the page what each was followed by.
PROBE = """
const followed = [];
document.addEventListener("submit", (event) => {
  event.preventDefault();
  followed.push(event.submitter.value);
  window.dispatchEvent(new Event("pageshow"));
});
function press(key, held = {}) {
  const to = document.activeElement ?? document.body;
  to.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true, ...held }));
}
for (const [key, held] of [["k"], ["Enter", { ctrlKey: true }], ["f"], ["k"], ["Enter"], ["Enter", { ctrlKey: true }],
  ["Enter", { metaKey: true }], ["Escape"], ["r"], ["t"], ["Enter", { ctrlKey: true }]]) {
  press(key, held);
  followed.push(`${key}: ${document.activeElement.name ?? "page"}`);
}
document.body.dataset.followed = JSON.stringify(followed);
"""


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here")
async def test_keys_decide_begin_in_the_answer_and_save(tmp_path: Path) -> None:
    async with running_api(tmp_path, tagged("a"), settings=Settings(require_key=False)) as api:
        page = (await api.client.get("/review")).text
        script = (await api.client.get("/static/review.js")).text
    here = tmp_path / "page.html"
    here.write_text(page.replace('src="/static/review.js">', f">{script}{PROBE}"), encoding="utf-8")
    browser = (str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}/profile")
    shown = await asyncio.to_thread(subprocess.check_output, (*browser, "--dump-dom", here.as_uri()), timeout=60)
    followed = re.search(r'data-followed="([^"]*)"', shown.decode())
    assert followed, "the script did not run to its end"
    assert json.loads(unescape(followed[1])) == [
        *("keep", "k: page"),
        "Enter: page",
        *("f: output-0", "k: output-0", "Enter: output-0"),
        *("fix", "Enter: output-0", "fix", "Enter: output-0"),
        "Escape: page",
        *("reject", "r: page"),
        *("t: add", "Enter: add"),
    ]
