"""A headless Chromium for tests: opens a page without network and tells what it found.

``check_page(path, width)`` is enough for most tests; ``Browser`` keeps one process for several.
"""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import tempfile
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

__all__ = ["Browser", "PageFacts", "check_page", "find_browser"]

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-extensions", "--disable-dev-shm-usage", "--hide-scrollbars",
    "--host-resolver-rules=MAP * ~NOTFOUND", "--remote-allow-origins=*",
    "--remote-debugging-port=0",
)  # fmt: skip
MAX_SCREENSHOT_PX = 12_000
LOUD = ("error", "warning", "assert")

# Everything that can be asked of the document itself, in one go.
INSPECT = r"""
(async () => {
  const images = Array.from(document.images);
  await Promise.all(images.map((image) => image.decode().catch(() => null)));
  const root = document.documentElement;
  const name = (e) => e.tagName.toLowerCase() + (e.id ? "#" + e.id : "") +
    (typeof e.className === "string" && e.className ? "." + e.className.replace(/ /g, ".") : "");
  const scrolls = (e) => {
    for (let p = e.parentElement; p; p = p.parentElement)
      if (["auto", "scroll", "hidden"].includes(getComputedStyle(p).overflowX)) return true;
    return false;
  };
  const wide = Array.from(document.body.querySelectorAll("*")).filter((e) => {
    const box = e.getBoundingClientRect();
    return box.width > 0 && box.right > root.clientWidth + 0.5 && !scrolls(e);
  }).map(name);
  const channels = (text) => (text.match(/[\d.]+/g) || [0, 0, 0]).map(Number);
  const light = (c) => {
    const [r, g, b] = c.slice(0, 3).map((v) => {
      v /= 255;
      return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (e) => {
    for (let p = e; p; p = p.parentElement) {
      const c = channels(getComputedStyle(p).backgroundColor);
      if (c.length < 4 || c[3] === 1) return c;
    }
    return [255, 255, 255];
  };
  const faint = new Set();
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const e = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !e.getClientRects().length) continue;
    if (["SCRIPT", "STYLE", "title"].includes(e.tagName)) continue;
    const style = getComputedStyle(e);
    const ink = channels(e.closest("svg") ? style.fill : style.color);
    const [a, b] = [light(ink), light(behind(e))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) faint.add(name(e) + " " + ratio.toFixed(2));
  }
  const ids = Array.from(document.querySelectorAll("[id]")).map((e) => e.id);
  const anchors = Array.from(document.querySelectorAll('a[href^="#"]'));
  return JSON.stringify({
    title: document.title,
    text: document.body.innerText.length,
    scroll_width: root.scrollWidth,
    client_width: root.clientWidth,
    overflowing: wide,
    images: images.length,
    undecoded: images.filter((i) => !i.complete || i.naturalWidth === 0).map((i) => i.alt),
    without_alt: images.filter((i) => !i.alt).length,
    low_contrast: Array.from(faint),
    duplicate_ids: ids.filter((id, n) => ids.indexOf(id) !== n),
    dead_anchors: anchors.map((a) => decodeURIComponent(a.hash.slice(1)))
      .filter((id) => id && !document.getElementById(id)),
  });
})()
"""


@dataclass(frozen=True)
class PageFacts:
    """What the browser found on one page at one width."""

    title: str
    text: int
    scroll_width: int
    client_width: int
    overflowing: tuple[str, ...]
    images: int
    undecoded: tuple[str, ...]
    without_alt: int
    low_contrast: tuple[str, ...]
    duplicate_ids: tuple[str, ...]
    dead_anchors: tuple[str, ...]
    console_errors: tuple[str, ...]
    external_requests: tuple[str, ...]
    load_ms: float
    screenshot: Path | None

    def problems(self) -> list[str]:
        """Return everything that a report must not have."""
        found = [f"console: {text}" for text in self.console_errors]
        found += [f"external request: {url}" for url in self.external_requests]
        found += [f"picture not decoded: {alt[:80]}" for alt in self.undecoded]
        found += [f"dead link: #{target}" for target in self.dead_anchors]
        found += [f"id twice: {name}" for name in self.duplicate_ids]
        found += [f"contrast below 4.5: {name}" for name in self.low_contrast]
        found += ["picture without alt text"] * self.without_alt
        if self.scroll_width > self.client_width:
            wide = ", ".join(self.overflowing[:5])
            found.append(f"overflow: {self.scroll_width} > {self.client_width} px ({wide})")
        return found


