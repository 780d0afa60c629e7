"""A headless Chromium, driven over its DevTools pipe with the standard library alone.

benchmarks/gallery.py takes the pictures of docs/gallery.md with it.
"""

import base64
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--no-first-run",
    "--remote-debugging-pipe",
)
PATIENCE = 60  # seconds; two busy cores can be slow


class Browser:
    """A headless Chromium that takes commands on its descriptor 3 and answers on 4."""

    def __init__(self, profile: Path):
        commands_out, self._commands = os.pipe()
        self._answers, answers_in = os.pipe()
        redirect = f'exec "$0" "$@" 3<&{commands_out} 4>&{answers_in}'
        self._process = subprocess.Popen(
            ["bash", "-c", redirect, CHROMIUM, *FLAGS, f"--user-data-dir={profile}"],
            pass_fds=(commands_out, answers_in),
            stderr=subprocess.DEVNULL,
        )
        os.close(commands_out)
        os.close(answers_in)
        self._unread = b""
        self._number = 0
        self.events: list[dict[str, Any]] = []

    def close(self) -> None:
        self.call("Browser.close")
        self._process.wait(PATIENCE)
        os.close(self._commands)
        os.close(self._answers)

    def call(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        """Send one command and return its answer; events that come meanwhile are kept."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while (answer := self._read()).get("id") != self._number:
            self.events.append(answer)
        assert "error" not in answer, answer
        return answer["result"]

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._unread:
            ready, _, _ = select.select([self._answers], [], [], PATIENCE)
            assert ready, "Chromium does not answer"
            self._unread += os.read(self._answers, 1 << 20)
        line, _, self._unread = self._unread.partition(b"\0")
        return json.loads(line)


class Tab:
    """One page, what it said on the console and what it asked of the network."""

    def __init__(self, browser: Browser, width: int = 1280, **media: str):
        target = browser.call("Target.createTarget", url="about:blank")["targetId"]
        attached = browser.call("Target.attachToTarget", targetId=target, flatten=True)
        self._browser, self._session = browser, attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        features = [{"name": "prefers-color-scheme", "value": media.pop("scheme", "light")}]
        self.call("Emulation.setEmulatedMedia", features=features, **media)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        return self._browser.call(method, self._session, **parameters)

    def open(self, path: Path) -> "Tab":
        """Load a file and wait until its charts are drawn."""
        self.call("Page.navigate", url=path.as_uri())
        self.until("document.documentElement?.dataset.ready", lambda ready: ready == "charts")
        return self

    def until(self, expression: str, done: Callable[[Any], bool]) -> Any:
        """Ask for an expression again and again until its value will do."""
        end = time.monotonic() + PATIENCE
        while not done(value := self.js(expression)):
            assert time.monotonic() < end, f"{expression} is still {value}: {self.said()}"
            time.sleep(0.05)
        return value

    def js(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page, promises awaited."""
        answer = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def press(self, key: str, code: int, text: str = "") -> None:
        """Press and release a key, as a person would."""
        named = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **named)
        self.call("Input.dispatchKeyEvent", type="keyUp", **named)

    def picture(self, clip: Mapping[str, float]) -> bytes:
        """A PNG of a part of the page: `x`, `y`, `width` and `height` in its pixels."""
        whole = {**clip, "scale": 1}
        answer = self.call("Page.captureScreenshot", clip=whole, captureBeyondViewport=True)
        return base64.b64decode(answer["data"])

    def said(self) -> list[str]:
        """Everything on the console: messages, uncaught errors, refusals of the policy."""
        kinds = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")
        return [json.dumps(event["params"]) for event in self._events() if event["method"] in kinds]

    def asked(self) -> list[str]:
        """Every address that the page asked for, except the data that it carries itself."""
        addresses = [
            event["params"]["request"]["url"]
            for event in self._events()
            if event["method"] == "Network.requestWillBeSent"
        ]
        return [address for address in addresses if not address.startswith("data:")]

    def _events(self) -> list[dict[str, Any]]:
        self.js("0")  # an answer comes after the events that went before it
        return [event for event in self._browser.events if event.get("sessionId") == self._session]
