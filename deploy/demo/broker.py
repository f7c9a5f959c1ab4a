"""An MQTT broker from PyPI in a process of its own, where mosquitto is not installed. Usage: broker PORT"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys

from amqtt.broker import Broker


async def serve(port: int) -> None:
    logging.basicConfig(level=logging.ERROR)
    settings = {
        "listeners": {"default": {"type": "tcp", "bind": f"127.0.0.1:{port}"}},
        "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
    }
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, told.set)
    broker = Broker(settings)
    await broker.start()
    print(f"serving MQTT on 127.0.0.1:{port} (mosquitto is not installed)", flush=True)
    await told.wait()
    await broker.shutdown()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
