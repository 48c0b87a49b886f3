"""A headless Chromium driven over its own pipe: the DevTools protocol, JSON messages that end with a NUL. No library.

`Browser` starts it, `Tab` is one page: what it logs, what it raises and what its policy forbids is collected from the
start. https://chromedevtools.github.io/devtools-protocol/ has the methods.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Self

__all__ = ["Browser", "Tab", "find_chromium"]

PATIENCE_S = 60
ARGUMENTS = (
    "--headless=new",
    "--no-sandbox",  # CI runs as root
    "--remote-debugging-pipe",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--force-color-profile=srgb",
    "--hide-scrollbars",
    "--disable-features=IsolateSandboxedIframes",  # a frame is then asked as the page is, not over a session of its own
)
LAUNCH = "import os, sys; n = sys.argv; os.dup2(int(n[1]), 3); os.dup2(int(n[2]), 4); os.execv(n[3], n[3:])"
"""It reads commands from descriptor 3 and writes answers to 4."""


def find_chromium() -> str | None:
    """Return the path of a Chromium, or None."""
    return next(
        (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
    )


class Browser:
    """A running Chromium with a profile of its own in `folder`; a context manager."""

    def __init__(self, program: str, folder: Path) -> None:
        ours_in, out = os.pipe()
        in_, ours_out = os.pipe()
        theirs = [fcntl.fcntl(fd, fcntl.F_DUPFD, 10) for fd in (in_, out)]  # out of the way of 3 and 4
        command = [sys.executable, "-c", LAUNCH, *map(str, theirs), program, *ARGUMENTS, f"--user-data-dir={folder}"]
        with (folder / "stderr.txt").open("wb") as log:
            self._process = subprocess.Popen(command, pass_fds=theirs, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        for fd in (in_, out, *theirs):
            os.close(fd)
        self._in, self._out = ours_in, ours_out
        self._pending = b""
        self._last = 0
        self.events: list[dict[str, Any]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.call("Browser.close")
            self._process.wait(PATIENCE_S)
        finally:
            self._process.kill()
            self._process.wait()
            os.close(self._in)
            os.close(self._out)

    def call(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        """Call a method and return its result; events that come meanwhile are kept."""
        self._last += 1
        message: dict[str, Any] = {"id": self._last, "method": method, "params": parameters}
        if session is not None:
            message["sessionId"] = session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._out, data) :]
        while True:
            answer = self.read()
            if answer.get("id") == self._last:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                result: dict[str, Any] = answer["result"]
                return result
            self.events.append(answer)

    def read(self) -> dict[str, Any]:
        """Return the next message; TimeoutError after a minute without."""
        end_s = time.monotonic() + PATIENCE_S
        while b"\0" not in self._pending:
            ready, _, _ = select.select([self._in], [], [], max(end_s - time.monotonic(), 0))
            if not ready:
                raise TimeoutError("Chromium does not answer")
            more = os.read(self._in, 1 << 20)
            if not more:
                raise RuntimeError("Chromium has ended")
            self._pending += more
        line, self._pending = self._pending.split(b"\0", 1)
        message: dict[str, Any] = json.loads(line)
        return message

    def open(self, url: str, *, scripts: bool = True, dark: bool = False, width: int = 1280, height: int = 900) -> Tab:
        """Open a page and wait until it has loaded."""
        return Tab(self, url, scripts=scripts, dark=dark, width=width, height=height)


class Tab:
    """One page."""

    def __init__(self, browser: Browser, url: str, *, scripts: bool, dark: bool, width: int, height: int) -> None:
        self._browser = browser
        target = browser.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = browser.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network", "Audits"):
            self.call(f"{domain}.enable")
        self.call("Emulation.setScriptExecutionDisabled", value=not scripts)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        motion = {"name": "prefers-reduced-motion", "value": "reduce"}
        self.call("Emulation.setEmulatedMedia", features=[scheme, motion])
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self.call("Page.navigate", url=url)
        self.wait_for("Page.loadEventFired")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of this page."""
        return self._browser.call(method, self._session, **parameters)

    def wait_for(self, name: str) -> None:
        """Wait for an event of this page."""
        while not self._mine(name):
            self._browser.events.append(self._browser.read())

    def _mine(self, name: str) -> list[dict[str, Any]]:
        return [
            event["params"]
            for event in self._browser.events
            if event.get("sessionId") == self._session and event.get("method") == name
        ]

    def run(self, expression: str) -> Any:
        """Return the value of a JavaScript expression, awaited if it is a promise."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise AssertionError(f"{expression}: {answer['exceptionDetails']['exception'].get('description')}")
        return answer["result"].get("value")

    def press(self, key: str, text: str = "") -> None:
        """Press and release a key: "Tab", "Enter", "ArrowLeft", or a character."""
        codes = {"Tab": 9, "Enter": 13, "Escape": 27, "ArrowLeft": 37, "ArrowRight": 39}
        text = {"Enter": "\r"}.get(key, text or (key if len(key) == 1 else ""))
        code = codes.get(key, ord(key.upper()[0]))
        down = {"type": "keyDown", "key": key, "windowsVirtualKeyCode": code} | ({"text": text} if text else {})
        self.call("Input.dispatchKeyEvent", **down)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=code)

    def complaints(self) -> list[str]:
        """Return everything that went wrong so far: errors, exceptions, violations of the policy, other issues."""
        self.call("Page.bringToFront")  # what is behind draws no frames
        self.run("new Promise((done) => requestAnimationFrame(() => setTimeout(done, 0)))")
        found = [str(each["exceptionDetails"]) for each in self._mine("Runtime.exceptionThrown")]
        found += [str(each["args"]) for each in self._mine("Runtime.consoleAPICalled")]
        found += [each["entry"]["text"] for each in self._mine("Log.entryAdded")]
        return found + [str(each["issue"]) for each in self._mine("Audits.issueAdded")]

    def requests(self) -> list[str]:
        """Return the addresses that were asked for, without the page, data in it, and what its policy stopped."""
        stopped = {
            each["requestId"] for each in self._mine("Network.loadingFailed") if each.get("blockedReason") == "csp"
        }
        sent = [each for each in self._mine("Network.requestWillBeSent") if each["requestId"] not in stopped]
        return [each["request"]["url"] for each in sent[1:] if not each["request"]["url"].startswith("data:")]

    def screenshot(self, path: Path, *, whole: bool = False) -> None:
        """Write what is seen, or the whole page, as PNG."""
        picture = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(picture["data"]))
