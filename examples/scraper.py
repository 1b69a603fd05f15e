"""A scraper: follows the links of a site from its first page, and prints the title of each page.

    python examples/scraper.py http://127.0.0.1:8080/

Three workers share a queue of addresses, so at most three requests run at a time. The pages are fetched
by the client of examples/http_client.py. It stays on the site where it begins.
"""

from __future__ import annotations

import asyncio
import re
import sys
from urllib.parse import urldefrag, urljoin, urlsplit

from http_client import get

import hoop

WORKERS = 3


async def scrape(start: str) -> dict[str, str]:
    """Visit every page that can be reached. Returns their titles, or what went wrong, by address."""
    found: dict[str, str] = {start: ""}
    pending: hoop.Queue[str] = hoop.Queue()
    pending.put_nowait(start)

    async def work() -> None:
        while True:
            url = await pending.get()
            try:
                async with asyncio.timeout(10):
                    status, body = await get(url)
                text = body.decode(errors="replace")
                title = re.search(r"<title>(.*?)</title>", text, re.DOTALL)
                found[url] = title[1].strip() if title and " 200 " in status else status
                for link in re.findall(r'<a\s[^>]*href="([^"]*)"', text):
                    target = urldefrag(urljoin(url, link)).url
                    if urlsplit(target).netloc == urlsplit(start).netloc and target not in found:
                        found[target] = ""
                        pending.put_nowait(target)
            except (OSError, ValueError, asyncio.IncompleteReadError) as exc:
                found[url] = f"failed: {exc!r}"
            finally:
                pending.task_done()

    workers = [hoop.create_task(work()) for _ in range(WORKERS)]
    await pending.join()
    for worker in workers:
        worker.cancel()
    await asyncio.gather(*workers, return_exceptions=True)
    return found


if __name__ == "__main__":
    for url, title in sorted(hoop.run(scrape(sys.argv[1])).items()):
        print(f"{url}\t{title}")
