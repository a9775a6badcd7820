"""A headless Chromium, driven over the WebDriver protocol, where there is one."""

import json
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", "--window-size=1200,1600"]


class Browser:
    """One page."""

    def __init__(self, address: str, session: str) -> None:
        self.address, self.session = address, session

    def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """A command of the protocol."""
        return request(method, f"{self.address}/session/{self.session}{path}", body)

    def open(self, page: Path) -> None:
        self.ask("POST", "/url", {"url": page.as_uri()})

    def run(self, script: str, *arguments: Any) -> Any:
        """What a script returns."""
        return self.ask("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def click(self, selector: str) -> None:
        """A real click, by the mouse."""
        (found,) = self.ask("POST", "/element", {"using": "css selector", "value": selector}).values()
        self.ask("POST", f"/element/{found}/click", {})

    def requested(self, page: Path) -> list[str]:
        """Every address that a page asked for, its own included; the browser's first tab asks for things too."""
        log = self.ask("POST", "/se/log", {"type": "performance"})
        events = [json.loads(entry["message"])["message"] for entry in log]
        return [event["params"]["request"]["url"] for event in events
                if event["method"] == "Network.requestWillBeSent" and event["params"]["documentURL"].startswith(page.as_uri())]

    def complaints(self) -> list[str]:
        """What the console says."""
        return [entry["message"] for entry in self.ask("POST", "/se/log", {"type": "browser"})]

    def resize(self, width: int) -> None:
        """As wide as a phone, or as a screen."""
        shape = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 500}
        self.ask("POST", "/goog/cdp/execute", {"cmd": "Emulation.setDeviceMetricsOverride", "params": shape})

    def prefer(self, scheme: str) -> None:
        """Light or dark."""
        media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        self.ask("POST", "/goog/cdp/execute", {"cmd": "Emulation.setEmulatedMedia", "params": media})


def request(method: str, url: str, body: dict[str, Any] | None = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    asked = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(asked, timeout=60) as answer:
        return json.load(answer)["value"]


@contextmanager
def browser(folder: Path) -> Iterator[Browser]:
    """A browser with an empty profile in `folder`."""
    assert DRIVER
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    driver = subprocess.Popen([DRIVER, f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        address = f"http://127.0.0.1:{port}"
        for _ in range(100):
            try:
                request("GET", f"{address}/status")
                break
            except OSError:
                time.sleep(0.1)
        wanted = {"goog:chromeOptions": {"binary": CHROMIUM, "args": [*FLAGS, f"--user-data-dir={folder}"]},
                  "goog:loggingPrefs": {"performance": "ALL", "browser": "ALL"}}
        session = request("POST", f"{address}/session", {"capabilities": {"alwaysMatch": wanted}})["sessionId"]
        page = Browser(address, session)
        try:
            yield page
        finally:
            page.ask("DELETE", "")
    finally:
        driver.terminate()
        driver.wait(10)