def find_browser() -> str | None:
    """Return the command of an installed Chromium, if any."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Browser:
    """One headless browser process, driven through the DevTools protocol."""

    def __init__(self) -> None:
        command = find_browser()
        if command is None:
            pytest.skip(f"no browser: none of {', '.join(NAMES)} is installed")
        websocket = pytest.importorskip("websocket", reason="websocket-client is not installed")
        self._folder = tempfile.TemporaryDirectory(
            prefix="neuropipe-browser-", ignore_cleanup_errors=True
        )
        profile = f"--user-data-dir={self._folder.name}"
        self._process = subprocess.Popen(
            [command, *FLAGS, profile, "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            port = self._port()
            request = urllib.request.Request(
                f"http://127.0.0.1:{port}/json/new?about:blank", method="PUT"
            )
            with urllib.request.urlopen(request, timeout=20) as answer:
                address = json.load(answer)["webSocketDebuggerUrl"]
            self._socket = websocket.create_connection(address, timeout=60)
        except BaseException:
            self._stop()
            raise
        self._number = 0
        self._events: list[dict[str, Any]] = []
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call(
            "Network.emulateNetworkConditions",
            offline=True, latency=0, downloadThroughput=0, uploadThroughput=0,
        )  # fmt: skip

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *exception: object) -> None:
        self._socket.close()
        self._stop()

    def _stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._folder.cleanup()

    def _port(self) -> int:
        file = Path(self._folder.name) / "DevToolsActivePort"
        deadline = time.monotonic() + 40
        while time.monotonic() < deadline:
            if file.is_file() and (text := file.read_text()):
                return int(text.split()[0])
            if self._process.poll() is not None:
                pytest.skip(f"the browser does not start here (exit {self._process.returncode})")
            time.sleep(0.05)
        raise TimeoutError("the browser did not open its DevTools port in 40 s")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Send one command and return its result; events on the way are kept."""
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": params}))
        while True:
            message = json.loads(self._socket.recv())
            if message.get("id") == self._number:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']}")
                return message["result"]
            self._events.append(message)

    def wait_for(self, event: str) -> None:
        """Wait for an event that may have come already."""
        while not any(message.get("method") == event for message in self._events):
            self._events.append(json.loads(self._socket.recv()))

    def run(self, script: str) -> Any:
        """Return the value of a JavaScript expression, awaited if it is a promise."""
        answer = self.call(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True,
            userGesture=True,
        )  # fmt: skip
        if "exceptionDetails" in answer:
            raise RuntimeError(str(answer["exceptionDetails"]))
        return answer["result"].get("value")

    def open(
        self, path: Path, width: int, *, height: int = 900, scheme: str = "light",
        javascript: bool = True,
    ) -> float:  # fmt: skip
        """Load a file at a width and return the loading time in ms."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=False,
        )  # fmt: skip
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.call("Emulation.setEmulatedMedia", features=[feature])
        self.call("Emulation.setScriptExecutionDisabled", value=not javascript)
        self._events.clear()
        start = time.monotonic()
        answer = self.call("Page.navigate", url=path.resolve().as_uri())
        assert "errorText" not in answer, answer
        self.wait_for("Page.loadEventFired")
        return 1000 * (time.monotonic() - start)

    def screenshot(self, target: Path) -> Path:
        """Write the whole page as PNG."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"],
                "height": min(size["height"], MAX_SCREENSHOT_PX), "scale": 1}  # fmt: skip
        answer = self.call("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(base64.b64decode(answer["data"]))
        return target

    def check(
        self, path: Path, width: int, *, scheme: str = "light", unfold: bool = True,
        screenshot: Path | None = None,
    ) -> PageFacts:  # fmt: skip
        """Open a page and return everything found; folded parts are opened first."""
        load_ms = self.open(path, width, scheme=scheme)
        if unfold:
            self.run("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
        facts = json.loads(self.run(INSPECT))
        picture = self.screenshot(screenshot) if screenshot else None
        facts = {k: tuple(v) if isinstance(v, list) else v for k, v in facts.items()}
        return PageFacts(
            **facts,
            console_errors=tuple(self._console()),
            external_requests=tuple(self._external(path)),
            load_ms=load_ms,
            screenshot=picture,
        )

    def _console(self) -> list[str]:
        found = []
        for message in self._events:
            method, params = message.get("method"), message.get("params", {})
            if method == "Runtime.exceptionThrown":
                found.append(str(params["exceptionDetails"].get("exception", params)))
            elif method == "Runtime.consoleAPICalled" and params["type"] in LOUD:
                found.append(str([item.get("value") for item in params["args"]]))
            elif method == "Log.entryAdded" and params["entry"]["level"] in LOUD:
                found.append(params["entry"]["text"])
        return found

    def _external(self, path: Path) -> list[str]:
        sent = [
            message["params"]["request"]["url"]
            for message in self._events
            if message.get("method") == "Network.requestWillBeSent"
        ]
        own = path.resolve().as_uri()
        return [url for url in sent if not url.startswith("data:") and url.split("#")[0] != own]


def check_page(
    path: Path, width: int, *, scheme: str = "light", screenshot: Path | None = None
) -> PageFacts:
    """Open one page in a browser of its own and return what was found.

    Skips the test, visibly, when there is no browser.
    """
    with Browser() as browser:
        return browser.check(path, width, scheme=scheme, screenshot=screenshot)
