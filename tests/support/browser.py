"""A Chromium without a window, driven through its debugging protocol."""

import base64
import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest
from websockets.sync.client import connect

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
_if_installed = pytest.mark.skipif(
    CHROMIUM is None and not os.environ.get("CI"), reason="no Chromium on this machine, so the page cannot be rendered"
)


def in_browser(test: Callable[..., None]) -> Callable[..., None]:
    """Mark a test of a rendered page: it has the marker `browser`, and is skipped where Chromium is missing."""
    return pytest.mark.browser(_if_installed(test))


_LISTENING = re.compile(r"DevTools listening on (ws://\S+)")


_NUMBERS = count(1)
"""Numbers of commands. Pages of one browser share a connection, so no two commands have the same number."""


class Page:
    """One tab of the browser."""

    def __init__(self, socket) -> None:
        self._socket, self._session = socket, None
        self._target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=self._target, flatten=True)["sessionId"]
        self.problems: list[str] = []
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.requests: list[str] = []

    def call(self, method, **parameters):
        """Send a command and return its result; events that arrive meanwhile are noted."""
        number = next(_NUMBERS)
        message = {"id": number, "method": method, "params": parameters}
        self._socket.send(json.dumps(message | ({"sessionId": self._session} if self._session else {})))
        while True:
            answer = json.loads(self._socket.recv(timeout=60))
            if answer.get("id") == number:
                assert "error" not in answer, answer
                return answer["result"]
            if answer.get("sessionId") == self._session:
                self._note(answer)

    @contextmanager
    def open_tab(self):
        """Yield another tab of the same browser, with its cookies, and close it afterwards."""
        tab = Page(self._socket)
        try:
            yield tab
        finally:
            tab.call("Page.close")

    def open(self, address):
        self.call("Page.navigate", url=address)

    def run(self, script):
        """The value of a JavaScript expression."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait(self, script, seconds=90):
        """Wait until a JavaScript expression is true, and return its value."""
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            if value := self.run(script):
                return value
            time.sleep(0.1)
        raise AssertionError(f"not true after {seconds} s: {script}; the page says {self.problems}")

    def click(self, selector):
        self.wait(f"!!document.querySelector({selector!r})")
        box = self.run(
            f"(e => {{e.scrollIntoView({{block: 'center'}}); const b = e.getBoundingClientRect();"
            f"return [b.x + b.width / 2, b.y + b.height / 2]}})(document.querySelector({selector!r}))"
        )
        self.drag(box, box)

    def drag(self, start, end, steps=5):
        """Press the mouse at one place, move it, and release it at another."""
        self._mouse("mouseMoved", start)
        self._mouse("mousePressed", start)
        for step in range(1, steps + 1) if start != end else ():
            share = step / steps
            place = [start[axis] + share * (end[axis] - start[axis]) for axis in (0, 1)]
            self._mouse("mouseMoved", place, buttons=1)
        self._mouse("mouseReleased", end)

    def type(self, selector, text):
        """Replace the text of a field, press Enter and leave the field."""
        self.click(selector)
        self.run(f"document.querySelector({selector!r}).select()")
        self.call("Input.insertText", text=text)
        for kind in ("keyDown", "keyUp"):
            self.call(
                "Input.dispatchKeyEvent",
                type=kind,
                key="Enter",
                code="Enter",
                windowsVirtualKeyCode=13,
                text="\r" if kind == "keyDown" else "",
            )

    def save_screenshot(self, path):
        Path(path).write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))

    def _mouse(self, kind, place, buttons=0):
        self.call(
            "Input.dispatchMouseEvent", type=kind, x=place[0], y=place[1], buttons=buttons,
            button="none" if kind == "mouseMoved" and not buttons else "left", clickCount=1,
        )  # fmt: skip

    def _note(self, event):
        facts = event.get("params", {})
        if event.get("method") == "Runtime.exceptionThrown":
            self.problems.append(facts["exceptionDetails"].get("exception", {}).get("description", "exception"))
        elif event.get("method") == "Log.entryAdded" and facts["entry"]["level"] == "error":
            self.problems.append(f"{facts['entry']['text']} {facts['entry'].get('url', '')}")
        elif event.get("method") == "Network.requestWillBeSent":
            self.requests.append(facts["request"]["url"])


@contextmanager
def open_browser(folder, size="1400,1000"):
    """Start Chromium with a profile in ``folder``, and yield a page of it."""
    command = [
        CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync", f"--window-size={size}",
        f"--user-data-dir={folder}", "--remote-debugging-port=0", "about:blank",
    ]  # fmt: skip
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    try:
        address = next(match[1] for line in process.stderr if (match := _LISTENING.search(line)))
        with connect(address, max_size=None, compression=None) as socket:
            yield Page(socket)
            socket.send(json.dumps({"id": 0, "method": "Browser.close"}))
        process.wait(20)
    finally:
        process.kill()
        process.wait()
        process.stderr.close()
